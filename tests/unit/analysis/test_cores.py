"""The account of cores: it closes to the capacity, no part is negative, and every figure is a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from builders import RecordingBuilder, a_target, counted, spent
from ftdiag.analysis.cores import Use, account_of
from ftdiag.model import (
    ON_CPU_PARTS,
    RUNNABLE_PARTS,
    CorePart,
    Metrics,
    ProcessCounters,
    SamplerCost,
    Snapshot,
    StateGroup,
    ThreadState,
)
from ftdiag.reports.chain import chain
from ftdiag.session import Session
from tools.record_samples import RECORDINGS

MS = 1_000_000
CLOSES = 0.01
"""Cores by which parts and whole may differ."""
STATES = [state for state in ThreadState if state.group is not StateGroup.RUN_QUEUE]
PARTS = {part.label for part in CorePart}
WAITS = [state for state in STATES if state.group is not StateGroup.ON_CPU and state.label in PARTS]
figures = st.floats(min_value=-1e6, max_value=1e12) | st.sampled_from([math.nan, math.inf, -0.0, 0.0])
maybe = st.none() | figures


def check(metrics: Metrics) -> None:
    """What holds of every account."""
    assert metrics.capacity_cores is not None
    parts = metrics.account
    assert set(parts) == set(CorePart)
    assert all(cores >= 0 for cores in parts.values()), parts
    assert math.fsum(parts.values()) == pytest.approx(metrics.capacity_cores, abs=CLOSES)
    on_cpu = sum(parts[part] for part in ON_CPU_PARTS)
    assert on_cpu == pytest.approx(metrics.on_cpu_cores, abs=CLOSES)
    assert metrics.on_cpu_cores <= metrics.capacity_cores
    if metrics.useful_cores is not None:
        assert metrics.useful_most_cores is not None
        assert parts[CorePart.USEFUL] == metrics.useful_cores
        assert sum(metrics.useful_parts_cores.values()) == pytest.approx(metrics.useful_cores)
        assert metrics.useful_cores <= metrics.useful_most_cores <= metrics.on_cpu_cores + CLOSES
        product = math.prod(factor for _, factor in chain(metrics) if factor is not None)
        assert product == pytest.approx(metrics.useful_most_cores / metrics.capacity_cores, abs=CLOSES)
    if metrics.efficiency_ratio is not None:
        assert metrics.efficiency_most_ratio is not None
        assert 0 <= metrics.efficiency_ratio <= metrics.efficiency_most_ratio <= 1
    for state, cores in metrics.lost_cores.items():
        named = RUNNABLE_PARTS if state is ThreadState.RUNNABLE else (CorePart(state.label),)
        assert cores == pytest.approx(sum(parts[part] for part in named))


def check_views(snapshot: Snapshot, session: Session) -> None:
    """Findings are paid out of the account, and the time line has the same useful cores."""
    metrics = snapshot.metrics
    # Findings are of the time in which nobody kept the program from running.
    for finding in snapshot.findings if ThreadState.HALTED not in metrics.states_ns else ():
        assert 0 <= finding.lost_cores <= (metrics.capacity_cores or 0.0) + CLOSES
    line = session.timeline(None, None, 1)
    assert line is not None
    if metrics.useful_cores is not None and line.useful_cores is not None:
        (useful,) = line.useful_cores
        assert useful is not None
        # A part that is scaled down by the grain of clocks is not so in the time line.
        assert useful == pytest.approx(metrics.useful_cores, rel=0.05, abs=CLOSES)


@given(
    capacity=st.floats(min_value=0.01, max_value=4096),
    running=st.dictionaries(st.sampled_from(list(ThreadState)[:6]), figures),
    waiting=st.dictionaries(st.sampled_from([ThreadState.RUNNABLE, *WAITS]), figures),
    use=st.builds(
        Use,
        on_cpu_cores=figures,
        unseen_cores=maybe,
        other_cores=maybe,
        throttled_cores=maybe,
        sampler_cores=figures,
    ),
    wanted=figures,
)
def test_an_account_of_anything_closes(
    capacity: float,
    running: dict[ThreadState, float],
    waiting: dict[ThreadState, float],
    use: Use,
    wanted: float,
) -> None:
    # GIVEN any figures, impossible ones among them
    # WHEN they are accounted for
    parts = account_of(capacity, use, running=running, waiting=waiting, wanted_cores=wanted)
    # THEN no part is negative, and together they are the capacity
    assert all(cores >= 0 for cores in parts.values()), parts
    assert math.fsum(parts.values()) == pytest.approx(capacity, abs=CLOSES)


windows = st.lists(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(STATES)), min_size=1, max_size=4),
        max_size=6,
    ),
    min_size=1,
    max_size=4,
)
counts = st.none() | st.integers(0, 3_000 * MS)


@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a case takes a file: shrinking would take minutes
)
@given(
    seen=windows,
    capacity=st.sampled_from([0.5, 1.0, 2.0, 3.7, 64.0]),
    kernel=st.lists(st.tuples(counts, counts), min_size=6, max_size=6),
    process=st.tuples(counts, counts, counts, st.integers(0, 400 * MS)),
)
def test_accounts_of_built_recordings_close(
    tmp_path_factory: pytest.TempPathFactory,
    seen: list[dict[str, list[tuple[int, ThreadState]]]],
    capacity: float,
    kernel: list[tuple[int | None, int | None]],
    process: tuple[int | None, int | None, int | None, int],
) -> None:
    # GIVEN windows in which threads do anything, with counters that need not fit to it
    path = tmp_path_factory.mktemp("account") / "a"
    builder = RecordingBuilder(path, rate_hz=10, target=a_target(capacity_cores=capacity))
    cpu, busy, throttled, sampler = process
    for threads in seen:
        builder.window(
            {name: [spent(ticks, state) for ticks, state in parts] for name, parts in threads.items()},
            counters={
                name: counted(cpu_ns=own[0], run_queue_ns=own[1])
                for name, own in zip("abcdef", kernel, strict=True)
                if name in threads
            },
            length_ns=2500 * MS,  # as long as the most ticks that a thread is seen at
            process=ProcessCounters(cpu_ns=cpu, machine_busy_ns=busy, throttled_ns=throttled),
            cost=SamplerCost(sampler, 10, 0, 0, 0, 0),
        )
    # WHEN summed up
    session = builder.session()
    snapshot = session.snapshot()
    builder.close()
    # THEN it closes
    check(snapshot.metrics)
    check_views(snapshot, session)


@pytest.mark.parametrize(
    "path", sorted(RECORDINGS.glob("*/*.ftdiag")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_accounts_of_recorded_samples_close(path: Path, recorded: Callable[[Path], Session]) -> None:
    # GIVEN a recording of a real program
    session = recorded(path)
    # WHEN the whole of it, and its last two seconds, are summed up
    for snapshot in (session.snapshot(), session.last(2_000_000_000)):
        # THEN the account closes
        check(snapshot.metrics)
    check_views(session.snapshot(), session)


@pytest.fixture
def recorded() -> Callable[[Path], Session]:
    """Opens recordings."""
    from ftdiag.recording.reader import Recording

    return lambda path: Session(Recording.open(path))


def test_a_program_that_scales_perfectly_is_told_so(tmp_path: Path) -> None:
    # GIVEN two threads of private arithmetic that fill two cores, a third of it for numbers they make
    busy = [spent(6, "work"), spent(3, "alloc"), spent(1, "gc")]
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0))
    # WHEN summed up
    metrics = builder.window({"a": busy, "b": busy}).session().snapshot().metrics
    # THEN all of it was useful: a run with one thread pays for allocation, too
    assert metrics.useful_cores == pytest.approx(2.0)
    assert metrics.efficiency_ratio == pytest.approx(1.0)
    assert metrics.useful_parts_cores[ThreadState.ALLOC] == pytest.approx(0.6)
    assert metrics.account[CorePart.NO_DEMAND] == pytest.approx(0.0)


def test_cores_that_others_had_are_told_by_who_had_them(tmp_path: Path) -> None:
    # GIVEN two threads that got half of two cores, beside a program that used 0.7 and a quota that took 0.2
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0)).window(
        {name: [spent(10, "on_cpu")] for name in "ab"},
        counters={name: counted(cpu_ns=500 * MS, run_queue_ns=500 * MS) for name in "ab"},
        process=ProcessCounters(cpu_ns=1000 * MS, machine_busy_ns=1750 * MS, throttled_ns=200 * MS),
        cost=SamplerCost(50 * MS, 10, 0, 0, 0, 0),
    )
    # WHEN summed up
    account = builder.session().snapshot().metrics.account
    # THEN each has what it had, and what nobody had is not blamed on anyone
    assert account[CorePart.CPU_QUOTA] == pytest.approx(0.2)
    assert account[CorePart.OTHER_PROGRAMS] == pytest.approx(0.7)
    assert account[CorePart.FTDIAG] == pytest.approx(0.05)
    assert account[CorePart.RUNNABLE] == pytest.approx(0.05)


def test_waits_for_io_have_what_locks_leave(tmp_path: Path) -> None:
    # GIVEN four cores, one thread at work, one that waits for a lock, three in I/O and one idle
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [spent(10, "work")],
            "l": [spent(10, "lock", lock="l", holder="w")],
            **{name: [spent(10, "io", syscall="read")] for name in "xyz"},
            "i": [spent(10, "idle")],
        }
    )
    # WHEN summed up
    account = builder.session().snapshot().metrics.account
    # THEN the lock costs its core whoever else waits, and I/O has the two that are left
    assert account[CorePart.LOCK] == pytest.approx(1.0)
    assert account[CorePart.IO] == pytest.approx(2.0)
    assert account[CorePart.NO_DEMAND] == pytest.approx(0.0)


def test_time_that_was_not_told_apart_leaves_a_bound(tmp_path: Path) -> None:
    # GIVEN a thread of which half the time on a core could be classified
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, native="sampled").window(
        {"w": [spent(10, "on_cpu", at="app.py:1 run")]},
        native=[("w", "app.py:1 run", "work", "f", 50), ("w", "app.py:1 run", "unknown", "g", 50)],
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN what was useful is a range, and so is the efficiency
    assert (metrics.useful_cores, metrics.useful_most_cores) == pytest.approx((0.5, 1.0))
    assert (metrics.efficiency_ratio, metrics.efficiency_most_ratio) == pytest.approx((0.5, 1.0))


def test_threads_gone_unseen_do_not_take_useful_cores_away(tmp_path: Path) -> None:
    # GIVEN a process of which half the CPU time was used by threads that nobody saw
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"w": [spent(10, "work")]},
        process=ProcessCounters(cpu_ns=2000 * MS),
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN what is known to be useful is said, with the most that it can be
    assert metrics.account[CorePart.UNSEEN_THREADS] == pytest.approx(1.0)
    assert (metrics.useful_cores, metrics.useful_most_cores) == pytest.approx((1.0, 2.0))


def test_samples_tell_apart_what_threads_gone_unseen_did(tmp_path: Path) -> None:
    # GIVEN a process of which half the CPU time was used by threads that nobody saw, and samples of them
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, native="sampled")
    for spins in (30, 10):
        builder.window(
            {"w": [spent(10, "on_cpu", at="app.py:1 run")]},
            native=[
                ("w", "app.py:1 run", "work", "f", 10),
                (None, "", "work", "f", 50),
                (None, "", "alloc", "g", 20),
                (None, "", "spin", "h", spins),
                (None, "", "unknown", "?", 40 - spins),
            ],
            process=ProcessCounters(cpu_ns=2000 * MS),
        )
    session = builder.session()
    # WHEN summed up
    snapshot = session.snapshot()
    metrics = snapshot.metrics
    # THEN their cores are parts of the account like any other, which adds up to the clock of the process
    told = {state.label: cores for state, cores in metrics.unseen_parts_cores.items()}
    whole = 220.0
    assert told == pytest.approx(
        {"work": 100 / whole, "alloc": 40 / whole, "spin": 40 / whole, "on_cpu": 40 / whole}
    )
    assert metrics.unseen_threads_cores == pytest.approx(1.0)
    assert metrics.account[CorePart.USEFUL] == pytest.approx(1.0 + 140 / whole)
    assert metrics.account[CorePart.SPIN] == metrics.lost_cores[ThreadState.SPIN] == pytest.approx(40 / whole)
    assert metrics.account[CorePart.UNSEEN_THREADS] == pytest.approx(40 / whole)
    assert sum(metrics.account[part] for part in ON_CPU_PARTS) == pytest.approx(metrics.on_cpu_cores)
    assert metrics.useful_cores == pytest.approx(1.0 + 140 / whole)
    assert metrics.useful_most_cores == pytest.approx(1.0 + 180 / whole)
    assert dict(metrics.unseen_functions) == pytest.approx(
        {"f": 100 / whole, "g": 40 / whole, "h": 40 / whole, "?": 40 / whole}
    )
    assert snapshot.quality.classified_cpu_ratio == pytest.approx((1.0 + 180 / whole) / 2.0)
    # AND no thread's time has them
    assert sum(metrics.states_ns.values()) == 2000 * MS
    # AND over time they are told alike
    timeline = session.timeline(None, None, 2)
    assert timeline is not None
    assert timeline.account[CorePart.UNSEEN_THREADS] == pytest.approx((40 / whole, 40 / whole))
    assert timeline.useful_cores == pytest.approx((1.0 + 140 / whole,) * 2)


@pytest.mark.parametrize(("cpu_ms", "capacity"), [(2040, 2.0), (2900, 2.9)])
def test_no_process_uses_more_than_its_capacity(tmp_path: Path, cpu_ms: int, capacity: float) -> None:
    # GIVEN two cores, and a clock that says a little, or much, more than two
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0)).window(
        {name: [spent(10, "work")] for name in "ab"}, process=ProcessCounters(cpu_ns=cpu_ms * MS)
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN a little is the clocks' grain, and much says that the capacity was another one
    assert metrics.on_cpu_cores == metrics.capacity_cores == pytest.approx(capacity)
    assert ("more was in use" in (metrics.capacity_reason or "")) == (capacity > 2.0)
