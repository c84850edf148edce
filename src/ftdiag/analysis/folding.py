"""Merged thread-time of a range that moves with its recording: what is new is added to what was merged.

In: digests of ranges, one after the other. Out: the thread-time of each range, as `accounting.merge_time`
has it of all of them at once, in whole nanoseconds, whose sums are the
same in any order.

Digests come and go at both ends. Sums are kept of those from one in the middle to the end, and of those from
the beginning to it: with each look a few digests are added to sums, and the two are added up.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import accounting
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.digests import Digest
from ftdiag.analysis.grouping import Ints, whole
from ftdiag.datatypes import replace

MAX_FOLDED_ROWS: Final = 1_000_000
"""Rows of sums that are kept for the beginning of a range (48 bytes each); it is merged anew without them."""
_LARGEST_KEY: Final = 2**62

Digests = tuple[Digest, ...]


class Folded:
    """The sums of one recording's ranges; digests at their very ends have less than `moving` windows."""

    def __init__(self, moving: int) -> None:
        self._moving = moving
        self._whole: tuple[Digests, ThreadTime] = (), accounting.merge_time([])
        self._middle: Digest | None = None
        self._to_end: list[tuple[Digests, ThreadTime]] = []
        """From the middle on: to the last digest that stays, and to the end."""
        self._from_begin: list[tuple[Digests, ThreadTime]] = []
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
        at = next((place for place, one in enumerate(asked) if one is self._middle), None)
        if at is None:
            at = max(range(len(asked)), key=lambda place: len(asked[place].series.cpu_ns))
            self._middle = asked[at]
        return added(self._before(asked[:at]), self._after(asked[at:]))

    def _after(self, parts: Digests) -> ThreadTime:
        known = max(
            (kept for kept in self._to_end if _same(kept[0], parts[: len(kept[0])])), key=_size, default=None
        )
        if known is None:
            stay = [place for place, one in enumerate(parts) if not self._moves(one)]
            first = parts[: max(stay, default=0) + 1]
            known = first, accounting.merge_time([_whole(one) for one in first])
        kept = [known]
        for place in range(len(known[0]), len(parts)):
            so_far = parts[: place + 1], added(kept[-1][1], _whole(parts[place]))
            # What moves is added to the last that stays, until it is part of one that does.
            kept = [so_far] if not self._moves(parts[place]) else [kept[0], so_far]
        self._to_end = kept
        return kept[-1][1]

    def _before(self, parts: Digests) -> ThreadTime:
        kept = [one for one in self._from_begin if _same(one[0], parts[len(parts) - len(one[0]) :])]
        for place in range(len(parts) - len(kept[-1][0] if kept else ()) - 1, -1, -1):
            time = _whole(parts[place])
            kept.append((parts[place:], added(kept[-1][1], time) if kept else time))
        whole = kept[-1][1] if kept else accounting.merge_time([])
        self._from_begin = kept if sum(len(time) for _, time in kept) <= MAX_FOLDED_ROWS else []
        return whole

    def _moves(self, one: Digest) -> bool:
        """Whether a digest is of the very end, which is digested anew with other windows soon."""
        return len(one.series.cpu_ns) < self._moving


def added(one: ThreadTime, other: ThreadTime) -> ThreadTime:
    """Two merged thread-times as one; all three are ascending by thread, state, stack and wait."""
    if len(one) < len(other):
        one, other = other, one
    if not len(other):
        return one
    sizes = [
        1 + int(max(mine.max(), more.max()))
        for mine, more in zip(_keys(one)[1:], _keys(other)[1:], strict=True)
    ]
    if (1 + int(max(one.thread.max(), other.thread.max()))) * sizes[0] * sizes[1] * sizes[2] >= _LARGEST_KEY:
        return accounting.merge_time([one, other])
    key, more = _packed(one, sizes), _packed(other, sizes)
    place = np.searchsorted(key, more)
    known = key[np.minimum(place, len(key) - 1)] == more
    time = one.time_ns.copy()
    time[place[known]] += other.time_ns[known]
    if known.all():
        return ThreadTime(one.window, one.thread, one.state, one.stack, one.wait, time)
    new = ~known
    count = int(new.sum())
    mine = np.ones(len(key) + count, dtype=np.bool_)
    mine[place[new] + np.arange(count)] = False
    keys = []
    for ours, theirs in zip(_keys(one), _keys(other), strict=True):
        column = np.empty(len(mine), dtype=np.int64)
        column[mine] = ours
        column[~mine] = theirs[new]
        keys.append(column)
    both = np.empty(len(mine), dtype=np.float64)
    both[mine] = time
    both[~mine] = other.time_ns[new]
    thread, state, stack, wait = keys
    return ThreadTime(np.zeros(len(mine), dtype=np.int64), thread, state, stack, wait, both)


def _whole(one: Digest) -> ThreadTime:
    return replace(one.time, time_ns=whole(one.time.time_ns))


def _keys(time: ThreadTime) -> tuple[Ints, ...]:
    return time.thread, time.state, time.stack, time.wait


def _packed(time: ThreadTime, sizes: Sequence[int]) -> Ints:
    key = time.thread
    for column, size in zip(_keys(time)[1:], sizes, strict=True):
        key = key * size + column
    return key


def _same(one: Digests, other: Digests) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _size(kept: tuple[Digests, ThreadTime]) -> int:
    return len(kept[0])
