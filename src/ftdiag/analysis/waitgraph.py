"""Who waits for whom now: the wait-for graph at the last tick, and deadlocks.

In: tick-level runs of the last windows. Out: `WaitEdge`s, and cycles of them that stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ftdiag.analysis.efficiency import LOCK_STATES, is_in
from ftdiag.analysis.grouping import Ints
from ftdiag.analysis.locks import LockNumbers, confidence_of, thread_of
from ftdiag.analysis.ticks import TickRuns
from ftdiag.datatypes import dataclass
from ftdiag.model import NO_STACK, Confidence, LockRef, Stack, ThreadInfo
from ftdiag.recording.reader import Recording

DEADLOCK_NS: Final = 3_000_000_000
"""A cycle of holders that stands this long is taken for a deadlock."""


@dataclass(frozen=True, slots=True)
class WaitEdge:
    """At the last tick, `waiter` waits for `lock`, which `holder` has (None: not known, or known: nobody).

    `since_ns` is how long this edge (same lock, same holder) has stood.
    """

    waiter: ThreadInfo
    lock: LockRef
    lock_number: int
    holder: ThreadInfo | None
    confidence: Confidence
    since_ns: float
    stack: Stack
    holder_stack: Stack


def wait_graph(
    recording: Recording,
    runs: TickRuns,
    lock_of_wait: Ints,
    numbers: LockNumbers,
    since_ns: Mapping[int, float],
) -> tuple[WaitEdge, ...]:
    """The wait-for graph at the last tick of `runs`; `since_ns` has how long each waiter's edge has stood."""
    edges: list[WaitEdge] = []
    last = last_runs(runs)
    stack_now = {int(runs.thread[row]): int(runs.stack[row]) for row in last}
    for row in last:
        wait = int(runs.wait[row])
        number = int(lock_of_wait[wait]) if wait < len(lock_of_wait) else 0
        if number == 0 or not is_in(runs.state[row : row + 1], LOCK_STATES)[0]:
            continue
        holder = int(runs.holder[row]) - 1
        confidence = confidence_of(int(runs.confidence[row]))
        if holder < 0 and confidence is not Confidence.KNOWN:
            confidence = Confidence.UNKNOWN
        edges.append(
            WaitEdge(
                waiter=thread_of(recording, int(runs.thread[row])),
                lock=numbers.lock(number),
                lock_number=number,
                holder=thread_of(recording, holder) if holder >= 0 else None,
                confidence=confidence,
                since_ns=since_ns.get(int(runs.thread[row]), 0.0),
                stack=recording.stack(int(runs.stack[row])),
                holder_stack=recording.stack(stack_now.get(holder, NO_STACK)),
            )
        )
    return tuple(edges)


def deadlocks(
    edges: Sequence[WaitEdge], standing_ns: float = DEADLOCK_NS
) -> tuple[tuple[WaitEdge, ...], ...]:
    """Cycles of known holders that have stood for `standing_ns`, each starting at its smallest thread."""
    holder_of: Mapping[int, WaitEdge] = {
        edge.waiter.index: edge
        for edge in edges
        if edge.holder is not None and edge.confidence is Confidence.KNOWN and edge.since_ns >= standing_ns
    }
    cycles: list[tuple[WaitEdge, ...]] = []
    done: set[int] = set()
    for start in sorted(holder_of):
        path: list[int] = []
        place: dict[int, int] = {}
        thread = start
        while thread in holder_of and thread not in done and thread not in place:
            place[thread] = len(path)
            path.append(thread)
            holder = holder_of[thread].holder
            thread = holder.index if holder is not None else -1
        if thread in place:
            cycle = path[place[thread] :]
            smallest = cycle.index(min(cycle))
            cycles.append(tuple(holder_of[index] for index in cycle[smallest:] + cycle[:smallest]))
        done.update(path)
    return tuple(cycles)


def last_runs(runs: TickRuns) -> Ints:
    """Rows that cover the last tick."""
    return np.flatnonzero(runs.end == runs.ticks) if runs.ticks else np.zeros(0, dtype=np.int64)
