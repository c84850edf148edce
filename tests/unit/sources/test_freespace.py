"""Free space of allocators: made-up states of glibc and segments of mimalloc, true, damaged and hostile."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.errors import MemoryReadError
from ftdiag.sources.kernel.freespace import (
    MAX_BLOCKS,
    LibcState,
    libc_free,
    libc_states,
    used_of_segment,
)
from ftdiag.sources.kernel.memory import RemoteMemory

PAGE = 4096
LIBC = 0x7F00_0000_0000
STATE = LIBC + 0x100
HEAP = 0x5500_0000_0000
MAPS = b"7f0000000000-7f0000002000 rw-p 001d3000 fe:00 339380    /usr/lib/x86_64-linux-gnu/libc.so.6\n"
BINS = 112
NEXT = 2160
SEGMENT = 32 << 20


class Words(RemoteMemory):
    """Memory of these words; everything else is mapped nowhere."""

    def __init__(self, words: dict[int, int]) -> None:
        super().__init__(1)
        self.words = words

    def read(self, address: int, size: int) -> bytes:
        places = range(address, address + size, 8)
        if size > 8 and not any(place in self.words for place in places):
            raise MemoryReadError(f"nothing is mapped at {address:#x}")
        if size == 8 and address not in self.words:
            raise MemoryReadError(f"nothing is mapped at {address:#x}")
        return struct.pack(f"<{len(places)}Q", *(self.words.get(place, 0) for place in places))[:size]

    def read_up_to(self, address: int, size: int) -> bytes:
        return self.read(address, size)


def state_words(address: int, bins: dict[int, list[int]], top: int) -> dict[int, int]:
    """A malloc_state whose bins have these blocks, and the blocks' links."""
    words = {address + 96: top, address + NEXT: address}
    for number in range(127):
        head = address + BINS + 16 * number
        chain = [*bins.get(number, []), head - 16]
        words[head] = chain[0]
        words[head + 8] = chain[-2] if len(chain) > 1 else head - 16
        for block, following in pairwise(chain):
            words[block + 16] = following
    return words


def a_process() -> Words:
    """One free block of ten pages in a large bin, one of three in the unsorted bin, a top of five pages."""
    large, unsorted, top = HEAP + 0x10, HEAP + 0x100010, HEAP + 0x200000
    words = state_words(STATE, {100: [large], 0: [unsorted]}, top)
    words |= {large + 8: 10 * PAGE | 1, unsorted + 8: 3 * PAGE | 1, top + 8: 5 * PAGE | 1}
    return Words(words)


def test_free_blocks_of_libc_are_counted_in_whole_pages() -> None:
    # GIVEN a libc without symbols, whose allocator has free blocks
    memory = a_process()

    # WHEN it is looked into
    states = libc_states(memory, MAPS)
    free = libc_free(memory, states, PAGE)

    # THEN its state is found by its bins, and whole pages behind the heads of the blocks are free
    assert [state.address for state in states] == [STATE]
    assert sorted((end - start) // PAGE for start, end in free) == [2, 4, 9]
    assert all(start % PAGE == end % PAGE == 0 for start, end in free)


def test_the_state_is_found_though_its_first_bin_is_in_use() -> None:
    # GIVEN the unsorted bin in use, as it is most of the time
    assert LibcState(STATE, (0,) * 271).is_one is False
    assert libc_states(a_process(), MAPS)

    # WHEN there is another arena, THEN it is found by the first
    other = state_words(HEAP, {90: [HEAP + 0x8000]}, HEAP + 0x9000)
    two = {**a_process().words, **other, STATE + NEXT: HEAP, HEAP + NEXT: STATE}
    assert [state.address for state in libc_states(Words(two), MAPS)] == [STATE, HEAP]
    # WHEN the ring does not close, THEN nothing is
    assert libc_states(Words({**two, HEAP + NEXT: HEAP}), MAPS) == []
    # WHEN nothing in the map is a libc, or it has nothing like bins, THEN nothing is found
    assert libc_states(a_process(), MAPS.replace(b"libc.so.6", b"libd.so.6")) == []
    assert libc_states(Words({STATE: 1}), MAPS) == []
    assert libc_states(a_process(), b"\xff-\xff rw-p\n x\n" + b"7-z rw-p 0 0 0 libc.so") == []


def test_lists_without_an_end_are_followed_for_a_while() -> None:
    # GIVEN a list that never comes back, and one that goes round
    memory = a_process()
    block = HEAP + 0x10
    round_trip = Words({**memory.words, block + 16: block})
    endless = dict(memory.words)
    for number in range(MAX_BLOCKS + 100):
        place = HEAP + 0x400000 + number * 2 * PAGE
        endless |= {place + 8: 2 * PAGE | 1, place + 16: place + 2 * PAGE}
    endless[block + 16] = HEAP + 0x400000

    # WHEN they are followed, THEN that ends
    assert len(libc_free(round_trip, libc_states(round_trip, MAPS), PAGE)) == 3
    long = Words(endless)
    assert len(libc_free(long, libc_states(long, MAPS), PAGE)) <= MAX_BLOCKS + 1


@given(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4))
def test_hostile_blocks_are_borne(values: list[int]) -> None:
    # GIVEN any words where blocks are
    memory = a_process()
    places = (HEAP + 0x18, HEAP + 0x20, HEAP + 0x100018, HEAP + 0x200008)
    hostile = Words({**memory.words, **dict(zip(places, values, strict=True))})

    # WHEN followed, THEN ranges come, each of them of some length
    assert all(start < end for start, end in libc_free(hostile, libc_states(hostile, MAPS), PAGE))


def segment_words(slices: list[tuple[int, int, int]], entries: int) -> dict[int, int]:
    """A segment whose slices (count, used, block size) follow one slice of its own."""
    words = {SEGMENT + 232: 1, SEGMENT + 248: entries}
    number = 1
    for count, used, block in slices:
        place = SEGMENT + 264 + 96 * number
        words |= {place: count, place + 24: used | block << 32}
        number += max(1, count)
    return words


def test_what_is_in_use_in_a_segment() -> None:
    # GIVEN a segment with a page of small blocks, a large one, and a free stretch
    words = segment_words([(1, 100, 64), (8, 1, 400_000), (502, 0, 0)], 512)

    # WHEN it is counted, THEN blocks in use are, and the segment's own slice
    assert used_of_segment(Words(words), SEGMENT) == (64 << 10) + 6400 + 400_000
    # AND no page has more in use than it has
    words = segment_words([(1, 0xFFFF_FFFF, 0xFFFF_FFFF), (510, 0, 0)], 512)
    assert used_of_segment(Words(words), SEGMENT) == 2 * (64 << 10)


@pytest.mark.parametrize(
    ("slices", "entries"), [([(0, 1, 1)], 512), ([(512, 1, 1)], 512), ([], 513), ([], 0), ([(1, 1, 1)], 9)]
)
def test_slices_that_do_not_fit_are_not_counted(slices: list[tuple[int, int, int]], entries: int) -> None:
    # GIVEN slices of no length, beyond the end, or too many WHEN counted THEN it is not known
    assert used_of_segment(Words(segment_words(slices, entries)), SEGMENT) is None
    assert used_of_segment(Words({}), SEGMENT) is None
