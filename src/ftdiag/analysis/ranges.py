"""Ranges of a recording, digested: what each chunk of windows adds to a snapshot, kept for the next look.

In: an open recording, which may still grow, and ranges of it. Out: `Digest`s of the windows in a range, and
their thread-time.

Work is done in chunks of `CHUNK_WINDOWS` windows whose digests are kept, so that a view that refreshes every
second pays for the new windows only, and a look at the last minute and at the whole recording share what they
can. Chunks are cut at window ids, which do not move when a ring drops windows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
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
    stored,
    storing,
    timeline,
    updates,
)
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.digests import Digest, joined
from ftdiag.analysis.folding import Folded
from ftdiag.analysis.grouping import Floats, Ints
from ftdiag.analysis.ticks import tick_runs
from ftdiag.recording.reader import Recording

CHUNK_WINDOWS: Final = 32
"""Windows digested together: enough for numpy to be busy."""
END_WINDOWS: Final = 4
"""Windows digested together towards the ends of a longer range. At the very ends each has its own: a range
that moves by a window then needs one of that window alone."""
MAX_DIGESTS: Final = 1024
"""Digests kept: nine hours of one-second windows."""
MAX_CACHED_ROWS: Final = 5_000_000
"""Rows of accounted thread-time in kept digests together (48 bytes each; a thread's totals count as four): an
hour of 500 threads has 4 million, and what does not fit is made anew by each question about all of it."""
BLOCK_WINDOWS: Final = 256
"""Windows whose digests are joined in long ranges: four minutes. The ends of a range that cuts them
are digested anew, which takes up to two seconds for 500 threads."""
LEAST_OF_BLOCKS: Final = 4 * BLOCK_WINDOWS
"""Of a recording that grows, shorter ranges are put together from chunks: their ends move every second."""
MAX_REMEMBERED_ROWS: Final = MAX_CACHED_ROWS // 8
"""Rows of the digests of a range up to which these are remembered for the next question about it."""
LOOKS_KEPT: Final = 90
"""Looks after which a digest that none of them used is let go. A view that follows takes one a second: what
is at the end of its minute is at the beginning of it a minute later."""
MAX_CHUNK_ROWS: Final = 1 << 19
"""Rows of runs and counters of the windows digested together (some 200 bytes each while it is done)."""
GRAPH_NS: Final = 30_000_000_000
"""How far back the questions about now (deadlocks, stuck threads) look."""


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
        self._last_asked: tuple[tuple[int, ...], list[Digest]] = (), []
        self._folded = Folded(END_WINDOWS)

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
        """What the windows at [first, last) add, piece by piece."""
        if first >= last:
            return []
        recording = self._recording
        ids = recording.window_ids[first], recording.window_ids[last - 1], len(recording)
        asked = (self._looks, first, last, *map(int, ids), recording.left_out_count)
        if self._last_asked[0] != asked:
            found = [digest for _, digest in self.pieces(first, last)]
            # Several figures of one picture are made of them; what is large is kept once.
            if sum(digest.rows for digest in found) > MAX_REMEMBERED_ROWS:
                return found
            self._last_asked = asked, found
        return list(self._last_asked[1])

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, Digest]]:
        """Blocks and chunks of the windows at [first, last), read one after the other: where each ends."""
        sizes = (CHUNK_WINDOWS, END_WINDOWS, 1) if last - first > CHUNK_WINDOWS else (CHUNK_WINDOWS,)
        # What has ended does not move, nor does the beginning of what is long.
        longest = len(self._recording) if first == 0 else last - first
        in_blocks = self._recording.end is not None or longest >= LEAST_OF_BLOCKS
        while first < last:
            end = self._block_end(first, last) if in_blocks else None
            if end is not None:
                yield end, self._kept(first, end, self._block)
            else:
                end = self._chunk_end(first, last, sizes)
                yield end, self._kept(first, end, self._digested)
            first = end

    def merged_time(self, digests: Sequence[Digest]) -> ThreadTime:
        """Thread-time of a range by thread, state, stack and wait."""
        return self._folded.time_of(digests)

    def _block_end(self, first: int, last: int) -> int | None:
        """Where the block ends that begins at `first`; `None` where none does, or not all of it is there.

        The last one of a recording that has ended is as long as it is, unless it is the only one.
        """
        ids = self._recording.window_ids
        begin = int(ids[first])
        edge = self._edge(first)
        end = int(np.searchsorted(ids, edge, side="left"))
        rest = self._recording.end is not None and end == len(ids) and begin >= BLOCK_WINDOWS
        whole = end <= last and (int(ids[end - 1]) == edge - 1 or rest)
        return end if whole and (begin == 1 or begin % BLOCK_WINDOWS == 0) else None

    def _block(self, first: int, last: int, capacity: float | None) -> Digest:
        """The digest of a block, as the recording has it or else made of its chunks."""
        self.locks_known()
        known = stored.stored(self._recording, first, last, capacity, self._numbers.count)
        return self._made_block(first, last, capacity) if known is None else known

    def blocks_to_store(self, first: int) -> Iterator[tuple[int, int, dict[str, bytes]]]:
        """Blocks from position `first` on that are whole by now: its ends, and what is stored of it.

        That is nothing where it has too much of something, or a part is damaged.
        """
        recording = self._recording
        last = len(recording.window_ids)
        capacity = efficiency.capacity_of(recording.target)
        while first < last:
            end = self._block_end(first, last)
            if end is None:
                first = min(last, int(np.searchsorted(recording.window_ids, self._edge(first))))
                continue
            digest = self._made_block(first, end, capacity)
            damaged = bool(recording.left_out(first, end).any())
            yield first, end, {} if damaged else storing.parts_of(recording, first, end, capacity, digest)
            first = end

    def _edge(self, first: int) -> int:
        """The id of the window with which the next block begins."""
        return (int(self._recording.window_ids[first]) // BLOCK_WINDOWS + 1) * BLOCK_WINDOWS

    def _made_block(self, first: int, last: int, capacity: float | None) -> Digest:
        """The digest of a block, made of its chunks."""
        while True:
            known_damage = self._recording.left_out_count
            parts = []
            begin = first
            while begin < last:
                end = self._chunk_end(begin, last, (CHUNK_WINDOWS,))
                known = self._digests.get(self._key(begin, end, capacity))
                parts.append(self._digested(begin, end, capacity) if known is None else known)
                begin = end
            if self._recording.left_out_count == known_damage:
                return joined(parts)

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

    def _kept(self, first: int, last: int, make: Callable[[int, int, float | None], Digest]) -> Digest:
        """The digest of the windows at positions [first, last), made if none is kept."""
        capacity = efficiency.capacity_of(self._recording.target)
        key = self._key(first, last, capacity)
        self._used[key] = self._looks
        known = self._digests.get(key)
        if known is not None:
            self._digests.move_to_end(key)
            return known
        digest = make(first, last, capacity)
        self._digests[key] = digest
        self._cached_rows += digest.rows
        while len(self._digests) > MAX_DIGESTS or (
            self._cached_rows > MAX_CACHED_ROWS and len(self._digests) > 1
        ):
            self._forget_oldest()
        return digest

    def _key(self, first: int, last: int, capacity: float | None) -> tuple[int, int, float | None]:
        ids = self._recording.window_ids
        return int(ids[first]), int(ids[last - 1]), capacity

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
