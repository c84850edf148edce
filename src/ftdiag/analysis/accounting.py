"""Thread-time that adds up: exact totals from the kernel, split by samples.

In: a recording and a range of window positions. Out: `Accounts`: per thread the nanoseconds in every
state, whose sum is the thread's lifetime *exactly*, and the same time spread over stacks and waits.

How a window's second of a thread (a "cell") is split:

- CPU and run-queue time are the kernel's counters; what is left of the lifetime is off-CPU time. Counters
  of one window can exceed its length by the clock's grain; the excess is taken from the off-CPU time of
  the neighbouring windows of the same thread, so that no thread gains or loses time by it.
- CPU time is split by the ticks that found the thread on a core, off-CPU time by those that found it off.
  A tick in `on_cpu` says "running or runnable": the run-queue time has the same stacks as the CPU time.
- Native samples, where there are any, split the CPU time of a stack further (`work`, `atomic`, ...): by the
  samples of the same thread, window and stack, else by those of the same thread and window, else by those
  that other threads had in that window at that stack: of many threads that each run a little, some have none.
  Threads that live for a moment and have no samples are split as those that no tick saw.
- Run-queue time of a thread that yields its core while it spins for a lock is `spin`, at the lines at which
  its native samples spin. Each yield counts as an involuntary switch; so does losing the core to a thread
  that was woken, as a client that gets its answer. What part of the switches can be yields at most, their
  numbers say; and how many are, samples of the kernel while it switches threads: what it was entered for is
  known. Without native samples the time stays `runnable`.
- CPU time that no tick caught stays `on_cpu`; off-CPU time that no tick caught is `unknown`. The latter is
  under 0.4 % of thread-time at a hundred ticks a window (largest where one tick is expected).
- A thread without counters (it came and went between two readings) has its time estimated from its
  ticks; `Accounts.estimated` counts such cells.

The split is made for each cell and then summed, so phases of a program do not smear into each other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ftdiag.analysis.grouping import Bools, Floats, Ints, distinct, group_by, runs_of, summed
from ftdiag.analysis.ticks import STATES, TickRuns
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import FIRST_STACK_ID, TORN_STACK, StateGroup, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.recording.tables import NativeColumns

CLOCK_GRAIN_NS: Final = 20_000_000
"""Counters of one window may exceed its length by this much (a scheduler tick or two); more is dropped."""
PREEMPTED_EVERY_NS: Final = 700_000
"""A thread that does not yield runs at least so long before another one gets its core (kernel/sched/fair.c:
the base slice, 0.7 ms and more with more cores)."""
SWITCHING: Final = frozenset({"finish_task_switch [kernel]", "__schedule [kernel]", "schedule [kernel]"})
"""Kernel functions in which a thread gives its core away and gets it back (kernel/sched/core.c)."""
BELIEVED_SAMPLES: Final = 2.0
"""So many samples of a switch weigh as much as what the counts of switches say."""
BRIEF_NS: Final = 100_000_000
"""A thread that lives no longer was made for one small job."""
LONGEST_WINDOW_NS: Final = 3_600_000_000_000
"""Counters above this are nonsense of a damaged or hostile file and are cut."""

ON_CPU_STATES: Final = tuple(state for state in ThreadState if state.group is StateGroup.ON_CPU)
OFF_CPU_STATES: Final = tuple(state for state in ThreadState if state.group is StateGroup.OFF_CPU)
NATIVE_STATES: Final = tuple(state for state in ON_CPU_STATES if state is not ThreadState.ON_CPU)
"""On-CPU states that only native sampling can tell apart."""

_ON, _QUEUE, _OFF = 0, 1, 2
_GROUP_OF_STATE: Final = np.array(
    [_OFF]
    + [
        {StateGroup.ON_CPU: _ON, StateGroup.RUN_QUEUE: _QUEUE, StateGroup.OFF_CPU: _OFF}[
            ThreadState(code).group
        ]
        for code in range(1, STATES)
    ],
    dtype=np.int64,
)
_COUNTS: Final = ("voluntary_switches", "involuntary_switches", "minor_faults", "major_faults", "migrations")


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """Accounted thread-time as columns, one row per window, thread, state, stack and wait."""

    window: Ints
    thread: Ints
    state: Ints
    stack: Ints
    wait: Ints
    time_ns: Floats

    def __len__(self) -> int:
        return len(self.thread)


@dataclass(frozen=True, slots=True)
class Cells:
    """One row per thread and window, ascending by `key` = thread * windows + window (from 0).

    `off_tick_ns` is the off-CPU time that one off-CPU tick of the cell stands for, `spun_ns` the part of the
    run-queue time in which it spun.
    """

    windows: int
    key: Ints
    cpu_ns: Ints
    run_queue_ns: Ints
    off_tick_ns: Floats
    spun_ns: Floats

    @property
    def window(self) -> Ints:
        """The window of every cell, counted from the range's first."""
        return self.key % self.windows

    def off_tick_ns_at(self, thread: Ints, window: Ints) -> Floats:
        """`off_tick_ns` looked up by thread and window; 0 where there is no such cell."""
        if not len(self.key):
            return np.zeros(len(thread), dtype=np.float64)
        key = thread * self.windows + window
        place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return np.where(self.key[place] == key, self.off_tick_ns[place], 0.0)


@dataclass(frozen=True, slots=True)
class Accounts:
    """Accounts of a range, one row per thread seen in it, ascending by thread index.

    `states_ns[i].sum() == alive_ns[i]` for every thread; the on-CPU states are `cpu_ns` and the run-queue
    time in which it spun: what RUNNABLE is short of `run_queue_ns`. `counts` has the columns voluntary and
    involuntary switches, minor and major faults, migrations, and the windows in which migrations were
    counted. `estimated` counts cells whose totals come from samples because the kernel's counters were
    missing; `unread` those with single counters missing; `torn_ticks` and `ticks` are thread-samples.
    """

    thread: Ints
    alive_ns: Ints
    cpu_ns: Ints
    run_queue_ns: Ints
    states_ns: Ints
    counts: Ints
    time: ThreadTime
    cells: Cells
    estimated: int
    unread: int
    torn_ticks: int
    ticks: int


def account(recording: Recording, first: int, last: int, runs: TickRuns, tick_period_ns: Floats) -> Accounts:
    """The accounts of the windows at positions [first, last), whose runs are `runs`.

    `tick_period_ns` is each window's mean time between ticks.
    """
    windows = max(1, last - first)
    counters = recording.counters(first, last)
    seen_key = runs.thread * windows + runs.window
    counted_key = counters.thread.astype(np.int64) * windows + (counters.window - first)
    key = distinct(np.concatenate([seen_key, counted_key]))
    row_cell = np.searchsorted(key, seen_key)
    counted_cell = np.searchsorted(key, counted_key)
    group = _GROUP_OF_STATE[runs.state]
    ticks = runs.end - runs.first
    cells = len(key)
    on_ticks, queue_ticks, off_ticks = (
        summed(row_cell, np.where(group == which, ticks, 0), cells) for which in (_ON, _QUEUE, _OFF)
    )

    def column(name: str) -> Ints:
        values = np.full(cells, -1, dtype=np.int64)
        values[counted_cell] = getattr(counters, name)
        return np.minimum(values, LONGEST_WINDOW_NS)

    alive, cpu, queue = column("alive_ns"), column("cpu_ns"), column("run_queue_ns")
    alive, cpu, queue, estimated, unread = _fill_unread(
        alive, cpu, queue, on_ticks, queue_ticks, off_ticks, tick_period_ns[key % windows]
    )
    thread_of_cell = key // windows
    thread, start = runs_of(thread_of_cell)
    off = _settle(alive, cpu, queue, start)

    alive_total = _sum(alive, start)
    off_total = _sum(off, start)
    cpu_counted = _sum(cpu, start)
    cpu_total = np.minimum(cpu_counted, alive_total - off_total)
    queue_total = alive_total - off_total - cpu_total
    per_thread = np.searchsorted(thread, thread_of_cell)
    cpu_scaled = cpu * _ratio(cpu_total, cpu_counted)[per_thread]
    queue_scaled = queue * _ratio(queue_total, _sum(queue, start))[per_thread]

    time = _spread(
        runs,
        cell=row_cell,
        group=group,
        ticks=ticks,
        per_tick=(_ratio(cpu_scaled, on_ticks), _ratio(queue_scaled, queue_ticks), _ratio(off, off_ticks)),
        queue_per_on_tick=np.where(queue_ticks > 0, 0.0, _ratio(queue_scaled, on_ticks)),
    )
    native = recording.native(first, last)
    brief = _brief(recording, thread) if len(native.unseen_samples) else np.zeros(len(thread), np.bool_)
    time = _split_by_native(time, native, first, thread[brief])
    uncaught_cpu = np.where(on_ticks > 0, 0.0, cpu_scaled)
    uncaught_off = np.where(off_ticks > 0, 0, off).astype(np.float64)
    states = np.zeros((len(thread), STATES), dtype=np.float64)
    if len(thread):
        flat = np.searchsorted(thread, time.thread) * STATES + time.state
        states = summed(flat, time.time_ns, len(thread) * STATES).reshape(-1, STATES)
        uncaught = summed(per_thread, uncaught_cpu, len(thread))
        states += _as_unseen(np.where(brief, uncaught, 0.0), native)
        states[:, ThreadState.ON_CPU] += np.where(brief, 0.0, uncaught)
        states[:, ThreadState.UNKNOWN] += summed(per_thread, uncaught_off, len(thread))
    spun_part = _spun_part(cpu, column("voluntary_switches"), column("involuntary_switches"))
    spun_part = _seen_to_yield(spun_part, thread_of_cell, recording, native)
    time, spun_part = _spinning_in_queue(time, key, windows, spun_part)
    spun = summed(per_thread, queue_scaled * spun_part, len(thread))
    counts = np.zeros((len(thread), len(_COUNTS) + 1), dtype=np.int64)
    for position, name in enumerate(_COUNTS):
        values = column(name)
        counts[:, position] = _sum(np.maximum(values, 0), start)
    counts[:, len(_COUNTS)] = _sum((column("migrations") >= 0).astype(np.int64), start)
    return Accounts(
        thread=thread,
        alive_ns=alive_total,
        cpu_ns=cpu_total,
        run_queue_ns=queue_total,
        states_ns=close_exactly(states, cpu_total, queue_total, off_total, spun),
        counts=counts,
        time=time,
        cells=Cells(windows, key, cpu, queue, _ratio(off, off_ticks), queue * spun_part),
        estimated=estimated,
        unread=unread,
        torn_ticks=int(ticks[runs.stack == TORN_STACK].sum()),
        ticks=int(ticks.sum()),
    )


def close_exactly(
    states: Floats, cpu_ns: Ints, run_queue_ns: Ints, off_ns: Ints, spun_ns: Floats | None = None
) -> Ints:
    """Whole nanoseconds per thread and state that add up to the three totals exactly.

    Within each of the kernel's groups the estimates are scaled to the total and rounded by largest
    remainder. A group whose estimates are all 0 gives its total to `on_cpu`, `runnable` or `unknown`.
    `spun_ns` of the run-queue time are `spin`.
    """
    closed = np.zeros(states.shape, dtype=np.int64)
    _close_group(closed, states, ON_CPU_STATES, ThreadState.ON_CPU, cpu_ns)
    if spun_ns is not None:
        spun = np.clip(np.rint(spun_ns).astype(np.int64), 0, run_queue_ns)
        closed[:, ThreadState.SPIN] += spun
        run_queue_ns = run_queue_ns - spun
    closed[:, ThreadState.RUNNABLE] = run_queue_ns
    _close_group(closed, states, OFF_CPU_STATES, ThreadState.UNKNOWN, off_ns)
    return closed


def _close_group(
    closed: Ints, states: Floats, members: tuple[ThreadState, ...], default: ThreadState, total: Ints
) -> None:
    columns = np.array([int(member) for member in members])
    weights = states[:, columns]
    weight_total = weights.sum(axis=1)
    share = weights * _ratio(total, weight_total)[:, None]
    floor = np.floor(share).astype(np.int64)
    missing = total - floor.sum(axis=1)
    order = np.argsort(floor - share, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(members))[None, :], axis=1)
    floor += rank < missing[:, None]
    fallback = members.index(default)
    left = total - floor.sum(axis=1)
    # All estimates 0, or a rounding error of the floats beyond one per member: the largest member takes it.
    taker = np.where(weight_total > 0, np.argmax(floor, axis=1), fallback)
    floor[np.arange(len(floor)), taker] += left
    closed[:, columns] = floor


def _sum(values: Ints, start: Ints) -> Ints:
    if not len(start):
        return np.zeros(0, dtype=np.int64)
    return np.asarray(np.add.reduceat(values, start), dtype=np.int64)


def _ratio(part: Ints | Floats, whole: Ints | Floats) -> Floats:
    """Part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part), dtype=np.float64), where=whole > 0)


def _fill_unread(
    alive: Ints,
    cpu: Ints,
    queue: Ints,
    on_ticks: Floats,
    queue_ticks: Floats,
    off_ticks: Floats,
    period: Floats,
) -> tuple[Ints, Ints, Ints, int, int]:
    """Estimates from samples what the kernel did not tell (-1)."""
    seen = on_ticks + queue_ticks + off_ticks
    no_alive = alive < 0
    no_cpu = (cpu < 0) & ~no_alive
    no_queue = (queue < 0) & ~no_alive
    alive = np.where(no_alive, np.rint(seen * period), alive).astype(np.int64)
    on_share, queue_share = _ratio(on_ticks, seen), _ratio(queue_ticks, seen)
    cpu = np.where(cpu < 0, np.rint(on_share * alive), cpu).astype(np.int64)
    # Running-or-runnable ticks beyond the CPU time were spent in the run queue.
    queued = np.clip(np.rint((on_share + queue_share) * alive) - cpu, 0, np.maximum(alive - cpu, 0))
    queue = np.where(queue < 0, queued, queue).astype(np.int64)
    return alive, cpu, queue, int(no_alive.sum()), int((no_cpu | no_queue).sum())


def _settle(alive: Ints, cpu: Ints, queue: Ints, start: Ints) -> Ints:
    """Off-CPU time of every cell: never negative, the excess of one window settled with its neighbours."""
    off: Ints = np.maximum(alive - cpu - queue, -CLOCK_GRAIN_NS)
    if not len(start):
        return off
    end = np.append(start[1:], len(off))
    short = np.asarray(np.minimum.reduceat(off, start)) < 0
    single = short & (end - start == 1)
    off[start[single]] = 0
    for thread in np.flatnonzero(short & ~single):
        part = slice(int(start[thread]), int(end[thread]))
        owed = np.cumsum(off[part])
        settled = np.minimum(np.maximum.accumulate(np.maximum(owed, 0)), max(int(owed[-1]), 0))
        off[part] = np.diff(settled, prepend=0)
    return off


def _spread(
    runs: TickRuns,
    *,
    cell: Ints,
    group: Ints,
    ticks: Ints,
    per_tick: tuple[Floats, Floats, Floats],
    queue_per_on_tick: Floats,
) -> ThreadTime:
    """The rows of the profile with their time, and `runnable` rows beside the on-CPU ones."""
    time = np.choose(group, [values[cell] for values in per_tick]) * ticks
    queued = queue_per_on_tick[cell] * ticks * (group == _ON)
    also: Bools = queued > 0
    window, thread, state, stack, wait = runs.window, runs.thread, runs.state, runs.stack, runs.wait
    return ThreadTime(
        window=np.concatenate([window, window[also]]),
        thread=np.concatenate([thread, thread[also]]),
        state=np.concatenate([state, np.full(int(also.sum()), int(ThreadState.RUNNABLE), dtype=np.int64)]),
        stack=np.concatenate([stack, stack[also]]),
        wait=np.concatenate([wait, wait[also]]),
        time_ns=np.concatenate([time, queued[also]]),
    )


def _spun_part(cpu_ns: Ints, voluntary: Ints, involuntary: Ints) -> Floats:
    """The part of the waits for a core that came of yielding, by the switches of every cell; 0 if unknown."""
    counted = (voluntary >= 0) & (involuntary >= 0)
    yields = np.maximum(involuntary - cpu_ns / PREEMPTED_EVERY_NS, 0.0)
    return np.where(counted, _ratio(yields, np.maximum(voluntary + involuntary, 0)), 0.0)


def _seen_to_yield(part: Floats, thread_of_cell: Ints, recording: Recording, native: NativeColumns) -> Floats:
    """The parts, lowered where samples of a thread in the kernel's switch of threads say that it was not in
    a yield: all its samples of the range count, which are few."""
    frames = distinct(native.frame)
    switching = [each for each in frames.tolist() if each and recording.frame(each).function in SWITCHING]
    rows = np.isin(native.frame, switching)
    if not rows.any() or not part.any():
        return part
    threads = 1 + int(max(thread_of_cell.max(initial=0), native.thread.max(initial=0)))
    thread, samples = native.thread[rows].astype(np.int64), native.samples[rows]
    spins = native.state[rows] == int(ThreadState.SPIN)
    seen = summed(thread, samples, threads)[thread_of_cell]
    yields = summed(thread[spins], samples[spins], threads)[thread_of_cell]
    return np.minimum(part, (yields + BELIEVED_SAMPLES * part) / (seen + BELIEVED_SAMPLES))


def _spinning_in_queue(time: ThreadTime, key: Ints, windows: int, part: Floats) -> tuple[ThreadTime, Floats]:
    """Moves a part of each cell's RUNNABLE rows to SPIN, at the stacks at which its samples spin.

    Returns the rows, and the parts, which are 0 where nothing was seen to spin.
    """
    cell = np.searchsorted(key, time.thread * windows + time.window)
    spins = time.state == int(ThreadState.SPIN)
    seen = summed(cell[spins], time.time_ns[spins], len(key))
    part = np.where(seen > 0, part, 0.0)
    if not part.any():
        return time, part
    queued = time.state == int(ThreadState.RUNNABLE)
    moved = summed(cell[queued], time.time_ns[queued], len(key)) * part
    spent = np.where(queued, time.time_ns * (1.0 - part[cell]), time.time_ns)
    share = np.where(spins, time.time_ns, 0.0) * _ratio(moved, seen)[cell]
    return replace(time, time_ns=spent + share), part


def _brief(recording: Recording, threads: Ints) -> Bools:
    """Which of these threads live no longer than a few ticks."""
    brief = np.zeros(len(threads), dtype=np.bool_)
    for position, index in enumerate(threads.tolist()):
        info = recording.thread(index)
        if info.started_ns is not None and info.ended_ns is not None:
            brief[position] = info.ended_ns - info.started_ns <= BRIEF_NS
    return brief


def _as_unseen(spent: Floats, native: NativeColumns) -> Floats:
    """Time on a core of threads, a row each, by state: as samples say of threads that no tick saw."""
    by_state = summed(_unclassified(native.unseen_state), native.unseen_samples, STATES)
    whole = by_state.sum()
    if not whole:
        return np.zeros((len(spent), STATES), dtype=np.float64)
    return np.asarray(spent[:, None] * by_state[None, :] / whole, dtype=np.float64)


def _unclassified(state: npt.NDArray[np.uint8] | Ints) -> Ints:
    """States of samples; what could not be classified stays `on_cpu`."""
    return np.where(state == int(ThreadState.UNKNOWN), int(ThreadState.ON_CPU), state).astype(np.int64)


def _split_by_native(time: ThreadTime, native: NativeColumns, first: int, brief: Ints) -> ThreadTime:
    """The rows in `on_cpu` split into the states that native samples found; the others as they are.

    `brief` are the threads that are split as those that no tick saw, where they have no samples.
    """
    if not len(native) and not len(brief):
        return time
    window = native.window.astype(np.int64) - first
    thread = native.thread.astype(np.int64)
    threads = int(max(time.thread.max(initial=0), thread.max(initial=0))) + 1
    stacks = int(max(time.stack.max(initial=0), native.stack.max(initial=0))) + 1
    left = np.flatnonzero(time.state == int(ThreadState.ON_CPU))
    kept = [np.flatnonzero(time.state != int(ThreadState.ON_CPU))]
    states = [time.state[kept[0]]]
    spent = [time.time_ns[kept[0]]]
    coarse, coarse_rows = window * threads + thread, time.window * threads + time.thread
    # The nearest samples count: of the same thread and stack, of the thread in that second, of the stack in
    # that second, else of the thread in the whole range: where machine code is sampled in turns, a thread
    # that is seldom on a core has none in most seconds. Threads without a Python stack need have nothing in
    # common.
    in_python = time.stack >= FIRST_STACK_ID
    of_threads = _unclassified(native.state), native.samples
    of_unseen = _unclassified(native.unseen_state), native.unseen_samples
    for sample_key, row_key, (state, samples) in (
        (coarse * stacks + native.stack, coarse_rows * stacks + time.stack, of_threads),
        (coarse, coarse_rows, of_threads),
        (
            window * stacks + native.stack,
            np.where(in_python, time.window * stacks + time.stack, -1),
            of_threads,
        ),
        (thread, time.thread, of_threads),
        (np.zeros(len(of_unseen[0]), np.int64), np.isin(time.thread, brief) - 1, of_unseen),
    ):
        if not len(sample_key):
            continue
        split = _shares(sample_key, state, samples)
        found, rows, row_states, share = split.of(row_key[left])
        kept.append(left[rows])
        states.append(row_states)
        spent.append(time.time_ns[left[rows]] * share)
        left = left[~found]
    kept.append(left)
    states.append(time.state[left])
    spent.append(time.time_ns[left])
    row = np.concatenate(kept)
    return ThreadTime(
        window=time.window[row],
        thread=time.thread[row],
        state=np.concatenate(states),
        stack=time.stack[row],
        wait=time.wait[row],
        time_ns=np.concatenate(spent),
    )


@dataclass(frozen=True, slots=True)
class _Shares:
    """States and their shares for every distinct key, one after the other; `start` has one more element."""

    keys: Ints
    start: Ints
    state: Ints
    share: Floats

    def of(self, keys: Ints) -> tuple[Bools, Ints, Ints, Floats]:
        """Which of `keys` are known; for these, row by row and state by state: position, state, share."""
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: Bools = self.keys[place] == keys
        rows = np.flatnonzero(found)
        begin, end = self.start[place[rows]], self.start[place[rows] + 1]
        count = end - begin
        position = np.repeat(rows, count)
        # 0, 1, ... within each row's states
        offset = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
        entry = np.repeat(begin, count) + offset
        return found, position, self.state[entry], self.share[entry]


def _shares(key: Ints, state: Ints, samples: Ints) -> _Shares:
    groups = group_by(key, state)
    keys_of_entries, states = groups.key(key), groups.key(state)
    counts = groups.total(samples.astype(np.float64))
    keys, start = runs_of(keys_of_entries)
    totals = np.repeat(np.add.reduceat(counts, start), np.diff(np.append(start, len(counts))))
    return _Shares(
        keys=keys,
        start=np.append(start, len(counts)).astype(np.int64),
        state=states,
        share=_ratio(counts, totals),
    )


def merge_time(parts: list[ThreadTime]) -> ThreadTime:
    """Sums rows over windows (and parts): one row per thread, state, stack and wait; `window` is 0."""
    thread = np.concatenate([part.thread for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    if not len(thread):
        none = np.zeros(0, dtype=np.int64)
        return ThreadTime(none, none, none, none, none, np.zeros(0, dtype=np.float64))
    state = np.concatenate([part.state for part in parts])
    stack = np.concatenate([part.stack for part in parts])
    wait = np.concatenate([part.wait for part in parts])
    groups = group_by(thread, state, stack, wait)
    return ThreadTime(
        window=np.zeros(len(groups), dtype=np.int64),
        thread=groups.key(thread),
        state=groups.key(state),
        stack=groups.key(stack),
        wait=groups.key(wait),
        time_ns=groups.total(np.concatenate([part.time_ns for part in parts])),
    )
