"""Kinds of memory: what the maps say, and headers in memory that are true, false or hostile."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_process import FakeProcess
from ftdiag.sources.kernel import heaps
from ftdiag.sources.kernel.mappings import (
    PAGE_BYTES,
    Pages,
    Region,
    multiples,
    parse_regions,
    region_at,
    resident_pages,
)
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.memorywatch import MOST_CORES, PERIOD_NS, pause_ns

MIB = 1 << 20
MAPS = b"""\
3e946000000-3e986000000 rw-p 00000000 00:00 0\x20
5629605d0000-562960c4c000 r-xp 00000000 fe:00 339380                     /usr/bin/python3.14t
562960c4c000-562960c89000 rw-p 00000000 00:00 0                          [heap]
7f0e08000000-7f0e08021000 rw-p 00000000 00:00 0\x20
7f0e08021000-7f0e0c000000 ---p 00000000 00:00 0\x20
7f0e1e36b000-7f0e1eb6b000 rwxp 00000000 00:00 0                          [anon: glibc: thread stack]
7f0e205b8000-7f0e205ba000 rw-p 001d3000 fe:00 339380                     /lib/a file
7f0e205ba000-7f0e205c7000 rw-s 00000000 00:01 1025                       /memfd:x (deleted)
7fff1fb87000-7fff1fba8000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


class SparseMemory(RemoteMemory):
    """Words at addresses; the rest of the memory reads as zeros."""

    def __init__(self, words: Mapping[int, int]) -> None:
        super().__init__(1)
        self._words = words

    def read(self, address: int, size: int) -> bytes:
        words = [self._words.get(address + offset, 0) for offset in range(0, size, 8)]
        return struct.pack(f"<{len(words)}Q", *words)[:size]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
        return [self.read(address, size) for address, size in ranges]


def arenas_of(words: Mapping[int, int], *regions: Region) -> list[tuple[int, int]]:
    """The arenas that are found in memory with these words."""
    return heaps.libc_arenas(SparseMemory(words), regions)


def test_regions_are_the_private_anonymous_mappings() -> None:
    # GIVEN a map with files, guards and shared memory, WHEN it is read, THEN the private anonymous ones come
    assert parse_regions(MAPS) == [
        Region(0x3E946000000, 0x3E986000000),
        Region(0x562960C4C000, 0x562960C89000, "[heap]"),
        Region(0x7F0E08000000, 0x7F0E08021000),
        Region(0x7F0E1E36B000, 0x7F0E1EB6B000, "[anon: glibc: thread stack]"),
        Region(0x7FFF1FB87000, 0x7FFF1FBA8000, "[stack]"),
    ]


@given(st.binary(max_size=300))
def test_any_text_is_a_map(text: bytes) -> None:
    # GIVEN any bytes, WHEN they are read as a map, THEN regions come, or none
    for region in parse_regions(text):
        assert isinstance(region, Region)


def test_a_region_is_found_by_an_address_in_it() -> None:
    # GIVEN regions with a hole between them, WHEN one is looked for, THEN it begins at or before the address
    regions = parse_regions(MAPS)
    assert region_at(regions, 0x7F0E08000000) == regions[2]
    assert region_at(regions, 0x7F0E08020FFF) == regions[2]
    assert region_at(regions, 0x7F0E08021000) is None
    assert region_at(regions, 0) is None
    assert region_at((), 5) is None


@pytest.mark.parametrize(
    ("entry", "present"), [(1 << 63, 1), (1 << 63 | 1 << 56 | 5, 1), (1 << 62, 0), (0, 0), (1 << 61, 0)]
)
def test_pages_are_resident_by_their_top_bit(entry: int, present: int) -> None:
    # GIVEN an entry of a pagemap between two others, WHEN it is counted, THEN bit 63 says so
    entries = struct.pack("<3Q", 0, entry, 1 << 63)
    assert resident_pages(entries) == present + 1


def test_pages_of_one_range_are_counted_once_in_a_reading(tmp_path: Path) -> None:
    # GIVEN a map of four pages, two of them resident
    pagemap = tmp_path / "pagemap"
    pagemap.write_bytes(struct.pack("<4Q", 1 << 63, 0, 1 << 63, 0))
    with pagemap.open("rb") as stream:
        pages = Pages(stream.fileno(), lambda: True)
        # WHEN a range is asked for twice, and a part of it THEN it is looked at once, and the part by itself
        assert pages.bytes_in(0, 4 * PAGE_BYTES) == pages.bytes_in(0, 4 * PAGE_BYTES) == 2 * PAGE_BYTES
        assert pages.looked == 4
        assert pages.bytes_in(0, PAGE_BYTES) == PAGE_BYTES
        assert pages.looked == 5


def test_a_costly_reading_is_followed_by_a_long_pause() -> None:
    # GIVEN readings that cost much or little, WHEN the next is due, THEN their share of a core is bounded
    assert pause_ns(1_000_000) == PERIOD_NS
    assert pause_ns(100_000_000) == 100_000_000 / MOST_CORES
    assert pause_ns(8_000_000, 0.0005) == 16_000_000_000


BASE = 0x7F00_0000_0000
SECOND = BASE + 64 * MIB
STATE = BASE + 0x30


def test_a_segment_that_is_free_as_a_whole_is_no_ended_threads() -> None:
    # GIVEN four segments of Python's heaps: of a thread, of one that ended, free as a whole, and a thread's
    # that is
    process, mark = FakeProcess("3.14.9t"), 0x5EED_0000_0001
    size, places = 32 << 20, [number << 30 for number in (3, 4, 5, 6)]
    for place, (owner, used) in zip(places, [(0x7F00, 3), (0, 7), (0, 0), (0x7F00, 0)], strict=True):
        process.memory.write(place, bytes(264))
        for offset, word in ((32, size), (208, used), (216, mark ^ place), (224, size >> 16), (256, owner)):
            process.memory.write_word(place + offset, word)
    pythons = heaps.PythonHeaps(process.runtime, process.memory)
    pythons._mark = mark
    regions = [Region(place, place + size, "") for place in places]
    # WHEN they are looked for
    missing: dict[str, str] = {}
    found, _ = pythons.find(regions, missing)
    # THEN what nobody uses is told from what a thread left behind
    assert [segment.owner for segment in found] == [0x7F00, 0, heaps.UNUSED, 0x7F00]
    assert missing == {}


def test_an_arena_is_proven_by_its_headers() -> None:
    # GIVEN an arena with two heaps, each with a header that points at the arena
    words = {
        BASE: STATE, BASE + 16: 0x21000,
        SECOND: STATE, SECOND + 8: BASE, SECOND + 16: 3 * MIB,
    }  # fmt: skip

    # WHEN arenas are looked for, THEN both heaps are found, with their sizes
    found = arenas_of(words, Region(BASE, BASE + MIB), Region(SECOND, SECOND + 2 * MIB))
    assert found == [(BASE, BASE + 0x21000), (SECOND, SECOND + 2 * MIB)]


@pytest.mark.parametrize(
    "words",
    [
        {},
        {BASE: 1, BASE + 16: 4096},
        {BASE: BASE, BASE + 16: 4096},
        {BASE: BASE + 8192, BASE + 16: 4096},
        {BASE: STATE},
        {BASE: STATE, BASE + 16: 65 * MIB},
        {BASE: SECOND + 0x30, BASE + 16: 4096},
        {BASE: 2**64 - 1, BASE + 8: 2**64 - 1, BASE + 16: 2**64 - 1},
    ],
)
def test_memory_that_only_looks_like_an_arena_is_none(words: Mapping[int, int]) -> None:
    # GIVEN memory at a multiple of 64 MiB without a header, or with one that points elsewhere
    # WHEN arenas are looked for, THEN it is none
    assert arenas_of(words, Region(BASE, BASE + MIB)) == []


def test_headers_that_are_looked_at_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an address space of 4 TiB in one mapping
    monkeypatch.setattr(heaps, "MAX_SEGMENTS", 100)

    # WHEN arenas are looked for, THEN so many headers are read and no more
    assert arenas_of({}, Region(BASE, BASE + (4 << 40))) == []
    assert len(multiples([Region(BASE, BASE + (4 << 40))], 32 * MIB, 264, 100)) == 100


def test_heaps_and_mimallocs_arenas_are_no_arenas_of_libc() -> None:
    # GIVEN headers of arenas where [heap] and mimalloc's arenas are
    hinted = 3 << 40
    words = {hinted: hinted + 0x30, hinted + 16: 4096, BASE: STATE, BASE + 16: 4096}

    # WHEN arenas are looked for, THEN there are none
    assert arenas_of(words, Region(hinted, hinted + MIB), Region(BASE, BASE + MIB, "[heap]")) == []
