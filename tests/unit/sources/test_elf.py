"""ELF files: a real one, damaged ones, and ones that claim more than can be read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import COMPRESSED, Made, elf, endless
from ftdiag.errors import BudgetSpent
from ftdiag.sources.budget import Budget
from ftdiag.sources.native.elf import (
    BytesSource,
    FileSource,
    Section,
    contents,
    exported,
    read_elf,
)

PAGE = 4096


def test_own_executable_is_an_elf_image() -> None:
    # GIVEN the running interpreter
    with open("/proc/self/exe", "rb") as stream:
        # WHEN its headers are read
        image = read_elf(FileSource(stream.fileno()))

    # THEN its sections have addresses
    assert image is not None
    text = image.section(".text")
    assert text is not None
    assert text.address >= image.first_load_address
    assert image.machine.startswith("EM_")


@pytest.fixture(scope="module")
def small_elf() -> bytes:
    """The headers of a real ELF file: its beginning with the section table moved behind it."""
    data = Path("/proc/self/exe").resolve().read_bytes()
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry, count, names = struct.unpack_from("<HHH", data, 0x3A)
    head = bytearray(data[:PAGE])
    sections = bytearray(data[table : table + entry * count])
    offset, size = struct.unpack_from("<QQ", sections, entry * names + 0x18)
    head += data[offset : offset + size]
    struct.pack_into("<Q", sections, entry * names + 0x18, PAGE)
    struct.pack_into("<Q", head, 0x28, len(head))
    return bytes(head + sections)


def image_of(data: bytes, path: Path) -> object:
    """Read it from a file, and what else is asked of one."""
    path.write_bytes(data)
    with path.open("rb") as stream:
        source = FileSource(stream.fileno())
        image = read_elf(source)
        if image is not None:
            exported(source, image, "_PyRuntime")
        return image


def test_cut_and_foreign_files_are_no_images(small_elf: bytes, tmp_path: Path) -> None:
    # GIVEN a good small image
    assert image_of(small_elf, tmp_path / "f") is not None

    # WHEN it is cut, or is something else, THEN it is refused or has fewer sections, without an error
    for size in (0, 3, 16, 40, 63, 64, 100, 500, PAGE, len(small_elf) - 1):
        image_of(small_elf[:size], tmp_path / "f")
    assert image_of(b"#!/bin/sh\n", tmp_path / "f") is None
    assert image_of(b"\x7fELF" + b"\xff" * 1000, tmp_path / "f") is None
    os.mkfifo(tmp_path / "pipe")


@given(damage=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_headers_never_raise(
    small_elf: bytes, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    # GIVEN an ELF file with some bytes of its header and section table overwritten
    data = bytearray(small_elf)
    (table,) = struct.unpack_from("<Q", data, 0x28)
    places = [*range(64), *range(table, len(data))]
    for place, value in damage:
        data[places[place % len(places)]] = value

    # WHEN it is read, THEN it is an image or refused
    image_of(bytes(data), tmp_path_factory.getbasetemp() / "damaged-elf")


@pytest.mark.parametrize("entry_bytes", [0, 1, 64, 65535])
@pytest.mark.parametrize("count", [0, 1, 65535])
def test_endless_section_table_ends(small_elf: bytes, tmp_path: Path, entry_bytes: int, count: int) -> None:
    # GIVEN a header that claims many sections, all at one place, and a first one of endless size
    data = bytearray(small_elf)
    (table,) = struct.unpack_from("<Q", data, 0x28)
    struct.pack_into("<HH", data, 0x3A, entry_bytes, count)
    struct.pack_into("<Q", data, table + 0x20, (1 << 63) - 1)

    # WHEN it is read, THEN it ends
    image_of(bytes(data), tmp_path / "f")


class CountedSource(BytesSource):
    """Bytes that count how much of them was asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked = 0

    def at(self, offset: int, size: int) -> bytes:
        """As many as there are."""
        self.asked += size
        return super().at(offset, size)


def test_a_billion_sections_are_refused_before_they_are_read(tmp_path: Path) -> None:
    # GIVEN a file of 64 GiB with a hole for a table of 2**30 sections
    path = endless(tmp_path / "libpython3.14t.so.1.0")

    # WHEN it is read with a budget of a MiB, THEN it is refused, and the budget is hardly touched
    budget = Budget(1, size_bytes=1 << 20, calls=10)
    with path.open("rb") as stream:
        assert read_elf(FileSource(stream.fileno(), budget)) is None
    budget.take((1 << 20) - 1000)


def test_compressed_sections_are_not_inflated() -> None:
    # GIVEN a section that is compressed, and says that it becomes 16 GiB
    claimed = struct.pack("<IIQQ", 1, 0, 1 << 34, 1)
    made = elf({".note.gnu.build-id": Made(7, 0, claimed, COMPRESSED)})
    source = BytesSource(made)
    image = read_elf(source)
    assert image is not None

    # WHEN its content is asked for, THEN there is none
    section = image.section(".note.gnu.build-id")
    assert section is not None
    assert contents(source, section, 64) == b""


def test_a_section_of_any_size_is_read_in_part() -> None:
    # GIVEN a section that claims 2**62 bytes
    source = CountedSource(elf({".gnu_debuglink": Made(1, 0, b"name", size=1 << 62)}))
    image = read_elf(source)
    assert image is not None
    section = image.section(".gnu_debuglink")
    assert section is not None

    # WHEN 520 bytes are asked for, THEN no more are read
    before = source.asked
    assert contents(source, section, 520).startswith(b"name")
    assert source.asked - before == 520


def test_symbols_are_found_by_name() -> None:
    # GIVEN a table of three symbols, of which one is undefined
    names = b"\0x_PyRuntime\0_PyRuntime\0"
    symbols = b"".join(
        struct.pack("<IBBHQQ", name, 0x11, 0, section, value, 64)
        for name, section, value in ((0, 0, 0), (1, 1, 0x100), (13, 0, 0x200), (13, 1, 0x5000))
    )
    source = BytesSource(elf({".dynsym": (11, 3, symbols), ".dynstr": (3, 0, names)}))
    image = read_elf(source)
    assert image is not None

    # WHEN one is looked up, THEN it is the defined one of exactly that name
    assert exported(source, image, "_PyRuntime") == (0x5000, 64)
    assert exported(source, image, "nothing") is None


def test_a_spent_budget_is_said(tmp_path: Path) -> None:
    # GIVEN a good file and a budget for less than its header
    (tmp_path / "f").write_bytes(elf({}))
    budget = Budget(4711, size_bytes=10)

    # WHEN it is read, THEN that is an error that names the process
    with (tmp_path / "f").open("rb") as stream, pytest.raises(BudgetSpent, match="4711"):
        read_elf(FileSource(stream.fileno(), budget))


@given(st.integers(0, 1 << 64), st.integers(-(1 << 64), 1 << 64))
def test_any_offset_and_size_are_borne(offset: int, size: int) -> None:
    # GIVEN an open file WHEN any place of it is asked for THEN bytes come, or none
    with open("/proc/self/exe", "rb") as stream:
        assert len(FileSource(stream.fileno()).at(offset, min(size, 1 << 20))) <= 1 << 20
    assert Section("", 1, 0, 0, 0, 0, 0).in_file
