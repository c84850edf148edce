"""Which Python stack a sample of machine code is charged to, when a window's samples are decoded at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import pytest

from fake_process import Sink
from ftdiag.datatypes import replace
from ftdiag.model import (
    NATIVE_FILE,
    Frame,
    ProcessCounters,
    Runs,
    SamplerCost,
    ThreadCounters,
    ThreadInfo,
    ThreadState,
    Window,
)
from ftdiag.sampling.oncore import SEEN_WINDOWS, OnCore
from ftdiag.sampling.threads import SampledThread, Tick
from ftdiag.sampling.turns import Turns
from ftdiag.sources.kernel.procfs import ThreadFiles
from ftdiag.sources.kernel.rings import DRAIN_EVERY_NS, PythonRings
from ftdiag.sources.native.classifier import NativeSample
from ftdiag.sources.native.sampler import CRAMPED_NS, NativeSampler

WORK = ThreadState.WORK


class Native(NativeSampler):
    """Gives the samples it is told to, and notes when buffers are emptied."""

    def __init__(self, *samples: NativeSample) -> None:
        self.samples = list(samples)
        self.drained: list[int] = []
        self.added: list[int] = []
        self.paused: list[bool] = []
        self.dense: list[float] = []
        self.woken: list[list[int]] = []
        self._lost = 0
        self.rings = PythonRings()
        self.unnamed: dict[tuple[str, str], int] = {}
        self._events = {}
        self._of_cores = []
        self.permitted = True
        self.by_cores: list[bool] = []
        self._waiting = type(self.added)()  # type: ignore[assignment]

    @property
    def by_core(self) -> bool:
        return bool(self.by_cores) and self.by_cores[-1]

    def go_by_core(self) -> bool:
        self.by_cores.append(self.permitted)
        return self.permitted

    def go_by_thread(self) -> None:
        self.by_cores.append(False)

    def take_unnamed(self) -> dict[tuple[str, str], int]:
        return self.unnamed

    def add_thread(self, tid: int) -> None:
        self.added.append(tid)

    def remove_thread(self, tid: int) -> None:
        self.added.remove(tid)

    def pause(self) -> None:
        self.paused.append(True)

    def resume(self, dense: float = 1.0) -> None:
        self.paused.append(False)
        self.dense.append(dense)

    def wake(self, tids: Iterable[int]) -> None:
        self.woken.append(sorted(tids))

    def drain(self, now_ns: int) -> None:
        self.drained.append(now_ns)
        self.rings.drain(now_ns)

    def read(self) -> list[NativeSample]:
        samples, self.samples = self.samples, []
        return samples


class Recording(Sink):
    """Keeps frames."""

    def intern_wait(self, wait: object) -> int:
        raise NotImplementedError

    put_thread = update_target = write_window = intern_wait


class Files(ThreadFiles):
    """Of a thread that is not there."""

    def __init__(self) -> None:
        self.syscall_fd = -1


def thread(index: int, tid: int) -> SampledThread:
    """One of the target's."""
    return SampledThread(ThreadInfo(index, tid, "worker", True), Files(), 0)


def sample(tid: int, time_ns: int, symbol: str | None = "f") -> NativeSample:
    """One look at a thread on a core."""
    return NativeSample(tid, time_ns, WORK, symbol, None)


def window(ticks: list[int], *runs: tuple[int, int, int, int]) -> Window:
    """Runs of (thread, first tick, ticks, stack)."""
    columns = Runs()
    for index, first, length, stack in runs:
        columns.thread.append(index)
        columns.first_tick.append(first)
        columns.ticks.append(length)
        columns.stack.append(stack)
        for column in (columns.state, columns.wait, columns.holder, columns.confidence):
            column.append(0)
    cost = SamplerCost(0, len(ticks), 0, 0, 0, 0)
    return Window(0, ticks[-1], array("q", ticks), columns, ThreadCounters(), cost)


@pytest.mark.parametrize(
    ("time_ns", "stack"),
    [(0, 7), (10, 7), (14, 7), (15, 8), (16, 8), (24, 8), (26, 9), (29, 9), (99, 9)],
)
def test_a_sample_belongs_to_the_tick_nearest_in_time(time_ns: int, stack: int) -> None:
    # GIVEN a thread that was in another stack at each of three ticks, and another thread
    on_core = OnCore(native := Native(sample(40, time_ns)), Recording(), Turns(2.0))  # type: ignore[arg-type]
    on_core.add(thread(3, 40))
    on_core.add(thread(4, 41))

    # WHEN the window ends, THEN a sample is charged to the stack at the tick nearest in time
    seen = window([10, 20, 30], (3, 0, 1, 7), (3, 1, 1, 8), (3, 2, 1, 9), (4, 0, 3, 6))
    counts, columns, lost = on_core.take(seen)
    assert counts == {(3, stack, int(WORK), 1): 1} or counts == {(3, stack, int(WORK), 0): 1}
    assert (list(columns.stack), list(columns.samples), lost) == ([stack], [1], ())
    assert native.samples == []

    # AND is not counted again
    assert on_core.take(seen)[0] == {}


def test_samples_of_threads_that_are_not_in_the_window() -> None:
    # GIVEN a thread that ended in the window, one that was never observed, one that is not known, and one
    # that got the id of the one that ended
    on_core = OnCore(Native(sample(40, 10), sample(41, 10), sample(42, 10)), Recording(), Turns(2.0))  # type: ignore[arg-type]
    first, second, again = thread(0, 40), thread(1, 41), thread(2, 40)
    on_core.add(first)
    on_core.add(second)
    on_core.remove(first)

    # WHEN the window ends, THEN the one that ended has its samples, and nothing is said of the others
    counts, *_ = on_core.take(window([10], (0, 0, 1, 7)))
    assert [(index, stack) for index, stack, *_ in counts] == [(0, 7)]
    on_core.add(again)
    on_core._native.samples.append(sample(40, 20))  # type: ignore[attr-defined]
    counts, *_ = on_core.take(window([20], (2, 0, 1, 8)))
    assert [(index, stack) for index, stack, *_ in counts] == [(2, 8)]


def test_buffers_are_emptied_now_and_then() -> None:
    # GIVEN threads that run by turns, WHEN ticks pass, THEN their buffers are emptied four times a second
    on_core = OnCore(native := Native(), Recording(), Turns(2.0))  # type: ignore[arg-type]
    one, two = thread(0, 40), thread(1, 41)
    for number in range(25):
        now_ns = number * DRAIN_EVERY_NS // 10
        on_core.gather([two if number % 2 else one], Tick(number, now_ns, 0))
    assert native.drained == [0, DRAIN_EVERY_NS, 2 * DRAIN_EVERY_NS]
    # AND more often once some are smaller than they should be
    native.rings.every_ns = CRAMPED_NS
    for number in range(25, 50):
        on_core.gather([one], Tick(number, number * DRAIN_EVERY_NS // 10, 0))
    assert len(native.drained) == 3 + 5


def test_a_program_that_switches_often_is_sampled_in_turns() -> None:
    # GIVEN a program of one thread that was switched 20,000 times in the last second, on two cores: at 6 us
    # each that is 0.12 core, of which it may lose 0.01
    turns = Turns(2.0, chance=lambda: 0.5)
    on_core = OnCore(native := Native(), Recording(), turns)  # type: ignore[arg-type]
    on_core.add(one := thread(0, 40))
    second = window([10**9], (0, 0, 1, 7))
    second.counters.thread.append(0)
    second.counters.voluntary_switches.append(20_000)
    _, columns, _ = on_core.take(second)
    assert columns.sampled_ratio == 1.0
    assert turns.share == pytest.approx(1 / 12)

    # WHEN the next second passes, THEN it is sampled in one turn in its middle
    ticks = [10**9 + number * 10**7 for number in range(100)]
    for number, now_ns in enumerate(ticks):
        on_core.gather([one], Tick(number, now_ns, 0))
    assert native.paused == [True, False, True]
    assert native.woken[0] == [40]
    assert native.dense == [3.0]

    # AND the window says which part of it was sampled, to a tick
    later = window(ticks, (0, 0, 100, 7))
    later = Window(10**9, 2 * 10**9, later.tick_ns, later.runs, later.counters, later.cost)
    _, columns, _ = on_core.take(later)
    assert columns.sampled_ratio == pytest.approx(1 / 12, abs=0.011)


def test_a_program_that_calms_down_is_sampled_as_usual_again() -> None:
    # GIVEN a turn that is under way, in which samples are dense
    turns = Turns(2.0, chance=lambda: 0.0)
    turns.learn(20_000, 10**9)
    on_core = OnCore(native := Native(), Recording(), turns)  # type: ignore[arg-type]
    on_core.add(one := thread(0, 40))
    on_core.gather([one], Tick(0, 10**9, 0))
    assert native.dense == [3.0]

    # WHEN the program hardly switches any more THEN the events are opened anew, with the usual rate
    turns.learn(20, 10**9)
    on_core.gather([one], Tick(1, 10**9 + 10**7, 0))
    assert native.dense == [3.0, 1.0]
    assert native.paused == [True, False, True, False]


def test_symbols_are_frames() -> None:
    sink = Recording()
    on_core = OnCore(Native(sample(40, 1, None), sample(40, 1, "f"), sample(40, 1, "f")), sink, Turns(2.0))  # type: ignore[arg-type]
    on_core.add(thread(0, 40))
    counts, *_ = on_core.take(window([1], (0, 0, 1, 7)))
    assert sorted(counts.values()) == [1, 2]
    assert sink.frames == [Frame(NATIVE_FILE, "?", None), Frame(NATIVE_FILE, "f", None)]


def test_files_without_names_are_gaps() -> None:
    # GIVEN samples in a file that was too large to be read, and code that was mapped by the thousand
    native = Native(sample(40, 1, None))
    native.unnamed = {("huge.so", "too large"): 1, ("", "too many mappings"): 2}
    on_core = OnCore(native, Recording(), Turns(2.0))  # type: ignore[arg-type]
    on_core.add(thread(0, 40))
    # WHEN the window ends THEN what has no names is said, with the reason
    _, _, gaps = on_core.take(window([1], (0, 0, 1, 7)))
    assert [(gap.what, gap.why, gap.count) for gap in gaps] == [
        ("names of machine code", "huge.so: too large", 1),
        ("names of machine code", "too many mappings", 2),
    ]


def of_window(end_ns: int, process_ns: int | None, *cpu_ns: int) -> Window:
    """A second that ends then, in which the process and threads that were seen used so much."""
    seen = window([end_ns], *((index, 0, 1, 7) for index in range(len(cpu_ns))))
    for index, spent in enumerate(cpu_ns):
        seen.counters.thread.append(index)
        seen.counters.cpu_ns.append(spent)
    begin_ns, process = end_ns - 10**9, ProcessCounters(cpu_ns=process_ns)
    return replace(seen, t0_ns=begin_ns, process=process)


def test_cores_are_sampled_while_threads_end_unseen() -> None:
    # GIVEN a process whose threads were all seen, but for what clocks disagree by
    on_core = OnCore(native := Native(), Recording(), Turns(2.0))  # type: ignore[arg-type]
    on_core.add(thread(0, 40))
    on_core.take(of_window(10**9, 905_000_000, 900_000_000))
    on_core.take(of_window(2 * 10**9, None, 900_000_000))
    assert native.by_cores == []
    # WHEN a tenth of its CPU time is of threads that nobody saw THEN cores are sampled from then on
    on_core.take(of_window(3 * 10**9, 10**9, 900_000_000))
    assert native.by_cores == [True]
    # AND nobody is woken, whoever runs, while buffers are emptied
    on_core.gather([thread(0, 40)], Tick(0, 3 * 10**9, 0))
    assert (native.woken, native.drained) == ([], [3 * 10**9])
    assert on_core.steady_until_ns(3 * 10**9) is None
    # AND until all threads were seen for a while
    for number in range(4, 4 + SEEN_WINDOWS - 1):
        on_core.take(of_window(number * 10**9, 905_000_000, 900_000_000))
    assert native.by_cores == [True]
    on_core.take(of_window(20 * 10**9, 905_000_000, 900_000_000))
    assert native.by_cores == [True, False]


def test_where_cores_may_not_be_sampled_it_is_tried_once() -> None:
    on_core = OnCore(native := Native(), Recording(), Turns(2.0))  # type: ignore[arg-type]
    native.permitted = False
    on_core.add(thread(0, 40))
    for number in (1, 2):
        _, columns, gaps = on_core.take(of_window(number * 10**9, 10**9, 100_000_000))
        assert not columns.unseen_samples
        # AND what is missing is said, with what it takes
        assert [(gap.what, gap.count) for gap in gaps] == [("threads gone unseen", 1)]
        assert "perf_event_paranoid" in gaps[0].why
    assert native.by_cores == [False]
    # BUT nothing where all were seen
    assert on_core.take(of_window(3 * 10**9, 10**9, 999_000_000))[2] == ()


def test_samples_of_threads_that_no_tick_saw_are_counted_apart() -> None:
    # GIVEN a sampler of cores, a thread that was last seen at 10 and ended, and one that no tick saw
    on_core = OnCore(native := Native(), Recording(), Turns(2.0))  # type: ignore[arg-type]
    on_core.take(of_window(10**9, 10**9, 0))
    ended = thread(3, 40)
    on_core.add(ended)
    ended.seen_ns = 10
    on_core.remove(ended)
    native.samples += [
        sample(40, 9),
        sample(40, 12),
        sample(41, 15, "g"),
        sample(41, 16, "g"),
        sample(42, 31),
    ]
    # WHEN the window ends
    counts, columns, _ = on_core.take(window([10, 20, 30], (3, 0, 1, 7)))
    # THEN what the thread did after it was seen last is nobody's, as is what the other one did
    assert sum(counts.values()) == 1
    assert dict(zip(columns.unseen_frame, columns.unseen_samples, strict=True)) == {0: 1, 1: 2}
    assert set(columns.unseen_state) == {int(WORK)}
    # AND whom the next tick may see is left to it
    on_core.add(thread(4, 42))
    counts, columns, _ = on_core.take(replace(window([40], (4, 0, 1, 8)), t0_ns=30))
    assert [(index, stack) for index, stack, *_ in counts] == [(4, 8)]
    assert not columns.unseen_samples
