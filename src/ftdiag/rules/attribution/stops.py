"""What all threads are stopped for, and which locks are part of that.

In: facts. Out: `StopCause` shares, and whether a lock is one that requests of stops wait for.
"""

from __future__ import annotations

import math
from typing import Final

from ftdiag.analysis.pauses import GARBAGE_COLLECTION
from ftdiag.model import STOP_EVENT, STOP_TURN, LockKind, LockMetrics, ThreadState
from ftdiag.rules.base import Facts, LockClaim, Priority, StopCause, finite

GC_SHARE: Final = 0.3
"""Where nobody is known to have asked for them, stops belong to the collector if it ran for this share of
them or more; the rest is waking up."""
SMALL_PART: Final = 0.1
"""A smaller part of the stops than this is no finding of its own, but told with the rest."""
MOSTLY_COVERED: Final = 0.95
"""From this part of a range on, the collector's own statistics tell of all of it."""
STOP_EVENT_OFFSET: Final = 4
"""Where `stop_event` lies behind `mutex` in `struct _stoptheworld_state {PyMutex mutex; bool requested;
bool world_stopped; bool is_global; PyEvent stop_event; ...}` (Include/internal/pycore_interp.h in 3.13 and
3.14)."""


def stop_shares(facts: Facts) -> dict[StopCause, float]:
    """What threads are stopped for, and to what part; empty without any.

    Who asked, or what for, is known of most pauses. One whose reason is not known is taken to be like the
    others of the same thread; but not for the collector, where the times of all collections are known.
    """
    stopped = facts.metrics.states_ns.get(ThreadState.STOPPED, 0.0)
    if stopped <= 0:
        return {}
    others = max(1, facts.metrics.threads_with_work - 1)
    own = facts.collector
    collecting = own.total_ns if own is not None else facts.metrics.states_ns.get(ThreadState.GC, 0.0)
    collector = 1.0 if collecting >= GC_SHARE * stopped / others else 0.0
    asked: dict[int | None, list[float]] = {}
    for pauses in facts.pauses:
        if pauses.requester is not None or pauses.reason is not None:
            kind = 2 if pauses.reason is None else int(pauses.reason == GARBAGE_COLLECTION)
            asker = None if pauses.requester is None else pauses.requester.index
            asked.setdefault(asker, [0.0, 0.0, 0.0])[kind] += finite(pauses.total_ns)
    whole = sum(sum(times) for times in asked.values())
    if whole > 0 and own is not None and own.timed == own.count and own.covered_ratio >= MOSTLY_COVERED:
        collector = sum(gc for _, gc, _ in asked.values()) / whole
    elif whole > 0:
        part = 0.0
        for other, gc, unknown in asked.values():
            part += gc + unknown * (gc / (gc + other) if gc + other > 0 else collector)
        collector = part / whole
    if collector < SMALL_PART or collector > 1.0 - SMALL_PART:
        collector = float(collector > 0.5)
    shares = {StopCause.COLLECTOR: collector, StopCause.REQUESTS: 1.0 - collector}
    return {cause: share for cause, share in shares.items() if share > 0}


def main_cause(facts: Facts) -> StopCause | None:
    """What threads are stopped for most, and wait to stop others for; None where they are not stopped."""
    shares = stop_shares(facts)
    if not shares:
        return None
    if 2.0 * _collectors_at_most_ns(facts) < _waited_for_stops_ns(facts):
        return StopCause.REQUESTS
    return max(shares, key=shares.__getitem__)


def _collectors_at_most_ns(facts: Facts) -> float:
    """Thread-time that may have been waited for collections: while one runs, one thread waits for the others
    to stand still, and these stand still. Not bounded where the collector's own clock is not known."""
    own = facts.collector
    if own is None or own.covered_ratio <= 0:
        return math.inf
    return own.total_ns / own.covered_ratio * max(1, facts.metrics.threads_with_work)


def _waited_for_stops_ns(facts: Facts) -> float:
    """Thread-time that was stopped, or waited for its turn to stop others, or for these to stand still."""
    stopped = finite(facts.metrics.states_ns.get(ThreadState.STOPPED, 0.0))
    requests = (lock for lock in facts.locks if lock.lock.label in (STOP_TURN, STOP_EVENT))
    return stopped + sum(finite(lock.wait_ns) for lock in requests)


def stop_claims(cause: StopCause) -> tuple[LockClaim, ...]:
    """Locks that threads wait for to stop all others, where this is what they do it for most."""
    after = list(StopCause).index(cause)
    return (
        LockClaim(
            Priority.NAMED + after,
            kinds=(LockKind.RUNTIME,),
            labels=(STOP_TURN, STOP_EVENT),
            when=lambda _, facts: (main_cause(facts) or StopCause.REQUESTS) is cause,
        ),
        LockClaim(
            Priority.SIGNS + after,
            kinds=(LockKind.RUNTIME,),
            when=lambda lock, facts: _stops_behind(lock, facts) is cause,
        ),
    )


def _stops_behind(lock: LockMetrics, facts: Facts) -> StopCause | None:
    """What for, if threads wait for their turn to stop all others, or for these to stand still.

    The two waits are for neighbouring bytes of one structure: that is proof. Without it: who wants to stop
    the world waits parked until the one before has finished; the lock of all types is held for a moment and
    mostly spun for.
    """
    stops = main_cause(facts)
    if is_stop_request(lock, facts):
        return stops or StopCause.REQUESTS
    lost = facts.metrics.lost_cores
    if lost.get(ThreadState.SPIN, 0.0) >= lost.get(ThreadState.RUNTIME_LOCK, 0.0):
        return None
    return stops


def is_stop_request(lock: LockMetrics, facts: Facts) -> bool:
    """Whether a lock of the interpreter is one of the two that requests of stops wait for."""
    if lock.lock.label in (STOP_TURN, STOP_EVENT):
        return True
    address = lock.lock.address
    near = {address - STOP_EVENT_OFFSET, address + STOP_EVENT_OFFSET}
    return any(other.lock.kind is LockKind.RUNTIME and other.lock.address in near for other in facts.locks)
