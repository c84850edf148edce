"""The HTML report: well-formed, harmless whatever the target is called, bounded, and complete."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_target, spent
from ftdiag.model import (
    Confidence,
    Evidence,
    Finding,
    Frame,
    Gap,
    Pauses,
    Remedy,
    Severity,
    SharedObject,
    Snapshot,
    ThreadInfo,
    ThreadState,
)
from ftdiag.reports.html import SHOWN_ALLOCATING, SHOWN_LINES, SHOWN_THREADS, render
from ftdiag.reports.html_course import SCRIPT, SHOWN_LANES, course_of
from golden_files import assert_golden
from memory_scenes import with_capture, with_memory

VOID = {"meta", "br", "input"}
HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e&\"'\udc80"


class Checked(HTMLParser):
    """Refuses what is not closed, and collects elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(document: str) -> Checked:
    """The document, checked: everything closed, no script, nothing from elsewhere."""
    assert document.startswith("<!DOCTYPE html>")
    assert document.isascii()
    parser = Checked()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    assert not {"script", "img", "link", "iframe", "object", "base", "form", "a"} & set(parser.elements)
    for name, value in parser.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href", "srcset", "xlink:href")
        assert "url(" not in (value or "")
    return parser


def contended(folder: Path, name: str = "worker") -> Snapshot:
    """Two threads on one lock, the names chosen by the target."""
    builder = RecordingBuilder(folder / "r", target=a_target(command=f"python {name}"))
    builder.window(
        {
            f"{name}-1": [
                spent(50, "on_cpu", at="/srv/app.py:41 put < /srv/app.py:80 handle"),
                spent(50, "lock", at="/srv/app.py:39 put", lock="self._lock", holder=f"{name}-2"),
            ],
            f"{name}-2": [
                spent(50, "lock", at="/srv/app.py:39 put", lock="self._lock", holder=f"{name}-1"),
                spent(50, "on_cpu", at="/srv/app.py:41 put"),
            ],
        },
        gaps=[Gap("stack", "torn", 2)],
    )
    return builder.end().session().snapshot()


def a_finding(text: str) -> Finding:
    """A finding whose every text is the given one."""
    return Finding(
        rule_id="hot-lock",
        severity=Severity.CRITICAL,
        score=90.0,
        confidence="known",
        lost_cores=1.5,
        subject={"lock": text},
        summary=text,
        explanation=text,
        could_also_be=(text,),
        remedy=(Remedy(text, f"{text}\nsecond line"),),
        verify=text,
        evidence=(Evidence("wait_share", 0.5, "ratio", 0.1), Evidence("bad", float("nan"), text)),
    )


def test_everything_is_in_it(tmp_path: Path) -> None:
    # GIVEN a snapshot with a finding, a lock, named objects, machine code, a pause and a gap
    snapshot = contended(tmp_path)
    shared = SharedObject("CONFIG", "Config", Confidence.INFERRED)
    line = replace(snapshot.hot[0], shared=(shared,), native=(("_Py_DecRefShared", 0.4),))
    pause = Pauses(
        ThreadInfo(7, 70, "collector", True), Confidence.KNOWN, "garbage collection",
        (Frame("gc.py", "clean", 5),), 12, 3e8, 5e7, 2,
    )  # fmt: skip
    snapshot = replace(
        snapshot, hot=(line, *snapshot.hot[1:]), pauses=(pause,), findings=(a_finding("Threads wait"),)
    )

    # WHEN it is rendered
    document = parsed(render(snapshot))

    # THEN all of it can be read, and bars say their shares in words
    for expected in (
        "Threads wait", "second line", "self._lock", "worker-1", "/srv/app.py:39 in put", "CONFIG",
        "possibly",
        "_Py_DecRefShared 40 %", "collector", "garbage collection", "torn", "Where thread-time goes",
    ):  # fmt: skip
        assert expected in document.text
    labels = [value for name, value in document.attributes if name == "aria-label"]
    assert any("lock 50 %" in (label or "") for label in labels)
    assert "svg" in document.elements
    # AND it looks right in the dark, and says so
    assert "prefers-color-scheme:dark" in document.text


def section(document: str, heading: str) -> str:
    """A part of a document."""
    return document.partition(f"<h2>{heading}")[2].partition("</section>")[0]


def test_memory_and_allocations_are_the_golden_ones(tmp_path: Path) -> None:
    # GIVEN a snapshot with memory by kind and a capture of memray WHEN rendered
    document = render(with_capture(with_memory(contended(tmp_path)), "job"))
    text = parsed(document).text

    # THEN what text and JSON reports say of it is there, also at the hot line, and looks as reviewed
    for expected in (
        "Python's heaps 60.0 MiB", "mimalloc (Python's objects) 75 %",
        "allocates: 100 k allocations per second", "/srv/job1.py:1 in job", "99 %", "cut short",
        "in all: 200 k allocations per second (95 % temporary)",
        "thread job", "not measured: threads.peak_bytes: not kept for job", "and 7 more lines",
    ):  # fmt: skip
        assert expected in text
    parts = [section(document, heading) for heading in ("Memory", "Allocations")]
    assert_golden("memory.html", "\n".join(parts) + "\n")


def test_a_long_capture_is_bounded(tmp_path: Path) -> None:
    # GIVEN a capture with a thousand lines WHEN rendered THEN the table ends and says so
    document = render(with_capture(contended(tmp_path), "job", 1000))
    assert f"and {1000 - SHOWN_ALLOCATING + 7} more lines" in parsed(document).text
    assert section(document, "Allocations").count("<tr>") < SHOWN_ALLOCATING + 10
    assert len(document) < 500_000


def test_hostile_names_do_no_harm(tmp_path: Path) -> None:
    # GIVEN a target whose names, texts and objects are markup and control characters
    snapshot = contended(tmp_path, HOSTILE)
    line = replace(
        snapshot.hot[0],
        frame=Frame(HOSTILE, HOSTILE, 3),
        shared=(SharedObject(HOSTILE, HOSTILE, Confidence.KNOWN),),
        native=((HOSTILE, 1.0),),
        stacks=(((Frame(HOSTILE, HOSTILE, 3), Frame(HOSTILE, HOSTILE, None)), 1.0),),
    )
    snapshot = with_capture(with_memory(replace(snapshot, hot=(line,))), HOSTILE)
    snapshot = replace(
        snapshot,
        findings=(a_finding(HOSTILE),),
        not_applicable=((HOSTILE, HOSTILE),),
        target=replace(snapshot.target, gil_culprits=(HOSTILE,), python_version=HOSTILE),
        settings=replace(snapshot.settings, host=HOSTILE, native=HOSTILE),
        quality=replace(snapshot.quality, gaps=(Gap(HOSTILE, HOSTILE, 1),), not_measured={HOSTILE: HOSTILE}),
    )

    # WHEN it is rendered, THEN it is text everywhere, with its control characters in sight
    document = parsed(render(snapshot))
    assert "<script>alert(1)</script>" in document.text
    assert "\\x1b[2J\\u202e" in document.text
    assert "\x1b" not in document.text


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
def test_impossible_figures_are_borne(tmp_path: Path, figure: float) -> None:
    # GIVEN figures that no measurement gives
    snapshot = contended(tmp_path)
    states = dict.fromkeys(ThreadState, figure)
    metrics = replace(
        snapshot.metrics,
        states_ns=states,
        lost_cores=states,
        concurrency=(figure,) * 3,
        capacity_cores=figure,
    )
    line = replace(snapshot.hot[0], states_ns=states, total_ns=1.0)

    # WHEN rendered, THEN a well-formed document comes whose bars fit
    document = parsed(render(replace(snapshot, metrics=metrics, hot=(line,))))
    for name, value in document.attributes:
        if name == "style" and value and value.startswith("width:"):
            assert 0 <= float(value.removeprefix("width:").split("%")[0]) <= 100


def test_five_hundred_threads_stay_readable(tmp_path: Path) -> None:
    # GIVEN more threads and lines than anybody reads
    snapshot = contended(tmp_path)
    threads = tuple(
        replace(snapshot.threads[0], info=replace(snapshot.threads[0].info, index=number))
        for number in range(500)
    )
    snapshot = replace(snapshot, threads=threads, hot=snapshot.hot[:1] * 100)

    # WHEN it is rendered, THEN the tables end, say so, and the file is small
    text = render(snapshot)
    document = parsed(text)
    assert f"({SHOWN_THREADS} of 500 shown)" in document.text
    assert f"and {500 - SHOWN_THREADS} more threads" in document.text
    assert f"({SHOWN_LINES} of 100 shown)" in document.text
    assert len(text) < 500_000


def test_nothing_recorded(tmp_path: Path) -> None:
    # GIVEN an empty recording, WHEN it is rendered, THEN it says so
    snapshot = RecordingBuilder(tmp_path / "r").session().snapshot()
    assert "Nothing was recorded" in parsed(render(snapshot)).text


# --- over time -------------------------------------------------------------------------------------------


def test_pictures_over_time_run_one_fixed_script_and_show_names_only(tmp_path: Path) -> None:
    # GIVEN a recording whose threads and functions are called whatever is worst
    builder = RecordingBuilder(tmp_path / "a", target=a_target(capacity_cores=2.0))
    for _ in range(3):
        builder.window(
            {
                f"{number} {HOSTILE[:40]}": [
                    spent(60, "on_cpu", at=f"/srv/app.py:{number} <img src=x> < /srv/app.py:5 run"),
                    spent(40, "lock", at="/srv/app.py:9 put < /srv/app.py:5 run", lock="self._lock"),
                ]
                for number in range(SHOWN_LANES + 3)
            }
        )
    session = builder.session()
    # WHEN it is reported with its course
    document = render(session.snapshot(), course_of(session, None, None))
    builder.close()
    # THEN the script is ours alone and the policy allows no other; nothing of the target is markup
    parser = Checked()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    assert document.count("<script") == document.count(f"<script>{SCRIPT}</script>") == 1
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in document
    assert not {"img", "link", "iframe", "object", "base", "form", "a"} & set(parser.elements)
    assert all(not name.startswith("on") and name not in ("src", "href") for name, _ in parser.attributes)
    # AND it has the cores over time, so many lanes as are shown, and each function once on its caller
    assert "Cores over time" in document
    assert "and 3 more threads" in document
    assert document.count('class="box"') == len({"run", "put", "<img src=x>"})
    assert "self._lock" in document


def test_a_report_of_a_snapshot_alone_has_no_script(tmp_path: Path) -> None:
    builder = RecordingBuilder(tmp_path / "a").window({"a": [spent(100, "idle")]})
    assert "<script" not in render(builder.session().snapshot())
    builder.close()


def test_paper_shows_whole_tables(tmp_path: Path) -> None:
    # GIVEN a report WHEN its style is read THEN what scrolls on a narrow screen does not on paper, which
    # is as narrow: what is beyond its edge could not be seen
    page = render(RecordingBuilder(tmp_path / "a").session().snapshot(), None)
    style = page.partition("<style>")[2].partition("</style>")[0]
    scrolling = [line for line in style.splitlines() if "overflow-x" in line and "@media" in line]
    assert scrolling
    assert all(line.startswith("@media screen and ") for line in scrolling)
