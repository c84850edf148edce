"""Captures and perturbations in recordings: kept, read back, bounded, refused where they make no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import START_NS, RecordingBuilder, spent
from ftdiag.errors import RecordingError
from ftdiag.model import Allocations, Frame, LineAllocations, Perturbation, ThreadAllocations
from ftdiag.recording import schema
from ftdiag.recording.additions import add_allocations, next_perturbation, put_perturbation
from ftdiag.recording.allocations import decode_allocations, decode_perturbation, encode_allocations
from ftdiag.recording.reader import Recording
from ftdiag.session import Session

SECOND = 1_000_000_000


def a_line(number: int, name: str = "app.py") -> LineAllocations:
    frame = Frame(name, "work", number)
    return LineAllocations(frame, 2, 1000 - number, 50, 3, 20, 1, 10, (frame, Frame(name, "main", 1)))


def a_capture(lines: int = 3) -> Allocations:
    return Allocations(
        pid=7,
        command="app.py",
        begin_unix_ns=SECOND,
        duration_ns=2 * SECOND,
        python_allocators=True,
        aggregated=False,
        cut_short=True,
        count=3000,
        size_bytes=150,
        temporary=9,
        peak_bytes=60,
        left_count=3,
        left_bytes=30,
        lines=tuple(a_line(number) for number in range(1, lines + 1)),
        threads=(ThreadAllocations(1, None, 7, 6, 5, 8, 9), ThreadAllocations(2, "worker", 1, tid=7)),
        not_measured={"peak_bytes": "too many"},
    )


def test_what_is_kept_is_what_is_read() -> None:
    # GIVEN a capture WHEN it goes through JSON THEN it is the same
    assert decode_allocations(json.loads(encode_allocations(a_capture()))) == a_capture()


def test_a_capture_that_is_too_long_keeps_the_lines_that_allocate_most() -> None:
    # GIVEN names so long that they do not fit a row
    long = replace(a_capture(), lines=tuple(a_line(n, f"{n}{'x' * 3000}") for n in range(1, 900)))

    # WHEN it is encoded
    text = encode_allocations(long)

    # THEN it fits, has the first lines, and says how many are missing
    kept = decode_allocations(json.loads(text))
    assert len(text) <= schema.MAX_JSON_BYTES
    assert 0 < len(kept.lines) < 899
    assert kept.lines[0] == long.lines[0]
    assert kept.lines_left_out == 899 - len(kept.lines)


@pytest.mark.parametrize(
    "change",
    [
        {"lines": [[99, 1, 1, 1, 1, 1, 1, 1, []]]},
        {"lines": [[0, -1, 1, 1, 1, 1, 1, 1, []]]},
        {"lines": [[0, 1, 1, 1, 2, 1, 1, 1, []]]},  # more are temporary than there were
        {"lines": [[0, 1, 4000, 1, 1, 1, 1, 1, []]]},  # more than in all
        {"lines": "all"},
        {"frames": [["a", "b", "c"]]},
        {"frames": [["a", "b", 1]] * 100_000},
        {"duration_ns": 1 << 70},
        {"duration_ns": True},
        {"command": None},
        {"not_measured": []},
        {"threads": [[1]]},
    ],
)
def test_what_is_not_a_capture_is_refused(change: dict[str, Any]) -> None:
    value = {**json.loads(encode_allocations(a_capture())), **change}
    with pytest.raises(schema.DamagedBlob):
        decode_allocations(value)


@pytest.mark.parametrize("value", [None, [], {"what": "x", "begin_ns": 2, "end_ns": 1}, {"what": 1}])
def test_what_is_not_a_perturbation_is_refused(value: Any) -> None:
    with pytest.raises(schema.DamagedBlob):
        decode_perturbation(value)


def test_they_are_added_to_a_recording_that_grows(tmp_path: Path) -> None:
    # GIVEN a recording that is being written, and a reader of it
    builder = RecordingBuilder(tmp_path / "app.ftdiag")
    builder.window({"main": [spent(100, "on_cpu")]})
    with Recording.open(builder.path) as recording:
        before = recording.allocations
        assert before is None

        # WHEN a capture and a perturbation are added, and the writer goes on
        number = next_perturbation(builder.path)
        put_perturbation(builder.path, number, Perturbation("memray", START_NS, START_NS + SECOND))
        put_perturbation(builder.path, number, Perturbation("memray", START_NS, START_NS + 2 * SECOND))
        add_allocations(builder.path, a_capture())
        builder.window({"main": [spent(100, "on_cpu")]})

        # THEN the reader has all of it, the last mark of each number
        assert recording.refresh()
        assert recording.allocations == a_capture()
        assert recording.perturbations == (Perturbation("memray", START_NS, START_NS + 2 * SECOND),)
        assert next_perturbation(builder.path) == number + 1
    builder.end()


def test_what_is_damaged_is_left_out_and_said(tmp_path: Path) -> None:
    # GIVEN a recording whose capture makes no sense
    builder = RecordingBuilder(tmp_path / "app.ftdiag").window({"main": [spent(100, "on_cpu")]}).end()
    from ftdiag.recording.additions import _put

    _put(builder.path, schema.META_ALLOCATIONS, '{"lines": 7}')
    _put(builder.path, f"{schema.META_PERTURBATION}0", "[]")

    # WHEN it is opened THEN all else is there, and the damage is told
    with Recording.open(builder.path) as recording:
        assert recording.allocations is None
        assert recording.perturbations == ()
        assert {gap.what for gap in recording.damaged} == {"allocations", "perturbation"}
        assert Session(recording).snapshot().metrics.ticks == 100


def test_nothing_is_added_to_a_file_that_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a recording\n" * 100)
    with pytest.raises(RecordingError):
        add_allocations(path, a_capture())
    with pytest.raises(RecordingError):
        add_allocations(tmp_path / "nothing", a_capture())
    assert not (tmp_path / "nothing").exists()


class TestFigures:
    def test_time_with_memray_is_in_no_figure(self, tmp_path: Path) -> None:
        # GIVEN ten windows, in three of which memray was attached and everything waited for a lock
        builder = RecordingBuilder(tmp_path / "app.ftdiag")
        for number in range(10):
            state = "lock" if 4 <= number < 7 else "on_cpu"
            lock = "memray's" if state == "lock" else None
            builder.window({"a": [spent(100, state, lock=lock)], "b": [spent(100, "on_cpu")]})
        builder.end()
        put_perturbation(
            builder.path, 0, Perturbation("memray", START_NS + 4 * SECOND + 5, START_NS + 7 * SECOND - 5)
        )

        # WHEN all of it is looked at
        with Recording.open(builder.path) as recording:
            session = Session(recording)
            snapshot = session.snapshot()

            # THEN the figures are those of the other seven, and it is said why
            assert snapshot.metrics.duration_ns == 7 * SECOND
            assert snapshot.metrics.ticks == 700
            assert not snapshot.locks
            assert snapshot.metrics.on_cpu_cores == pytest.approx(2.0, abs=0.1)
            assert len(snapshot.perturbations) == 1
            (gap,) = [gap for gap in snapshot.quality.gaps if gap.what == "windows"]
            assert gap.count == 3
            assert "memray was attached" in gap.why

            # AND a range of that time alone has no efficiency, no losses and no findings about time
            inside = session.snapshot(START_NS + 4 * SECOND, START_NS + 7 * SECOND)
            assert inside.metrics.ticks == 300
            assert inside.metrics.efficiency_ratio is None
            assert dict(inside.metrics.lost_cores) == {}
            assert "memray was attached" in inside.quality.not_measured["lost_cores"]
            assert [each for each in inside.findings if each.rule_id != "allocation-churn"] == []
            assert "memray was attached" in dict(inside.not_applicable)["hot-lock"]

    def test_lines_are_joined_by_file_line_and_function(self, tmp_path: Path) -> None:
        # GIVEN samples at a line, and a capture with that line and another
        stack = "app.py:1 Worker.work < app.py:9 main"
        builder = (
            RecordingBuilder(tmp_path / "app.ftdiag").window({"a": [spent(100, "on_cpu", at=stack)]}).end()
        )

        # WHEN they are joined
        with Recording.open(builder.path) as recording:
            snapshot = Session(recording, a_capture()).snapshot()
            functions = Session(recording, a_capture()).hot_functions()

        # THEN the sampled line has its allocations, and the others stand behind it without time
        first, *more = snapshot.hot
        assert first.allocations == a_line(1)
        assert [(line.frame.line, line.total_ns) for line in more] == [(2, 0.0), (3, 0.0)]
        assert functions[0].allocations is not None
        assert functions[0].allocations.count == 999 + 998 + 997
