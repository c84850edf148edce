"""Free space inside of allocators: what they keep of a process's memory, and nobody uses.

In: the memory of a process, where its heaps are. Out: ranges of glibc's free blocks, bytes in use in a
segment of mimalloc.

glibc (malloc/malloc.c, 2.27 to 2.41, 64-bit): each arena has a `malloc_state`. That of the main one is a
variable of libc without a name in stripped builds; it is found by its bins, which point at themselves while
they are empty, and by the ring that all states are in. Free blocks of a kilobyte and more are in the large
bins and the unsorted one, doubly linked; the last block, `top`, is free as well. malloc_trim gives back the
whole pages inside of them.

mimalloc (Include/internal/mimalloc/mimalloc/types.h): a segment's header has a slice for every 64 KiB; the
first slice of a page says how many blocks of which size are in use. Blocks that another thread freed count as
used until their owner collects them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import BudgetSpent, FtdiagError
from ftdiag.sources.kernel.memory import RemoteMemory

MAX_ARENAS: Final = 256
MAX_BLOCKS: Final = 4096
"""Free blocks that are followed in one reading, the largest first; the rest is left out."""
MAX_LIBC_BYTES: Final = 1 << 20
"""Of the writable data of a libc: it has some 60 kB."""

_TOP: Final = 96
"""`top` in struct malloc_state, behind mutex, flags, have_fastchunks and ten fast bins."""
_BINS: Final = 112
_BIN_COUNT: Final = 127
_UNSORTED: Final = 0
_FIRST_LARGE: Final = 63
"""Index of the first bin of large blocks, the unsorted one being 0."""
_NEXT: Final = _BINS + 16 * _BIN_COUNT + 16
"""`next` in struct malloc_state: behind the bins and their map."""
_STATE_BYTES: Final = _NEXT + 8
_EMPTY_BINS: Final = 32
"""Bins that have to point at themselves: there are 62 for small blocks, most of them empty."""
_SIZE_MASK: Final = ~7
_LARGEST: Final = 1 << 46

_SEGMENT_SLICES: Final = struct.Struct("<232xQ8xQ")
"""segment_info_slices @232, slice_entries @248 in struct mi_segment_s (as released in 3.13 to 3.15)."""
_SLICES: Final = 264
_SLICE_BYTES: Final = 64 << 10
_MOST_SLICES: Final = 512
_SLICE_HEADER_BYTES: Final = 96
_SLICE: Final = struct.Struct("<I20xII")
"""slice_count @0, used @24, xblock_size @28 in struct mi_page_s (tried on 3.13.5t, 3.14.9t and 3.15.1t)."""


@dataclass(frozen=True, slots=True)
class LibcState:
    """A `malloc_state`: where it is, and its words."""

    address: int
    words: tuple[int, ...]

    @property
    def top(self) -> int:
        """The last block."""
        return self.words[_TOP // 8]

    def bin(self, number: int) -> tuple[int, int]:
        """The address that the bin's list ends at, and its first block."""
        return self.address + _BINS + 16 * number - 16, self.words[_BINS // 8 + 2 * number]

    @property
    def is_one(self) -> bool:
        """Whether its bins are bins."""
        return sum(end == first for end, first in map(self.bin, range(_BIN_COUNT))) >= _EMPTY_BINS


def libc_states(memory: RemoteMemory, maps: bytes) -> list[LibcState]:
    """The states of glibc's arenas, the main one first; none where there is none, or one of another kind."""
    for start, end in _data_of_libc(maps):
        try:
            data = memory.read_up_to(start, min(end - start, MAX_LIBC_BYTES))
        except BudgetSpent:
            raise
        except FtdiagError:
            continue
        words = memoryview(data[: len(data) // 8 * 8]).cast("Q")
        for place in range(len(words) - 1):
            # A bin that is empty: its two words are its own address less 16. Which one it is, is not known.
            if words[place] == words[place + 1] == start + 8 * place - 16:
                for number in range(_BIN_COUNT - _EMPTY_BINS):
                    states = _ring(memory, start + 8 * place - _BINS - 16 * number)
                    if states:
                        return states
                break
    return []


def _ring(memory: RemoteMemory, first: int) -> list[LibcState]:
    """The arenas from this one on, each of which has the next; none if they do not come round."""
    states: list[LibcState] = []
    address = first
    while len(states) < MAX_ARENAS:
        state = _state(memory, address)
        if state is None:
            return []
        states.append(state)
        address = state.words[_NEXT // 8]
        if address == first:
            return states
    return []


def libc_free(memory: RemoteMemory, states: Sequence[LibcState], page_bytes: int) -> list[tuple[int, int]]:
    """[start, end) of the whole pages inside of free blocks, the largest blocks first."""
    ranges: list[tuple[int, int]] = []
    left = MAX_BLOCKS
    seen: set[int] = set()
    for state in states:
        ranges += _pages_of(memory, state.top, page_bytes)
    for number in (*range(_BIN_COUNT - 1, _FIRST_LARGE - 1, -1), _UNSORTED):
        for state in states:
            end, block = state.bin(number)
            while block != end and block not in seen and left:
                left -= 1
                seen.add(block)
                ranges += _pages_of(memory, block, page_bytes)
                following = _word(memory, block + 16)
                if following is None:
                    break
                block = following
    return ranges


def _pages_of(memory: RemoteMemory, block: int, page_bytes: int) -> list[tuple[int, int]]:
    """The whole pages of a free block, behind its head."""
    size = _word(memory, block + 8)
    if size is None:
        return []
    size &= _SIZE_MASK
    if not page_bytes <= size < _LARGEST:
        return []
    start = -(-(block + 48) // page_bytes) * page_bytes
    end = (block + size) // page_bytes * page_bytes
    return [(start, end)] if start < end else []


def _data_of_libc(maps: bytes) -> list[tuple[int, int]]:
    """[start, end) of the writable data of libc, with what follows it without a file."""
    found: list[tuple[int, int]] = []
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) < 5 or not fields[1].startswith(b"rw"):
            continue
        start, _, end = fields[0].partition(b"-")
        name = fields[5] if len(fields) > 5 else b""
        try:
            place = int(start, 16), int(end, 16)
        except ValueError:
            continue
        if name.rpartition(b"/")[2].startswith((b"libc.so", b"libc-")):
            found.append(place)
        elif found and not name and place[0] == found[-1][1]:
            found[-1] = found[-1][0], place[1]
    return found


def _state(memory: RemoteMemory, address: int) -> LibcState | None:
    try:
        data = memory.read(address, _STATE_BYTES)
    except BudgetSpent:
        raise
    except FtdiagError:
        return None
    state = LibcState(address, struct.unpack(f"<{_STATE_BYTES // 8}Q", data))
    return state if state.is_one else None


def used_of_segment(memory: RemoteMemory, start: int) -> int | None:
    """Bytes in use in a segment, with its header; `None` where its slices do not fit together."""
    try:
        data = memory.read(start, _SLICES + _SLICE_HEADER_BYTES * _MOST_SLICES)
    except BudgetSpent:
        raise
    except FtdiagError:
        return None
    info, entries = _SEGMENT_SLICES.unpack_from(data)
    if not 0 < info <= entries <= _MOST_SLICES:
        return None
    used_bytes: int = info * _SLICE_BYTES
    number = info
    while number < entries:
        count, used, block = _SLICE.unpack_from(data, _SLICES + _SLICE_HEADER_BYTES * number)
        if not 0 < count <= entries - number:
            return None
        used_bytes += min(used * block, count * _SLICE_BYTES)
        number += count
    return used_bytes


def _word(memory: RemoteMemory, address: int) -> int | None:
    try:
        return memory.read_word(address)
    except BudgetSpent:
        raise
    except FtdiagError:
        return None
