"""Hot lines and functions add up to the accounted time."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, a_stack, absent, counted, spent
from ftdiag.analysis import hotspots
from ftdiag.model import TORN_STACK, Frame, ThreadState

MS = 1_000_000


def test_lines_carry_their_states_threads_and_commonest_stacks(tmp_path: Path) -> None:
    # GIVEN one line reached by two ways from two threads
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "a": [
                spent(6, "on_cpu", at="a.py:5 f < a.py:1 g"),
                spent(4, "lock", at="a.py:5 f < a.py:2 h", lock="l"),
            ],
            "b": [spent(10, "on_cpu", at="a.py:5 f < a.py:2 h")],
        }
    )
    # WHEN the hot lines are asked for
    (line,) = builder.session().snapshot().hot
    # THEN both ways are there, the commoner first
    assert line.frame == Frame("a.py", "f", 5)
    assert line.states_ns == {ThreadState.ON_CPU: 1600 * MS, ThreadState.LOCK: 400 * MS}
    assert line.total_ns == 2000 * MS
    assert line.threads == 2
    assert line.stacks == (
        (a_stack("a.py:5 f < a.py:2 h"), 1400 * MS),
        (a_stack("a.py:5 f < a.py:1 g"), 600 * MS),
    )


def test_active_lines_come_before_idle_ones(tmp_path: Path) -> None:
    # GIVEN a pool that sleeps ten times as long as the one worker works
    threads = {f"pool-{i}": [spent(10, "idle", at="queue.py:1 get")] for i in range(10)}
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(1, "on_cpu", at="a.py:7 work"), absent(9)], **threads}
    )
    # WHEN ranked THEN the work is the hot line
    assert [line.frame.filename for line in builder.session().snapshot().hot] == ["a.py", "queue.py"]


def test_weights_are_the_accounted_time_of_the_window(tmp_path: Path) -> None:
    # GIVEN on-CPU ticks at two lines and a counter that says it was 300 ms CPU and 100 ms queued
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(3, "on_cpu", at="a.py:1 f"), spent(1, "on_cpu", at="a.py:2 f"), spent(6, "idle")]},
        counters={"w": counted(cpu_ns=300 * MS, run_queue_ns=100 * MS)},
    )
    # WHEN asked THEN the lines share exactly that
    first, second = builder.session().snapshot().hot
    assert first.states_ns[ThreadState.ON_CPU] == pytest.approx(225 * MS)
    assert first.states_ns[ThreadState.RUNNABLE] == pytest.approx(75 * MS)
    assert second.states_ns[ThreadState.ON_CPU] == pytest.approx(75 * MS)


def test_functions_sum_their_lines(tmp_path: Path) -> None:
    # GIVEN two lines of one function, and one of a namesake in another file
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [spent(3, "on_cpu", at="a.py:1 f"), spent(4, "on_cpu", at="a.py:2 f")],
            "v": [spent(2, "on_cpu", at="b.py:1 f"), absent(5)],
        }
    )
    # WHEN asked for functions THEN lines are summed and files kept apart
    functions = builder.session().hot_functions()
    assert [(each.frame, each.total_ns) for each in functions] == [
        (Frame("a.py", "f", None), 700 * MS),
        (Frame("b.py", "f", None), 200 * MS),
    ]


def test_threads_have_their_own_lines_and_waits(tmp_path: Path) -> None:
    # GIVEN two threads at different lines
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [spent(10, "on_cpu", at="a.py:1 f")],
            "v": [spent(10, "io", at="b.py:1 g", syscall="recvfrom", detail="socket 127.0.0.1:5432")],
        }
    )
    # WHEN asked
    w, v = builder.session().snapshot().threads
    # THEN each has its own
    assert [line.frame.filename for line in w.hot] == ["a.py"]
    assert [line.frame.filename for line in v.hot] == ["b.py"]
    assert w.waits == ()
    assert [(wait.detail, ns) for wait, ns in v.waits] == [("socket 127.0.0.1:5432", 1000 * MS)]
    assert v.latest_state is ThreadState.IO
    assert v.latest_stack == a_stack("b.py:1 g")


def test_time_without_a_python_frame_is_kept_apart(tmp_path: Path) -> None:
    # GIVEN torn and frameless samples beside a real one
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(5, "on_cpu", at="a.py:1 f"), spent(2, "on_cpu", at=TORN_STACK), spent(3, "on_cpu")]}
    )
    session = builder.session()
    time = session.accounted_time()
    # WHEN the hot lines are made
    table = hotspots.hot_lines(session.recording, hotspots.placed_time(session.recording, time))
    # THEN lines and the rest add up to all of it
    assert [line.total_ns for line in table.lines] == [500 * MS]
    assert table.unattributed_ns == 500 * MS


def test_the_number_of_lines_and_stacks_is_bounded(tmp_path: Path) -> None:
    # GIVEN more lines, and more stacks of one line, than are kept
    lines = hotspots.HOT_LINES + 50
    parts = [spent(1, "on_cpu", at=f"a.py:{line} f") for line in range(lines)]
    parts += [spent(2, "on_cpu", at=f"a.py:9999 f < b.py:{line} g") for line in range(20)]
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window({"w": parts})
    # WHEN asked
    snapshot = builder.session().snapshot()
    # THEN the hottest are there, and not more
    assert len(snapshot.hot) == hotspots.HOT_LINES
    assert snapshot.hot[0].frame.line == 9999
    assert len(snapshot.hot[0].stacks) == hotspots.STACKS_OF_LINE
    assert len(snapshot.threads[0].hot) == hotspots.HOT_LINES_OF_THREAD
