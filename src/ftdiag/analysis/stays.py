"""What every thread did one after the other, in thread-time that adds up.

In: a recording and a range of window positions. Out: `Stays`, chunk by chunk: a thread was in one state at
one stack, waiting for one thing that one thread held, from then for so long.

The lengths are those of the accounts (`accounting`), so that they add up to the kernel's totals; where they
lie within a window follows the order in which the ticks saw them. The part of a thread's life that no tick
caught is a stay without a stack at the end of the chunk. `together` puts equal stays of a longer time
together, for formats that cannot take millions of them: it changes when they are, not how long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from ftdiag.analysis.accounting import LONGEST_WINDOW_NS, ON_CPU_STATES, Accounts, account
from ftdiag.analysis.allocations import quiet_ranges
from ftdiag.analysis.grouping import Bools, Floats, Ints, group_by, numbered, summed
from ftdiag.analysis.ticks import STATES, TickRuns, tick_runs
from ftdiag.datatypes import dataclass
from ftdiag.model import NO_HOLDER, NO_STACK, NO_WAIT, Confidence, ThreadState
from ftdiag.recording.reader import Recording

CHUNK_WINDOWS: Final = 32
"""Windows looked at together, cut at multiples of this: as a session does, so that totals are the same."""
MAX_CHUNK_ROWS: Final = 1 << 19
"""Rows of runs and counters of the windows looked at together (some 400 bytes each)."""
LEAST_REST_NS: Final = 1_000.0
"""Time of a thread in a state that no stay has; less is a matter of rounding."""

_QUEUED: Final = 1
_CLASS: Final = np.array(
    [
        0 if code in {int(state) for state in ON_CPU_STATES} else _QUEUED
        if code == int(ThreadState.RUNNABLE) else code + 1
        for code in range(STATES)
    ],
    dtype=np.int64,
)  # fmt: skip
"""Which runs a row of an account can have come from: any on a core, any that wants one, one state off it."""


@dataclass(frozen=True, slots=True, eq=False)
class Stays:
    """Columns of equal length, by window, thread and time.

    `window` is counted from `first`, the position of the chunk's first window; `holder` is a thread's index +
    1, or 0. `begin_ns` is on the recording's clock; both times are in ns.
    """

    first: int
    last: int
    window: Ints
    thread: Ints
    state: Ints
    stack: Ints
    wait: Ints
    holder: Ints
    confidence: Ints
    begin_ns: Floats
    time_ns: Floats

    def __len__(self) -> int:
        return len(self.thread)

    def together(self, columns: tuple[str, ...], *, whole: bool = False) -> Stays:
        """Stays of a window (`whole`: of the chunk) that are equal in `columns` as one, in the order they
        began.

        Of the other columns each has the value of its longest part.
        """
        none = np.zeros(len(self), dtype=np.int64)
        window = none if whole else self.window
        groups = group_by(window, self.thread, *(getattr(self, name) for name in columns))
        if not len(groups):
            return self
        parts = np.diff(np.append(groups.starts, len(self)))
        group = np.empty(len(self), dtype=np.int64)
        group[groups.order] = np.repeat(np.arange(len(groups)), parts)
        # By group, the longest last: the last one written counts.
        by_length = np.argsort(self.time_ns, kind="stable")
        longest = np.empty(len(groups), dtype=np.int64)
        longest[group[by_length]] = by_length
        begin = np.full(len(groups), np.inf)
        np.minimum.at(begin, group, self.begin_ns)
        time = groups.total(self.time_ns)
        window, thread = window[longest], self.thread[longest]
        order = np.lexsort((begin, thread, window))
        cell = group_by(window[order], thread[order])
        start = np.minimum.reduceat(begin[order], cell.starts) if len(cell) else begin
        rows = longest[order]
        return Stays(
            self.first,
            self.last,
            window[order],
            thread[order],
            self.state[rows],
            self.stack[rows],
            self.wait[rows],
            self.holder[rows],
            self.confidence[rows],
            _one_after_the_other(cell.starts, start, time[order]),
            time[order],
        )


def stays(recording: Recording, t0_ns: int | None = None, t1_ns: int | None = None) -> Iterator[Stays]:
    """The stays of a range, a chunk at a time, without the windows in which an instrument was attached."""
    for first, last in chunks(recording, t0_ns, t1_ns):
        yield _stays_of(recording, first, last)


def chunks(recording: Recording, t0_ns: int | None, t1_ns: int | None) -> Iterator[tuple[int, int]]:
    """The chunks of the windows that overlap [t0_ns, t1_ns), as positions [first, last)."""
    begin = 0 if t0_ns is None else int(np.searchsorted(recording.t1_ns, t0_ns, side="right"))
    end = len(recording) if t1_ns is None else int(np.searchsorted(recording.t0_ns, t1_ns, side="left"))
    if begin >= end:
        return
    quiet = quiet_ranges(recording.t0_ns, recording.t1_ns, begin, end, recording.perturbations)
    for first, last in quiet or [(begin, end)]:
        while first < last:
            edge = (int(recording.window_ids[first]) // CHUNK_WINDOWS + 1) * CHUNK_WINDOWS
            stop = min(last, int(np.searchsorted(recording.window_ids, edge, side="left")))
            rows = np.cumsum(recording.row_counts(first, stop))
            stop = first + max(1, int(np.searchsorted(rows, MAX_CHUNK_ROWS, side="right")))
            yield first, stop
            first = stop


def _stays_of(recording: Recording, first: int, last: int) -> Stays:
    while True:
        damage = recording.left_out_count
        periods = _tick_periods(recording, first, last)
        runs = tick_runs(recording, first, last, periods)
        accounts = account(recording, first, last, runs, periods)
        # Damage is found while it is read; what was read of the same window before must not count then.
        if recording.left_out_count == damage:
            return _laid_out(recording, first, last, runs, accounts)


def _tick_periods(recording: Recording, first: int, last: int) -> Floats:
    """Mean time between the ticks of every window."""
    ticks = recording.tick_counts[first:last]
    length = np.clip(recording.t1_ns[first:last] - recording.t0_ns[first:last], 0, LONGEST_WINDOW_NS)
    rate = recording.settings.rate_hz
    periods: Floats = np.full(len(ticks), 1e9 / rate if np.isfinite(rate) and rate > 0 else 0.0)
    np.divide(length, ticks, out=periods, where=ticks > 0)
    return periods


def _laid_out(recording: Recording, first: int, last: int, runs: TickRuns, accounts: Accounts) -> Stays:
    """The rows of the account dealt out to the runs that they come from, each run's by state."""
    time = accounts.time
    rows = group_by(time.window, time.thread, time.stack, time.wait, time.state)
    spent = rows.total(time.time_ns)
    window, thread, stack, wait, state = (
        rows.key(getattr(time, name)) for name in ("window", "thread", "stack", "wait", "state")
    )
    run, row = _dealt(runs, window, thread, stack, wait, state)
    ticks = (runs.end - runs.first).astype(np.float64)
    whole = summed(row, ticks[run], len(spent))
    share = np.divide(ticks[run], whole[row], out=np.zeros(len(run)), where=whole[row] > 0)
    part = spent[row] * share
    order = np.lexsort((state[row], runs.first[run], thread[row], window[row]))
    run, row, part = run[order], row[order], part[order]
    joined = _joined(
        window[row], thread[row], state[row], stack[row], wait[row], runs.holder[run], runs.confidence[run]
    )
    keep, starts = joined
    laid = Stays(
        first,
        last,
        window[row][keep],
        thread[row][keep],
        state[row][keep],
        stack[row][keep],
        wait[row][keep],
        runs.holder[run][keep],
        runs.confidence[run][keep],
        np.zeros(len(starts)),
        np.asarray(np.add.reduceat(part, starts), dtype=np.float64) if len(starts) else np.zeros(0),
    )
    laid = _with_rest(laid, accounts)
    cell = group_by(laid.window, laid.thread)  # they are in that order already
    total = cell.total(laid.time_ns)
    start = _cell_starts(recording, first, runs, cell.key(laid.window), cell.key(laid.thread), total)
    laid.begin_ns[:] = _one_after_the_other(cell.starts, start, laid.time_ns)
    return laid


def _dealt(
    runs: TickRuns, window: Ints, thread: Ints, stack: Ints, wait: Ints, state: Ints
) -> tuple[Ints, Ints]:
    """Pairs of run and row that belong together: every row has all of the runs that it can have come from."""
    run_key, row_key = _keys((runs.window, runs.thread, runs.stack, runs.wait), (window, thread, stack, wait))
    classes = STATES + 1
    run_key = run_key * classes + _CLASS[runs.state]
    ordered = np.argsort(run_key, kind="stable")
    sorted_keys = run_key[ordered]
    wanted = row_key * classes + _CLASS[state]

    def between(keys: Ints) -> tuple[Ints, Ints]:
        return np.searchsorted(sorted_keys, keys), np.searchsorted(sorted_keys, keys, side="right")

    low, high = between(wanted)
    # Time in the run queue of a thread that was never seen waiting for a core is at what it ran.
    bare = (low == high) & (state == int(ThreadState.RUNNABLE))
    at_work = between(row_key * classes)
    low, high = np.where(bare, at_work[0], low), np.where(bare, at_work[1], high)
    count = high - low
    row = np.repeat(np.arange(len(row_key)), count)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return ordered[low[row] + offset], row


def _keys(left: tuple[Ints, ...], right: tuple[Ints, ...]) -> tuple[Ints, Ints]:
    """One number for each combination of columns, the same on both sides."""
    key = np.zeros(len(left[0]) + len(right[0]), dtype=np.int64)
    for here, there in zip(left, right, strict=True):
        column = np.concatenate([here, there])
        _, key = numbered(key * (int(column.max(initial=0)) + 1) + column)
    return key[: len(left[0])], key[len(left[0]) :]


def _joined(*columns: Ints) -> tuple[Ints, Ints]:
    """Where rows begin that differ from the one before: (rows to keep, the same as starts of groups)."""
    rows = len(columns[0])
    if not rows:
        none = np.zeros(0, dtype=np.int64)
        return none, none
    differs: Bools = np.zeros(rows - 1, dtype=np.bool_)
    for column in columns:
        differs |= column[1:] != column[:-1]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(differs) + 1])
    return starts, starts


def _with_rest(laid: Stays, accounts: Accounts) -> Stays:
    """With the time of each thread and state that no tick caught, behind its last stay of the chunk."""
    threads = len(accounts.thread)
    place = np.searchsorted(accounts.thread, laid.thread)
    flat = place * STATES + laid.state
    had = summed(flat, laid.time_ns, threads * STATES)
    closed = accounts.states_ns.reshape(-1).astype(np.float64)
    rest = np.where(closed - had > LEAST_REST_NS, closed - had, 0.0)
    scale = np.divide(closed - rest, had, out=np.zeros(len(had)), where=had > 0)
    missing = np.flatnonzero(rest)
    cells = accounts.cells
    cell_thread = np.searchsorted(accounts.thread, cells.key // cells.windows)
    last_window = np.zeros(threads, dtype=np.int64)
    last_window[cell_thread] = cells.window  # ascending within a thread: the last one stays
    of_thread = missing // STATES
    window = np.concatenate([laid.window, last_window[of_thread]])
    thread = np.concatenate([laid.thread, accounts.thread[of_thread]])
    order = np.lexsort((np.arange(len(window)), thread, window))

    def column(values: Ints, added: Ints | int) -> Ints:
        more = np.full(len(missing), added, dtype=np.int64) if isinstance(added, int) else added
        return np.concatenate([values, more])[order]

    return Stays(
        laid.first,
        laid.last,
        window[order],
        thread[order],
        column(laid.state, missing % STATES),
        column(laid.stack, NO_STACK),
        column(laid.wait, NO_WAIT),
        column(laid.holder, NO_HOLDER),
        column(laid.confidence, int(Confidence.UNKNOWN)),
        np.zeros(len(window)),
        np.concatenate([laid.time_ns * scale[flat], rest[missing]])[order],
    )


def _cell_starts(
    recording: Recording, first: int, runs: TickRuns, window: Ints, thread: Ints, total: Floats
) -> Floats:
    """When a thread's first stay of every window begins: with it, or where it was first seen in it."""
    begin = recording.t0_ns[first + window].astype(np.float64)
    end = recording.t1_ns[first + window].astype(np.float64)
    if not len(runs.thread):
        return begin
    seen = group_by(runs.window, runs.thread)
    first_tick = runs.first[seen.order[seen.starts]]
    late = first_tick > runs.window_start[seen.key(runs.window)]
    known, asked = _keys((seen.key(runs.window), seen.key(runs.thread)), (window, thread))
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], asked), len(known) - 1)
    found = known[order][place] == asked
    at = runs.tick_ns[np.minimum(first_tick, len(runs.tick_ns) - 1)][order][place].astype(np.float64)
    came = found & late[order][place]
    return np.where(came, np.maximum(begin, np.minimum(at, end - total)), begin)


def _one_after_the_other(starts: Ints, begin: Floats, time_ns: Floats) -> Floats:
    """When each row begins, where each group begins at its own time and its rows follow each other."""
    if not len(time_ns):
        return np.zeros(0)
    before = np.cumsum(time_ns) - time_ns
    parts = np.diff(np.append(starts, len(time_ns)))
    return before + np.repeat(begin - before[starts], parts)


def merged(parts: Sequence[Stays], columns: tuple[str, ...]) -> Stays:
    """The stays of all parts that are equal in `columns` as one; when they were is lost."""
    none: Ints = np.zeros(0, dtype=np.int64)
    if not parts:
        return Stays(0, 0, *(none,) * 7, np.zeros(0), np.zeros(0))

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    whole = ("window", "thread", "state", "stack", "wait", "holder", "confidence", "begin_ns", "time_ns")
    joined = Stays(parts[0].first, parts[-1].last, *(column(name) for name in whole))
    return joined.together(columns, whole=True)
