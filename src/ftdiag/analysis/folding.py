"""Merged thread-time of a range that moves with its recording: what is new is added to what was merged.

In: digests of ranges, one after the other. Out: the thread-time of each range, as `accounting.merge_time`
has it of all of them at once, in whole nanoseconds, whose sums are the
same in any order.

Digests come and go at both ends. Sums are kept of those from one in the middle to the end, and of those from
the beginning to it: with each look a few digests are added to sums, and the two are added up. Thread, state,
stack and wait of a row are one number in a sum, each of a fixed number of bits, so that they are taken apart
once a look.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import accounting
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.digests import Digest
from ftdiag.analysis.grouping import Floats, Ints, group_by, whole
from ftdiag.datatypes import dataclass, replace

MAX_FOLDED_ROWS: Final = 1_000_000
"""Rows of sums that are kept for the beginning of a range (16 bytes each); it is merged anew without them."""
_MOST_BITS: Final = 62

Digests = tuple[Digest, ...]
Bits = tuple[int, int, int, int]
"""How many bits thread, state, stack and wait take in a key."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Merged rows: thread, state, stack and wait as one number, ascending, and their time in whole ns."""

    key: Ints
    time_ns: Floats

    def __len__(self) -> int:
        return len(self.key)


class Folded:
    """The sums of one recording's ranges; digests at their very ends have less than `moving` windows."""

    def __init__(self, moving: int) -> None:
        self._moving = moving
        self._whole: tuple[Digests, ThreadTime] = (), accounting.merge_time([])
        self._middle: Digest | None = None
        self._bits: Bits = (0, 0, 0, 0)
        self._needed: dict[int, Bits] = {}
        """What the rows of each digest of the last look need, by its identity."""
        self._to_end: list[tuple[Digests, Sums]] = []
        """From the middle on: to the last digest that stays, and to the end."""
        self._from_begin: list[tuple[Digests, Sums]] = []
        """Up to the middle, the shortest first."""

    def time_of(self, digests: Sequence[Digest]) -> ThreadTime:
        """Thread-time of these digests together, by thread, state, stack and wait."""
        asked = tuple(digests)
        if not _same(self._whole[0], asked):
            self._whole = asked, self._made(asked)
        return self._whole[1]

    def _made(self, asked: Digests) -> ThreadTime:
        if not asked:
            return accounting.merge_time([])
        if not self._fits(asked):
            return accounting.merge_time(
                [replace(one.time, time_ns=whole(one.time.time_ns)) for one in asked]
            )
        at = next((place for place, one in enumerate(asked) if one is self._middle), None)
        if at is None:
            at = max(range(len(asked)), key=lambda place: len(asked[place].series.cpu_ns))
            self._middle = asked[at]
        return unpacked(added(self._before(asked[:at]), self._after(asked[at:])), self._bits)

    def _fits(self, asked: Digests) -> bool:
        """Whether keys have the bits that the rows need; more than before where that is too few."""
        # The last look holds its digests: an identity of one of them is nobody else's.
        self._needed = {id(one): self._needed.get(id(one)) or bits_of(one.time) for one in asked}
        most = [max(column) for column in zip(*self._needed.values(), strict=True)]
        if any(map(operator.gt, most, self._bits)):
            thread, state, stack, wait = (max(pair) for pair in zip(most, self._bits, strict=True))
            # There will be more threads, stacks and waits: not all is to be packed anew for each.
            self._bits = thread + 1, state, stack + 1, wait + 1
            self._to_end, self._from_begin = [], []
        return sum(self._bits) <= _MOST_BITS

    def _sums(self, one: Digest) -> Sums:
        return packed(one.time, self._bits)

    def _after(self, parts: Digests) -> Sums:
        known = max(
            (kept for kept in self._to_end if _same(kept[0], parts[: len(kept[0])])), key=_size, default=None
        )
        if known is None:
            stay = [place for place, one in enumerate(parts) if not self._moves(one)]
            first = parts[: max(stay, default=0) + 1]
            known = first, merged([self._sums(one) for one in first])
        kept = [known]
        for place in range(len(known[0]), len(parts)):
            so_far = parts[: place + 1], added(kept[-1][1], self._sums(parts[place]))
            # What moves is added to the last that stays, until it is part of one that does.
            kept = [so_far] if not self._moves(parts[place]) else [kept[0], so_far]
        self._to_end = kept
        return kept[-1][1]

    def _before(self, parts: Digests) -> Sums:
        kept = [one for one in self._from_begin if _same(one[0], parts[len(parts) - len(one[0]) :])]
        for place in range(len(parts) - len(kept[-1][0] if kept else ()) - 1, -1, -1):
            sums = self._sums(parts[place])
            kept.append((parts[place:], added(kept[-1][1], sums) if kept else sums))
        all_of_it = kept[-1][1] if kept else merged([])
        self._from_begin = kept if sum(len(sums) for _, sums in kept) <= MAX_FOLDED_ROWS else []
        return all_of_it

    def _moves(self, one: Digest) -> bool:
        """Whether a digest is of the very end, which is digested anew with other windows soon."""
        return len(one.series.cpu_ns) < self._moving


def bits_of(time: ThreadTime) -> Bits:
    """The bits that the rows of a thread-time need in a key."""
    thread, state, stack, wait = (int(column.max(initial=0)).bit_length() for column in _columns(time))
    return thread, state, stack, wait


def packed(time: ThreadTime, bits: Bits) -> Sums:
    """Merged thread-time, which is ascending by thread, state, stack and wait, as sums."""
    key = time.thread
    for column, size in zip(_columns(time)[1:], bits[1:], strict=True):
        key = (key << size) | column
    return Sums(key, whole(time.time_ns))


def unpacked(sums: Sums, bits: Bits) -> ThreadTime:
    """Sums as thread-time."""
    rest, columns = sums.key, []
    for size in reversed(bits[1:]):
        columns.append(rest & ((1 << size) - 1))
        rest = rest >> size
    wait, stack, state = columns
    return ThreadTime(np.zeros(len(sums), dtype=np.int64), rest, state, stack, wait, sums.time_ns)


def merged(parts: Sequence[Sums]) -> Sums:
    """Sums of the rows of all parts."""
    if not parts:
        return Sums(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64))
    if len(parts) == 1:
        return parts[0]
    key = np.concatenate([part.key for part in parts])
    groups = group_by(key)
    return Sums(groups.key(key), groups.total(np.concatenate([part.time_ns for part in parts])))


def added(one: Sums, other: Sums) -> Sums:
    """Two sums as one."""
    if len(one) < len(other):
        one, other = other, one
    if not len(other):
        return one
    place = np.searchsorted(one.key, other.key)
    known = one.key[np.minimum(place, len(one) - 1)] == other.key
    time = one.time_ns.copy()
    time[place[known]] += other.time_ns[known]
    if known.all():
        return Sums(one.key, time)
    new = ~known
    count = int(np.count_nonzero(new))
    mine = np.ones(len(one) + count, dtype=np.bool_)
    theirs = place[new] + np.arange(count)
    mine[theirs] = False
    key, both = np.empty(len(mine), dtype=np.int64), np.empty(len(mine), dtype=np.float64)
    key[mine], key[theirs] = one.key, other.key[new]
    both[mine], both[theirs] = time, other.time_ns[new]
    return Sums(key, both)


def _columns(time: ThreadTime) -> tuple[Ints, ...]:
    return time.thread, time.state, time.stack, time.wait


def _same(one: Digests, other: Digests) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _size(kept: tuple[Digests, Sums]) -> int:
    return len(kept[0])
