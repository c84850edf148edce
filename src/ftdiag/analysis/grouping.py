"""Group-by on numpy columns.

In: parallel key columns of non-negative integers and value columns. Out: one row per distinct key.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ftdiag.datatypes import dataclass

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
IntT = TypeVar("IntT", bound=np.integer[Any])

_LARGEST_KEY = 2**62


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows sorted by key: `order` is the sorting permutation, `starts` where each group begins in it."""

    order: Ints
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def key(self, column: Ints) -> Ints:
        """The key column's value of every group."""
        return column[self.order[self.starts]]

    def total(self, values: Floats) -> Floats:
        """The sum of a value column per group."""
        if not len(self.starts):
            return np.zeros(0, dtype=np.float64)
        return np.asarray(np.add.reduceat(values[self.order], self.starts), dtype=np.float64)

    def largest(self, values: Floats) -> Floats:
        """The largest value of a value column per group."""
        if not len(self.starts):
            return np.zeros(0, dtype=np.float64)
        return np.asarray(np.maximum.reduceat(values[self.order], self.starts), dtype=np.float64)


def group_by(*columns: Ints) -> Groups:
    """Groups the rows of parallel key columns by equal keys; groups come in ascending key order."""
    rows = len(columns[0])
    if rows == 0:
        return Groups(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    sizes = [int(np.maximum.reduce(column)) + 1 for column in columns]
    size = math.prod(sizes)
    if size < _LARGEST_KEY:
        key = columns[0].astype(np.int64, copy=False)
        for column, length in zip(columns[1:], sizes[1:], strict=True):
            key = key * length + column
        order = _stable_order(key, size)
        ordered = key[order]
        changed = ordered[1:] != ordered[:-1]
    else:
        order = np.lexsort(tuple(reversed(columns)))
        changed = np.zeros(rows - 1, dtype=np.bool_)
        for column in columns:
            ordered = column[order]
            changed |= ordered[1:] != ordered[:-1]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(changed) + 1])
    return Groups(order.astype(np.int64, copy=False), starts.astype(np.int64, copy=False))


def _stable_order(key: Ints, size: int) -> Ints:
    """The permutation that sorts non-negative keys below `size`; rows with equal keys keep their order.

    Keys with the row's number in their low bits are all different and can be sorted by vector instructions,
    in a tenth of the time.
    """
    bits = len(key).bit_length()
    if size >= _LARGEST_KEY >> bits:
        return np.argsort(key, kind="stable").astype(np.int64, copy=False)
    packed = (key << bits) | np.arange(len(key))
    packed.sort()
    return np.asarray(packed & ((1 << bits) - 1), dtype=np.int64)


def distinct(values: npt.NDArray[IntT]) -> npt.NDArray[IntT]:
    """The different values, ascending.

    `np.unique` puts them into a table first, which takes longer, and imports `numpy.ma` the first time.
    """
    if not len(values):
        return values
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def numbered(values: npt.NDArray[IntT]) -> tuple[npt.NDArray[IntT], Ints]:
    """The different values, ascending, and for each value its place among them."""
    known = distinct(values)
    return known, np.searchsorted(known, values)


def runs_of(ascending: Ints) -> tuple[Ints, Ints]:
    """The different values of a column that is ascending already, and where each begins in it."""
    if not len(ascending):
        return ascending, np.zeros(0, dtype=np.int64)
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(ascending[1:] != ascending[:-1]) + 1])
    return ascending[start], start


def largest_first(values: Floats, limit: int) -> Ints:
    """Positions of the `limit` largest values, largest first; equal values keep their order."""
    if len(values) > 4 * limit:
        cut = np.partition(values, len(values) - limit)[len(values) - limit]
        candidates = np.flatnonzero(values >= cut)
        return candidates[np.argsort(-values[candidates], kind="stable")][:limit].astype(np.int64)
    return np.argsort(-values, kind="stable")[:limit].astype(np.int64)


def largest_of_each(owner: Ints, values: Floats, limit: int) -> Ints:
    """Positions of the `limit` largest values of every owner, by owner and largest first.

    Equal values of an owner keep their order.
    """
    if not len(owner):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((-values, owner))
    ordered = owner[order]
    starts = runs_of(ordered)[1]
    place = np.arange(len(owner)) - np.repeat(starts, np.diff(np.append(starts, len(owner))))
    return np.asarray(order[place < limit], dtype=np.int64)


def summed(place: Ints, values: Ints | Floats, length: int) -> Floats:
    """The sums of values by place: element i is the sum of the values whose place is i."""
    return np.bincount(place, weights=values, minlength=length).astype(np.float64, copy=False)


def whole(values: Floats) -> Floats:
    """The values rounded to whole numbers: sums of them are exact, in whatever order they are added."""
    return np.asarray(np.rint(values), dtype=np.float64)
