"""Sums of allocation records: what numpy makes of portions is what a plain loop makes of all of them."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdiag.formats.importers import memray_sums
from ftdiag.formats.importers.memray_sums import Sums

MALLOC, FREE, OBJECT_FREE, MMAP, MUNMAP = 6, 5, 1, 14, 15

Record = tuple[int, int, int, int, int]
Pairs = dict[tuple[int, int], int]


def as_pairs(sums: Sums, column: memray_sums.Ints) -> Pairs:
    found = zip(sums.thread, sums.stack, column.tolist(), strict=True)
    return {(thread, stack): value for thread, stack, value in found if value}


def one_by_one(records: list[Record]) -> tuple[Pairs, Pairs, Pairs, int, Pairs, Pairs]:
    """Allocations, bytes, temporary ones, the largest heap, what it was made of, what is left."""
    count: Counter[tuple[int, int]] = Counter()
    size_of: Counter[tuple[int, int]] = Counter()
    temporary: Counter[tuple[int, int]] = Counter()
    last: dict[int, list[tuple[int, tuple[int, int]]]] = defaultdict(list)
    alive: dict[tuple[int, bool], tuple[int, tuple[int, int]]] = {}
    heap = largest = 0
    peak: Counter[tuple[int, int]] = Counter()
    for thread, address, size, allocator, stack in records:
        key = address, allocator in (MMAP, MUNMAP)
        heap -= alive.pop(key, (0, (0, 0)))[0]
        if allocator in (FREE, OBJECT_FREE, MUNMAP):
            maker = next((pair for known, pair in reversed(last[thread]) if known == address), None)
            if maker is not None:
                temporary[maker] += 1
        else:
            pair = thread, stack
            count[pair] += 1
            size_of[pair] += size
            last[thread] = [*last[thread], (address, pair)][-2:]
            alive[key] = size, pair
            heap += size
        if heap > largest:
            largest = heap
            peak = Counter()
            for held, pair in alive.values():
                peak[pair] += held
    left: Counter[tuple[int, int]] = Counter()
    for held, pair in alive.values():
        left[pair] += held
    return (*(dict(each) for each in (count, size_of, temporary)), largest, dict(peak), dict(left))  # type: ignore[return-value]


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """What could happen: few addresses, so that they are used again, also while they are in use."""
    records: list[Record] = []
    for _ in range(draw(st.integers(1, 60))):
        thread, address = draw(st.integers(1, 3)), 16 * draw(st.integers(1, 8))
        allocator = draw(st.sampled_from((MALLOC, MALLOC, FREE, OBJECT_FREE, MMAP, MUNMAP)))
        size = draw(st.integers(1, 1000)) if allocator in (MALLOC, MMAP) else 0
        records.append((thread, address, size, allocator, draw(st.integers(1, 4))))
    return records


@settings(max_examples=150)
@given(histories(), st.integers(1, 7))
def test_portions_add_up_to_what_happened_one_by_one(records: list[Record], portion: int) -> None:
    # GIVEN any history WHEN it is summed in portions of any size
    sums = Sums()
    table = np.array(records, dtype=np.int64)
    for begin in range(0, len(table), portion):
        sums.take(table[begin : begin + portion])

    # THEN all sums are those of a plain loop
    count, size_of, temporary, largest, peak, left = one_by_one(records)
    assert as_pairs(sums, sums.count) == count
    assert as_pairs(sums, sums.size_bytes) == size_of
    assert as_pairs(sums, sums.temporary) == temporary
    assert sums.largest_bytes == largest
    assert as_pairs(sums, sums.peak_bytes) == peak
    assert as_pairs(sums, sums.left_bytes) == left


def test_too_many_alive_end_what_needs_them_and_nothing_else() -> None:
    # GIVEN room for ten allocations that are alive
    before = memray_sums.MAX_LIVE
    memray_sums.MAX_LIVE = 10  # type: ignore[misc]
    try:
        # WHEN there are twenty
        sums = Sums()
        sums.take(np.array([(1, 16 * number, 8, MALLOC, 1) for number in range(20)], dtype=np.int64))
        sums.take(np.array([(1, 1600, 8, MALLOC, 1), (1, 1600, 0, FREE, 0)], dtype=np.int64))
    finally:
        memray_sums.MAX_LIVE = before  # type: ignore[misc]

    # THEN allocations are still counted, and it is said that the heap was not followed
    assert sums.too_many_alive
    assert int(sums.count.sum()) == 21
    assert int(sums.temporary.sum()) == 1
