"""What waiting ends at: which of several bottlenecks to remove first.

In: what windows add (`chains`), the thread-time and metrics of the same range. Out: the model's
`Bottlenecks`, ranked by what waiting for each costs, and the wall time of lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.chains import ENDS, OF_CHAINS, BottleneckShares, Family, added_bottlenecks
from ftdiag.analysis.efficiency import LOCK_STATES, is_in, what_source_lacks
from ftdiag.analysis.grouping import Floats, Ints, distinct, group_by, largest_first, runs_of
from ftdiag.analysis.locks import LockNumbers, WaitingStacks, thread_of
from ftdiag.datatypes import replace
from ftdiag.model import (
    NO_HOLDER,
    STOP_EVENT,
    STOP_TURN,
    Bottleneck,
    BottleneckKind,
    BottleneckPlace,
    Bottlenecks,
    CorePart,
    EndOfWait,
    Frame,
    LockKind,
    LockRef,
    Metrics,
    Stack,
    ThreadState,
    WaitsFor,
)
from ftdiag.recording.reader import Recording

RANKED: Final = 50
"""Bottlenecks listed one by one."""
EDGES: Final = 300
"""Edges of the graph that are kept, those with the longest waits."""
PLACES: Final = 5
"""Places listed of one bottleneck."""
MAX_NEAR_STACKS: Final = 500
"""Stacks with wasted time for which the lock they belong to is looked for, those with most time."""
NEAR_FRAMES: Final = 3
"""Innermost frames of a spinning stack among which the function that waits for a lock is looked for."""
ALONE_SHARE: Final = 0.8
"""From this share of serial time on one thread is named; below, several run alone in turn."""
NOT_WORTH_SAYING_NS: Final = 1.0


def merge_bottlenecks(
    recording: Recording,
    numbers: LockNumbers,
    parts: Sequence[BottleneckShares],
    time: ThreadTime,
    waiting: WaitingStacks,
    metrics: Metrics,
) -> Bottlenecks:
    """The ranked bottlenecks of consecutive ranges.

    `time` is the thread-time of the same range, for what was wasted on a core; `waiting` is where
    locks were waited for.
    """
    duration = metrics.duration_ns
    if recording.settings.imported is not None:
        return Bottlenecks(not_told=f"cannot tell: {_lacks(recording)}")
    if not parts or duration <= 0:
        return Bottlenecks(not_told="cannot tell: nothing was recorded in this range")
    shares = added_bottlenecks(parts)
    family, what = shares.family, shares.what
    wait_ns, lost_ns, knots = shares.wait_ns, shares.lost_ns, shares.knots
    ends = _EndRows(shares.end, shares.thread, shares.stack)
    of_whole = (
        *(shares.of_family, shares.of_what),
        *(shares.of_wall_ns, shares.of_waiters, shares.of_direct_ns, shares.of_known_ns),
    )
    whole = {
        (family, what): (wall, waiters, direct, known)
        for family, what, wall, waiters, direct, known in zip(
            *(column.tolist() for column in of_whole), strict=True
        )
    }
    wasted_by_lock, wasted_by_line = _wasted(recording, time, waiting, metrics)
    lost_ns = lost_ns * _within_account(family, lost_ns, metrics)
    shown = np.where(wait_ns > 0, wait_ns, lost_ns)
    groups = group_by(family, what)
    bounds = [*groups.starts.tolist(), len(family)]
    found: list[Bottleneck] = []
    for place in range(len(groups)):
        rows_here = groups.order[bounds[place] : bounds[place + 1]]
        kind, number = int(family[rows_here[0]]), int(what[rows_here[0]])
        wall, waiters, direct, known = whole.get((kind, number), (0.0, 0, 0.0, 0.0))
        waited, lost = float(wait_ns[rows_here].sum()), float(lost_ns[rows_here].sum())
        wasted = 0.0
        if kind == Family.LOCK:
            wasted = wasted_by_lock.pop(number, 0.0)
        one = Bottleneck(
            kind=BottleneckKind.UNKNOWN,
            wait_ns=waited,
            lost_cores=(lost + wasted) / duration,
            gain_cores=(lost + wasted) / duration,
            direct_ns=direct,
            wasted_cores=wasted / duration,
            wall_ratio=min(1.0, wall / duration),
            waiters_max=waiters,
            known_ratio=min(1.0, known / waited)
            if waited > 0 and kind in (Family.LOCK, Family.KNOT)
            else None,
            places=_places(recording, ends, rows_here, shown),
        )
        found.append(_named(recording, numbers, one, kind, number, knots))
    found = _alone_or_in_turn(found)
    # Locks that nobody parked on, and lines that belong to none.
    for number, wasted in wasted_by_lock.items():
        one = _on_core(BottleneckKind.LOCK, wasted / duration)
        found.append(_named(recording, numbers, one, Family.LOCK, number, knots))
    # Of many lines no more than are listed, the rest is counted.
    lines = [one for one in wasted_by_line.values() if one[0] / duration * duration > NOT_WORTH_SAYING_NS]
    lines.sort(key=lambda one: -round(one[0] / duration, 6))
    for wasted, stack_id, threads in lines[:RANKED]:
        at = BottleneckPlace(EndOfWait.RUNS, recording.stack(stack_id), threads, wasted)
        found.append(_on_core(BottleneckKind.LINE, wasted / duration, (at,)))
    found += _cores(metrics)
    # Equal losses: by waiting, so that the order does not hang on that of the columns, nor on roundings.
    found = [one for one in found if one.gain_cores * duration > NOT_WORTH_SAYING_NS or one.wait_ns > 0]
    found.sort(key=lambda one: (one.context, -round(one.gain_cores, 6), -one.wait_ns))
    chains = np.isin(family, OF_CHAINS)
    return Bottlenecks(
        ranked=tuple(found[:RANKED]),
        edges=_edges(recording, numbers, shares),
        waited_ns=float(wait_ns[chains].sum()),
        left_out=max(0, len(found) - RANKED) + len(lines[RANKED:]),
    )


def _on_core(kind: BottleneckKind, cores: float, places: tuple[BottleneckPlace, ...] = ()) -> Bottleneck:
    """What nobody waits for off a core."""
    return Bottleneck(kind, 0.0, cores, cores, wasted_cores=cores, places=places)


_PARTS_OF_FAMILY: Final[tuple[tuple[tuple[int, ...], tuple[CorePart, ...]], ...]] = (
    (OF_CHAINS, tuple(CorePart(state.label) for state in LOCK_STATES)),
    ((Family.IO,), (CorePart.IO,)),
    ((Family.UNKNOWN,), (CorePart.UNKNOWN,)),
    ((Family.SERIAL,), (CorePart.NO_DEMAND,)),
)


def _within_account(family: Ints, lost_ns: Floats, metrics: Metrics) -> Floats:
    """What each row's loss is multiplied by, so that together they are no more than the account has."""
    factor = np.ones(len(family), dtype=np.float64)
    if not metrics.account:
        return factor
    for families, parts in _PARTS_OF_FAMILY:
        rows = np.isin(family, families)
        seen = float(lost_ns[rows].sum())
        accounted = sum(metrics.account.get(part, 0.0) for part in parts) * metrics.duration_ns
        if seen > accounted:
            factor[rows] = accounted / seen
    return factor


def wall_lines(recording: Recording, parts: Sequence[BottleneckShares]) -> dict[Frame, float]:
    """The wall time of every line (its innermost frame)."""
    if not parts:
        return {}
    stack = np.concatenate([part.wall_stack for part in parts])
    spent = np.concatenate([part.wall_ns for part in parts])
    leaves = recording.leaf_frames()
    inside = stack < len(leaves)
    leaf = np.full(len(stack), -1, dtype=np.int64)
    leaf[inside] = leaves[stack[inside]]
    groups = group_by(leaf[leaf >= 0])
    total = groups.total(spent[leaf >= 0])
    lines: dict[Frame, float] = {}
    for frame_id, wall in zip(groups.key(leaf[leaf >= 0]).tolist(), total.tolist(), strict=True):
        frame = recording.frame(frame_id)
        lines[frame] = lines.get(frame, 0.0) + wall
    return lines


def _lacks(recording: Recording) -> str:
    said = what_source_lacks(recording.settings)
    return said.get("locks", "the recording does not say who waited")


def _named(
    recording: Recording,
    numbers: LockNumbers,
    one: Bottleneck,
    family: int,
    what: int,
    knots: Sequence[tuple[int, ...]],
) -> Bottleneck:
    """The bottleneck with what it is."""
    if family == Family.LOCK:
        lock = numbers.lock(what)
        kind = BottleneckKind.LOCK
        if lock.kind is LockKind.GIL:
            kind = BottleneckKind.GIL
        elif lock.label in (STOP_EVENT, STOP_TURN):
            kind = BottleneckKind.STOP
        return replace(one, kind=kind, lock=lock, number=what)
    if family == Family.SERIAL:
        return replace(one, kind=BottleneckKind.SERIAL, thread=thread_of(recording, what - 1))
    if family == Family.KNOT:
        members = tuple(thread_of(recording, index) for index in knots[what]) if what < len(knots) else ()
        return replace(one, kind=BottleneckKind.KNOT, members=members)
    if family in (Family.IO, Family.UNKNOWN):
        wait = recording.wait(what)
        detail = None if wait is None else (wait.detail or wait.syscall)
        return replace(
            one, kind=BottleneckKind.IO if family == Family.IO else BottleneckKind.UNKNOWN, detail=detail
        )
    if family == Family.STOP:
        return replace(one, kind=BottleneckKind.STOP)
    return replace(one, kind=BottleneckKind.GIL if family == Family.GIL else BottleneckKind.UNKNOWN)


class _EndRows(NamedTuple):
    """What chains end at: the end, the thread there (index + 1, or 0), its stack; as columns."""

    end: Ints
    thread: Ints
    stack: Ints


def _places(recording: Recording, ends: _EndRows, rows: Ints, weight: Floats) -> tuple[BottleneckPlace, ...]:
    """The largest places of one bottleneck: what the threads at the end did, by innermost frame."""
    end, thread, stack = ends.end[rows], ends.thread[rows], ends.stack[rows]
    leaves = recording.leaf_frames()
    leaf = np.where(stack < len(leaves), leaves[np.minimum(stack, len(leaves) - 1)], -1).astype(np.int64) + 1
    groups = group_by(end, leaf)
    total = groups.total(weight[rows])
    bounds = [*groups.starts.tolist(), len(rows)]
    places = []
    for place in largest_first(total, PLACES).tolist():
        if total[place] <= 0:
            continue
        member = groups.order[bounds[place] : bounds[place + 1]]
        longest = member[int(np.argmax(weight[rows][member]))]
        who = distinct(thread[member])
        places.append(
            BottleneckPlace(
                end=ENDS[int(end[member[0]])],
                stack=recording.stack(int(stack[longest])),
                threads=int((who > 0).sum()),
                wait_ns=float(total[place]),
            )
        )
    return tuple(places)


def _alone_or_in_turn(found: list[Bottleneck]) -> list[Bottleneck]:
    """Serial time of one thread as that thread's; of several in turn as that of their lines."""
    serial = [one for one in found if one.kind is BottleneckKind.SERIAL]
    whole = sum(one.lost_cores for one in serial)
    if len(serial) < 2 or max(one.lost_cores for one in serial) >= ALONE_SHARE * whole:
        return found
    places: dict[tuple[EndOfWait, Frame | None], BottleneckPlace] = {}
    for one in serial:
        for place in one.places:
            key = place.end, place.stack[0] if place.stack else None
            known = places.get(key)
            places[key] = (
                place
                if known is None
                else replace(
                    known, threads=known.threads + place.threads, wait_ns=known.wait_ns + place.wait_ns
                )
            )
    largest = sorted(places.values(), key=lambda place: -place.wait_ns)[:PLACES]
    together = Bottleneck(
        kind=BottleneckKind.SERIAL,
        wait_ns=0.0,
        lost_cores=whole,
        gain_cores=whole,
        wall_ratio=min(1.0, sum(one.wall_ratio or 0.0 for one in serial)),
        waiters_max=max(one.waiters_max for one in serial),
        places=tuple(largest),
    )
    return [*(one for one in found if one.kind is not BottleneckKind.SERIAL), together]


def _cores(metrics: Metrics) -> list[Bottleneck]:
    """Threads that wanted a core and had none, by who had it."""
    account = metrics.account
    own = sum(account.get(part, 0.0) for part in (CorePart.OWN_THREADS, CorePart.RUNNABLE))
    foreign = (
        (CorePart.CPU_QUOTA, "the CPU quota"),
        (CorePart.OTHER_PROGRAMS, "other processes had the cores"),
        (CorePart.FTDIAG, "the sampler had a core"),
    )
    found = []
    # Without the others the threads that want a core have all of the capacity: who is left then, wants more.
    wanting = metrics.on_cpu_cores + metrics.run_queue_cores
    beyond = wanting - metrics.capacity_cores if metrics.capacity_cores is not None else 0.0
    queued = max(own, min(beyond, metrics.run_queue_cores))
    if queued > 0:
        found.append(Bottleneck(BottleneckKind.CORES, queued * metrics.duration_ns, own, queued))
    for part, detail in foreign:
        cores = account.get(part, 0.0)
        if cores > 0:
            context = part is not CorePart.CPU_QUOTA
            found.append(Bottleneck(BottleneckKind.CORES, 0.0, cores, cores, detail=detail, context=context))
    return found


def _edges(recording: Recording, numbers: LockNumbers, shares: BottleneckShares) -> tuple[WaitsFor, ...]:
    rows = largest_first(shares.edge_ns, EDGES)
    columns = shares.edge_waiter, shares.edge_lock, shares.edge_holder, shares.edge_ns
    nameless = LockRef(0, LockKind.RUNTIME, None, None)
    return tuple(
        WaitsFor(
            waiter=thread_of(recording, waiter),
            lock=numbers.lock(lock) if lock > 0 else nameless,
            number=lock,
            holder=thread_of(recording, holder - 1) if holder != NO_HOLDER else None,
            wait_ns=wait_ns,
        )
        for waiter, lock, holder, wait_ns in zip(*(column[rows].tolist() for column in columns), strict=True)
        if wait_ns > 0
    )


_Function = tuple[str, str]


def _wasted(
    recording: Recording, time: ThreadTime, waiting: WaitingStacks, metrics: Metrics
) -> tuple[dict[int, float], dict[Frame | None, tuple[float, int, int]]]:
    """What spinning and contended memory wasted: by the lock that is waited for there, else by line.

    Of a line: its time, its commonest stack, the number of its threads. A thread that spins is off its core
    in between; only what the account has was wasted.
    """
    rows = np.flatnonzero(is_in(time.state, (ThreadState.SPIN, ThreadState.ATOMIC)) & (time.time_ns > 0))
    weight = time.time_ns[rows].copy()
    for state, part in ((ThreadState.SPIN, CorePart.SPIN), (ThreadState.ATOMIC, CorePart.ATOMIC)):
        which = time.state[rows] == state
        seen, accounted = float(weight[which].sum()), metrics.account.get(part, 0.0) * metrics.duration_ns
        if metrics.account and seen > accounted:
            weight[which] *= accounted / seen
    groups = group_by(time.stack[rows])
    stacks, spent = groups.key(time.stack[rows]), groups.total(weight)
    waits = _waiting_functions(recording, waiting)
    by_lock: dict[int, float] = {}
    by_line: dict[Frame | None, tuple[float, int, int]] = {}
    pairs = group_by(time.stack[rows], time.thread[rows])
    of_stack = pairs.key(time.stack[rows])
    threads_at = np.diff(np.append(runs_of(of_stack)[1], len(of_stack)))
    for place in largest_first(spent, MAX_NEAR_STACKS).tolist():
        stack_id, wasted = int(stacks[place]), float(spent[place])
        stack = recording.stack(stack_id)
        near = (waits.get((frame.filename, frame.function), 0) for frame in stack[:NEAR_FRAMES])
        number = next(filter(None, near), 0)
        if number:
            by_lock[number] = by_lock.get(number, 0.0) + wasted
            continue
        threads = int(threads_at[place])
        frame = stack[0] if stack else None
        before, longest, most = by_line.get(frame, (0.0, stack_id, 0))
        by_line[frame] = before + wasted, longest, max(most, threads)
    return by_lock, by_line


def _waiting_functions(recording: Recording, waiting: WaitingStacks) -> dict[_Function, int]:
    """The functions in which threads wait for locks, with the lock that is waited for longest there."""
    lock, stack, spent = waiting
    groups = group_by(lock, stack)
    total = groups.total(spent)
    longest: dict[_Function, tuple[float, int]] = {}
    for place in largest_first(total, MAX_NEAR_STACKS).tolist():
        frames: Stack = recording.stack(int(groups.key(stack)[place]))
        if frames:
            key = frames[0].filename, frames[0].function
            waited = float(total[place])
            if key not in longest or waited > longest[key][0]:
                longest[key] = waited, int(groups.key(lock)[place])
    return {function: number for function, (_, number) in longest.items()}
