"""Waits, blame, the wait-for graph, deadlocks and stuck threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, a_lock, a_stack, a_target, counted, spent, stands
from ftdiag.analysis import locks
from ftdiag.analysis.waitgraph import deadlocks
from ftdiag.model import Confidence, LockKind

MS = 1_000_000


def test_wait_blame_and_queue_of_a_contended_lock(tmp_path: Path) -> None:
    # GIVEN two waiters while the holder moves from one line to another
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "holder": [
                spent(6, "on_cpu", at="a.py:10 slow"),
                spent(4, "io", at="a.py:11 slow", syscall="read"),
            ],
            "w1": [spent(10, "lock", at="a.py:9 enter", lock="self._lock", holder="holder")],
            "w2": [
                spent(5, "on_cpu", at="a.py:3 f"),
                spent(5, "lock", at="a.py:9 enter", lock="self._lock", holder="holder"),
            ],
        }
    )
    # WHEN the locks are asked for
    (lock,) = builder.session().snapshot().locks
    # THEN waits add up, and blame is charged to the line the holder was at in that tick
    assert lock.lock.label == "self._lock"
    assert lock.number == 1
    assert lock.wait_ns == 1500 * MS
    assert lock.mean_queue == 1.5
    assert lock.waiters_max == 2
    assert lock.longest_wait_ns == 1000 * MS
    assert [(each.thread.name, each.wait_ns) for each in lock.waiters] == [
        ("w1", 1000 * MS),
        ("w2", 500 * MS),
    ]
    assert {each.stack: round(each.blame_ns / MS) for each in lock.holders} == {
        a_stack("a.py:11 slow"): 800,
        a_stack("a.py:10 slow"): 700,
    }
    assert {each.confidence for each in lock.holders} == {Confidence.KNOWN}


def test_unknown_holders_stay_unknown(tmp_path: Path) -> None:
    # GIVEN a wait without a holder, and one whose holder was not sampled
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [
                spent(4, "lock", lock="l"),
                spent(6, "lock", lock="l", holder="gone", confidence=Confidence.INFERRED),
            ]
        }
    )
    # WHEN asked
    (lock,) = builder.session().snapshot().locks
    # THEN nobody and no line is made up
    gone, nobody = lock.holders
    assert gone.thread is not None
    assert (gone.thread.name, gone.confidence, gone.stack) == ("gone", Confidence.INFERRED, ())
    assert (nobody.thread, nobody.confidence) == (None, Confidence.UNKNOWN)
    assert gone.blame_ns + nobody.blame_ns == pytest.approx(lock.wait_ns)


def test_a_lock_that_was_free_is_not_one_with_an_unknown_holder(tmp_path: Path) -> None:
    # GIVEN one wait, in which a thread had the lock, then nobody, then it is not known who
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [
                spent(3, "lock", lock="l", holder="one"),
                spent(4, "lock", lock="l", free=True),
                spent(2, "lock", lock="l"),
            ],
            "one": [spent(9, "on_cpu")],
        }
    )
    # WHEN asked
    session = builder.session()
    (lock,) = session.snapshot().locks
    # THEN the three are told apart, and it is one wait
    free, held, unknown = lock.holders
    assert [round(each.blame_ns / MS) for each in (free, held, unknown)] == [400, 300, 200]
    assert (free.free, held.free, unknown.free) == (True, False, False)
    assert lock.longest_wait_ns == pytest.approx(900 * MS)
    # AND at the last tick it is not known who has it
    (edge,) = session.wait_graph()
    assert (edge.holder, edge.confidence) == (None, Confidence.UNKNOWN)


def test_critical_wait_is_that_with_fewer_working_threads_than_cores(tmp_path: Path) -> None:
    # GIVEN two cores: both busy for 4 ticks, one for 6
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0)).window(
        {
            "a": [spent(10, "on_cpu")],
            "b": [spent(4, "on_cpu"), spent(6, "idle")],
            "w": [spent(10, "lock", lock="l", holder="a")],
        }
    )
    # WHEN asked THEN 6 ticks of the wait were critical
    (lock,) = builder.session().snapshot().locks
    assert lock.critical_wait_ns == pytest.approx(600 * MS)


def test_one_wait_goes_on_over_windows_chunks_and_holders(tmp_path: Path) -> None:
    # GIVEN a wait of 100 windows, longer than any chunk, in which the holder changes once
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for number in range(100):
        holder = "a" if number < 37 else "b"
        builder.window({"w": [spent(10, "lock", lock="l", holder=holder)]})
    builder.window({"w": [spent(10, "on_cpu")]})
    # WHEN asked THEN it is one wait
    (lock,) = builder.session().snapshot().locks
    assert lock.longest_wait_ns == pytest.approx(100_000 * MS)


def test_a_hole_in_the_recording_ends_a_wait(tmp_path: Path) -> None:
    # GIVEN two windows of the same wait with an hour between
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window({"w": [spent(10, "lock", lock="l")]}).pause(3_600_000 * MS)
    builder.window({"w": [spent(5, "lock", lock="l"), spent(5, "on_cpu")]})
    # WHEN asked THEN nothing is said about the hour
    snapshot = builder.session().snapshot()
    assert snapshot.locks[0].longest_wait_ns == pytest.approx(1000 * MS)
    assert snapshot.metrics.duration_ns == 2000 * MS


def test_waits_that_are_not_lock_states_make_no_lock(tmp_path: Path) -> None:
    # GIVEN an idle wait on a condition's inner lock WHEN asked THEN it is no contention
    builder = RecordingBuilder(tmp_path / "a").window(
        {"w": [spent(10, "idle", lock=a_lock("queue.not_empty"))]}
    )
    assert builder.session().snapshot().locks == ()


def test_thousands_of_locks_are_summed_beyond_the_bound(tmp_path: Path) -> None:
    # GIVEN 3000 locks, the first waited for longest
    parts = [
        spent(5 if i == 0 else 1, "lock", lock=a_lock(f"lock {i}", address=4096 + 16 * i))
        for i in range(3000)
    ]
    builder = RecordingBuilder(tmp_path / "a", rate_hz=1000).window({"w": parts})
    # WHEN asked
    found = builder.session().snapshot().locks
    # THEN the longest are listed and the rest is one row; no time is lost
    assert len(found) == locks.MAX_LOCKS + 1
    assert found[0].lock.label == "lock 0"
    assert found[-1].number == locks.OTHER_LOCKS
    assert found[-1].lock.label == "2800 other locks"
    assert sum(lock.wait_ns for lock in found) == pytest.approx(3004 * MS)


def test_an_address_reused_by_another_kind_of_lock_is_another_lock(tmp_path: Path) -> None:
    # GIVEN one address, first a user lock, then a list's mutex WHEN asked THEN they are two
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window({"w": [spent(10, "lock", lock=a_lock("l", address=64))]})
    builder.window(
        {
            "w": [
                spent(
                    5, "object_lock", lock=a_lock("xs", address=64, kind=LockKind.OBJECT, type_name="list")
                ),
                spent(5, "on_cpu"),
            ]
        }
    )
    assert [(lock.number, lock.lock.kind) for lock in builder.session().snapshot().locks] == [
        (1, LockKind.USER),
        (2, LockKind.OBJECT),
    ]


def test_numbers_of_locks_stay_as_the_recording_grows(tmp_path: Path) -> None:
    # GIVEN a session on a growing recording
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window({"w": [spent(1, "lock", lock="first"), spent(9, "on_cpu")]})
    session = builder.session()
    assert [(lock.number, lock.lock.label) for lock in session.snapshot().locks] == [(1, "first")]
    # WHEN a lock with longer waits appears
    builder.window({"w": [spent(10, "lock", lock="second")]})
    assert session.refresh()
    # THEN it is listed first under the next number
    assert [(lock.number, lock.lock.label) for lock in session.snapshot().locks] == [
        (2, "second"),
        (1, "first"),
    ]


def deadlocked(path: Path, windows: int, confidence: Confidence = Confidence.KNOWN) -> RecordingBuilder:
    builder = RecordingBuilder(path, rate_hz=10)
    for _ in range(windows):
        builder.window(
            {
                "a": [spent(10, "lock", at="a.py:1 f", lock="l2", holder="b", confidence=confidence)],
                "b": [spent(10, "lock", at="a.py:2 g", lock="l1", holder="a", confidence=confidence)],
                "c": [spent(10, "lock", at="a.py:3 h", lock="l1", holder="a", confidence=confidence)],
                "busy": [spent(10, "on_cpu", at="a.py:4 work")],
            }
        )
    return builder


def test_a_cycle_of_known_holders_is_a_deadlock_after_its_time(tmp_path: Path) -> None:
    # GIVEN two threads that hold what the other wants for five seconds, and a third that waits outside
    session = deadlocked(tmp_path / "a", 5).session()
    # WHEN asked
    edges = session.wait_graph()
    cycles = stands(session).deadlocks
    # THEN the graph has all three waits, the deadlock only the cycle
    assert [(edge.waiter.name, edge.holder.name if edge.holder else None) for edge in edges] == [
        ("a", "b"),
        ("b", "a"),
        ("c", "a"),
    ]
    assert [edge.since_ns for edge in edges] == [pytest.approx(5000 * MS)] * 3
    assert [[edge.waiter.name for edge in cycle] for cycle in cycles] == [["a", "b"]]
    assert cycles[0][0].holder_stack == a_stack("a.py:2 g")
    assert deadlocks(edges, standing_ns=6_000 * MS) == ()


def test_inferred_holders_make_no_deadlock(tmp_path: Path) -> None:
    # GIVEN the same cycle from holders that are only inferred WHEN asked THEN no alarm
    assert stands(deadlocked(tmp_path / "a", 5, Confidence.INFERRED).session()).deadlocks == ()


def test_stuck_threads_have_not_moved_while_others_worked(tmp_path: Path) -> None:
    # GIVEN the same for twelve seconds
    session = deadlocked(tmp_path / "a", 12).session()
    # WHEN asked THEN the waiting threads are stuck, the busy one is not
    assert [each.thread.name for each in stands(session).stuck] == ["a", "b", "c"]
    assert stands(session, stuck_ns=13_000 * MS).stuck == ()


def test_a_thread_that_ran_in_between_is_not_stuck(tmp_path: Path) -> None:
    # GIVEN a waiter whose counters show CPU time in every window, between the ticks
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for _ in range(12):
        builder.window(
            {"w": [spent(10, "lock", at="a.py:1 f", lock="l")], "busy": [spent(10, "on_cpu")]},
            counters={"w": counted(cpu_ns=20 * MS)},
        )
    # WHEN asked THEN it moves
    assert stands(builder.session()).stuck == ()


def test_idle_threads_are_not_stuck(tmp_path: Path) -> None:
    # GIVEN a pool worker without work for twelve seconds WHEN asked THEN that is how it should be
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for _ in range(12):
        builder.window({"pool": [spent(10, "idle", at="q.py:1 get")], "busy": [spent(10, "on_cpu")]})
    assert stands(builder.session()).stuck == ()
