"""Ranges of a recording, digested: what each chunk of windows adds to a snapshot, kept for the next look.

In: an open recording, which may still grow, and ranges of it. Out: `Digest`s of the windows in a range, and
their thread-time.

Work is done in chunks of `CHUNK_WINDOWS` windows whose digests are kept, so that a view that refreshes every
second pays for the new windows only, and a look at the last minute and at the whole recording share what they
can. Chunks are cut at window ids, which do not move when a ring drops windows.
"""

from __future__ import annotations

import enum
import operator
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import (
    accounting,
    allocations,
    chains,
    collector,
    efficiency,
    locks,
    memory,
    oncpu,
    pauses,
    timeline,
    updates,
)
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.grouping import Floats, Ints
from ftdiag.analysis.ticks import tick_runs
from ftdiag.datatypes import dataclass
from ftdiag.model import Gap, ProcessCounters, SamplerCost
from ftdiag.recording.reader import Recording

CHUNK_WINDOWS: Final = 32
"""Windows digested together: enough for numpy to be busy."""
END_WINDOWS: Final = 4
"""Windows digested together at the ends of a longer range: few enough to be redone every second."""
MAX_DIGESTS: Final = 1024
"""Digests kept: nine hours of one-second windows."""
MAX_CACHED_ROWS: Final = 5_000_000
"""Rows of accounted thread-time in kept digests together (48 bytes each; a thread's totals count as four): an
hour of 500 threads has 4 million, and what does not fit is made anew by each question about all of it."""
LEAST_TO_KEEP: Final = 4
"""From so many digests of a range on, the merged times of all but the outermost two are kept."""
LOOKS_KEPT: Final = 60
"""Looks after which a digest that none of them used is let go: a view that follows takes one a second."""
MAX_CHUNK_ROWS: Final = 1 << 19
"""Rows of runs and counters of the windows digested together (some 200 bytes each while it is done)."""
GRAPH_NS: Final = 30_000_000_000
"""How far back the questions about now (deadlocks, stuck threads) look."""


class Total(enum.IntEnum):
    """The columns of `Digest.totals`."""

    ALIVE_NS = 0
    CPU_NS = 1
    RUN_QUEUE_NS = 2
    VOLUNTARY_SWITCHES = 3
    INVOLUNTARY_SWITCHES = 4
    MINOR_FAULTS = 5
    MAJOR_FAULTS = 6
    MIGRATIONS = 7
    MIGRATIONS_COUNTED = 8
    """Windows in which they were."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What one chunk of windows adds to a snapshot."""

    thread: Ints
    totals: Ints
    """A row for each thread, with the columns of `Total`."""
    states_ns: Ints
    time: ThreadTime
    shares: efficiency.TickShares
    locks: locks.LockShares
    costs: tuple[SamplerCost, ...]
    process: tuple[ProcessCounters, ...]
    gaps: tuple[Gap, ...]
    length_ns: int
    ticks: int
    torn_ticks: int
    estimated: int
    series: timeline.Series
    on_cpu: oncpu.OnCpuShares
    pauses: pauses.PauseShares
    collector: collector.CollectorShares
    memory: memory.MemoryShares
    bottlenecks: chains.BottleneckShares
    updates: updates.UpdateShares

    @property
    def rows(self) -> int:
        """What the digest takes of the memory for digests."""
        return (
            len(self.time)
            + 4 * len(self.thread)
            + len(self.series.thread) // 4
            + len(self.on_cpu)
            + len(self.memory)
            + len(self.bottlenecks)
            + len(self.updates)
        )


class Ranges:
    """Ranges of one recording, and the digests that were made of it."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._numbers = locks.LockNumbers()
        self._lock_of_wait: Ints = np.zeros(1, dtype=np.int64)
        self._digests: OrderedDict[tuple[int, int, float | None], Digest] = OrderedDict()
        self._cached_rows = 0
        self._looks = 0
        self._used: dict[tuple[int, int, float | None], int] = {}
        self._between: tuple[tuple[Digest, ...], ThreadTime] = ((), accounting.merge_time([]))

    @property
    def recording(self) -> Recording:
        """The recording that they are of."""
        return self._recording

    @property
    def numbers(self) -> locks.LockNumbers:
        """The numbers of locks, which stay the same from look to look."""
        return self._numbers

    def begin_look(self) -> None:
        """Counts a look; digests that none has used for a while are let go."""
        self._looks += 1
        self._forget_unused()

    def positions(self, t0_ns: int | None, t1_ns: int | None) -> tuple[int, int]:
        """The positions [first, last) of the windows that overlap [t0_ns, t1_ns)."""
        recording = self._recording
        first = 0 if t0_ns is None else int(np.searchsorted(recording.t1_ns, t0_ns, side="right"))
        last = len(recording.t0_ns)
        if t1_ns is not None:
            last = int(np.searchsorted(recording.t0_ns, t1_ns, side="left"))
        return first, max(first, last)

    def recent(self) -> tuple[int, int]:
        """The windows that questions about now are answered from."""
        span = self._recording.span_ns()
        return (0, 0) if span is None else self.positions(span[1] - GRAPH_NS, None)

    def periods(self, first: int, last: int) -> Floats:
        """Mean time between the ticks of every window."""
        recording = self._recording
        ticks = recording.tick_counts[first:last]
        length = np.clip(
            recording.t1_ns[first:last] - recording.t0_ns[first:last], 0, accounting.LONGEST_WINDOW_NS
        )
        rate = recording.settings.rate_hz
        nominal = 1e9 / rate if np.isfinite(rate) and rate > 0 else 0.0
        periods: Floats = np.full(len(ticks), nominal, dtype=np.float64)
        np.divide(length, ticks, out=periods, where=ticks > 0)
        return periods

    def lengths(self, first: int, last: int) -> Ints:
        """How much time of every window counts: none of one that is left out, or it would dilute the rest."""
        recording = self._recording
        length: Ints = recording.t1_ns[first:last] - recording.t0_ns[first:last]
        return np.where(recording.left_out(first, last), 0, length)

    def locks_known(self) -> Ints:
        """For each wait id, the number of its lock."""
        waits = self._recording.wait_count
        if len(self._lock_of_wait) < waits:
            self._lock_of_wait = self._numbers.update(self._recording, waits)
        return self._lock_of_wait

    def quiet(self, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of a range in which no instrument was attached."""
        recording = self._recording
        if not recording.perturbations:
            return [(first, last)] if first < last else []
        return allocations.quiet_ranges(
            recording.t0_ns, recording.t1_ns, first, last, recording.perturbations
        )

    def usable(self, first: int, last: int) -> list[Digest]:
        """What figures are made of: windows in which no instrument changed the target, if there are any."""
        quiet = self.quiet(first, last)
        if not quiet:
            return self.digests(first, last)
        return [digest for begin, end in quiet for digest in self.digests(begin, end)]

    def digests(self, first: int, last: int) -> list[Digest]:
        """What the windows at [first, last) add, chunk by chunk."""
        made: list[Digest] = []
        sizes = (CHUNK_WINDOWS, END_WINDOWS) if last - first > CHUNK_WINDOWS else (CHUNK_WINDOWS,)
        while first < last:
            end = self._chunk_end(first, last, sizes)
            made.append(self._digest(first, end))
            first = end
        return made

    def merged_time(self, digests: Sequence[Digest]) -> ThreadTime:
        """Thread-time of a range by thread, state, stack and wait.

        A range that moves with the recording changes at its ends only: what lies between is merged once.
        """
        if len(digests) < LEAST_TO_KEEP:
            return accounting.merge_time([digest.time for digest in digests])
        between = tuple(digests[1:-1])
        known, merged = self._between
        if len(known) != len(between) or any(map(operator.is_not, known, between)):
            merged = accounting.merge_time([digest.time for digest in between])
            self._between = between, merged
        return accounting.merge_time([digests[0].time, merged, digests[-1].time])

    def _chunk_end(self, first: int, last: int, sizes: tuple[int, ...]) -> int:
        """Where the largest chunk ends that begins at `first` and is whole; the smallest may be cut.

        A range that moves with the recording is cut at both ends: there small chunks are redone, not all.
        Within a chunk the grain of the kernel's clocks is evened out, so that none is smaller than it must.
        """
        ids = self._recording.window_ids
        begin = int(ids[first])
        end = last
        for size in sizes:
            edge = (begin // size + 1) * size
            end = min(last, int(np.searchsorted(ids, edge, side="left")))
            whole = end < last or int(ids[end - 1]) == edge - 1
            if whole and (first == 0 or begin % size == 0):
                break
        rows = np.cumsum(self._recording.row_counts(first, end))
        return first + max(1, int(np.searchsorted(rows, MAX_CHUNK_ROWS, side="right")))

    def _digest(self, first: int, last: int) -> Digest:
        capacity = efficiency.capacity_of(self._recording.target)
        key = (int(self._recording.window_ids[first]), int(self._recording.window_ids[last - 1]), capacity)
        self._used[key] = self._looks
        known = self._digests.get(key)
        if known is not None:
            self._digests.move_to_end(key)
            return known
        digest = self._digested(first, last, capacity)
        self._digests[key] = digest
        self._cached_rows += digest.rows
        while len(self._digests) > MAX_DIGESTS or (
            self._cached_rows > MAX_CACHED_ROWS and len(self._digests) > 1
        ):
            self._forget_oldest()
        return digest

    def _forget_unused(self) -> None:
        """Let go of digests that no look has used for a while: what a moving range has left behind."""
        while self._digests and self._used[next(iter(self._digests))] < self._looks - LOOKS_KEPT:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        key, dropped = self._digests.popitem(last=False)
        self._cached_rows -= dropped.rows
        del self._used[key]

    def _digested(self, first: int, last: int, capacity: float | None) -> Digest:
        """What the windows at positions [first, last) add, of all of them or of those that are whole."""
        while True:
            known_damage = self._recording.left_out_count
            digest = self._digested_as_known(first, last, capacity)
            # Damage is found while it is read. What was read of the same window before must not count then.
            if self._recording.left_out_count == known_damage:
                return digest

    def _digested_as_known(self, first: int, last: int, capacity: float | None) -> Digest:
        recording = self._recording
        periods = self.periods(first, last)
        length = self.lengths(first, last)
        runs = tick_runs(recording, first, last, periods)
        accounts = accounting.account(recording, first, last, runs, periods)
        joined = first > 0 and bool(recording.t0_ns[first] - recording.t1_ns[first - 1] < 2 * periods[0])
        costs = recording.costs(first, last)
        totals = np.column_stack([accounts.alive_ns, accounts.cpu_ns, accounts.run_queue_ns, accounts.counts])
        shares = efficiency.tick_shares(runs, accounts, length, capacity)
        return Digest(
            thread=accounts.thread,
            totals=totals,
            states_ns=accounts.states_ns,
            time=accounting.merge_time([accounts.time]),
            shares=shares,
            locks=locks.lock_shares(runs, accounts, self.locks_known(), periods, capacity, joined=joined),
            costs=costs.sampler,
            process=costs.process,
            gaps=recording.gaps(first, last),
            length_ns=int(length.sum()),
            ticks=accounts.ticks,
            torn_ticks=accounts.torn_ticks,
            estimated=accounts.estimated,
            series=timeline.series_of(accounts, last - first, costs.process, shares.lost_by_window_ns),
            on_cpu=oncpu.on_cpu_shares(recording, first, last),
            pauses=pauses.pause_shares(recording, first, last, runs, periods),
            collector=collector.collector_shares(recording, first, last),
            memory=memory.memory_shares(recording, first, last),
            bottlenecks=chains.bottleneck_shares(runs, accounts, self.locks_known(), periods, capacity),
            updates=updates.update_shares(recording, first, last),
        )
