"""Where the heaps of allocators are: the segments of Python's mimalloc, glibc's arenas.

In: the mappings of a process, its memory. Out: address ranges, each proven by what the allocator itself wrote
there (`memorymap` says how).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import BudgetSpent, FtdiagError
from ftdiag.model import MemoryKind
from ftdiag.sources.kernel.mappings import PAGE_BYTES, Region, multiples, region_at
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.runtime import Runtime

MAX_SEGMENTS: Final = 1 << 16
"""Segments (2 TiB of Python's heaps) that are looked at in one reading."""
_SEGMENT_BYTES: Final = 32 << 20
"""MI_SEGMENT_SIZE on 64-bit (Objects/mimalloc/, Include/internal/mimalloc/mimalloc/types.h, 3.13 to 3.15)."""
_SLICE_BYTES: Final = 64 << 10
"""MI_SEGMENT_SLICE_SIZE."""
HINTED: Final = range(2 << 40, 30 << 40)
"""Where mimalloc asks for its arenas: MI_HINT_BASE to MI_HINT_MAX (Objects/mimalloc/os.c)."""
_SEGMENT_HEADER_BYTES: Final = 264
_SEGMENT: Final = struct.Struct("<32xQ168xQQQ24xQ")
"""struct mi_segment_s: segment_size @32, used @208, cookie @216, segment_slices @224, thread_id @256
(types.h; the same in the debug information of 3.13.5t and 3.14.0t)."""
UNUSED: Final = -1
"""In place of the owner of a segment that is free as a whole, and kept for the next one: its last owner took
itself off, as that of one whose thread ended does, and no page of it is in use."""
_ARENA_BYTES: Final = 64 << 20
"""HEAP_MAX_SIZE of glibc on 64-bit (malloc/arena.c)."""
_ARENA: Final = struct.Struct("<QQQ")
"""struct _heap_info: ar_ptr, prev, size."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of Python's heaps: [start, end), and the thread control block of its owner (0: it
    ended; UNUSED)."""

    start: int
    end: int
    owner: int


class PythonHeaps:
    """Finds the segments of one process's Python; none without `runtime`, or of a build with the GIL."""

    def __init__(self, runtime: Runtime | None, memory: RemoteMemory) -> None:
        self._runtime = runtime
        self._memory = memory
        self._mark: int | None = None

    def find(self, regions: Sequence[Region], missing: dict[str, str]) -> tuple[list[Segment], list[Region]]:
        """The segments of Python's heaps, and the regions that have nothing else in them."""
        if self._runtime is None or not self._runtime.layout.free_threaded:
            missing[MemoryKind.PYTHON_HEAPS.label] = (
                "a build with the GIL keeps them in ordinary anonymous memory: they count there"
            )
            return [], []
        mark = self._mark_of_python(self._runtime)
        if mark is None:
            missing[MemoryKind.PYTHON_HEAPS.label] = "mimalloc's own data could not be read"
            return [], []
        places = multiples(regions, _SEGMENT_BYTES, _SEGMENT_HEADER_BYTES, MAX_SEGMENTS)
        headers = _read_many(self._memory, [(place, _SEGMENT_HEADER_BYTES) for place in places])
        segments: list[Segment] = []
        for place, header in zip(places, headers, strict=True):
            if header is None or (segments and place < segments[-1].end):
                continue
            size, used, cookie, slices, thread = _SEGMENT.unpack(header)
            region = region_at(regions, place)
            if cookie ^ place != mark or size != slices * _SLICE_BYTES or not size or region is None:
                continue
            owner = thread or (0 if used else UNUSED)
            segments.append(Segment(place, min(place + size, region.end), owner))
        starts = [segment.start for segment in segments]
        around = [
            region
            for region in regions
            if region.start in HINTED
            and bisect_right(starts, region.end - 1) > bisect_right(starts, region.start - 1)
        ]
        if not segments:
            missing[MemoryKind.PYTHON_HEAPS.label] = "no segment of mimalloc was found"
        return segments, around

    def _mark_of_python(self, runtime: Runtime) -> int | None:
        """The number that the cookies of Python's segments are made with: from the dictionary of modules."""
        if self._mark is None:
            layout = runtime.layout
            try:
                interpreter = self._memory.read_word(runtime.address + layout.runtime_interpreters_head)
                modules = self._memory.read_word(interpreter + layout.interpreter_imports_modules)
                start = modules - modules % _SEGMENT_BYTES
                header = self._memory.read(start, _SEGMENT_HEADER_BYTES)
            except BudgetSpent:
                raise
            except FtdiagError:
                return None
            size, _, cookie, slices, _ = _SEGMENT.unpack(header)
            if size != slices * _SLICE_BYTES or not size or not cookie:
                return None
            self._mark = cookie ^ start
        return self._mark


def libc_arenas(memory: RemoteMemory, regions: Sequence[Region]) -> list[tuple[int, int]]:
    """[start, end) of the heaps of glibc's arenas besides the main one."""
    ordinary = [each for each in regions if each.start not in HINTED and not each.name.startswith("[heap")]
    places = multiples(ordinary, _ARENA_BYTES, _ARENA.size, MAX_SEGMENTS)
    headers = _read_many(memory, [(place, _ARENA.size) for place in places])
    heaps: dict[int, tuple[int, int, int]] = {}
    for place, header in zip(places, headers, strict=True):
        if header is not None:
            heaps[place] = _ARENA.unpack(header)
    found = []
    for place, (arena, previous, size) in heaps.items():
        first = arena - arena % _ARENA_BYTES
        # The arena's own state lies behind the header of its first heap, which says so itself.
        if not 0 < arena - first <= PAGE_BYTES or first not in heaps or heaps[first][0] != arena:
            continue
        if first != place and previous not in heaps:
            continue
        region = region_at(regions, place)
        if region is not None and 0 < size <= _ARENA_BYTES:
            found.append((place, min(place + size, region.end)))
    return found


def _read_many(memory: RemoteMemory, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
    try:
        return memory.read_many(ranges)
    except BudgetSpent:
        raise
    except FtdiagError:
        return [None] * len(ranges)
