"""Cores, lanes, stacks and calls over time, from recordings that are built line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import START_NS, RecordingBuilder, spent
from ftdiag.model import ThreadState
from ftdiag.session import Session

ON, LOCK, IDLE = int(ThreadState.ON_CPU), int(ThreadState.LOCK), int(ThreadState.IDLE)
WORK = "app.py:10 work < app.py:3 main"
WAIT = "app.py:12 work < app.py:3 main"
SECOND = 1_000_000_000


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Ten seconds: worker runs, then waits; main is idle; a third thread is there in the last window only."""
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    for number in range(10):
        late = {"late": [spent(10, ThreadState.ON_CPU, at=WORK)]} if number == 9 else {}
        worker = (
            [spent(10, ThreadState.ON_CPU, at=WORK)]
            if number < 5
            else [spent(10, ThreadState.LOCK, at=WAIT, lock="self._lock", holder="main")]
        )
        builder.window({"main": [spent(10, ThreadState.IDLE, at="app.py:1 main")], "worker": worker, **late})
    return builder.session()


def test_cores_over_time(session: Session) -> None:
    timeline = session.timeline(None, None, 10)

    assert timeline is not None
    assert timeline.on_cpu_cores == pytest.approx((1.0,) * 5 + (0.0,) * 4 + (1.0,))
    assert timeline.cores[ThreadState.LOCK] == pytest.approx((0.0,) * 5 + (1.0,) * 5)
    assert timeline.useful_cores is None
    assert (timeline.t0_ns, timeline.t1_ns) == (START_NS, START_NS + 10 * SECOND)


def test_there_are_never_more_slices_than_windows_nor_than_asked_for(session: Session) -> None:
    for wanted, slices in ((3, 3), (10, 10), (1000, 10), (0, 1)):
        timeline = session.timeline(None, None, wanted)
        assert timeline is not None
        assert len(timeline.on_cpu_cores) == slices


@pytest.mark.parametrize("slices", [10, 100])
def test_a_lane_for_every_thread(session: Session, slices: int) -> None:
    lanes = session.lanes(None, None, slices)

    assert lanes is not None
    each = lanes.slices // 10
    main, worker, late = (lanes.states[index] for index in sorted(lanes.states))
    assert main == bytes([IDLE] * 10 * each)
    assert worker == bytes([ON] * 5 * each + [LOCK] * 5 * each)
    assert late == bytes(9 * each) + bytes([ON] * each)


def test_a_short_last_window_leaves_no_hole(tmp_path: Path) -> None:
    # GIVEN four seconds in five windows, of which the last two are shorter
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    for ticks in (10, 10, 10, 9, 1):
        builder.window({"worker": [spent(ticks, ThreadState.ON_CPU, at=WORK)]})
    session = builder.session()

    # WHEN they are shown in five slices
    timeline, lanes = session.timeline(None, None, 5), session.lanes(None, None, 5)

    # THEN there is something in each
    assert timeline is not None
    assert timeline.on_cpu_cores == pytest.approx([1.0] * 5, abs=0.01)
    assert lanes is not None
    assert list(lanes.states.values()) == [bytes([ON] * 5)]


def test_a_pause_stays_a_hole(tmp_path: Path) -> None:
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    builder.window({"worker": [spent(10, ThreadState.ON_CPU, at=WORK)]})
    builder.pause(8 * SECOND)
    for _ in range(4):
        builder.window({"worker": [spent(10, ThreadState.ON_CPU, at=WORK)]})

    session = builder.session()
    timeline, lanes = session.timeline(None, None, 5), session.lanes(None, None, 5)

    # THEN what was recorded counts where it was, and nothing else does
    assert timeline is not None
    assert [value is None for value in timeline.on_cpu_cores] == [False, True, True, False, False]
    assert [value for value in timeline.on_cpu_cores if value] == pytest.approx([1.0] * 3)
    assert lanes is not None
    assert list(lanes.states.values()) == [bytes([ON, 0, 0, ON, ON])]


def test_a_thread_that_wants_a_core_is_not_shown_on_one(tmp_path: Path) -> None:
    # GIVEN a thread that the ticks found "running or runnable", and counters that say it had no core
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    for _ in range(3):
        builder.window(
            {"worker": [spent(1, ThreadState.ON_CPU, at=WORK), spent(9, ThreadState.RUNNABLE, at=WORK)]}
        )
    session = builder.session()
    index = session.snapshot().threads[0].info.index

    # THEN its lanes say so, by window and by tick
    for slices in (2, 30):
        lanes = session.lanes(None, None, slices)
        assert lanes is not None
        assert lanes.states[index].count(int(ThreadState.RUNNABLE)) >= 2
    history = session.history(index, None, None, 30)
    assert history is not None
    assert int(ThreadState.RUNNABLE) in history.states


def test_the_stacks_of_a_thread_over_time(session: Session) -> None:
    worker = next(each.info.index for each in session.snapshot().threads if each.info.name == "worker")
    history = session.history(worker, None, None, 10)

    assert history is not None
    assert history.states == bytes([ON] * 5 + [LOCK] * 5)
    assert sorted(stack[0].line or 0 for stack, _, _ in history.stacks) == [10, 12]
    for stack, share, over_time in history.stacks:
        assert share == pytest.approx(0.5)
        first = stack[0].line == 10
        assert over_time == pytest.approx(((1.0,) * 5 + (0.0,) * 5) if first else ((0.0,) * 5 + (1.0,) * 5))


def test_who_calls_whom(session: Session) -> None:
    (main,) = session.call_tree()

    assert main.frame.function == "main"
    assert main.self_ns == pytest.approx(10 * SECOND)
    assert main.total_ns == pytest.approx(21 * SECOND)
    (work,) = main.children
    assert work.states_ns == pytest.approx({ThreadState.ON_CPU: 6 * SECOND, ThreadState.LOCK: 5 * SECOND})


def test_nothing_recorded_is_nothing_shown(tmp_path: Path) -> None:
    session = RecordingBuilder(tmp_path / "a.ftdiag").session()

    assert session.timeline(None, None, 10) is None
    assert session.lanes(None, None, 10) is None
    assert session.history(0, None, None, 10) is None
    assert session.call_tree() == ()
