"""Bottlenecks: chains of waits, what they end at, wall time of lines; on built and on simulated programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_target, absent, counted, spent
from ftdiag.model import (
    Bottleneck,
    BottleneckKind,
    Bottlenecks,
    Confidence,
    EndOfWait,
    Frame,
    ProcessCounters,
    RecordingSettings,
    Snapshot,
)
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from tools.simulation import Scenario, Step, gains, scenarios, simulate, write

MS = 1_000_000
LENGTH_US = 2_200_000.0
CHAINED = (BottleneckKind.LOCK, BottleneckKind.KNOT, BottleneckKind.STOP, BottleneckKind.GIL)


def found_in(snapshot: Snapshot) -> Bottlenecks:
    assert snapshot.bottlenecks is not None
    return snapshot.bottlenecks


def the(found: Bottlenecks, kind: BottleneckKind) -> Bottleneck:
    (one,) = [each for each in found.ranked if each.kind is kind]
    return one


def test_waiting_goes_to_what_the_chain_ends_at(tmp_path: Path) -> None:
    # GIVEN w waits for A, whose holder waits for B, whose holder reads a socket
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [spent(10, "lock", at="a.py:1 w", lock="A", holder="middle")],
            "middle": [spent(10, "lock", at="a.py:2 m", lock="B", holder="last")],
            "last": [spent(10, "io", at="a.py:3 read", detail="socket 10.0.0.1:80")],
        }
    )
    # WHEN
    found = found_in(builder.session().snapshot())
    # THEN all of it is charged to B, at the line where its holder reads; A has nothing left
    locks = [one for one in found.ranked if one.kind is BottleneckKind.LOCK]
    assert [one.lock.label for one in locks if one.lock] == ["B"]
    assert locks[0].wait_ns == 2000 * MS
    assert locks[0].direct_ns == 1000 * MS
    assert locks[0].waiters_max == 2
    (place,) = locks[0].places
    assert (place.end, place.stack[0].function, place.threads) == (EndOfWait.IO, "read", 1)
    assert {
        (edge.waiter.name, edge.lock.label, edge.holder and edge.holder.name) for edge in found.edges
    } == {
        ("w", "A", "middle"),
        ("middle", "B", "last"),
    }


def test_what_runs_meanwhile_decides_what_waiting_costs(tmp_path: Path) -> None:
    # GIVEN two cores, two threads that compute all the time, and two that wait for a lock of one of them
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0)).window(
        {
            "holder": [spent(10, "on_cpu", at="a.py:1 inside")],
            "busy": [spent(10, "on_cpu", at="a.py:2 busy")],
            "w1": [spent(10, "lock", lock="L", holder="holder")],
            "w2": [spent(10, "lock", lock="L", holder="holder")],
        }
    )
    # THEN the waiting is told, and costs nothing
    lock = the(found_in(builder.session().snapshot()), BottleneckKind.LOCK)
    assert (lock.wait_ns, lock.lost_cores, lock.wall_ratio) == (2000 * MS, 0.0, 0.0)


def test_a_holder_that_is_not_known_or_gone_ends_the_chain(tmp_path: Path) -> None:
    # GIVEN a lock that is free, one of which nobody knows, and one whose holder went away
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w1": [spent(10, "lock", lock="free", free=True)],
            "w2": [spent(10, "lock", lock="unknown")],
            "w3": [spent(10, "lock", lock="gone", holder="short")],
            "short": [spent(4, "on_cpu", at="a.py:1 f"), absent(6)],
        }
    )
    found = found_in(builder.session().snapshot())
    ends = {
        one.lock.label: {place.end: place.wait_ns for place in one.places} for one in found.ranked if one.lock
    }
    assert ends == {
        "free": {EndOfWait.HANDED_OVER: 1000 * MS},
        "unknown": {EndOfWait.NOT_KNOWN: 1000 * MS},
        "gone": {EndOfWait.RUNS: 400 * MS, EndOfWait.NOT_KNOWN: 600 * MS},
    }
    assert sum(one.wait_ns for one in found.ranked if one.lock) == pytest.approx(3000 * MS, rel=1e-9)


def test_a_circle_of_holders_is_a_knot_with_all_that_wait_for_it(tmp_path: Path) -> None:
    # GIVEN two threads that wait for each other, and a third that waits for one of them
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "one": [spent(10, "lock", lock="A", holder="two")],
            "two": [spent(10, "lock", lock="B", holder="one")],
            "outside": [spent(10, "lock", lock="A", holder="two")],
        }
    )
    knot = the(found_in(builder.session().snapshot()), BottleneckKind.KNOT)
    assert [member.name for member in knot.members] == ["one", "two"]
    assert knot.wait_ns == 3000 * MS
    assert knot.waiters_max == 3


def test_the_same_knot_in_two_digests_is_one(tmp_path: Path) -> None:
    # GIVEN more windows than are digested together, with another knot before
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for number in range(40):
        pair = ("a", "b") if number < 2 else ("c", "d")
        builder.window(
            {
                pair[0]: [spent(10, "lock", lock="A", holder=pair[1])],
                pair[1]: [spent(10, "lock", lock="B", holder=pair[0])],
            }
        )
    found = found_in(builder.session().snapshot())
    knots = {tuple(member.name for member in one.members): round(one.wait_ns / MS) for one in found.ranked}
    assert knots[("a", "b")] == 4000
    assert knots[("c", "d")] == 76000


def test_a_thread_that_runs_while_others_have_nothing_to_do(tmp_path: Path) -> None:
    # GIVEN rounds: all compute, then one merges while the others are idle
    rounds = [
        spent(4, "on_cpu", at="a.py:1 compute"),
        spent(6, "idle", at="b.py:9 wait", detail="Barrier.wait"),
    ]
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=3.0)).window(
        {
            "main": [spent(4, "on_cpu", at="a.py:1 compute"), spent(6, "on_cpu", at="a.py:5 merge")],
            "w1": rounds,
            "w2": rounds,
        }
    )
    snapshot = builder.session().snapshot()
    serial = the(found_in(snapshot), BottleneckKind.SERIAL)
    # THEN it is that thread and line, for the two cores of six ticks of ten
    assert serial.thread is not None
    assert serial.thread.name == "main"
    assert serial.places[0].stack[0].function == "merge"
    assert serial.lost_cores == pytest.approx(1.2)
    assert serial.wall_ratio == pytest.approx(0.6)
    # AND in wall time the merge is most of it, though its thread-time is less
    lines = {line.frame.function: line for line in snapshot.hot}
    assert lines["merge"].total_ns < lines["compute"].total_ns
    assert lines["merge"].wall_ns == pytest.approx(600 * MS)
    assert lines["compute"].wall_ns == pytest.approx(400 * MS)


def test_wall_time_adds_up_to_the_time_in_which_anything_was_wanted(tmp_path: Path) -> None:
    # GIVEN ticks at which threads run, only wait for a lock, only read, and are all idle
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "a": [
                spent(3, "on_cpu", at="a.py:1 f"),
                spent(2, "lock", at="a.py:2 l", lock="L"),
                spent(3, "io", at="a.py:3 r"),
                spent(2, "idle", at="a.py:4 i"),
            ],
            "b": [
                spent(2, "on_cpu", at="a.py:1 f"),
                spent(1, "on_cpu", at="a.py:5 g"),
                spent(7, "idle", at="a.py:4 i"),
            ],
        }
    )
    wall = {line.frame.function: line.wall_ns for line in builder.session().snapshot().hot}
    assert wall == pytest.approx({"f": 250 * MS, "g": 50 * MS, "l": 200 * MS, "r": 300 * MS, "i": 0.0})


def test_spinning_belongs_to_the_lock_that_is_waited_for_there(tmp_path: Path) -> None:
    # GIVEN native samples that spin at the line where threads also park, and atomics elsewhere
    builder = RecordingBuilder(
        tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0), native="perf"
    ).window(
        {
            "a": [
                spent(8, "on_cpu", at="a.py:1 take"),
                spent(2, "lock", at="a.py:1 take", lock="L", holder="b"),
            ],
            "b": [spent(10, "on_cpu", at="a.py:9 read")],
        },
        native=[
            ("a", "a.py:1 take", "spin", "sched_yield", 8),
            ("b", "a.py:9 read", "atomic", "_Py_DecRefShared", 5),
            ("b", "a.py:9 read", "work", "eval", 5),
        ],
    )
    found = found_in(builder.session().snapshot())
    lock, line = the(found, BottleneckKind.LOCK), the(found, BottleneckKind.LINE)
    assert lock.wasted_cores == pytest.approx(0.8)
    assert lock.lost_cores == pytest.approx(1.0)
    assert line.places[0].stack[0].function == "read"
    assert line.wasted_cores == pytest.approx(0.5)


def test_what_cannot_be_told_is_said_with_its_reason(tmp_path: Path) -> None:
    # GIVEN an imported file
    builder = RecordingBuilder(tmp_path / "a").window({"a": [spent(10, "on_cpu", at="a.py:1 f")]})
    recording = builder.open()
    settings: RecordingSettings = replace(recording.settings, imported="py-spy")
    recording.settings = settings
    found = found_in(Session(recording).snapshot())
    assert found.ranked == ()
    assert found.not_told is not None
    assert found.not_told.startswith("cannot tell: imported from")


def test_a_gil_build_ends_at_the_gil(tmp_path: Path) -> None:
    builder = RecordingBuilder(
        tmp_path / "a", rate_hz=10, target=a_target(free_threaded=False, gil_enabled=True)
    ).window(
        {
            "a": [spent(10, "on_cpu", at="a.py:1 f")],
            "b": [spent(10, "gil", at="a.py:1 f", lock="the GIL", holder="a")],
        }
    )
    assert found_in(builder.session().snapshot()).ranked[0].kind is BottleneckKind.GIL


def test_hardly_anything_recorded(tmp_path: Path) -> None:
    # GIVEN one tick, and nothing at all
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window({"a": [spent(1, "lock", lock="L")]})
    assert found_in(builder.session().snapshot()).ranked[0].kind is BottleneckKind.LOCK
    nothing = RecordingBuilder(tmp_path / "b").session().snapshot()
    assert found_in(nothing).not_told == "cannot tell: nothing was recorded in this range"


# --- simulated programs ------------------------------------------------------------------------------------


def looked_at(scenario: Scenario, path: Path, *, holders: bool = True) -> Snapshot:
    write(simulate(scenario, LENGTH_US), path, holders=holders)
    with Recording.open(path) as recording:
        return Session(recording).snapshot()


def name_of(one: Bottleneck) -> str:
    if one.kind is BottleneckKind.LOCK and one.lock:
        return f"lock {one.lock.label}"
    if one.kind is BottleneckKind.IO:
        return f"io {one.detail}"
    if one.kind is BottleneckKind.SERIAL:
        return f"serial {one.places[0].stack[0].function}"
    return str(one.kind.value)


def test_simulated_programs_have_the_right_first_bottleneck(tmp_path: Path) -> None:
    # GIVEN programs of every kind, of which it is known what taking each cause away gains
    wrong = []
    for number, scenario in enumerate(scenarios(14, seed=7)):
        snapshot = looked_at(scenario, tmp_path / str(number))
        found = found_in(snapshot)
        first = name_of(found.ranked[0])
        gained = {scenario.answer: 1.0} if scenario.answer else gains(scenario, LENGTH_US)
        if gained.get(first, 0.0) < 0.97 * max(gained.values()):
            wrong.append((scenario.kind, first, gained))
        # AND redistribution keeps all waiting, to 1e-9
        whole = sum(one.wait_ns for one in found.ranked if one.kind in CHAINED)
        assert whole == pytest.approx(sum(lock.wait_ns for lock in snapshot.locks), rel=1e-9)
        assert found.waited_ns == pytest.approx(whole, rel=1e-9)
    assert len(wrong) <= 1, wrong


def test_without_holders_chains_end_at_the_first_lock(tmp_path: Path) -> None:
    # GIVEN a program with a chain of locks, recorded without holders
    steps = (Step("take", "A"), Step("work", "inside", 5000), Step("give", "A"))
    snapshot = looked_at(Scenario((steps,) * 4, 4, 3), tmp_path / "a", holders=False)
    lock = the(found_in(snapshot), BottleneckKind.LOCK)
    assert {place.end for place in lock.places} == {EndOfWait.NOT_KNOWN}
    assert lock.known_ratio == 0.0


def test_threads_that_come_and_go_between_ticks(tmp_path: Path) -> None:
    # GIVEN a waiter that outlives its holder, a hole in the recording, and another holder behind it
    builder = (
        RecordingBuilder(tmp_path / "a", rate_hz=10)
        .window(
            {
                "w": [spent(10, "lock", lock="L", holder="first")],
                "first": [spent(10, "on_cpu", at="a.py:1 f")],
            }
        )
        .pause(5_000_000_000)
        .window(
            {
                "w": [spent(10, "lock", lock="L", holder="second", confidence=Confidence.INFERRED)],
                "second": [absent(5), spent(5, "on_cpu", at="a.py:2 g")],
            }
        )
    )
    lock = the(found_in(builder.session().snapshot()), BottleneckKind.LOCK)
    assert {(place.end, place.stack[:1]): place.wait_ns for place in lock.places} == {
        (EndOfWait.RUNS, (Frame("a.py", "f", 1),)): 1000 * MS,
        (EndOfWait.RUNS, (Frame("a.py", "g", 2),)): 500 * MS,
        (EndOfWait.NOT_KNOWN, ()): 500 * MS,
    }
    assert lock.known_ratio == 0.5


def test_cores_that_others_had_are_not_too_few_for_these_threads(tmp_path: Path) -> None:
    # GIVEN two threads on two cores that wait for a core half of the time, because another program has one
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0))
    half = counted(cpu_ns=500 * MS, run_queue_ns=500 * MS)
    busy = ProcessCounters(cpu_ns=1000 * MS, machine_busy_ns=2000 * MS)
    runs = [spent(10, "on_cpu", at="a.py:1 f")]
    builder.window({"a": runs, "b": runs}, counters={"a": half, "b": half}, process=busy)
    found = found_in(builder.session().snapshot())
    # THEN it is the others that are told, as something about the machine
    cores = [one for one in found.ranked if one.kind is BottleneckKind.CORES]
    assert [(one.detail, one.context) for one in cores if one.gain_cores > 0.1] == [
        ("other processes had the cores", True)
    ]
    # AND three threads that use both cores alone want one more
    alone = RecordingBuilder(tmp_path / "b", rate_hz=10, target=a_target(capacity_cores=2.0))
    third = counted(cpu_ns=667 * MS, run_queue_ns=333 * MS)
    alone.window(dict.fromkeys("abc", runs), counters=dict.fromkeys("abc", third))
    first = found_in(alone.session().snapshot()).ranked[0]
    assert (first.kind, first.context) == (BottleneckKind.CORES, False)
    assert first.gain_cores == pytest.approx(1.0, abs=0.01)
