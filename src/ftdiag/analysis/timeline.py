"""How a range went over time: cores by state, each thread, the stacks of one; and who calls whom.

In: accounts and tick-level runs. Out: bounded values for plots, lanes and trees: never more slices than were
asked for, nor more stacks and nodes than the limits below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ftdiag.analysis.accounting import ON_CPU_STATES, Accounts, ThreadTime
from ftdiag.analysis.cores import LATER_STATES, Use, account_of, unseen_parts, with_unseen
from ftdiag.analysis.efficiency import APART_STATES, LOCK_STATES, is_in
from ftdiag.analysis.grouping import Floats, Ints, distinct, group_by, largest_first, numbered, summed
from ftdiag.analysis.holes import fill_holes, longest_hole
from ftdiag.analysis.ticks import STATES, TickRuns
from ftdiag.datatypes import dataclass, field
from ftdiag.model import USEFUL_STATES, CorePart, Frame, ProcessCounters, Stack, ThreadState
from ftdiag.recording.reader import Recording

MAX_SLICES: Final = 400
"""Slices of a plot or lane at most: more than a screen has columns."""
MAX_TREE_STACKS: Final = 400
"""Stacks of which a call tree is made, those with the most active time."""
MAX_TREE_DEPTH: Final = 80
"""Frames of one stack in a call tree, counted from the outermost; what is deeper counts for the last."""
HISTORY_WINDOWS: Final = 120
"""Windows of a range that are looked at for the stacks of one thread; of longer ranges every n-th."""
HISTORY_STACKS: Final = 6
"""Stacks of one thread that get a lane of their own."""

WAITING_STATES: Final = (ThreadState.RUNNABLE, *LOCK_STATES, *LATER_STATES)
"""Waits that may leave a core unused."""

States = npt.NDArray[np.uint8]
_RUNNING_STATES: Final = (*ON_CPU_STATES, ThreadState.RUNNABLE)
_RUNNING: Final = [int(state) for state in _RUNNING_STATES]


@dataclass(frozen=True, slots=True)
class Series:
    """One digest's share of a timeline: what each of its windows adds.

    `lost_ns` has a row per window with the time that waits left cores unused, by state; `None` where the
    capacity is not known. `spun_ns` is what threads that spin spent without a core.

    `cpu_ns` is exact, of the threads that were seen; `process_cpu_ns` is what the process's own clock says,
    where that was read. `states_ns` has a row per window. `thread`, `window`, `state`, `running` are columns:
    the state in which a thread spent most of a window, and the one in which it spent most of its time on a
    core or wanting one (0: none), which is what a tick that found it there stands for.
    """

    cpu_ns: Ints
    process_cpu_ns: Ints
    states_ns: Floats
    lost_ns: Floats | None
    spun_ns: Floats
    thread: npt.NDArray[np.int32]
    window: npt.NDArray[np.int32]
    state: States
    running: States


@dataclass(frozen=True, slots=True)
class Timeline:
    """Cores over time in equal slices of [t0_ns, t1_ns); `None` where nothing was recorded."""

    t0_ns: int
    t1_ns: int
    on_cpu_cores: tuple[float | None, ...]
    useful_cores: tuple[float | None, ...] | None
    """`None` where time on a core is not split."""
    cores: Mapping[ThreadState, tuple[float | None, ...]]
    """Mean number of threads in a state; only states that were seen."""
    capacity_cores: float | None = None
    account: Mapping[CorePart, tuple[float | None, ...]] = field(default_factory=dict)
    """Cores by part: in each slice they add up to `capacity_cores`; who had the cores that threads wanted is
    not told apart (all of it is `CorePart.RUNNABLE`). Empty where the capacity is not known."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """The state of each thread in each slice, a byte a slice, 0 where it was not there.

    Where a slice has several states, slices show them in turn: as often as the thread was in them.
    """

    t0_ns: int
    t1_ns: int
    slices: int
    states: Mapping[int, bytes]
    """By thread index."""


@dataclass(frozen=True, slots=True)
class History:
    """One thread over time: its states, and its commonest stacks with their share of every slice."""

    thread: int
    t0_ns: int
    t1_ns: int
    states: bytes
    stacks: tuple[tuple[Stack, float, tuple[float, ...]], ...]
    """Stack, share of all ticks, share of the ticks of each slice."""
    windows_left_out: int = 0


@dataclass(frozen=True, slots=True)
class ThreadStates:
    """The time of threads by state over a range: a row for each of the sorted `thread` indices."""

    thread: Ints
    states_ns: Ints

    def of(self, indices: Ints) -> Floats:
        """The rows of these threads; 0 where one is not known."""
        rows = np.zeros((len(indices), STATES), dtype=np.float64)
        if len(self.thread):
            place = np.minimum(np.searchsorted(self.thread, indices), len(self.thread) - 1)
            known = self.thread[place] == indices
            rows[known] = self.states_ns[place[known]]
        return rows


@dataclass(frozen=True, slots=True)
class CallNode:
    """A function in the call tree with the thread-time of all that it called."""

    frame: Frame
    total_ns: float
    self_ns: float
    states_ns: Mapping[ThreadState, float]
    children: tuple[CallNode, ...]


def series_of(
    accounts: Accounts, windows: int, process: Sequence[ProcessCounters], lost_ns: Floats | None
) -> Series:
    """What the windows of an account add to a timeline; `process` has a reading for each of them, or none."""
    time = accounts.time
    states = summed(time.window * STATES + time.state, time.time_ns, windows * STATES)
    groups = group_by(time.thread, time.window, time.state)
    thread, window, state = groups.key(time.thread), groups.key(time.window), groups.key(time.state)
    total = groups.total(time.time_ns)
    key = thread * max(1, windows) + window
    chosen = _largest_of_each(key, total)
    on_cpu = np.flatnonzero(np.isin(state, _RUNNING))
    running_rows = on_cpu[_largest_of_each(key[on_cpu], total[on_cpu])]
    running = np.zeros(len(chosen), dtype=np.uint8)
    running[np.searchsorted(key[chosen], key[running_rows])] = state[running_rows]
    cells = accounts.cells
    cpu = np.zeros(windows, dtype=np.int64)
    spun = np.zeros(windows, dtype=np.float64)
    if len(cells.key):
        spun = summed(cells.window, cells.spun_ns, windows)
        cpu = summed(cells.window, cells.cpu_ns, windows).astype(np.int64)
    of_process = cpu
    if len(process) == windows:
        read = [reading.cpu_ns for reading in process]
        of_process = np.array(
            [seen if ns is None else ns for ns, seen in zip(read, cpu.tolist(), strict=True)]
        )
    return Series(
        cpu_ns=cpu,
        process_cpu_ns=of_process.astype(np.int64),
        states_ns=states.reshape(windows, STATES),
        lost_ns=lost_ns,
        spun_ns=spun,
        thread=thread[chosen].astype(np.int32),
        window=window[chosen].astype(np.int32),
        state=state[chosen].astype(np.uint8),
        running=running,
    )


def _largest_of_each(key: Ints, value: Floats) -> Ints:
    """Of every key the row with the largest value."""
    if not len(key):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((value, key))
    last = np.append(key[order][1:] != key[order][:-1], True)
    rows: Ints = order[last].astype(np.int64)
    return rows


def _slices_of(begin_ns: Ints, end_ns: Ints, t0_ns: int, t1_ns: int, slices: int) -> Ints:
    """The slice in which the middle of each stretch of time lies."""
    middle = (begin_ns + end_ns) // 2 - t0_ns
    place: Ints = np.clip(middle * slices // max(1, t1_ns - t0_ns), 0, slices - 1)
    return place


class _Spread:
    """Values of windows as values of slices: a window that ends within a slice counts for both in part.

    Windows are about a second long, the last one is shorter: by their middles a slice could come out empty.
    """

    def __init__(self, begin_ns: Ints, end_ns: Ints, slices: int) -> None:
        t0, t1 = int(begin_ns[0]), int(end_ns[-1])
        ends = np.column_stack([begin_ns, np.maximum(begin_ns, end_ns)]).ravel() - t0
        self._ends = np.maximum.accumulate(ends).astype(np.float64)
        self._edges = np.linspace(0.0, float(max(1, t1 - t0)), slices + 1)

    def over_slices(self, values: Ints | Floats) -> Floats:
        """The value of every slice; together they are those of the windows."""
        after = np.cumsum(values, dtype=np.float64)
        reached = np.column_stack([after - values, after]).ravel()
        return np.asarray(np.diff(np.interp(self._edges, self._ends, reached)), dtype=np.float64)


def _in_empty_slices(
    begin_ns: Ints, end_ns: Ints, t0_ns: int, t1_ns: int, place: Ints, slices: int
) -> list[tuple[int, int]]:
    """(window, slice) for slices in which no window has its middle, where a window covers theirs."""
    empty = np.flatnonzero(np.bincount(place, minlength=slices) == 0)
    middle = t0_ns + (2 * empty + 1) * (t1_ns - t0_ns) // (2 * slices)
    window = np.searchsorted(begin_ns, middle, side="right") - 1
    covered = (window >= 0) & (middle < end_ns[np.maximum(window, 0)])
    return list(zip(window[covered].tolist(), empty[covered].tolist(), strict=True))


def bounded_slices(wanted: int, windows: int) -> int:
    """How many slices there are: not more than windows, or some would be empty."""
    return max(1, min(wanted, windows, MAX_SLICES))


def timeline(
    begin_ns: Ints,
    end_ns: Ints,
    series: list[Series],
    wanted: int,
    native: tuple[ThreadState, ...],
    counted_ns: Ints,
    capacity: float | None = None,
    unseen: Mapping[ThreadState, float] | None = None,
) -> Timeline | None:
    """The timeline of consecutive windows in at most `wanted` slices.

    `counted_ns` is the length of every window, 0 where it is damaged and tells nothing. With the `capacity`
    it has the account of cores over time. `unseen` are the samples by state of threads that no tick saw,
    which split what is theirs alike in all slices: there are few.
    """
    if not len(begin_ns):
        return None
    t0, t1 = int(begin_ns[0]), int(end_ns[-1])
    slices = bounded_slices(wanted, len(begin_ns))
    spread = _Spread(begin_ns, end_ns, slices)
    length = spread.over_slices(counted_ns)
    seen = spread.over_slices(np.concatenate([each.cpu_ns for each in series]))
    of_process = spread.over_slices(np.concatenate([each.process_cpu_ns for each in series]))
    cpu = np.maximum(seen, of_process)
    states_ns = np.concatenate([each.states_ns for each in series])
    by_slice = np.stack([spread.over_slices(states_ns[:, code]) for code in range(STATES)], axis=1)

    def per_second(values: Floats) -> tuple[float | None, ...]:
        return tuple(
            float(value / lasted) if lasted > 0 else None
            for value, lasted in zip(values.tolist(), length.tolist(), strict=True)
        )

    account = {}
    if capacity is not None and all(each.lost_ns is not None for each in series):
        lost = np.concatenate([each.lost_ns for each in series if each.lost_ns is not None])
        spun = spread.over_slices(np.concatenate([each.spun_ns for each in series]))
        lost_by_slice = np.stack([spread.over_slices(lost[:, code]) for code in range(STATES)], axis=1)
        account = _account(capacity, length, seen, cpu, by_slice, lost_by_slice, spun, unseen or {})
    split = bool(by_slice[:, [int(state) for state in native]].sum() > 0)
    useful = by_slice[:, [int(state) for state in USEFUL_STATES]].sum(axis=1)
    told = unseen_parts(Use(unseen_cores=1.0), unseen or {})
    useful = useful + (cpu - seen) * sum(told.get(state, 0.0) for state in USEFUL_STATES)
    return Timeline(
        t0_ns=t0,
        t1_ns=t1,
        on_cpu_cores=per_second(cpu),
        useful_cores=per_second(useful) if split else None,
        cores={state: per_second(by_slice[:, state]) for state in ThreadState if by_slice[:, state].any()},
        capacity_cores=capacity,
        account=account,
    )


def _account(
    capacity: float,
    length_ns: Floats,
    seen_ns: Floats,
    cpu_ns: Floats,
    states_ns: Floats,
    lost_ns: Floats,
    spun_ns: Floats,
    unseen: Mapping[ThreadState, float],
) -> dict[CorePart, tuple[float | None, ...]]:
    """The account of every slice, by the same function as that of the range; no part that never was."""
    slices: list[dict[CorePart, float] | None] = []
    for place, lasted in enumerate(length_ns.tolist()):
        if lasted <= 0:
            slices.append(None)
            continue
        running = {state: float(states_ns[place, state]) / lasted for state in ON_CPU_STATES}
        # Time on a core that no tick caught.
        running[ThreadState.ON_CPU] += max(0.0, float(seen_ns[place]) / lasted - sum(running.values()))
        running[ThreadState.SPIN] = max(0.0, running[ThreadState.SPIN] - float(spun_ns[place]) / lasted)
        on_cpu = float(cpu_ns[place]) / lasted
        use = Use(on_cpu_cores=on_cpu, unseen_cores=float(cpu_ns[place] - seen_ns[place]) / lasted)
        use, running = with_unseen(use, running, unseen_parts(use, unseen))
        slices.append(
            account_of(
                capacity,
                use,
                running=running,
                waiting={state: float(lost_ns[place, state]) / lasted for state in WAITING_STATES},
                wanted_cores=0.0,
            )
        )
    kept = [part for part in CorePart if any(each is not None and each[part] > 0 for each in slices)]
    return {part: tuple(None if each is None else each[part] for each in slices) for part in kept}


def lanes_by_window(
    begin_ns: Ints, end_ns: Ints, series: list[Series], wanted: int, spent: ThreadStates
) -> Lanes | None:
    """Lanes from the state of each thread in each window."""
    if not len(begin_ns):
        return None
    t0, t1 = int(begin_ns[0]), int(end_ns[-1])
    slices = bounded_slices(wanted, len(begin_ns))
    place = _slices_of(begin_ns, end_ns, t0, t1, slices)
    covered = _in_empty_slices(begin_ns, end_ns, t0, t1, place, slices)
    parts: list[tuple[Ints, ...]] = []
    offset = 0
    for each in series:
        # Windows of a part fall into few slices: what is counted there is a tenth of them, or less.
        window = each.window.astype(np.int64) + offset
        rows, cells = [np.arange(len(window))], [place[window]]
        for covering, empty in covered:
            if offset <= covering < offset + len(each.cpu_ns):
                rows.append(np.flatnonzero(window == covering))
                cells.append(np.full(len(rows[-1]), empty, dtype=np.int64))
        row, cell = np.concatenate(rows), np.concatenate(cells)
        keys = each.thread[row].astype(np.int64), cell, each.state[row].astype(np.int64)
        groups = group_by(*keys)
        counts = np.diff(np.append(groups.starts, len(row)))
        parts.append((*(groups.key(key) for key in keys), counts))
        offset += len(each.cpu_ns)
    thread, cell, state, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Lanes(t0, t1, slices, _lanes(thread, cell, state, weight.astype(np.float64), slices, spent))


def lanes_by_tick(
    t0_ns: int,
    t1_ns: int,
    runs: TickRuns,
    tick_ns: Ints,
    series: list[Series],
    wanted: int,
    spent: ThreadStates,
) -> Lanes:
    """Lanes from single ticks: for ranges with fewer windows than the screen has columns."""
    slices = max(1, min(wanted, MAX_SLICES, max(1, len(tick_ns))))
    place = np.clip((tick_ns - t0_ns) * slices // max(1, t1_ns - t0_ns), 0, slices - 1)
    row, tick = _each_tick(runs)
    ones = np.ones(len(row), dtype=np.float64)
    state = told_apart(runs.state, runs.thread, runs.window, series)
    holes = longest_hole(tick_ns, (t1_ns - t0_ns) / slices)
    lanes = _lanes(runs.thread[row], place[tick], state[row], ones, slices, spent, holes)
    return Lanes(t0_ns, t1_ns, slices, lanes)


_NOT_KNOWN: Final = ThreadStates(np.zeros(0, dtype=np.int64), np.zeros((0, STATES), dtype=np.int64))
"""Then the ticks alone say how much of each state there was."""


def told_apart(state: Ints, thread: Ints, window: Ints, series: list[Series]) -> Ints:
    """States of samples in which ON_CPU is what the thread was mostly about in that window.

    A tick alone cannot tell a thread on a core from one that wants a core; the window's counters can.
    `window` counts from the first window of the first series.
    """
    thread_known, window_known = joined_cells(series)
    windows = sum(len(each.cpu_ns) for each in series) + 1
    running = np.concatenate([each.running for each in series]) if series else np.zeros(0, np.uint8)
    key = thread_known * windows + window_known
    order = np.argsort(key, kind="stable")
    wanted = thread * windows + window
    if not len(key):
        return state
    place = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
    found = order[place]
    known = (key[found] == wanted) & (running[found] > 0) & (state == int(ThreadState.ON_CPU))
    settled: Ints = np.where(known, running[found].astype(np.int64), state)
    return settled


def joined_cells(series: Sequence[Series]) -> tuple[Ints, Ints]:
    """Thread and window of all cells, windows counted from the first series's first."""
    offset = 0
    threads: list[Ints] = [np.zeros(0, dtype=np.int64)]
    windows: list[Ints] = [np.zeros(0, dtype=np.int64)]
    for each in series:
        threads.append(each.thread.astype(np.int64))
        windows.append(each.window.astype(np.int64) + offset)
        offset += len(each.cpu_ns)
    return np.concatenate(threads), np.concatenate(windows)


def _each_tick(runs: TickRuns) -> tuple[Ints, Ints]:
    """Row number and tick of every thread-sample."""
    length = runs.end - runs.first
    row = np.repeat(np.arange(len(length), dtype=np.int64), length)
    begin = np.cumsum(length) - length
    return row, runs.first[row] + np.arange(len(row), dtype=np.int64) - begin[row]


def _lanes(
    thread: Ints,
    cell: Ints,
    state: Ints,
    weight: Floats,
    slices: int,
    spent: ThreadStates,
    holes: int = 0,
) -> dict[int, bytes]:
    """A state for each cell, so that the cells of a thread have each state as often as the thread was in it.

    Ticks say when a thread was off its core and why, and when on one; how much of each there was, and what
    it did there, the account says. A cell gets the state that is owed most so far, of those that it can be.
    """
    indices, own = numbered(thread)
    lines = len(indices)
    by_tick = summed(own * STATES + state, weight, lines * STATES).reshape(lines, STATES)
    groups = group_by(thread, cell, np.where(is_in(state, _RUNNING_STATES), int(ThreadState.ON_CPU), state))
    line, cell = np.searchsorted(indices, groups.key(thread)), groups.key(cell)
    seen = groups.key(np.where(is_in(state, _RUNNING_STATES), int(ThreadState.ON_CPU), state))
    total = groups.total(weight)
    counted = summed(line * STATES + seen, total, lines * STATES).reshape(lines, STATES)
    time = spent.of(indices)
    unknown = time.sum(axis=1) <= 0
    time[unknown] = by_tick[unknown]
    on_cpu = np.zeros((lines, STATES), dtype=np.float64)
    on_cpu[:, _RUNNING] = time[:, _RUNNING]
    cells = np.bincount(distinct(line * slices + cell) // slices, minlength=lines)
    debit = time.sum(axis=1) / np.maximum(cells, 1)
    # What no tick caught was spread over the thread's life, as far as is known.
    caught = counted > 0
    caught[:, _RUNNING] = caught[:, int(ThreadState.ON_CPU), None]
    uncaught = np.where(caught, 0.0, time) / np.maximum(cells, 1)[:, None]
    order = np.argsort(cell, kind="stable")
    line, cell, seen, total = line[order], cell[order], seen[order], total[order]
    begin = np.searchsorted(cell, np.arange(slices + 1))
    table = np.zeros((lines, slices), dtype=np.uint8)
    owed = np.zeros((lines, STATES), dtype=np.float64)
    for place in range(slices):
        rows = slice(int(begin[place]), int(begin[place + 1]))
        here, what = line[rows], seen[rows]
        if not len(here):
            continue
        share = total[rows] / np.maximum(counted[here, what], 1e-9)
        running = what == int(ThreadState.ON_CPU)
        gained = np.zeros_like(owed)
        gained[here[running]] = on_cpu[here[running]] * share[running, None]
        gained[here[~running], what[~running]] += (time[here, what] * share)[~running]
        # What the account has no time of is shown where nothing else can be.
        gained[here, what] += 1e-6
        gained[here] += uncaught[here]
        owed += gained
        present = distinct(here)
        # What a cell and more is owed is shown soon after it was: ticks see too little of it.
        due = owed[present]
        may = (gained[present] > 0) | (due >= debit[present, None])
        may[:, _RUNNING] |= (due[:, _RUNNING].sum(axis=1) >= debit[present])[:, None]
        shown = np.where(may, owed[present], -np.inf).argmax(axis=1)
        owed[present, shown] -= debit[present]
        table[present, place] = shown
    fill_holes(table, holes)
    return {index: table[number].tobytes() for number, index in enumerate(indices.tolist())}


def history(
    recording: Recording,
    thread: int,
    first: int,
    last: int,
    series: list[Series],
    wanted: int,
) -> History:
    """One thread's states and stacks over time, from the windows at positions [first, last)."""
    t0_ns, t1_ns = int(recording.t0_ns[first]), int(recording.t1_ns[last - 1])
    step = -(-(last - first) // HISTORY_WINDOWS)
    positions = range(first, last, step)
    left_out = last - first - len(positions)
    if left_out:
        wanted = min(wanted, len(positions))
    ticks: list[Ints] = []
    stacks: list[Ints] = []
    states: list[Ints] = []
    for position in positions:
        columns = recording.samples(position)
        rows = np.flatnonzero(columns.thread == thread)
        length = columns.ticks[rows].astype(np.int64)
        row = np.repeat(rows, length)
        begin = np.cumsum(length) - length
        which = np.arange(len(row), dtype=np.int64) - np.repeat(begin, length)
        tick = columns.first_tick[row].astype(np.int64) + which
        inside = tick < len(columns.tick_ns)
        ticks.append(columns.tick_ns[tick[inside]])
        stacks.append(columns.stack[row[inside]].astype(np.int64))
        state = columns.state[row[inside]].astype(np.int64)
        same = np.full(len(state), thread, dtype=np.int64)
        states.append(told_apart(state, same, np.full(len(state), position - first), series))
    when = np.concatenate(ticks) if ticks else np.zeros(0, dtype=np.int64)
    if not len(when):
        return History(thread, t0_ns, t1_ns, b"", (), left_out)
    stack, state = np.concatenate(stacks), np.concatenate(states)
    slices = max(1, min(wanted, MAX_SLICES, len(when)))
    place = np.clip((when - t0_ns) * slices // max(1, t1_ns - t0_ns), 0, slices - 1)
    lane = _lanes(np.zeros(len(when), dtype=np.int64), place, state, np.ones(len(when)), slices, _NOT_KNOWN)
    in_slice = np.maximum(np.bincount(place, minlength=slices), 1)
    known, number = numbered(stack)
    total = np.bincount(number)
    shown: list[tuple[Stack, float, tuple[float, ...]]] = []
    for which_stack in largest_first(total.astype(np.float64), HISTORY_STACKS).tolist():
        share = np.bincount(place[number == which_stack], minlength=slices) / in_slice
        shown.append(
            (
                recording.stack(int(known[which_stack])),
                float(total[which_stack] / len(when)),
                tuple(share.tolist()),
            )
        )
    return History(thread, t0_ns, t1_ns, lane[0], tuple(shown), left_out)


@dataclass(slots=True)
class _Node:
    frame: Frame
    total: dict[int, float] = field(default_factory=dict)
    own: float = 0.0
    children: dict[tuple[str, str], _Node] = field(default_factory=dict)


def call_tree(recording: Recording, time: ThreadTime) -> tuple[CallNode, ...]:
    """The outermost functions with all that they call, largest active time first.

    Lines of a function are one node. States that are the program's own business (idle, sleep, I/O) count in
    `states_ns` and the totals, but not for what is kept.
    """
    rows = np.flatnonzero(time.time_ns > 0)
    active = ~np.isin(time.state[rows], [int(state) for state in APART_STATES])
    groups = group_by(time.stack[rows])
    stacks = groups.key(time.stack[rows])
    weight = groups.total(np.where(active, time.time_ns[rows], 0.0)) + groups.total(time.time_ns[rows]) * 1e-6
    chosen = stacks[largest_first(weight, MAX_TREE_STACKS)]
    kept = rows[np.isin(time.stack[rows], chosen)]
    pairs = group_by(time.stack[kept], time.state[kept])
    root = _Node(Frame("", "", None))
    spent = zip(
        pairs.key(time.stack[kept]).tolist(),
        pairs.key(time.state[kept]).tolist(),
        pairs.total(time.time_ns[kept]).tolist(),
        strict=True,
    )
    for stack_id, state, lasted in spent:
        stack = recording.stack(stack_id)
        if not stack:
            continue
        node = root
        for frame in stack[: -MAX_TREE_DEPTH - 1 : -1]:
            key = (frame.filename, frame.function)
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = _Node(Frame(frame.filename, frame.function, None))
            node = child
            node.total[state] = node.total.get(state, 0.0) + lasted
        node.own += lasted
    return tuple(_finished(child) for child in _in_order(root))


def _active(node: _Node) -> float:
    return sum(time for state, time in node.total.items() if ThreadState(state) not in APART_STATES)


def _in_order(node: _Node) -> list[_Node]:
    return sorted(node.children.values(), key=lambda child: (-_active(child), -sum(child.total.values())))


def _finished(node: _Node) -> CallNode:
    return CallNode(
        frame=node.frame,
        total_ns=sum(node.total.values()),
        self_ns=node.own,
        states_ns={ThreadState(state): time for state, time in node.total.items()},
        children=tuple(_finished(child) for child in _in_order(node)),
    )
