"""Reports of sweeps and comparisons: nothing that others chose does anything in them, pictures are whole."""

from __future__ import annotations

import xml.etree.ElementTree as Tree

import pytest

from ftdiag.datatypes import replace
from ftdiag.reports import comparison, sweep
from ftdiag.reports.chart import chart_of
from ftdiag.reports.document import Section, Table, amount, html_document, markdown_lines, text_lines
from ftdiag.reports.drawing import Drawing, Line, Words, to_png, to_svg
from ftdiag.reports.escaping import markdown
from ftdiag.reports.junit import Case, junit_text
from ftdiag.scaling.comparing import Side, compare
from ftdiag.scaling.curve import Scaling, scaling_of
from ftdiag.scaling.settings import Setting
from sweeps import a_cause, a_digest, a_sweep

HOSTILE = "x\x1b[2J<script>alert(1)</script>|`@everyone`\u202e[a](http://b)"


def hostile() -> Scaling:
    """A sweep in which all that others chose is hostile."""
    made = a_sweep(
        lambda setting: 100.0 * setting.workers,
        settings=[Setting(number, 1, HOSTILE) for number in (1, 2, 4, 8)] + [Setting(1, 1, "3.14")],
        kind="pythons",
        versions={HOSTILE: HOSTILE},
        digest=lambda _: a_digest(
            {HOSTILE: 1.0, "lock": 0.1}, causes=[a_cause(what=HOSTILE)], locks={HOSTILE: 1}
        ),
    )
    run = replace(made.runs[0], throughput=None, failed=HOSTILE)
    return scaling_of(
        replace(made, command=(HOSTILE,), capacity_reason=HOSTILE, host=HOSTILE, runs=(run, *made.runs[1:]))
    )


def test_no_form_of_a_report_lets_anything_through() -> None:
    scaling = hostile()
    parts = sweep.sections(scaling)
    svg = to_svg(chart_of(scaling))

    text = "\n".join(text_lines(parts, 80))
    assert "\x1b" not in text
    assert "\u202e" not in text
    page = html_document(HOSTILE, parts, [svg])
    assert "<script" not in page
    assert page.isascii()
    assert "<script" not in svg
    Tree.fromstring(svg)
    for line in markdown_lines(HOSTILE, parts):
        assert "<script" not in line
        assert "@everyone" not in line
        assert "](http" not in line.replace("\\]\\(", "")
    suite = Tree.fromstring(junit_text(HOSTILE, [Case(HOSTILE, HOSTILE, details=HOSTILE)]))
    assert suite.find("testsuite/testcase/failure") is not None
    side = Side(HOSTILE, "sweep", None, sweep=scaling.sweep)
    compared = comparison.sections(compare(side, side))
    assert "<script" not in html_document("a", compared)


@pytest.mark.parametrize("kind", ["threads", "layouts"])
def test_pictures_of_every_kind_are_whole(kind: str) -> None:
    settings = [Setting(2, 2), Setting(4, 1)] if kind == "layouts" else None
    scaling = scaling_of(
        a_sweep(
            lambda setting: 100.0 * setting.workers / (1 + 0.05 * setting.workers),
            (1, 2, 4, 8, 16, 32),
            settings=settings,
            kind=kind,
            noise=0.05,
            cores=16.0,
            memory=lambda _: 1 << 20,
        )
    )
    drawing = chart_of(scaling)
    shapes = list(Tree.fromstring(to_svg(drawing)).iter())
    words = [shape.text for shape in shapes if shape.tag.endswith("text")]

    if kind == "threads":
        assert {"ideal", "Amdahl", "USL with 95 % band", "more threads than cores"} <= set(words)
        assert sum(shape.tag.endswith("circle") for shape in shapes) == 6
    else:
        assert {"2x2", "1x4", "1 MiB"} <= set(words)
    assert to_png(drawing).startswith(b"\x89PNG\r\n")


def test_a_sweep_without_any_throughput_has_a_picture_and_says_so() -> None:
    made = a_sweep(lambda _: 1.0, (1, 2))
    empty = scaling_of(replace(made, runs=()))
    assert sweep.headline(empty) == "No run has a throughput."
    assert to_svg(chart_of(empty)).startswith("<svg")
    assert "Not finished: 6 runs to be made." in "\n".join(text_lines(sweep.sections(empty), 80))


def test_dashes_and_words_are_painted() -> None:
    drawing = Drawing(60, 40, (Line(((0, 0), (60, 40)), "#000000", dashed=True), Words((5, 30), "a")), "t")
    assert "stroke-dasharray" in to_svg(drawing)
    assert len(to_png(drawing)) > 200


def test_tables_keep_to_the_width_where_words_can_be_broken() -> None:
    table = Table(("name", "value"), (("a name of several words that is long", "1.00"),))
    lines = list(text_lines([Section("Heading", ("A sentence.",), table)], 30))

    assert max(map(len, lines)) <= 30
    assert lines[:2] == ["Heading", "  A sentence."]


@pytest.mark.parametrize(
    ("value", "words"),
    [(14278.0, "14,280"), (3.14159, "3.142"), (0.00123456, "0.001235"), (-5432.1, "-5,432"), (0.0, "0")],
)
def test_amounts(value: float, words: str) -> None:
    assert amount(value) == words


def test_a_name_has_no_meaning_in_markdown() -> None:
    # GIVEN names that would be HTML, a link, an image, mentions, mathematics WHEN shown THEN they are text
    assert markdown("<img src=x>") == "&lt;img src=x&gt;"
    assert markdown("![a](http://b)") == "\\!\\[a\\]\\(http\\://b\\)"
    assert markdown("@me #1 www.a.b") == "@&#8203;me #&#8203;1 www&#8203;.a.b"
    assert markdown("a_b|$c$") == "a\\_b\\|\\$c\\$"
    # AND places stay as they are read
    assert markdown("app.py:3") == "app.py:3"
