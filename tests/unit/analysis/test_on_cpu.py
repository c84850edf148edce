"""Machine code and shared objects of hot lines, stop-the-world pauses, and why there is no native sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, spent
from ftdiag.analysis.oncpu import SYMBOLS_OF_LINE
from ftdiag.model import UNNAMED_INTERPRETER, Confidence, SharedObject, Snapshot
from ftdiag.reports.json import to_report
from ftdiag.reports.text import render

LINE = "app.py:10 work"
STACK = f"{LINE} < app.py:3 main"


def text_of(snapshot: Snapshot) -> str:
    return " ".join("\n".join(render(snapshot)).split())


def test_a_hot_line_has_its_machine_code_and_shared_objects(tmp_path: Path) -> None:
    # GIVEN three windows of a line full of atomics, by way of two stacks, and many symbols
    builder = RecordingBuilder(tmp_path / "r", native="cpu-clock at 199 Hz")
    other = f"{LINE} < app.py:4 main"
    maybe = SharedObject("CONFIG", "Config", Confidence.INFERRED)
    known = SharedObject("CONFIG", "Config", Confidence.KNOWN)
    # Before its name was found it was told by what it is.
    by_type = SharedObject("Config", "Config", Confidence.KNOWN)
    for shared in (by_type, maybe, known):
        builder.thread("w")
        builder.window(
            {"w": [spent(50, "on_cpu", at=STACK), spent(50, "on_cpu", at=other)]},
            native=[
                ("w", STACK, "atomic", "_Py_DecRefShared", 30),
                ("w", other, "atomic", "_Py_DecRefShared", 20),
                ("w", STACK, "work", "_PyEval_EvalFrameDefault", 30),
                *(("w", STACK, "work", f"small_{number}", 1) for number in range(20)),
            ],
            shared=[(LINE, shared)],
        )

    # WHEN a snapshot is taken
    snapshot = builder.end().session().snapshot()

    # THEN the line has both, summed over stacks and windows
    (line,) = snapshot.hot
    assert line.shared == (known,)
    assert line.native[0] == ("_Py_DecRefShared", 0.5)
    assert line.native[1] == ("_PyEval_EvalFrameDefault", 0.3)
    assert len(line.native) == SYMBOLS_OF_LINE
    # AND reports say so
    said = text_of(snapshot)
    assert "shared by threads there: CONFIG (Config)" in said
    assert "machine code: _Py_DecRefShared 50 %, _PyEval_EvalFrameDefault 30 %" in said
    (hot,) = to_report(snapshot)["hot"]
    (shared,) = hot["shared"]
    assert (shared["name"], shared["type_name"], shared["confidence"]) == ("CONFIG", "Config", "known")
    assert shared["path"] is None
    assert hot["native"][0] == {"symbol": "_Py_DecRefShared", "share": 0.5}


def test_functions_of_a_stripped_interpreter_without_a_name_are_told(tmp_path: Path) -> None:
    # GIVEN samples of a stripped interpreter, a quarter of them in functions that have no name
    builder = RecordingBuilder(tmp_path / "r", native="cpu-clock at 199 Hz").thread("w")
    builder.window(
        {"w": [spent(50, "on_cpu", at=STACK)]},
        native=[
            ("w", STACK, "alloc", "mimalloc (0x512c40)", 30),
            ("w", STACK, "work", "_PyEval_EvalFrameDefault", 30),
            ("w", STACK, "work", UNNAMED_INTERPRETER, 20),
        ],
    )

    # WHEN a snapshot is taken
    snapshot = builder.end().session().snapshot()

    # THEN how much that is, is a figure of its quality, which the report says
    assert snapshot.quality.unnamed_cpu_ratio == 0.25
    assert snapshot.quality.classified_cpu_ratio == 1.0
    said = text_of(snapshot)
    assert (
        "Python is stripped: 100 % of the time on a core is split all the same; 25 % is in functions" in said
    )


def test_without_unnamed_functions_nothing_is_said_of_them(tmp_path: Path) -> None:
    # GIVEN samples of functions with names WHEN reported THEN there is no word of stripped interpreters
    builder = RecordingBuilder(tmp_path / "r").thread("w")
    builder.window({"w": [spent(50, "on_cpu", at=STACK)]}, native=[("w", STACK, "work", "long_add", 9)])
    snapshot = builder.session().snapshot()
    assert snapshot.quality.unnamed_cpu_ratio == 0.0
    assert "stripped" not in text_of(snapshot)


def test_work_needs_no_machine_code_in_the_text(tmp_path: Path) -> None:
    # GIVEN a line that is mostly work
    builder = RecordingBuilder(tmp_path / "r").thread("w")
    builder.window({"w": [spent(50, "on_cpu", at=STACK)]}, native=[("w", STACK, "work", "long_add", 9)])
    # WHEN reported, THEN only the object has the symbol
    snapshot = builder.session().snapshot()
    assert "long_add" not in text_of(snapshot)
    assert snapshot.hot[0].native == (("long_add", 1.0),)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("not measured: perf events are not permitted (sysctl x=1)", "are not permitted (sysctl x=1)"),
        ("cpu-clock at 199 Hz", "no sample of machine code was taken"),
        (None, "not recorded"),
    ],
)  # fmt: skip
def test_why_there_is_no_split(tmp_path: Path, settings: str | None, expected: str) -> None:
    # GIVEN a recording without native samples, made in such a way
    builder = RecordingBuilder(tmp_path / "r", native=settings)
    builder.window({"w": [spent(50, "on_cpu", at=STACK)]})
    quality = builder.session().snapshot().quality

    # WHEN asked, THEN each figure that needs them says why, with the remedy
    for name in ("useful_cores", "efficiency", "classified_cpu_ratio"):
        assert expected in quality.not_measured[name]
    assert quality.native_lost is None
    assert quality.native_sampled_ratio is None


GC_STACK = "app.py:5 collect"


def test_pauses_are_told_with_who_asked(tmp_path: Path) -> None:
    # GIVEN two pauses that a known thread asked for to collect garbage, one inferred, one nobody knows of
    builder = RecordingBuilder(tmp_path / "r", rate_hz=100).thread("a").thread("b").thread("gc")
    work = "app.py:10 work"
    builder.window(
        {
            "a": [
                spent(10, "on_cpu", at=work),
                spent(3, "stopped", at=work, holder="gc", syscall="futex"),
                spent(10, "on_cpu", at=work),
                spent(5, "stopped", at=work, holder="gc", syscall="futex"),
                spent(12, "on_cpu", at=work),
            ],
            "b": [
                spent(11, "on_cpu", at=work),
                spent(1, "stopped", at=work, syscall="futex"),
                spent(28, "on_cpu", at=work),
            ],
            "gc": [spent(40, "on_cpu", at=GC_STACK)],
        },
        native=[("gc", GC_STACK, "gc", "gc_collect_main", 30), ("a", work, "work", "f", 30)],
    )
    builder.window(
        {
            "a": [spent(4, "stopped", at=work, syscall="futex"), spent(6, "on_cpu", at=work)],
            "gc": [spent(10, "on_cpu", at=GC_STACK)],
        },
        native=[("gc", GC_STACK, "gc", "gc_collect_main", 30)],
    )
    builder.pause(10**9)
    for _ in range(32):
        builder.window({"b": [spent(1, "on_cpu", at=work)]})
    builder.window({"a": [spent(2, "stopped", at=work)], "b": [spent(2, "on_cpu", at=work)]})

    # WHEN asked
    session = builder.session()
    pauses = session.pauses()

    # THEN they come by who asked, with their time
    assert [(each.requester and each.requester.name, each.confidence, each.count) for each in pauses] == [
        ("gc", Confidence.KNOWN, 2),
        ("gc", Confidence.INFERRED, 1),
        (None, Confidence.UNKNOWN, 1),
    ]
    known = pauses[0]
    assert known.reason == "garbage collection"
    assert known.stack[0].function == "collect"
    assert known.total_ns == pytest.approx(80e6)
    assert known.longest_ns == pytest.approx(50e6)
    assert known.threads_max == 2
    # AND reports have them
    snapshot = session.snapshot()
    assert snapshot.pauses == pauses
    said = text_of(snapshot)
    assert "2 pauses or more for garbage collection: 80 ms in all, 50 ms at most" in said
    assert "asked for by gc at app.py:5 in collect (measured)" in said
    assert to_report(snapshot)["pauses"][0]["reason"] == "garbage collection"


def test_without_pauses_there_is_no_section(tmp_path: Path) -> None:
    # GIVEN a program that was never stopped, WHEN reported, THEN nothing is said of pauses
    builder = RecordingBuilder(tmp_path / "r")
    builder.window({"w": [spent(50, "on_cpu", at=STACK)]})
    snapshot = builder.session().snapshot()
    assert snapshot.pauses == ()
    assert "Stop-the-world" not in text_of(snapshot)


def test_a_wrap_is_recognised_by_its_function(tmp_path: Path) -> None:
    # GIVEN pauses asked for inside functools.wraps
    builder = RecordingBuilder(tmp_path / "r").thread("a").thread("b")
    at = "/usr/lib/python3.14/functools.py:60 update_wrapper < app.py:7 decorate"
    builder.window({"a": [spent(5, "stopped", at=STACK, holder="b")], "b": [spent(5, "on_cpu", at=at)]})
    # WHEN asked, THEN that is the reason
    (pauses,) = builder.session().pauses()
    assert pauses.reason == "functools.wraps"
