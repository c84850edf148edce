"""Who waits for which lock, and who makes it wait.

In: tick-level runs of consecutive windows and the accounts of the same windows. Out: `LockShares` (what a
range of windows adds), and of all of them the model's `LockMetrics`.

- A thread waits for a lock at a tick whose state is one of the lock states and whose wait names a lock.
  Each such tick stands for the accounted off-CPU time of its cell divided by its off-CPU ticks.
- Critical wait: ticks at which fewer threads than cores were on `work`.
- A single wait ends where the thread is seen doing something else, where a run ends and the same run
  starts again (the sampler saw the thread move in between), or where the recording has a hole. It goes on
  under another holder and over the edge of a window.
- Blame is charged to what the holder did at the very tick: the stack of the holder's own run there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from ftdiag.analysis.accounting import Accounts
from ftdiag.analysis.efficiency import LOCK_STATES, is_in, working_threads
from ftdiag.analysis.grouping import Bools, Floats, Ints, group_by, largest_first, summed, whole
from ftdiag.analysis.ticks import TickRuns
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    NO_HOLDER,
    NO_STACK,
    Confidence,
    LockHolder,
    LockKind,
    LockMetrics,
    LockRef,
    LockWaiter,
    SharedObject,
    ThreadInfo,
)
from ftdiag.recording.reader import Recording

MAX_LOCKS: Final = 200
"""Locks reported one by one, those with the longest waits; the rest are summed as one."""
WAITERS_OF_LOCK: Final = 20
"""Waiters (thread and stack) reported for one lock."""
HOLDERS_OF_LOCK: Final = 100
"""Holders (thread and stack) reported for one lock; the rest are summed by thread, without a stack."""
_CONFIDENCE_OF: Final = {int(one): one for one in Confidence}
OTHER_LOCKS: Final = 0
"""Number of the row that sums the locks beyond MAX_LOCKS; real locks count from 1."""


class LockNumbers:
    """Numbers the locks of a recording from 1, in the order in which the recording met them.

    A lock is its address, kind, type and label; the numbers stay as the recording grows. Another label at the
    same address is another lock, made where the first one had been freed. A lock that has no label yet is
    the one seen last at its address.
    """

    def __init__(self) -> None:
        self._number: dict[tuple[int, LockKind, str | None, str | None], int] = {}
        self._latest: dict[tuple[int, LockKind, str | None], int] = {}
        self._locks: list[LockRef] = [LockRef(0, LockKind.USER, None, None)]
        self._of_wait: list[int] = [0]

    def update(self, recording: Recording, waits: int) -> Ints:
        """Wait id -> lock number (0: no lock), for all wait ids below `waits`."""
        for wait_id in range(len(self._of_wait), waits):
            wait = recording.wait(wait_id)
            self._of_wait.append(0 if wait is None or wait.lock is None else self._number_of(wait.lock))
        return np.array(self._of_wait, dtype=np.int64)

    @property
    def count(self) -> int:
        """One more than the largest number."""
        return len(self._locks)

    def lock(self, number: int) -> LockRef:
        """The lock of a number."""
        return self._locks[number]

    def _number_of(self, lock: LockRef) -> int:
        place = lock.address, lock.kind, lock.type_name
        key = *place, lock.label
        number = self._number.get(key)
        if number is None:
            latest = self._latest.get(place)
            if latest is not None and (lock.label is None or self._locks[latest].label is None):
                number = latest
                if lock.label is not None:
                    self._locks[number] = lock
            else:
                number = len(self._locks)
                self._locks.append(lock)
            self._number[key] = number
        self._latest[place] = number
        return number


@dataclass(frozen=True, slots=True)
class OpenWaits:
    """Single waits that touch an edge of a range: thread, lock and length; `through` spans all of it."""

    thread: Ints
    lock: Ints
    length_ns: Floats
    through: Bools


@dataclass(frozen=True, slots=True)
class LockShares:
    """What a range of windows adds to the locks' accounts, as columns.

    `wait_*`: one row per lock, thread and stack. `blame_*`: one row per lock, holder (thread index + 1),
    holder's stack and confidence. `lock`: one row per lock with waiters_max and longest wait. `head` and
    `tail` are the waits at the edges, to be joined with the neighbouring ranges.
    """

    wait_lock: Ints
    wait_thread: Ints
    wait_stack: Ints
    wait_ns: Floats
    critical_ns: Floats
    blame_lock: Ints
    blame_holder: Ints
    blame_stack: Ints
    blame_confidence: Ints
    blame_ns: Floats
    lock: Ints
    waiters_max: Ints
    longest_ns: Floats
    head: OpenWaits
    tail: OpenWaits
    joined: bool


def lock_shares(
    runs: TickRuns,
    accounts: Accounts,
    lock_of_wait: Ints,
    tick_period_ns: Floats,
    capacity_cores: float | None,
    *,
    joined: bool,
) -> LockShares:
    """The locks' accounts over the windows of `runs`; `joined`: no hole in time before the first of them.

    Without a known capacity every wait is critical.
    """
    lock_of_run = np.where(
        runs.wait < len(lock_of_wait), lock_of_wait[np.minimum(runs.wait, len(lock_of_wait) - 1)], 0
    )
    waiting = is_in(runs.state, LOCK_STATES) & (lock_of_run > 0)
    row = np.flatnonzero(waiting)
    lock, thread, stack = lock_of_run[row], runs.thread[row], runs.stack[row]
    begin, end, window = runs.first[row], runs.end[row], runs.window[row]
    tick_ns = accounts.cells.off_tick_ns_at(thread, window)
    spent = tick_ns * (end - begin)

    critical_ticks = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(_critical(runs, capacity_cores))])
    critical = tick_ns * (critical_ticks[end] - critical_ticks[begin])
    by_waiter = group_by(lock, thread, stack)

    blame = _blame(runs, row, lock, tick_ns)
    by_holder = group_by(blame.lock, blame.holder, blame.stack, blame.confidence)

    single = _single_waits(runs, row, lock, tick_period_ns)
    by_lock = group_by(single.lock)
    return LockShares(
        wait_lock=by_waiter.key(lock),
        wait_thread=by_waiter.key(thread),
        wait_stack=by_waiter.key(stack),
        wait_ns=by_waiter.total(spent),
        critical_ns=by_waiter.total(critical),
        blame_lock=by_holder.key(blame.lock),
        blame_holder=by_holder.key(blame.holder),
        blame_stack=by_holder.key(blame.stack),
        blame_confidence=by_holder.key(blame.confidence),
        blame_ns=by_holder.total(blame.spent_ns),
        lock=by_lock.key(single.lock),
        waiters_max=_most_waiters(lock, begin, end),
        longest_ns=by_lock.largest(single.length_ns),
        head=single.edge(single.first == 0, runs.ticks),
        tail=single.edge(single.end == runs.ticks, runs.ticks),
        joined=joined,
    )


def _critical(runs: TickRuns, capacity_cores: float | None) -> Ints:
    if capacity_cores is None:
        return np.ones(runs.ticks, dtype=np.int64)
    return (working_threads(runs) < capacity_cores).astype(np.int64)


def _most_waiters(lock: Ints, begin: Ints, end: Ints) -> Ints:
    """The largest number of simultaneous waiters of every lock, ascending by lock."""
    if not len(lock):
        return np.zeros(0, dtype=np.int64)
    who = np.concatenate([lock, lock])
    when = np.concatenate([begin, end])
    change = np.concatenate([np.ones(len(lock), dtype=np.int64), -np.ones(len(lock), dtype=np.int64)])
    order = np.lexsort((change, when, who))  # at one tick, those who leave go before those who come
    level = np.cumsum(change[order])  # 0 again after each lock's last event
    starts = np.flatnonzero(np.diff(who[order], prepend=-1))
    return np.asarray(np.maximum.reduceat(level, starts), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Blame:
    lock: Ints
    holder: Ints
    stack: Ints
    confidence: Ints
    spent_ns: Floats


def _blame(runs: TickRuns, row: Ints, lock: Ints, tick_ns: Floats) -> _Blame:
    """Pairs every wait with the runs of its holder that overlap it; what no run covers has no stack."""
    held = runs.holder[row] > NO_HOLDER
    held_row, held_lock, held_ns = row[held], lock[held], tick_ns[held]
    holder = runs.holder[held_row] - 1
    begin, end = runs.first[held_row], runs.end[held_row]
    span = runs.ticks + 1
    order = np.lexsort((runs.first, runs.thread))
    end_key = (runs.thread * span + runs.end)[order]
    first_key = (runs.thread * span + runs.first)[order]
    low = np.searchsorted(end_key, holder * span + begin, side="right")
    high = np.searchsorted(first_key, holder * span + end, side="left")
    pairs = np.maximum(high - low, 0)
    wait = np.repeat(np.arange(len(held_row)), pairs)
    offset = np.arange(len(wait)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    other = order[low[wait] + offset]
    overlap = np.minimum(runs.end[other], end[wait]) - np.maximum(runs.first[other], begin[wait])
    real = (overlap > 0) & (runs.thread[other] == holder[wait])
    wait, other, overlap = wait[real], other[real], overlap[real]
    covered = summed(wait, overlap, len(held_row))
    rest = np.maximum((end - begin) - covered, 0)
    bare = np.flatnonzero(rest)
    unknown_row = row[~held]
    unknown_ns = tick_ns[~held] * (runs.end[unknown_row] - runs.first[unknown_row])
    nobody = np.zeros(len(unknown_row), dtype=np.int64)
    known = int(Confidence.KNOWN)
    free = np.where(runs.confidence[unknown_row] == known, known, int(Confidence.UNKNOWN))
    return _Blame(
        lock=np.concatenate([held_lock[wait], held_lock[bare], lock[~held]]),
        holder=np.concatenate([holder[wait] + 1, holder[bare] + 1, nobody]),
        stack=np.concatenate([runs.stack[other], np.full(len(bare), NO_STACK, dtype=np.int64), nobody]),
        confidence=np.concatenate([runs.confidence[held_row[wait]], runs.confidence[held_row[bare]], free]),
        spent_ns=np.concatenate([held_ns[wait] * overlap, held_ns[bare] * rest[bare], unknown_ns]),
    )


@dataclass(frozen=True, slots=True)
class _SingleWaits:
    thread: Ints
    lock: Ints
    first: Ints
    end: Ints
    length_ns: Floats

    def edge(self, selected: Bools, ticks: int) -> OpenWaits:
        return OpenWaits(
            self.thread[selected],
            self.lock[selected],
            self.length_ns[selected],
            (self.first[selected] == 0) & (self.end[selected] == ticks),
        )


def _single_waits(runs: TickRuns, row: Ints, lock: Ints, tick_period_ns: Floats) -> _SingleWaits:
    """Joins runs of one thread on one lock that are one wait."""
    order = np.lexsort((runs.first[row], runs.thread[row]))
    row, lock = row[order], lock[order]
    if not len(row):
        none = np.zeros(0, dtype=np.int64)
        return _SingleWaits(none, none, none, none, np.zeros(0, dtype=np.float64))
    thread, window = runs.thread[row], runs.window[row]
    begin, end, holder, stack = runs.first[row], runs.end[row], runs.holder[row], runs.stack[row]
    confidence = runs.confidence[row]
    touches = (thread[1:] == thread[:-1]) & (lock[1:] == lock[:-1]) & (begin[1:] == end[:-1])
    next_window = window[1:] != window[:-1]
    goes_on = np.where(
        next_window,
        runs.joined[window[1:]],
        (holder[1:] != holder[:-1]) | (stack[1:] != stack[:-1]) | (confidence[1:] != confidence[:-1]),
    )
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(~(touches & goes_on)) + 1])
    stop = np.append(start[1:], len(row)) - 1
    length = np.add.reduceat((end - begin) * tick_period_ns[window], start)
    return _SingleWaits(
        thread[start], lock[start], begin[start], end[stop], np.asarray(length, dtype=np.float64)
    )


def merge_locks(
    recording: Recording,
    numbers: LockNumbers,
    parts: Sequence[LockShares],
    duration_ns: int,
    limit: int = MAX_LOCKS,
) -> tuple[LockMetrics, ...]:
    """The locks of consecutive ranges, longest wait first; beyond `limit` they are summed as OTHER_LOCKS."""
    lock = _joined([part.wait_lock for part in parts])
    if not len(lock):
        return ()
    wait_ns = _joined_floats([part.wait_ns for part in parts])
    critical = _joined_floats([part.critical_ns for part in parts])
    by_lock = group_by(lock)
    number, wait_of_lock, critical_of_lock = (
        by_lock.key(lock),
        by_lock.total(wait_ns),
        by_lock.total(critical),
    )
    waiters_max = _largest(
        [part.lock for part in parts], [part.waiters_max.astype(np.float64) for part in parts]
    )
    longest = _longest(parts)
    waiters = _waiters(parts, lock, wait_ns)
    best = largest_first(wait_of_lock, limit)
    chosen = {int(number[position]) for position in best}
    wait_rows = _by_lock(waiters.lock, waiters.wait_ns, WAITERS_OF_LOCK, chosen)
    holders = _holders(parts)
    holder_rows = _by_lock(holders.lock, holders.blame_ns, len(holders.lock), chosen)
    result = [
        LockMetrics(
            number=int(number[position]),
            lock=numbers.lock(int(number[position])),
            wait_ns=float(wait_of_lock[position]),
            critical_wait_ns=float(critical_of_lock[position]),
            mean_queue=float(wait_of_lock[position]) / duration_ns if duration_ns > 0 else 0.0,
            waiters_max=int(waiters_max.get(int(number[position]), 0)),
            longest_wait_ns=longest.get(int(number[position]), 0.0),
            waiters=tuple(
                LockWaiter(
                    thread_of(recording, int(waiters.thread[row])),
                    float(waiters.wait_ns[row]),
                    recording.stack(int(waiters.stack[row])),
                )
                for row in wait_rows.get(int(number[position]), ())
            ),
            holders=_lock_holders(recording, holders, holder_rows.get(int(number[position]), [])),
        )
        for position in best
    ]
    rest = [position for position in range(len(number)) if int(number[position]) not in chosen]
    if rest:
        waited = float(wait_of_lock[rest].sum())
        result.append(
            LockMetrics(
                number=OTHER_LOCKS,
                lock=LockRef(0, LockKind.USER, None, f"{len(rest)} other locks"),
                wait_ns=waited,
                critical_wait_ns=float(critical_of_lock[rest].sum()),
                mean_queue=waited / duration_ns if duration_ns > 0 else 0.0,
                waiters_max=int(max(waiters_max.get(int(number[position]), 0) for position in rest)),
                longest_wait_ns=max(longest.get(int(number[position]), 0.0) for position in rest),
                waiters=(),
                holders=(),
            )
        )
    return tuple(result)


def with_objects(found: Sequence[LockMetrics], objects: Sequence[SharedObject]) -> tuple[LockMetrics, ...]:
    """The locks, each with the object that it is of, where one is called by its address and has its type."""
    by_name = {(one.name, one.type_name): one for one in objects}
    return tuple(
        replace(lock, of_object=by_name.get((f"{lock.lock.address:#x}", lock.lock.type_name or "")))
        if lock.lock.kind is LockKind.OBJECT
        else lock
        for lock in found
    )


def joined_locks(parts: Sequence[LockShares]) -> LockShares:
    """What consecutive ranges, at least one, add to the locks' accounts together, in whole nanoseconds."""
    lock = _joined([part.wait_lock for part in parts])
    thread = _joined([part.wait_thread for part in parts])
    stack = _joined([part.wait_stack for part in parts])
    by_waiter = group_by(lock, thread, stack)
    holders = _holders(parts)
    longest = _longest(parts)
    waiters_max = _largest(
        [part.lock for part in parts], [part.waiters_max.astype(np.float64) for part in parts]
    )
    numbers = sorted(waiters_max)
    return LockShares(
        wait_lock=by_waiter.key(lock),
        wait_thread=by_waiter.key(thread),
        wait_stack=by_waiter.key(stack),
        wait_ns=whole(by_waiter.total(_joined_floats([part.wait_ns for part in parts]))),
        critical_ns=whole(by_waiter.total(_joined_floats([part.critical_ns for part in parts]))),
        blame_lock=holders.lock,
        blame_holder=holders.holder,
        blame_stack=holders.stack,
        blame_confidence=holders.confidence,
        blame_ns=whole(holders.blame_ns),
        lock=np.array(numbers, dtype=np.int64),
        waiters_max=np.array([waiters_max[number] for number in numbers], dtype=np.int64),
        longest_ns=whole(np.array([longest[number] for number in numbers], dtype=np.float64)),
        head=_edge_waits(parts, forward=True),
        tail=_edge_waits(parts, forward=False),
        joined=parts[0].joined,
    )


def _edge_waits(parts: Sequence[LockShares], *, forward: bool) -> OpenWaits:
    """The single waits that touch the beginning of consecutive ranges (`forward`), or their end."""
    order = range(len(parts)) if forward else range(len(parts) - 1, -1, -1)
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    going_on: set[tuple[int, int]] | None = None
    for place in order:
        part = parts[place]
        edge = part.head if forward else part.tail
        here = {
            (thread, lock): (length, through)
            for thread, lock, length, through in zip(
                *(column.tolist() for column in (edge.thread, edge.lock, edge.length_ns, edge.through)),
                strict=True,
            )
            if going_on is None or (thread, lock) in going_on
        }
        if going_on is not None:
            for key in going_on - here.keys():
                found[key] = found[key][0], False
        for key, (length, through) in here.items():
            found[key] = found.get(key, (0.0, True))[0] + length, through
        going_on = {key for key, (_, through) in here.items() if through}
        # The edge between this range and the next one that is looked at.
        later = place + 1 if forward else place
        if going_on and 0 < later < len(parts) and not parts[later].joined:
            found.update({key: (found[key][0], False) for key in going_on})
            break
    keys = sorted(found)
    return OpenWaits(
        np.array([thread for thread, _ in keys], dtype=np.int64),
        np.array([lock for _, lock in keys], dtype=np.int64),
        whole(np.array([found[key][0] for key in keys], dtype=np.float64)),
        np.array([found[key][1] for key in keys], dtype=np.bool_),
    )


class WaitingStacks(NamedTuple):
    """Where locks were waited for, as columns: the lock's number, the stack, the thread-time."""

    lock: Ints
    stack: Ints
    wait_ns: Floats


def waiting_stacks(parts: Sequence[LockShares]) -> WaitingStacks:
    """Where locks were waited for in consecutive ranges."""
    return WaitingStacks(
        _joined([part.wait_lock for part in parts]),
        _joined([part.wait_stack for part in parts]),
        _joined_floats([part.wait_ns for part in parts]),
    )


def _joined(columns: Sequence[Ints]) -> Ints:
    return np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)


def _joined_floats(columns: Sequence[Floats]) -> Floats:
    return np.concatenate(columns) if columns else np.zeros(0, dtype=np.float64)


def _largest(locks: Sequence[Ints], values: Sequence[Floats]) -> dict[int, float]:
    lock, value = _joined(locks), _joined_floats(values)
    groups = group_by(lock)
    return dict(zip(groups.key(lock).tolist(), groups.largest(value).tolist(), strict=True))


def _longest(parts: Sequence[LockShares]) -> dict[int, float]:
    """The longest single wait of every lock; waits that cross the edges of ranges are joined."""
    longest = _largest([part.lock for part in parts], [part.longest_ns for part in parts])
    pending: dict[int, tuple[int, float]] = {}
    for part in parts:
        if not part.joined:
            pending = {}
        carried: dict[int, float] = {}
        for thread, lock, length in zip(
            part.head.thread.tolist(), part.head.lock.tolist(), part.head.length_ns.tolist(), strict=True
        ):
            before = pending.get(thread)
            if before is not None and before[0] == lock:
                carried[thread] = before[1]
                longest[lock] = max(longest.get(lock, 0.0), before[1] + length)
        pending = {
            thread: (lock, length + (carried.get(thread, 0.0) if through else 0.0))
            for thread, lock, length, through in zip(
                part.tail.thread.tolist(),
                part.tail.lock.tolist(),
                part.tail.length_ns.tolist(),
                part.tail.through.tolist(),
                strict=True,
            )
        }
    return longest


class _Waiters(NamedTuple):
    """Who waited for which lock where, as columns."""

    lock: Ints
    thread: Ints
    stack: Ints
    wait_ns: Floats


class _Holders(NamedTuple):
    """Who made others wait for which lock, where, and how sure that is, as columns."""

    lock: Ints
    holder: Ints
    stack: Ints
    confidence: Ints
    blame_ns: Floats


def _waiters(parts: Sequence[LockShares], lock: Ints, wait_ns: Floats) -> _Waiters:
    thread = _joined([part.wait_thread for part in parts])
    stack = _joined([part.wait_stack for part in parts])
    groups = group_by(lock, thread, stack)
    return _Waiters(groups.key(lock), groups.key(thread), groups.key(stack), groups.total(wait_ns))


def _holders(parts: Sequence[LockShares]) -> _Holders:
    lock = _joined([part.blame_lock for part in parts])
    holder = _joined([part.blame_holder for part in parts])
    stack = _joined([part.blame_stack for part in parts])
    confidence = _joined([part.blame_confidence for part in parts])
    groups = group_by(lock, holder, stack, confidence)
    return _Holders(
        groups.key(lock),
        groups.key(holder),
        groups.key(stack),
        groups.key(confidence),
        groups.total(_joined_floats([part.blame_ns for part in parts])),
    )


def _lock_holders(recording: Recording, holders: _Holders, rows: Sequence[int]) -> tuple[LockHolder, ...]:
    """The holders in these rows, which are in the order of their blame; their blame adds up."""
    blame: dict[tuple[int, int, int], float] = {}
    for place, row in enumerate(rows):
        stack = int(holders.stack[row]) if place < HOLDERS_OF_LOCK else NO_STACK
        key = int(holders.holder[row]), int(holders.confidence[row]), stack
        blame[key] = blame.get(key, 0.0) + float(holders.blame_ns[row])
    return tuple(
        LockHolder(
            thread_of(recording, holder - 1) if holder != NO_HOLDER else None,
            confidence_of(confidence),
            spent,
            recording.stack(stack),
        )
        for (holder, confidence, stack), spent in sorted(blame.items(), key=lambda item: -item[1])
    )


def _by_lock(lock: Ints, spent: Floats, limit: int, chosen: set[int]) -> dict[int, list[int]]:
    """Row numbers of the largest values of every chosen lock; `lock` is ascending."""
    rows: dict[int, list[int]] = {}
    for number in chosen:
        begin, end = np.searchsorted(lock, [number, number + 1])
        rows[number] = (begin + largest_first(spent[begin:end], limit)).tolist()
    return rows


def confidence_of(code: int) -> Confidence:
    """A recorded confidence; unknown where the code is none."""
    return _CONFIDENCE_OF.get(code, Confidence.UNKNOWN)


def thread_of(recording: Recording, index: int) -> ThreadInfo:
    """The thread of an index; a nameless one where the recording does not describe it."""
    if 0 <= index < len(recording.threads):
        return recording.thread(index)
    return ThreadInfo(index=index, tid=0, name=f"thread {index}", python=False)
