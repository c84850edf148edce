"""What is mapped into a process, and how much of it is resident.

In: the text of /proc/PID/maps, a descriptor of /proc/PID/pagemap. Out: `Region`s, resident bytes.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ftdiag.datatypes import dataclass

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_CHUNK_BYTES: Final = 32 << 20
_NOT_PRESENT: Final = bytes(range(0x80))
"""Top bytes of pagemap entries of pages that are not present (bit 63)."""
_PRIVATE: Final = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) rw.p [0-9a-f]+ [0-9a-f:]+ 0 *(\[[^\n]*\])?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Region:
    """A private anonymous mapping that can be written: [start, end) and its name ("[heap]", "" mostly)."""

    start: int
    end: int
    name: str = ""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start


def parse_regions(maps: bytes) -> list[Region]:
    """The private anonymous writable mappings of a /proc/PID/maps text, in address order."""
    return [
        Region(int(found[1], 16), int(found[2], 16), (found[3] or b"").decode("ascii", "replace"))
        for found in _PRIVATE.finditer(maps)
    ]


def region_at(regions: Sequence[Region], address: int) -> Region | None:
    """The region that an address lies in."""
    place = bisect_right(regions, address, key=lambda region: region.start) - 1
    return regions[place] if place >= 0 and address < regions[place].end else None


def resident_pages(entries: bytes) -> int:
    """How many of these entries of a pagemap (8 bytes each, little-endian) are of pages that are present."""
    return len(entries[7::8].translate(None, _NOT_PRESENT))


class Pages:
    """Counts resident pages, and what that costs."""

    def __init__(self, descriptor: int, going_on: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._going_on = going_on
        self.looked = 0
        """Pages of address space looked at so far."""
        self.cost_ns = 0
        self._counted: dict[tuple[int, int], int] = {}

    def bytes_in(self, start: int, end: int) -> int:
        """Resident bytes of [start, end), as of the first time that this is asked. Raises OSError."""
        known = self._counted.get((start, end))
        if known is not None:
            return known
        began_ns = time.thread_time_ns()
        resident = 0
        for place in range(start, end, _CHUNK_BYTES):
            if not self._going_on():
                break
            count = (min(end, place + _CHUNK_BYTES) - place) // PAGE_BYTES
            resident += resident_pages(os.pread(self._descriptor, 8 * count, place // PAGE_BYTES * 8))
            self.looked += count
        self.cost_ns += time.thread_time_ns() - began_ns
        self._counted[start, end] = resident * PAGE_BYTES
        return resident * PAGE_BYTES


def multiples(regions: Sequence[Region], step: int, header_bytes: int, most: int) -> list[int]:
    """The multiples of `step` in these regions with room for a header behind them, at most so many."""

    def places() -> Iterator[int]:
        for region in regions:
            yield from range(-(-region.start // step) * step, region.end - header_bytes, step)

    return [place for place, _ in zip(places(), range(most), strict=False)]
