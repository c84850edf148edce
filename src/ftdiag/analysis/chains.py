"""What waiting ends at, tick by tick: chains of waits, I/O, and what runs alone.

In: tick-level runs of consecutive windows and the accounts of the same windows. Out: `BottleneckShares`, what
a range of windows adds to the `bottlenecks`.

At every tick each thread that waits for a lock with a known holder points at that holder. Its waiting is
charged to what the chain ends at (cascaded redistribution, as in wPerf, Zhou et al., OSDI '18): a holder that
itself waits passes it on to the lock it waits for. A chain ends at a thread that runs, wants a core, or waits
for something that no thread of the program holds: then the last lock of the chain is what waiting ends at,
with the place of that thread. A chain that never ends is a knot: its threads wait for each other only.
All waiting is charged, once; nothing is added.

What counts for the order is what waiting costs. At a tick with r threads on a core, P - r cores are free;
they are shared among the threads that wait for locks or cores, at most one core a thread, then among those
in I/O or an unnamed wait, as the account of cores does (`efficiency`). What is still free while threads with
work are idle is charged to the threads that run then: they are what the others wait for. To that comes what
lines waste on a core (spinning, contended memory), by the lock that others wait for there, else by the line.

The wall time of lines: each tick is shared equally among the threads that ran at it; where none ran, among
those that waited for a lock, then among those in I/O. So all lines add up to the time in which anything was
wanted, and what runs alone stands out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from ftdiag.analysis.accounting import ON_CPU_STATES, Accounts
from ftdiag.analysis.cores import LATER_STATES
from ftdiag.analysis.efficiency import LOCK_STATES, had_work, is_in
from ftdiag.analysis.grouping import Bools, Floats, Ints, distinct, group_by, numbered, summed, whole
from ftdiag.analysis.ticks import TickRuns
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    NO_HOLDER,
    NO_STACK,
    Confidence,
    EndOfWait,
    ThreadState,
)

BLOCK_CELLS: Final = 1 << 21
"""Threads times ticks that are laid out as a table at a time (some 30 bytes each)."""
MAX_KNOT_WALKS: Final = 256
"""Knots that are told apart in one block; further ones are charged to the first."""


class Family(enum.IntEnum):
    """What waiting can end at, as a column has it; a lock that has no name yet is UNNAMED."""

    LOCK = 0
    STOP = 1
    GIL = 2
    UNNAMED = 3
    KNOT = 4
    IO = 5
    UNKNOWN = 6
    SERIAL = 7


ENDS: Final = tuple(EndOfWait)
_END_NUMBER: Final = {end: number for number, end in enumerate(ENDS)}
OF_CHAINS: Final = (Family.LOCK, Family.STOP, Family.GIL, Family.UNNAMED, Family.KNOT)


def _end_of_state(state: ThreadState) -> EndOfWait:
    if state in ON_CPU_STATES:
        return EndOfWait.RUNS
    return {
        ThreadState.RUNNABLE: EndOfWait.WANTS_CORE,
        ThreadState.IO: EndOfWait.IO,
        ThreadState.SLEEP: EndOfWait.SLEEPS,
        ThreadState.HALTED: EndOfWait.SLEEPS,
        ThreadState.IDLE: EndOfWait.IDLE,
    }.get(state, EndOfWait.WAITS)


_END_OF_STATE: Final = np.array(
    [_END_NUMBER[EndOfWait.WAITS]]
    + [
        _END_NUMBER[_end_of_state(ThreadState(code))] if code in ThreadState._value2member_map_ else 0
        for code in range(1, max(ThreadState) + 1)
    ],
    dtype=np.int64,
)


@dataclass(frozen=True, slots=True)
class BottleneckShares:
    """What a range of windows adds, as columns.

    One row per family, what it is (lock number, wait id, thread index + 1, knot), end of the chain, thread
    there (index + 1, or 0) and its stack. `of_*`: one row per family and what. `edge_*`: one row per waiter,
    lock and holder (index + 1, or 0). `wall_*`: one row per stack. `knots` has the threads of each knot.
    """

    family: Ints
    what: Ints
    end: Ints
    thread: Ints
    stack: Ints
    wait_ns: Floats
    lost_ns: Floats
    of_family: Ints
    of_what: Ints
    of_wall_ns: Floats
    of_waiters: Ints
    of_direct_ns: Floats
    of_known_ns: Floats
    edge_waiter: Ints
    edge_lock: Ints
    edge_holder: Ints
    edge_ns: Floats
    wall_stack: Ints
    wall_ns: Floats
    knots: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.family) + len(self.of_family) + len(self.edge_waiter) + len(self.wall_stack)


@dataclass(slots=True)
class Rows:
    """Rows that are being collected, as lists of columns."""

    rows: list[tuple[Ints, ...]]
    values: list[tuple[Floats, ...]]

    def add(self, keys: Sequence[Ints | int], values: Sequence[Floats], length: int) -> None:
        if length:
            full = [np.full(length, key, dtype=np.int64) if isinstance(key, int) else key for key in keys]
            self.rows.append(tuple(full))
            self.values.append(tuple(values))

    def grouped(
        self, keys: int, values: int, *, largest: tuple[int, ...] = ()
    ) -> tuple[list[Ints], list[Floats]]:
        """One row per key; values are summed, those in `largest` are the largest."""
        if not self.rows:
            return [np.zeros(0, dtype=np.int64)] * keys, [np.zeros(0, dtype=np.float64)] * values
        columns = [np.concatenate([row[place] for row in self.rows]) for place in range(keys)]
        numbers = [np.concatenate([row[place] for row in self.values]) for place in range(values)]
        groups = group_by(*columns)
        return (
            [groups.key(column) for column in columns],
            [
                groups.largest(column) if place in largest else groups.total(column)
                for place, column in enumerate(numbers)
            ],
        )


def bottleneck_shares(
    runs: TickRuns,
    accounts: Accounts,
    lock_of_wait: Ints,
    tick_period_ns: Floats,
    capacity_cores: float | None,
) -> BottleneckShares:
    """What the windows of `runs` add; without a known capacity all waiting costs a core."""
    moments = _moments(runs, accounts, tick_period_ns, capacity_cores)
    locked = is_in(runs.state, LOCK_STATES)
    known_wait = np.minimum(runs.wait, len(lock_of_wait) - 1)
    lock = np.where(locked & (runs.wait < len(lock_of_wait)), lock_of_wait[known_wait], 0)
    off_tick = accounts.cells.off_tick_ns_at(runs.thread, runs.window)
    ends = Rows([], [])
    wholes = Rows([], [])
    knots: list[tuple[int, ...]] = []
    _chains(runs, lock, locked, off_tick, moments, ends, wholes, knots)
    _outside(runs, off_tick, moments, ends, wholes)
    _alone(runs, moments, ends, wholes)
    edges, walls = Rows([], []), Rows([], [])
    spent = (off_tick * (runs.end - runs.first))[locked]
    edges.add((runs.thread[locked], lock[locked], runs.holder[locked]), (spent,), len(spent))
    walls.add((runs.stack,), (moments.wall_of(runs),), len(runs.stack))
    return _shares(ends, wholes, edges, walls, knots)


def joined_bottlenecks(parts: Sequence[BottleneckShares]) -> BottleneckShares:
    """What consecutive ranges add together, in whole nanoseconds."""
    found = added_bottlenecks(parts)
    return replace(
        found,
        wait_ns=whole(found.wait_ns),
        lost_ns=whole(found.lost_ns),
        of_wall_ns=whole(found.of_wall_ns),
        of_direct_ns=whole(found.of_direct_ns),
        of_known_ns=whole(found.of_known_ns),
        edge_ns=whole(found.edge_ns),
        wall_ns=whole(found.wall_ns),
    )


def added_bottlenecks(parts: Sequence[BottleneckShares]) -> BottleneckShares:
    """What consecutive ranges add together, with one numbering of knots."""
    knots: dict[tuple[int, ...], int] = {}
    ends, wholes, edges, walls = Rows([], []), Rows([], []), Rows([], []), Rows([], [])
    for part in parts:
        number = np.array([knots.setdefault(members, len(knots)) for members in part.knots], dtype=np.int64)
        what, of_what = (
            _renumbered(part.family, part.what, number),
            _renumbered(part.of_family, part.of_what, number),
        )
        ends.add(
            (part.family, what, part.end, part.thread, part.stack),
            (part.wait_ns, part.lost_ns),
            len(part.family),
        )
        wholes.add(
            (part.of_family, of_what),
            (part.of_wall_ns, part.of_waiters.astype(np.float64), part.of_direct_ns, part.of_known_ns),
            len(part.of_family),
        )
        edges.add(
            (part.edge_waiter, part.edge_lock, part.edge_holder), (part.edge_ns,), len(part.edge_waiter)
        )
        walls.add((part.wall_stack,), (part.wall_ns,), len(part.wall_stack))
    return _shares(ends, wholes, edges, walls, knots)


def _shares(
    ends: Rows, wholes: Rows, edges: Rows, walls: Rows, knots: Iterable[tuple[int, ...]]
) -> BottleneckShares:
    """Rows of the same keys added up."""
    (family, what, end, thread, stack), (wait_ns, lost_ns) = ends.grouped(5, 2)
    (of_family, of_what), (wall_ns, waiters, direct_ns, known_ns) = wholes.grouped(2, 4, largest=(1,))
    (edge_waiter, edge_lock, edge_holder), (edge_ns,) = edges.grouped(3, 1)
    (wall_stack,), (of_stack_ns,) = walls.grouped(1, 1)
    return BottleneckShares(
        family=family,
        what=what,
        end=end,
        thread=thread,
        stack=stack,
        wait_ns=wait_ns,
        lost_ns=lost_ns,
        of_family=of_family,
        of_what=of_what,
        of_wall_ns=wall_ns,
        of_waiters=waiters.astype(np.int64),
        of_direct_ns=direct_ns,
        of_known_ns=known_ns,
        edge_waiter=edge_waiter,
        edge_lock=edge_lock,
        edge_holder=edge_holder,
        edge_ns=edge_ns,
        wall_stack=wall_stack,
        wall_ns=of_stack_ns,
        knots=tuple(knots),
    )


def _renumbered(family: Ints, what: Ints, number: Ints) -> Ints:
    """What waiting ends at with other numbers of knots; `number` has the new one of each."""
    if not len(number):
        return what
    return np.where(family == Family.KNOT, number[np.minimum(what, len(number) - 1)], what)


# --- moments ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Moments:
    """What holds at every tick.

    `period` is the time it stands for. `critical` is the part of each thread that waits for a lock that costs
    a core, `later` that of each one in I/O or an unnamed wait, `starved` what is charged to each thread that
    runs because others are idle, in cores. `share_*`: what each thread gets of the tick's wall time.
    """

    period: Floats
    critical: Floats
    later: Floats
    starved: Floats
    share_running: Floats
    share_waiting: Floats
    share_later: Floats

    def wall_of(self, runs: TickRuns) -> Floats:
        """The wall time of every run."""
        spent = np.zeros(len(runs.thread), dtype=np.float64)
        for share, states in (
            (self.share_running, (*ON_CPU_STATES, ThreadState.RUNNABLE)),
            (self.share_waiting, LOCK_STATES),
            (self.share_later, LATER_STATES),
        ):
            which = is_in(runs.state, states)
            spent[which] = over(share, runs.first[which], runs.end[which])
        return spent


def over(values: Floats, first: Ints, end: Ints) -> Floats:
    """The sums of a column of ticks over [first, end)."""
    total = np.concatenate([np.zeros(1, dtype=np.float64), np.cumsum(values)])
    return np.asarray(total[end] - total[first], dtype=np.float64)


def _moments(runs: TickRuns, accounts: Accounts, tick_period_ns: Floats, capacity: float | None) -> _Moments:
    period = tick_period_ns[runs.tick_window] if runs.ticks else np.zeros(0, dtype=np.float64)
    windows = max(1, len(tick_period_ns))
    cells = accounts.cells
    cpu = summed(cells.window, cells.cpu_ns, windows)
    queue = summed(cells.window, cells.run_queue_ns, windows)
    on_core = np.divide(cpu, cpu + queue, out=np.ones(windows), where=cpu + queue > 0)[runs.tick_window]
    wanting = runs.present(is_in(runs.state, (*ON_CPU_STATES, ThreadState.RUNNABLE))).astype(np.float64)
    waiting = runs.present(is_in(runs.state, LOCK_STATES)).astype(np.float64)
    later = runs.present(is_in(runs.state, LATER_STATES)).astype(np.float64)
    worked = accounts.thread[had_work(accounts.alive_ns, accounts.states_ns)]
    idle = runs.present((runs.state == ThreadState.IDLE) & np.isin(runs.thread, worked)).astype(np.float64)
    nothing = np.zeros(runs.ticks, dtype=np.float64)
    if capacity is None:
        critical, of_later, starved = np.ones(runs.ticks), nothing, nothing
    else:
        free = np.maximum(capacity - wanting * on_core, 0.0)
        all_waiting = waiting + wanting * (1.0 - on_core)
        critical = _part(free, all_waiting)
        free = free - all_waiting * critical
        of_later = _part(free, later)
        free = free - later * of_later
        starved = np.divide(np.minimum(free, idle), wanting, out=nothing.copy(), where=wanting > 0)
    none_runs = wanting == 0
    none_waits = none_runs & (waiting == 0)
    return _Moments(
        period=period,
        critical=critical,
        later=of_later,
        starved=starved,
        share_running=np.divide(period, wanting, out=nothing.copy(), where=wanting > 0),
        share_waiting=np.divide(period, waiting, out=nothing.copy(), where=none_runs & (waiting > 0)),
        share_later=np.divide(period, later, out=nothing.copy(), where=none_waits & (later > 0)),
    )


def _part(free: Floats, wanted: Floats) -> Floats:
    """The part of what is wanted that is free, at most all of it."""
    return np.minimum(1.0, np.divide(free, wanted, out=np.zeros(len(free)), where=wanted > 0))


# --- chains of waits -------------------------------------------------------------------------------------


def _chains(
    runs: TickRuns,
    lock: Ints,
    locked: Bools,
    off_tick: Floats,
    moments: _Moments,
    ends: Rows,
    wholes: Rows,
    knots: list[tuple[int, ...]],
) -> None:
    """Charges all waiting for locks to what its chains end at, block of ticks by block of ticks."""
    if not locked.any():
        return
    held = locked & (runs.holder > NO_HOLDER)
    involved = distinct(np.concatenate([runs.thread[locked], runs.holder[held] - 1]))
    size = int(max(runs.thread.max(), involved[-1])) + 1
    column = np.full(size, -1, dtype=np.int64)
    column[involved] = np.arange(len(involved))
    # Who neither waits nor has what others wait for is on no chain.
    holders = np.zeros(size, dtype=np.bool_)
    holders[runs.holder[held] - 1] = True
    mine = locked | holders[runs.thread]
    step = max(1, BLOCK_CELLS // len(involved))
    for begin in range(0, runs.ticks, step):
        end = min(begin + step, runs.ticks)
        row = np.flatnonzero(mine & (runs.first < end) & (runs.end > begin))
        _block(
            runs, row, begin, end, column, len(involved), lock, locked, off_tick, moments, ends, wholes, knots
        )


def _block(
    runs: TickRuns,
    row: Ints,
    begin: int,
    end: int,
    column: Ints,
    width: int,
    lock: Ints,
    locked: Bools,
    off_tick: Floats,
    moments: _Moments,
    ends: Rows,
    wholes: Rows,
    knots: list[tuple[int, ...]],
) -> None:
    """The chains of the ticks [begin, end): cells are ticks of threads, in each of which there is a run."""
    first, last = np.maximum(runs.first[row], begin) - begin, np.minimum(runs.end[row], end) - begin
    length = last - first
    which = np.repeat(np.arange(len(row)), length)
    tick = np.arange(len(which)) - np.repeat(np.cumsum(length) - length, length) + first[which]
    cell = tick * width + column[runs.thread[row]][which]
    order = group_by(cell).order
    cell, table = cell[order], row[which[order]]

    here = np.flatnonzero(locked[table])
    tick_of, at = cell[here] // width, table[here]
    holder = runs.holder[at] - 1
    points = (holder >= 0) & (holder < len(column))
    target = np.where(points, column[np.where(points, holder, 0)], -1)
    wanted = np.where(target >= 0, tick_of * width + target, cell[here])
    target = np.minimum(np.searchsorted(cell, wanted), len(cell) - 1)
    # Who is not there at this tick, or is the waiter itself, holds nothing.
    real = (cell[target] == wanted) & (target != here)
    follows = np.arange(len(table))
    follows[here[real]] = target[real]
    edge = np.zeros(len(table), dtype=np.bool_)
    edge[here[real]] = True
    final, last_edge = _ends(follows, edge, here, width)
    final_run, last_run = table[final], table[last_edge]

    in_knot = edge[final]
    own = (
        ~in_knot & locked[final_run]
    )  # the chain ends at somebody who waits for what nobody is known to have
    of_lock = np.where(own, lock[final_run], lock[last_run])
    family = np.where(of_lock > 0, Family.LOCK, Family.UNNAMED)
    state_there = runs.state[np.where(own | in_knot, final_run, last_run)]
    family = np.where((of_lock == 0) & (state_there == ThreadState.STOPPED), Family.STOP, family)
    family = np.where((of_lock == 0) & (state_there == ThreadState.GIL), Family.GIL, family)
    what = of_lock
    ending = _END_OF_STATE[runs.state[final_run]]
    free = own & (runs.holder[final_run] == NO_HOLDER) & (runs.confidence[final_run] == int(Confidence.KNOWN))
    ending = np.where(
        own, np.where(free, _END_NUMBER[EndOfWait.HANDED_OVER], _END_NUMBER[EndOfWait.NOT_KNOWN]), ending
    )
    thread = np.where(own, 0, runs.thread[final_run] + 1)
    stack = np.where(own, NO_STACK, runs.stack[final_run])
    if in_knot.any():
        number = _knots_of(final[in_knot], cell, table, runs, width, knots)
        family[in_knot], what[in_knot] = Family.KNOT, number
        ending[in_knot], thread[in_knot], stack[in_knot] = _END_NUMBER[EndOfWait.WAITS], 0, NO_STACK

    weight = off_tick[at]
    lost = weight * moments.critical[begin:end][tick_of]
    ends.add((family, what, ending, thread, stack), (weight, lost), len(weight))
    # For how much of the time, with how many threads at once.
    by_tick = group_by(family, what, tick_of)
    counted = np.diff(np.append(by_tick.starts, len(weight)))
    moment = by_tick.key(tick_of)
    wall = moments.period[begin:end][moment] * (moments.critical[begin:end][moment] > 0)
    known = runs.confidence[at] == int(Confidence.KNOWN)
    nothing = np.zeros(len(moment), dtype=np.float64)
    wholes.add(
        (by_tick.key(family), by_tick.key(what)),
        (wall, counted.astype(np.float64), nothing, by_tick.total(weight * known)),
        len(moment),
    )
    direct = lock[at] > 0
    blank = np.zeros(int(direct.sum()), dtype=np.float64)
    wholes.add((Family.LOCK, lock[at[direct]]), (blank, blank, weight[direct], blank), len(blank))


def _ends(follows: Ints, edge: Bools, start: Ints, width: int) -> tuple[Ints, Ints]:
    """Where the chains from `start` end, and the last cell on the way that points at another one.

    Every round doubles the steps that were taken. A chain that goes round ends at one of its circle.
    """
    last = np.arange(len(follows))
    open_cells = start[edge[start]]
    for _ in range(max(1, width).bit_length()):
        goes_on = open_cells[edge[follows[open_cells]]]
        if not len(goes_on):
            break
        via = follows[goes_on]
        last[goes_on], follows_next = last[via], follows[via]
        follows[goes_on] = follows_next
        open_cells = goes_on
    return follows[start], last[start]


def _knots_of(
    final: Ints, cell: Ints, table: Ints, runs: TickRuns, width: int, knots: list[tuple[int, ...]]
) -> Ints:
    """The number of the knot of every cell; a knot is known by its threads."""
    number = np.zeros(len(final), dtype=np.int64)
    known: dict[tuple[int, ...], int] = {members: place for place, members in enumerate(knots)}
    seen: dict[int, int] = {}
    of_run = table[final]
    here, inverse = numbered(of_run)
    place_of = np.zeros(len(here), dtype=np.int64)
    first_cell = np.zeros(len(here), dtype=np.int64)
    first_cell[inverse[::-1]] = final[::-1]
    for place, run in enumerate(here.tolist()):
        if run in seen:
            place_of[place] = seen[run]
            continue
        if place >= MAX_KNOT_WALKS and knots:
            continue
        tick = int(cell[first_cell[place]]) // width
        members: dict[int, int] = {}
        at = run
        while at >= 0 and int(runs.thread[at]) not in members and len(members) <= width:
            members[int(runs.thread[at])] = at
            at = _run_at(cell, table, runs, tick, width, int(runs.holder[at]) - 1)
        key = tuple(sorted(members))
        if key not in known:
            known[key] = len(knots)
            knots.append(key)
        for one in members.values():
            seen[one] = known[key]
        place_of[place] = known[key]
    number[:] = place_of[inverse]
    return number


def _run_at(cell: Ints, table: Ints, runs: TickRuns, tick: int, width: int, thread: int) -> int:
    """The run of a thread at a tick, -1 where it has none."""
    begin, end = np.searchsorted(cell, [tick * width, (tick + 1) * width])
    cells = table[begin:end]
    found = np.flatnonzero(runs.thread[cells] == thread)
    return int(cells[found[0]]) if len(found) else -1


# --- waits that no thread is at the end of -----------------------------------------------------------------


def _outside(runs: TickRuns, off_tick: Floats, moments: _Moments, ends: Rows, wholes: Rows) -> None:
    """I/O, and waits that nobody could name: each is its own end."""
    for family, state in ((Family.IO, ThreadState.IO), (Family.UNKNOWN, ThreadState.UNKNOWN)):
        row = np.flatnonzero(runs.state == state)
        first, end = runs.first[row], runs.end[row]
        waited = off_tick[row] * (end - first)
        lost = off_tick[row] * over(moments.later, first, end)
        ending = _END_NUMBER[EndOfWait.IO if family == Family.IO else EndOfWait.WAITS]
        wait = runs.wait[row]
        ends.add((family, wait, ending, runs.thread[row] + 1, runs.stack[row]), (waited, lost), len(row))
        _wholes_of_runs(family, wait, first, end, waited, moments.period * (moments.later > 0), wholes)


def _alone(runs: TickRuns, moments: _Moments, ends: Rows, wholes: Rows) -> None:
    """What runs while others with work are idle."""
    row = np.flatnonzero(is_in(runs.state, (*ON_CPU_STATES, ThreadState.RUNNABLE)))
    first, end = runs.first[row], runs.end[row]
    starved = over(moments.starved * moments.period, first, end)
    alone = starved > 0
    row, first, end, starved = row[alone], first[alone], end[alone], starved[alone]
    thread = runs.thread[row] + 1
    nothing = np.zeros(len(row), dtype=np.float64)
    running = _END_NUMBER[EndOfWait.RUNS]
    ends.add((Family.SERIAL, thread, running, thread, runs.stack[row]), (nothing, starved), len(row))
    _wholes_of_runs(
        Family.SERIAL, thread, first, end, nothing, moments.period * (moments.starved > 0), wholes
    )


def _wholes_of_runs(
    family: int, what: Ints, first: Ints, end: Ints, waited: Floats, wall: Floats, wholes: Rows
) -> None:
    """The wall time and most threads of families whose runs are not laid out by tick."""
    if not len(what):
        return
    who = np.concatenate([what, what])
    when = np.concatenate([first, end])
    change = np.concatenate([np.ones(len(what), dtype=np.int64), np.full(len(what), -1, dtype=np.int64)])
    order = np.lexsort((change, when, who))
    who, when, level = who[order], when[order], np.cumsum(change[order])
    total = np.concatenate([np.zeros(1, dtype=np.float64), np.cumsum(wall)])
    lasts = np.zeros(len(when), dtype=np.float64)
    lasts[:-1] = np.where((level[:-1] > 0) & (who[1:] == who[:-1]), total[when[1:]] - total[when[:-1]], 0.0)
    nothing = np.zeros(len(when), dtype=np.float64)
    wholes.add((family, who), (lasts, level.astype(np.float64), nothing, nothing), len(who))
    blank = np.zeros(len(what), dtype=np.float64)
    wholes.add((family, what), (blank, blank, waited, blank), len(what))
