"""The first line, and the header's other lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.segment import Segment

from ftdiag.model import EndReason, ThreadState
from ftdiag.tui.header import SPARE_CELLS, answer_line, figures_line, target_line
from ftdiag.tui.look import DARK, look_for
from ftdiag.tui.source import Selection, View
from ftdiag.wording.answer import answer
from ftdiag.wording.target import END_WORDS, gil_words
from tui.pictures import contended, ended, finding, measured, snapshot, thread

LOOK = look_for(DARK, False)


def text(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def test_without_findings_the_answer_says_what_time_is_lost_to() -> None:
    line = text(answer_line(View(snapshot=contended()), 200, LOOK)[1])

    assert line.endswith(" 1.9 of 2 cores on CPU.")
    assert line == answer(contended()).sentence


def test_the_costliest_finding_is_the_answer_and_has_its_mark() -> None:
    picture = replace(contended(), findings=(finding("one lock costs it all"), finding("less")))

    line = text(answer_line(View(snapshot=picture), 78, LOOK)[1])

    assert line == "CRITICAL one lock costs it all. 1.9 of 2 cores on CPU."


def test_where_there_is_no_room_for_all_the_cause_stays() -> None:
    picture = replace(contended(), findings=(finding("one lock costs it all"),))

    assert text(answer_line(View(snapshot=picture), 40, LOOK)[1]) == "CRITICAL one lock costs it all"


def test_where_there_is_no_room_for_the_cause_its_line_comes_first() -> None:
    words = "9 threads lose 0.30 of 2 cores waiting for the lock of the queue Pipeline.items at pool.py:155."
    cause = replace(finding(words), subject={"file": "/srv/app/pool.py", "line": 155})
    picture = replace(contended(), findings=(cause,))

    line = text(answer_line(View(snapshot=picture), 80, LOOK)[1])
    assert line == "CRITICAL pool.py:155: 9 threads lose 0.30 of 2 cores waiting for the lock of…"
    assert "155: " not in text(answer_line(View(snapshot=picture), 120, LOOK)[1])


def test_no_threads_is_said() -> None:
    assert answer(snapshot([])).sentence == "No thread was seen. 0.0 of 2 cores on CPU."


def test_unknown_capacity_is_left_out() -> None:
    picture = snapshot([thread(0, "MainThread", {ThreadState.WORK: 60.0})])
    picture = replace(picture, metrics=replace(picture.metrics, capacity_cores=None))

    assert answer(picture).sentence == "No thread waits for a lock or a core. 1.0 cores on CPU."


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_end_has_words(reason: EndReason) -> None:
    assert END_WORDS[reason]


def test_a_gil_that_came_back_alarms() -> None:
    assert gil_words(True, False, ()) == ("free-threaded, GIL off", False)
    assert gil_words(True, None, ()) == ("free-threaded, GIL unknown", False)
    assert gil_words(True, True, ("_oldext",)) == ("free-threaded, GIL ON by _oldext", True)
    assert gil_words(False, True, ()) == ("GIL build", True)


def test_the_header_at_eighty_columns_says_all_that_matters() -> None:
    view = View(snapshot=contended(), live=True, selection=Selection(60_000_000_000))

    assert text(target_line(view, 78, LOOK)).startswith(
        "LIVE  last 60 s  pid 4200  Python 3.14.0  free-threaded, GIL off  python3.14t"
    )
    assert text(figures_line(view, 78, LOOK)) == (
        "CPU 1.91/2 (CPU affinity)  useful not measured  ftdiag 0.02  missed 0 %"
    )
    assert text(figures_line(view, 110, LOOK)).endswith("torn 0.4 %  unknown 1.0 %")


def test_bad_figures_are_not_left_out() -> None:
    # GIVEN many torn stacks, and a reason that would fill the line
    picture = contended()
    picture = replace(
        picture,
        quality=replace(picture.quality, torn_ratio=0.2),
        metrics=replace(picture.metrics, capacity_reason="cgroup quota " + "x" * 100, useful_cores=1.5),
    )

    # WHEN there is little room
    line = text(figures_line(View(snapshot=picture), 78, LOOK))

    # THEN the reason is cut, not the warning
    assert len(line) <= 78
    assert "torn 20 %" in line
    assert "useful 1.50" in line
    assert "(cgroup quota" in line


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(snapshot=contended(), live=True), "LIVE"),
        (View(snapshot=contended()), "REPLAY"),
        (View(snapshot=contended(), live=True, selection=Selection(None, 5)), "REWOUND"),
        (View(snapshot=contended(), live=True, paused=True), "PAUSED"),
        (View(snapshot=contended(end=ended()), live=True), "ENDED: target exited"),
        (
            View(snapshot=contended(end=ended(EndReason.KILLED)), paused=True),
            "PAUSED, ENDED: target was killed",
        ),
    ],
)
def test_the_state_of_the_recording_comes_first(view: View, expected: str) -> None:
    assert text(target_line(view, 100, LOOK)).startswith(expected + "  ")


@pytest.mark.parametrize("width", [0, 1, 10, 40, 58, 78, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    for picture in (None, contended(), replace(contended(), findings=(finding("f" * 500),))):
        view = View(snapshot=picture)
        assert len(text(answer_line(view, width, LOOK)[1])) <= max(width, 9)
        if width >= 58:
            assert len(text(target_line(view, width, LOOK))) <= width
            assert len(text(figures_line(view, width, LOOK))) <= width


def test_the_first_line_does_not_flip_while_figures_change_their_width() -> None:
    # GIVEN a sentence that fits by a hair, then does not, then fits again
    def at(cpu: float, before: int | None) -> tuple[int | None, str]:
        picture = contended()
        metrics = replace(picture.metrics, on_cpu_cores=cpu)
        number, segments = answer_line(View(snapshot=replace(picture, metrics=metrics)), width, LOOK, before)
        return number, text(segments)

    width = 1000
    long = at(9.9, None)[1]
    width = len(long)
    first, words = at(9.9, None)
    assert words == long

    # WHEN it has become too long THEN it stays short until there are cells to spare
    second, words = at(10.1, first)
    assert words != long
    third, words = at(9.9, second)
    assert third == second
    assert words != long
    width += SPARE_CELLS
    assert at(9.9, third)[1] == long


def test_the_first_line_is_cut_between_clauses_and_words() -> None:
    picture = measured(contended())
    summary = picture.findings[0].summary
    clause = summary.partition("; ")[0]
    assert clause != summary

    line = f"CRITICAL {clause}"
    assert text(answer_line(View(snapshot=picture), len(line), LOOK)[1]) == line
    # What it costs stands before the colon, and stays longest.
    price = clause.partition(": ")[0]
    words = text(answer_line(View(snapshot=picture), len(clause), LOOK)[1])
    assert words == f"CRITICAL {price}"
    words = text(answer_line(View(snapshot=picture), len(price), LOOK)[1])
    assert words.endswith("…")
    assert f"CRITICAL {price} ".startswith(words.removesuffix("…") + " ")
