"""Sums the records of a memray capture as they come: bounded memory, whatever the length of the capture.

In: columns of records (thread, address, size, allocator, stack id) in the order in which they happened. Out:
sums for each pair of thread and stack (`Sums`): allocations, bytes, temporary ones, the part of the largest
heap, what was never freed.

Records are taken in portions, with numpy. What is alive is a table with 24 bytes for each allocation;
from MAX_LIVE on, the largest heap and what was never freed are not known.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

COLUMNS: Final = 5
"""Numbers of a record: thread, address, size, allocator, stack id."""
DEALLOCATORS: Final = (1, 5, 15)
"""memray's AllocatorType: PYMALLOC_FREE, FREE, MUNMAP."""
MAX_BYTES: Final = 1 << 62
"""Bytes of all allocations together: what has more is damaged, and sums would overflow."""
RANGED: Final = (14, 15)
"""MMAP and MUNMAP: their addresses are another kind of allocation than what an allocator makes inside."""
TEMPORARY_AMONG: Final = 2
"""A temporary allocation is freed while it is one of the last so many of its thread (threshold 1)."""
MAX_LIVE: Final = 2_000_000
"""Most allocations alive at a time that are followed."""
MAX_PAIRS: Final = 500_000
"""Most pairs of thread and stack; further ones are counted under stack OTHER_STACK."""
OTHER_STACK: Final = (1 << 31) - 1
_THREADS: Final = 1 << 31
_RECENT: Final = 1 << 18


class Sums:
    """Sums by pair of thread and stack; `thread` and `stack` say what pair a row is."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self.thread: list[int] = []
        self.stack: list[int] = []
        self.count = _none()
        self.size_bytes = _none()
        self.temporary = _none()
        self.peak_bytes = _none()
        self.left_count = _none()
        self.left_bytes = _none()
        self.records = 0
        self.heap_bytes = 0
        self.largest_bytes = 0
        self.too_many_alive = False
        self._given_bytes = 0.0
        self._live = _Live()
        self._carried: Ints = np.zeros((0, 3), dtype=np.int64)

    def take(self, records: Ints) -> None:
        """The next portion: rows of COLUMNS numbers. Raises OverflowError where all have MAX_BYTES."""
        if not len(records):
            return
        self.records += len(records)
        thread, address, size, allocator, stack = records.T
        freed = np.isin(allocator, DEALLOCATORS)
        # What is damaged must not overflow sums.
        size = np.clip(size, 0, 1 << 47)
        self._given_bytes += float(size[~freed].sum(dtype=np.float64))
        if self._given_bytes > MAX_BYTES:
            raise OverflowError("more bytes than there can be")
        pair = self._pairs(thread, np.where(freed, 0, stack))
        made = pair[~freed]
        self.count += np.bincount(made, minlength=len(self.thread))
        self.size_bytes += _weighted(made, size[~freed], len(self.thread))
        self._find_temporary(thread, address, freed, pair)
        if not self.too_many_alive:
            ranged = np.isin(allocator, RANGED)
            self._follow(address * 2 + ranged, size, freed, pair)
            if len(self._live) > MAX_LIVE:
                self.too_many_alive = True
                self._live = _Live()

    # --- pairs ---------------------------------------------------------------------------------------

    def _pairs(self, thread: Ints, stack: Ints) -> Ints:
        """The row of every record."""
        key = np.mod(thread, _THREADS) * (1 << 32) + np.mod(stack, 1 << 32)
        keys, inverse = np.unique(key, return_inverse=True)
        rows = np.array([self._row(each) for each in keys.tolist()], dtype=np.int64)
        self._grow()
        found: Ints = rows[inverse]
        return found

    def _row(self, key: int) -> int:
        row = self._rows.get(key)
        if row is None:
            thread, stack = key >> 32, key & 0xFFFF_FFFF
            if len(self._rows) >= MAX_PAIRS and stack != OTHER_STACK:
                return self._row(thread << 32 | OTHER_STACK) if len(self._rows) < 2 * MAX_PAIRS else 0
            row = self._rows[key] = len(self.thread)
            self.thread.append(thread)
            self.stack.append(stack)
        return row

    def _grow(self) -> None:
        missing = len(self.thread) - len(self.count)
        if missing > 0:
            more = np.zeros(missing, dtype=np.int64)
            for name in ("count", "size_bytes", "temporary", "peak_bytes", "left_count", "left_bytes"):
                setattr(self, name, np.concatenate([getattr(self, name), more]))

    # --- temporary allocations -----------------------------------------------------------------------

    def _find_temporary(self, thread: Ints, address: Ints, freed: Bools, pair: Ints) -> None:
        """Count what is freed while it is one of the last TEMPORARY_AMONG allocations of its thread."""
        before = self._carried
        thread = np.concatenate([before[:, 0], thread])
        address = np.concatenate([before[:, 1], address])
        pair = np.concatenate([before[:, 2], pair])
        freed = np.concatenate([np.zeros(len(before), dtype=np.bool_), freed])
        order = np.argsort(thread, kind="stable")
        thread, address, pair, freed = thread[order], address[order], pair[order], freed[order]
        made = np.flatnonzero(~freed)
        latest = np.cumsum(~freed) - 1
        frees = np.flatnonzero(freed)
        unmatched = np.ones(len(frees), dtype=np.bool_)
        for back in range(TEMPORARY_AMONG):
            candidate = latest[frees] - back
            there = candidate >= 0
            at = made[np.where(there, candidate, 0)] if len(made) else np.zeros(len(frees), dtype=np.int64)
            hit = unmatched & there & (thread[at] == thread[frees]) & (address[at] == address[frees])
            self.temporary += np.bincount(pair[at[hit]], minlength=len(self.thread))
            unmatched &= ~hit
        # The last allocations of each thread, for the next portion.
        owner = thread[made]
        last = np.ones(len(made), dtype=np.bool_)
        last[:-TEMPORARY_AMONG] = owner[:-TEMPORARY_AMONG] != owner[TEMPORARY_AMONG:]
        kept = made[last]
        self._carried = np.column_stack([thread[kept], address[kept], pair[kept]])

    # --- what is alive -------------------------------------------------------------------------------

    def _follow(self, key: Ints, size: Ints, freed: Bools, pair: Ints) -> None:
        """What the portion does to the heap: its largest size, and what of it is whose."""
        rows = len(self.thread)
        order = np.argsort(key, kind="stable")
        sorted_key = key[order]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = sorted_key[1:] != sorted_key[:-1]
        previous = np.concatenate([order[:1], order[:-1]])
        # An event ends the allocation that was made at the same address before it: in this portion ...
        ends = ~first & ~freed[previous]
        ended, by = previous[ends], order[ends]
        # ... or earlier.
        held, held_by = self._live.take(sorted_key[first], order[first])
        change = np.where(freed, 0, size)
        np.subtract.at(change, by, size[ended])
        np.subtract.at(change, held_by, held.size)
        heap = self.heap_bytes + np.cumsum(change)
        top = int(np.argmax(heap))
        if int(heap[top]) > self.largest_bytes:
            self.largest_bytes = int(heap[top])
            until = (np.arange(len(key)) <= top) & ~freed
            peak = self.left_bytes + _weighted(pair[until], size[until], rows)
            gone = by <= top
            peak -= _weighted(pair[ended[gone]], size[ended[gone]], rows)
            gone = held_by <= top
            peak -= _weighted(held.pair[gone], held.size[gone], rows)
            self.peak_bytes = peak
        self.heap_bytes = int(heap[-1])
        made = ~freed
        self.left_bytes += _weighted(pair[made], size[made], rows)
        self.left_bytes -= _weighted(pair[ended], size[ended], rows)
        self.left_bytes -= _weighted(held.pair, held.size, rows)
        self.left_count += np.bincount(pair[made], minlength=rows)
        self.left_count -= np.bincount(pair[ended], minlength=rows)
        self.left_count -= np.bincount(held.pair, minlength=rows)
        alive = made.copy()
        alive[ended] = False
        self._live.add(_Table(key[alive], size[alive], pair[alive]))


class _Table:
    """Allocations by key: columns of equal length."""

    def __init__(self, key: Ints, size: Ints, pair: Ints) -> None:
        self.key = key
        self.size = size
        self.pair = pair

    def __len__(self) -> int:
        return len(self.key)

    def kept(self, rows: Any) -> _Table:
        return _Table(self.key[rows], self.size[rows], self.pair[rows])

    def joined(self, other: _Table) -> _Table:
        """Both, ordered by key."""
        table = _Table(
            np.concatenate([self.key, other.key]),
            np.concatenate([self.size, other.size]),
            np.concatenate([self.pair, other.pair]),
        )
        return table.kept(np.argsort(table.key, kind="stable"))


class _Live:
    """What is alive: a large ordered table, and a small one of what came lately: adding stays cheap."""

    def __init__(self) -> None:
        self._tables = [_Table(_none(), _none(), _none()), _Table(_none(), _none(), _none())]

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    def take(self, keys: Ints, events: Ints) -> tuple[_Table, Ints]:
        """Remove what is at these (distinct) keys; it, and for each the event that had its key."""
        found = _Table(_none(), _none(), _none())
        by = _none()
        for number, table in enumerate(self._tables):
            if not len(table):
                continue
            at = np.searchsorted(table.key, keys)
            at[at == len(table)] = 0
            hit = table.key[at] == keys
            if not hit.any():
                continue
            taken = table.kept(at[hit])
            found = _Table(
                np.concatenate([found.key, taken.key]),
                np.concatenate([found.size, taken.size]),
                np.concatenate([found.pair, taken.pair]),
            )
            by = np.concatenate([by, events[hit]])
            rest = np.ones(len(table), dtype=np.bool_)
            rest[at[hit]] = False
            self._tables[number] = table.kept(rest)
        return found, by

    def add(self, table: _Table) -> None:
        """Add what is at keys where nothing is."""
        large, small = self._tables
        small = small.joined(table)
        if len(small) > max(_RECENT, len(large) // 4):
            large, small = large.joined(small), _Table(_none(), _none(), _none())
        self._tables = [large, small]


def _none() -> Ints:
    return np.zeros(0, dtype=np.int64)


def _weighted(rows: Ints, weights: Ints, length: int) -> Ints:
    """Sums of integer weights by row. (bincount's weights are floats, exact up to 2**53.)"""
    total: Ints = np.bincount(rows, weights=weights, minlength=length).astype(np.int64)
    return total
