"""Accounts add up exactly, and split time by what the samples saw."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import RecordingBuilder, Spent, absent, counted, spent
from ftdiag.analysis.accounting import ON_CPU_STATES, close_exactly
from ftdiag.analysis.ticks import STATES
from ftdiag.model import TORN_STACK, Gap, Snapshot, ThreadMetrics, ThreadState

MS = 1_000_000
SAMPLED_STATES = [state for state in ThreadState if state is not ThreadState.RUNNABLE]


def thread(snapshot: Snapshot, name: str) -> ThreadMetrics:
    return next(each for each in snapshot.threads if each.info.name == name)


def test_cpu_time_is_the_kernels_and_off_cpu_time_is_split_by_samples(tmp_path: Path) -> None:
    # GIVEN a thread seen on CPU half of the time, of which the kernel counted 400 of 1000 ms, 50 queued
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(5, "on_cpu", at="a.py:1 f"), spent(3, "lock", lock="l"), spent(2, "sleep")]},
        counters={"w": counted(cpu_ns=400 * MS, run_queue_ns=50 * MS)},
    )
    # WHEN it is accounted
    states = thread(builder.session().snapshot(), "w").states_ns
    # THEN CPU and run queue are exact and the remaining 550 ms are split 3 : 2
    assert states == {
        ThreadState.ON_CPU: 400 * MS,
        ThreadState.RUNNABLE: 50 * MS,
        ThreadState.LOCK: 330 * MS,
        ThreadState.SLEEP: 220 * MS,
    }


def test_time_that_no_tick_caught_is_on_cpu_or_unknown(tmp_path: Path) -> None:
    # GIVEN a thread with counters and no sample at all
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        ticks=10, counters={"w": counted(alive_ns=1000 * MS, cpu_ns=300 * MS, run_queue_ns=0)}
    )
    # WHEN it is accounted
    states = thread(builder.session().snapshot(), "w").states_ns
    # THEN nothing is dropped and nothing invented
    assert states == {ThreadState.ON_CPU: 300 * MS, ThreadState.UNKNOWN: 700 * MS}


def test_phases_are_split_window_by_window(tmp_path: Path) -> None:
    # GIVEN a window of lock waits with little off-CPU time, then one of sleep with much
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window(
        {"w": [spent(5, "on_cpu"), spent(5, "lock", lock="l")]},
        counters={"w": counted(cpu_ns=900 * MS, run_queue_ns=0)},
    )
    builder.window({"w": [spent(5, "on_cpu"), spent(5, "sleep")]}, counters={"w": counted(cpu_ns=0)})
    # WHEN both are accounted together
    states = thread(builder.session().snapshot(), "w").states_ns
    # THEN each window's time went to what was seen in that window
    assert states[ThreadState.LOCK] == 100 * MS
    assert states[ThreadState.SLEEP] == 1000 * MS


def test_the_clocks_grain_moves_between_neighbouring_windows(tmp_path: Path) -> None:
    # GIVEN a busy thread whose counters are read 3 ms early in one window and late in the next
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for cpu_ms in (997, 1003, 1002, 998):
        builder.window({"w": [spent(10, "on_cpu")]}, counters={"w": counted(cpu_ns=cpu_ms * MS)})
    # WHEN it is accounted
    metrics = thread(builder.session().snapshot(), "w")
    # THEN the jitter is not taken for off-CPU time
    assert metrics.states_ns == {ThreadState.ON_CPU: 4000 * MS}
    assert metrics.cpu_ns == 4000 * MS


def test_excess_beyond_the_clocks_grain_does_not_eat_other_windows(tmp_path: Path) -> None:
    # GIVEN counters that cannot be: a second more CPU than the window has
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window({"w": [spent(10, "on_cpu")]}, counters={"w": counted(cpu_ns=2000 * MS)})
    builder.window({"w": [spent(10, "idle")]}, counters={"w": counted(cpu_ns=0)})
    # WHEN it is accounted
    metrics = thread(builder.session().snapshot(), "w")
    # THEN the idle second loses no more than the grain, and all adds up
    assert metrics.states_ns[ThreadState.IDLE] == 980 * MS
    assert sum(metrics.states_ns.values()) == metrics.alive_ns == 2000 * MS


def test_counters_that_could_not_be_read_are_estimated_and_reported(tmp_path: Path) -> None:
    # GIVEN a window without the thread's CPU counter, and a thread without any counters
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [spent(6, "on_cpu"), spent(4, "idle")],
            "short": [absent(3), spent(2, "on_cpu"), absent(5)],
        },
        counters={"w": counted(cpu_ns=-1, run_queue_ns=-1), "short": None},
    )
    # WHEN it is accounted
    snapshot = builder.session().snapshot()
    # THEN samples stand in for the counters, and the report says so
    assert thread(snapshot, "w").states_ns == {ThreadState.ON_CPU: 600 * MS, ThreadState.IDLE: 400 * MS}
    assert thread(snapshot, "short").states_ns == {ThreadState.ON_CPU: 200 * MS}
    whats = {gap.what for gap in snapshot.quality.gaps}
    assert {"thread counters", "cpu_ns"} <= whats


def test_queue_time_is_inferred_where_only_it_is_missing(tmp_path: Path) -> None:
    # GIVEN a thread always on or wanting a core, with half a second of CPU and no run-queue counter
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(10, "on_cpu")]}, counters={"w": counted(cpu_ns=500 * MS, run_queue_ns=-1)}
    )
    # WHEN accounted THEN the rest of those ticks is run-queue time
    assert thread(builder.session().snapshot(), "w").states_ns == {
        ThreadState.ON_CPU: 500 * MS,
        ThreadState.RUNNABLE: 500 * MS,
    }


def test_native_states_split_the_cpu_time(tmp_path: Path) -> None:
    # GIVEN native samples and sampled runnable ticks
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(6, "work"), spent(2, "spin"), spent(2, "runnable")]},
        counters={"w": counted(cpu_ns=600 * MS, run_queue_ns=400 * MS)},
    )
    # WHEN accounted
    snapshot = builder.session().snapshot()
    # THEN CPU time is split by them and queue time belongs to the runnable ticks
    assert thread(snapshot, "w").states_ns == {
        ThreadState.WORK: 450 * MS,
        ThreadState.SPIN: 150 * MS,
        ThreadState.RUNNABLE: 400 * MS,
    }
    assert snapshot.quality.classified_cpu_ratio == 1.0


def test_a_thread_without_samples_is_split_as_others_at_its_stack(tmp_path: Path) -> None:
    # GIVEN two threads at one line, of which one had all the samples, and one at another line without any
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, native="cpu-clock")
    for name in ("much", "little", "other"):
        builder.thread(name)
    builder.window(
        {
            "much": [spent(10, "on_cpu", at="a.py:1 f")],
            "little": [spent(10, "on_cpu", at="a.py:1 f")],
            "other": [spent(10, "on_cpu", at="a.py:7 g")],
        },
        counters={
            "much": counted(cpu_ns=300 * MS, run_queue_ns=0),
            "little": counted(cpu_ns=10 * MS, run_queue_ns=0),
            "other": counted(cpu_ns=10 * MS, run_queue_ns=0),
        },
        native=[("much", "a.py:1 f", "work", "f", 30), ("much", "a.py:1 f", "alloc", "mi_malloc", 10)],
    )
    # WHEN they are accounted
    snapshot = builder.session().snapshot()
    # THEN what runs at the same line is split alike, and what runs elsewhere is not split
    little, other = (thread(snapshot, name).states_ns for name in ("little", "other"))
    assert little[ThreadState.WORK] == 7.5 * MS
    assert little[ThreadState.ALLOC] == 2.5 * MS
    assert other[ThreadState.ON_CPU] == 10 * MS


def test_threads_that_live_for_a_moment_are_split_as_those_gone_unseen(tmp_path: Path) -> None:
    # GIVEN two threads without samples that end after 30 ms, one of which was on a core at no tick, one that
    # has samples, one that stays, and samples of threads that no tick saw
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, native="cpu-clock")
    for name in ("caught", "uncaught", "sampled"):
        builder.thread(name, lived_ns=30 * MS)
    builder.thread("stays")
    builder.window(
        {
            "caught": [spent(1, "on_cpu", at="a.py:1 f")],
            "uncaught": [spent(1, "idle", at="a.py:2 f")],
            "sampled": [spent(1, "on_cpu", at="a.py:3 f")],
            "stays": [spent(1, "on_cpu", at="a.py:7 g")],
        },
        ticks=10,
        counters={
            name: counted(alive_ns=30 * MS, cpu_ns=10 * MS, run_queue_ns=0)
            for name in ("caught", "uncaught", "sampled", "stays")
        },
        native=[
            ("sampled", "a.py:3 f", "gc", "g", 1),
            (None, "", "work", "f", 30),
            (None, "", "alloc", "mi_malloc", 10),
        ],
    )
    # WHEN they are accounted
    snapshot = builder.session().snapshot()
    # THEN who lives for a moment and has no samples did what the others did
    for name in ("caught", "uncaught"):
        states = thread(snapshot, name).states_ns
        assert (states[ThreadState.WORK], states[ThreadState.ALLOC]) == (7.5 * MS, 2.5 * MS)
        assert sum(states.values()) == 30 * MS
    assert thread(snapshot, "sampled").states_ns[ThreadState.GC] == 10 * MS
    assert thread(snapshot, "stays").states_ns[ThreadState.ON_CPU] == 10 * MS


def test_who_yields_while_it_spins_does_not_want_a_core(tmp_path: Path) -> None:
    # GIVEN a thread that spins and yields 40 times for each time it parks, and one that is preempted
    spins = [spent(4, "work", at="a.py:1 f"), spent(6, "spin", at="a.py:9 take")]
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"spins": spins, "works": [spent(9, "work", at="a.py:1 f"), spent(1, "spin", at="a.py:9 take")]},
        counters={
            "spins": counted(
                cpu_ns=350 * MS, run_queue_ns=600 * MS, voluntary_switches=100, involuntary_switches=4000
            ),
            "works": counted(
                cpu_ns=350 * MS, run_queue_ns=600 * MS, voluntary_switches=5, involuntary_switches=300
            ),
        },
    )
    # WHEN they are accounted
    snapshot = builder.session().snapshot()
    spinning, working = thread(snapshot, "spins"), thread(snapshot, "works")
    # THEN the first waits for the lock nearly all the time that it waits for a core, at the lock's line
    queued = spinning.run_queue_ns - spinning.states_ns[ThreadState.RUNNABLE]
    assert spinning.run_queue_ns == 600 * MS
    assert 0.8 * 600 * MS < queued < 0.9 * 600 * MS
    assert spinning.states_ns[ThreadState.SPIN] == queued + 0.6 * 350 * MS
    line = next(hot for hot in spinning.hot if hot.frame.function == "take")
    assert line.states_ns[ThreadState.SPIN] >= queued
    # AND the other one wants a core
    assert working.states_ns[ThreadState.RUNNABLE] == 600 * MS
    # AND what is on a core is neither more nor less than it was
    assert snapshot.quality.classified_cpu_ratio == 1.0
    assert sum(snapshot.metrics.account.values()) == pytest.approx(snapshot.metrics.capacity_cores)
    assert snapshot.metrics.run_queue_cores < 0.72


def test_who_loses_its_core_to_those_that_it_wakes_does_not_spin(tmp_path: Path) -> None:
    # GIVEN two threads that are switched alike, in whose samples the kernel switches threads: one mostly
    # after a yield, the other mostly because it woke somebody
    at, take = "a.py:1 f", "a.py:9 take"
    switches = counted(
        cpu_ns=350 * MS, run_queue_ns=600 * MS, voluntary_switches=100, involuntary_switches=4000
    )
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {name: [spent(4, "on_cpu", at=at), spent(6, "on_cpu", at=take)] for name in ("spins", "wakes")},
        counters={"spins": switches, "wakes": switches},
        native=[
            *((name, at, "work", "long_add", 40) for name in ("spins", "wakes")),
            ("spins", take, "spin", "finish_task_switch [kernel]", 18),
            ("spins", at, "work", "finish_task_switch [kernel]", 1),
            ("wakes", take, "spin", "__schedule [kernel]", 1),
            ("wakes", at, "work", "finish_task_switch [kernel]", 18),
        ],
    )
    # WHEN they are accounted
    snapshot = builder.session().snapshot()
    # THEN the first waits for a lock nearly all of the time without a core, the other wants its core
    queued = {
        name: thread(snapshot, name).states_ns.get(ThreadState.RUNNABLE, 0) for name in ("spins", "wakes")
    }
    assert queued["spins"] < 0.25 * 600 * MS
    assert 0.8 * 600 * MS < queued["wakes"] < 600 * MS


def test_a_second_without_samples_of_a_thread_is_split_by_those_of_other_seconds(tmp_path: Path) -> None:
    # GIVEN a thread on a core for two seconds, whose machine code was sampled in a turn of the first only
    on_core = {"w": [spent(10, "on_cpu", at="a.py:1 f")]}
    counters = {"w": counted(cpu_ns=800 * MS)}
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, native="cpu-clock at 199 Hz")
    builder.window(
        on_core,
        counters=counters,
        native=[("w", "a.py:1 f", "work", "long_add", 3), ("w", "a.py:1 f", "spin", "lock", 1)],
    )
    builder.window({"w": [spent(10, "on_cpu", at="a.py:2 g")]}, counters=counters, native=[])

    # WHEN accounted THEN both seconds are split as the samples say, and how far that may be off is told
    snapshot = builder.session().snapshot()
    states = thread(snapshot, "w").states_ns
    assert states[ThreadState.WORK] == 3 * states[ThreadState.SPIN] == 1200 * MS
    assert snapshot.quality.classified_cpu_ratio == 1.0
    assert snapshot.quality.native_error_ratio == 0.5


def test_torn_stacks_are_counted_in_thread_samples(tmp_path: Path) -> None:
    # GIVEN one torn tick of ten WHEN accounted THEN a tenth is torn
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(9, "on_cpu", at="a.py:1 f"), spent(1, "on_cpu", at=TORN_STACK)]},
        gaps=[Gap("stack", "changed while it was read")],
    )
    snapshot = builder.session().snapshot()
    assert snapshot.quality.torn_ratio == 0.1
    assert Gap("stack", "changed while it was read") in snapshot.quality.gaps


parts = st.lists(
    st.builds(
        lambda ticks, state: spent(ticks, state) if state else absent(ticks),
        st.integers(1, 5),
        st.sampled_from([None, *SAMPLED_STATES]),
    ),
    max_size=4,
)
nanoseconds = st.one_of(st.none(), st.just(-1), st.integers(0, 2_000 * MS), st.integers(0, 2**62))
counts = st.one_of(
    st.none(),
    st.builds(
        lambda alive, cpu, queue, yields: counted(
            alive_ns=alive, cpu_ns=cpu, run_queue_ns=queue, involuntary_switches=yields
        ),
        nanoseconds,
        nanoseconds,
        nanoseconds,
        st.one_of(st.just(-1), st.integers(0, 5000), st.integers(0, 2**62)),
    ),
)
windows = st.lists(st.dictionaries(st.sampled_from("abc"), st.tuples(parts, counts)), max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(windows)
def test_states_add_up_to_the_lifetime_exactly(
    recorded: list[dict[str, tuple[list[Spent], object]]],
) -> None:
    # GIVEN any recording, with counters missing, impossible or absent
    with tempfile.TemporaryDirectory() as folder:
        builder = RecordingBuilder(Path(folder) / "a", rate_hz=10)
        for window in recorded:
            builder.window(
                {name: threads for name, (threads, _) in window.items()},
                counters={name: counters for name, (_, counters) in window.items()},  # type: ignore[misc]
                ticks=20,
            )
        # WHEN it is accounted
        snapshot = builder.session().snapshot()
        builder.close()
    # THEN every thread's states are whole, not negative, and add up to its lifetime
    for each in snapshot.threads:
        assert sum(each.states_ns.values()) == each.alive_ns
        assert all(value > 0 and isinstance(value, int) for value in each.states_ns.values())
        on_core_or_spinning = sum(each.states_ns.get(state, 0) for state in ON_CPU_STATES)
        queued = each.states_ns.get(ThreadState.RUNNABLE, 0)
        assert queued <= each.run_queue_ns
        assert on_core_or_spinning + queued == each.cpu_ns + each.run_queue_ns
        if ThreadState.SPIN not in each.states_ns:
            assert queued == each.run_queue_ns
        assert each.cpu_ns + each.run_queue_ns <= each.alive_ns
    # AND the cores lost and the cores used fit into the machine
    metrics = snapshot.metrics
    if metrics.duration_ns and metrics.capacity_cores and metrics.on_cpu_cores <= metrics.capacity_cores:
        waiting = sum(
            lost
            for state, lost in metrics.lost_cores.items()
            if state not in (ThreadState.ATOMIC, ThreadState.SPIN)
        )
        assert waiting + metrics.on_cpu_cores <= metrics.capacity_cores * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 1e15), min_size=STATES, max_size=STATES),
    st.integers(0, 10**15),
    st.integers(0, 10**15),
    st.integers(0, 10**15),
)
def test_rounding_closes_exactly(weights: list[float], cpu: int, queue: int, off: int) -> None:
    # GIVEN estimates of any size WHEN they are closed to exact totals THEN nothing is lost or negative
    closed = close_exactly(np.array([weights]), np.array([cpu]), np.array([queue]), np.array([off]))
    assert int(closed.sum()) == cpu + queue + off
    assert int(closed.min()) >= 0
