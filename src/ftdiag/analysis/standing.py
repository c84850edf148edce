"""What stands at the last tick of a recording: who waits for whom, deadlocks, stuck threads; and since when.

In: a recording that may grow, its windows from the last one back. Out: `Stands`.

Only threads that wait at the last tick are looked at, and only as far back as their wait goes: of a program
that works, the last window tells all. What was found for the window before is kept, so that a look at each
new window costs one window, however long something stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis.efficiency import LOCK_STATES, is_in
from ftdiag.analysis.grouping import Floats, Ints
from ftdiag.analysis.locks import LockNumbers, thread_of
from ftdiag.analysis.ticks import tick_runs
from ftdiag.analysis.waitgraph import WaitEdge, deadlocks, last_runs, wait_graph
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import Stack, ThreadInfo, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.recording.tables import RunColumns

STUCK_NS: Final = 10_000_000_000
"""A thread with the same stack and no CPU time for this long, while others work, is taken for stuck."""
STUCK_CPU_NS: Final = 1_000_000
"""CPU time per window that does not count as work: a timer's wake-up or a signal."""
WAITING: Final = (*LOCK_STATES, ThreadState.UNKNOWN)
"""States of threads that may stand."""

_Edge = tuple[int, int]
"""Number of a lock and holder (thread index + 1)."""
_Place = tuple[int, int]
"""State and stack."""


@dataclass(frozen=True, slots=True)
class StuckThread:
    """A thread that has had the same stack and no CPU time for `since_ns` while others worked."""

    thread: ThreadInfo
    stack: Stack
    since_ns: float


@dataclass(frozen=True, slots=True)
class Stands:
    """What stands at a recording's last tick."""

    edges: tuple[WaitEdge, ...] = ()
    deadlocks: tuple[tuple[WaitEdge, ...], ...] = ()
    stuck: tuple[StuckThread, ...] = ()


@dataclass(frozen=True, slots=True)
class _Standing:
    """One thread at the last tick: the edge and the place that it is at, and for how long."""

    edge: _Edge
    edge_ns: float
    place: _Place
    place_ns: float


class StandingLook:
    """Looks at the end of one recording, again and again."""

    def __init__(self, recording: Recording, numbers: LockNumbers, stuck_ns: float = STUCK_NS) -> None:
        self._recording = recording
        self._stuck_ns = stuck_ns
        self._numbers = numbers
        self._window = -1
        self._standing: dict[int, _Standing] = {}

    def at(self, first: int, last: int, lock_of_wait: Ints, periods: Floats) -> Stands:
        """What stands at the end of the window at position `last` - 1, looking back to that at `first`.

        `periods` has the mean time between ticks of the windows at [first, last).
        """
        recording = self._recording
        if first >= last:
            return Stands()
        runs = tick_runs(recording, last - 1, last, periods[-1:])
        rows = last_runs(runs)
        waits = rows[is_in(runs.state[rows], WAITING)]
        standing = {
            int(runs.thread[row]): _Standing(
                (_lock_of(int(runs.wait[row]), lock_of_wait), int(runs.holder[row])),
                0.0,
                (int(runs.state[row]), int(runs.stack[row])),
                0.0,
            )
            for row in waits
        }
        standing = self._since(first, last, lock_of_wait, periods, standing)
        self._window, self._standing = int(recording.window_ids[last - 1]), standing
        if not standing:
            return Stands()
        since = {thread: now.edge_ns for thread, now in standing.items()}
        edges = wait_graph(recording, runs, lock_of_wait, self._numbers, since)
        return Stands(edges, deadlocks(edges), self._stuck(first, last, periods, standing))

    def _since(
        self,
        first: int,
        last: int,
        lock_of_wait: Ints,
        periods: Floats,
        standing: dict[int, _Standing],
    ) -> dict[int, _Standing]:
        """The same with how long: back to the window at `first`, or to what is kept of the one before."""
        recording = self._recording
        open_edges, open_places = set(standing), set(standing)
        found = dict(standing)
        for position in range(last - 1, first - 1, -1):
            if not open_edges and not open_places:
                break
            if position < last - 1 and int(recording.window_ids[position]) == self._window:
                for thread in open_edges | open_places:
                    kept = self._standing.get(thread)
                    now = found[thread]
                    if kept is not None and thread in open_edges and kept.edge == now.edge:
                        now = replace(now, edge_ns=now.edge_ns + kept.edge_ns)
                    if kept is not None and thread in open_places and kept.place == now.place:
                        now = replace(now, place_ns=now.place_ns + kept.place_ns)
                    found[thread] = now
                break
            columns = recording.samples(position)
            if not len(columns.tick_ns):
                continue
            period = float(periods[position - first])
            tails = _tails(columns, open_edges | open_places, lock_of_wait)
            for thread in list(open_edges | open_places):
                now, tail = found[thread], tails.get(thread, ())
                edge_ticks, edge_open = _stood(tail, 0, now.edge)
                place_ticks, place_open = _stood(tail, 1, now.place)
                if thread in open_edges:
                    now = replace(now, edge_ns=now.edge_ns + edge_ticks * period)
                    if not edge_open:
                        open_edges.discard(thread)
                if thread in open_places:
                    now = replace(now, place_ns=now.place_ns + place_ticks * period)
                    if not place_open:
                        open_places.discard(thread)
                found[thread] = now
            if position > first and not _follows(recording, position, period):
                break
        # What is kept may reach further back than a look at the recent windows would.
        most = float((recording.tick_counts[first:last] * periods).sum())
        return {
            thread: replace(now, edge_ns=min(now.edge_ns, most), place_ns=min(now.place_ns, most))
            for thread, now in found.items()
        }

    def _stuck(
        self, first: int, last: int, periods: Floats, standing: dict[int, _Standing]
    ) -> tuple[StuckThread, ...]:
        """Threads that stand at one place without CPU time while others worked."""
        candidates = [thread for thread in sorted(standing) if standing[thread].place_ns >= self._stuck_ns]
        if not candidates:
            return ()
        recording = self._recording
        counters = recording.counters(first, last)
        busy = counters.cpu_ns > STUCK_CPU_NS
        worked: dict[int, int] = {}
        for thread, window in zip(
            counters.thread[busy].tolist(), counters.window[busy].tolist(), strict=True
        ):
            worked[thread] = max(worked.get(thread, -1), window - first)
        lengths = recording.tick_counts[first:last] * periods
        stuck = []
        for thread in candidates:
            now = standing[thread]
            quiet = float(lengths[worked.get(thread, -1) + 1 :].sum())
            since = min(now.place_ns, quiet)
            if since >= self._stuck_ns and any(other != thread for other in worked):
                stuck.append(StuckThread(thread_of(recording, thread), recording.stack(now.place[1]), since))
        return tuple(stuck)


_Run = tuple[_Edge, _Place, int, int]
"""Edge, place, first tick and end of one run."""


def _tails(columns: RunColumns, threads: set[int], lock_of_wait: Ints) -> dict[int, list[_Run]]:
    """The runs of these threads in a window, the last one first; only if they reach its last tick."""
    ticks = len(columns.tick_ns)
    rows = np.flatnonzero(np.isin(columns.thread, np.fromiter(threads, dtype=np.int64, count=len(threads))))
    found: dict[int, list[_Run]] = {}
    for row in rows[::-1].tolist():
        thread = int(columns.thread[row])
        begin = int(columns.first_tick[row])
        run = (
            (_lock_of(int(columns.wait[row]), lock_of_wait), int(columns.holder[row])),
            (int(columns.state[row]), int(columns.stack[row])),
            begin,
            begin + int(columns.ticks[row]),
        )
        runs = found.setdefault(thread, [])
        if run[3] == (runs[-1][2] if runs else ticks):
            runs.append(run)
    return found


def _stood(tail: Sequence[_Run], which: int, wanted: _Edge | _Place) -> tuple[int, bool]:
    """For how many ticks up to the window's end a thread was there, and whether since its beginning."""
    ticks = 0
    for run in tail:
        if run[which] != wanted:
            return ticks, False
        ticks += run[3] - run[2]
    return ticks, bool(tail) and tail[-1][2] == 0


def _lock_of(wait: int, lock_of_wait: Ints) -> int:
    return int(lock_of_wait[wait]) if wait < len(lock_of_wait) else -1


def _follows(recording: Recording, position: int, period: float) -> bool:
    """Whether the window at `position` follows the one before without a hole in time."""
    return bool(recording.t0_ns[position] - recording.t1_ns[position - 1] < 2 * period)
