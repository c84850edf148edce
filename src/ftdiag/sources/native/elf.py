"""ELF files that a target chose, read with bounds: segments, sections, symbols.

In: a source of bytes (an open file, or bytes in memory). Out: `Elf`, `None` for what is no usable ELF file.
Every count and size is bounded before anything is read, nothing is ever inflated, and what is damaged is left
out; so no file costs more than a few MiB here, whatever it claims. Only 64-bit little-endian files are read.
Facts: elf(5), include/uapi/linux/elf.h. Libraries that read ELF believe the header (2**30 sections,
compressed ones of any size), which is right for a developer's own files only.
"""

from __future__ import annotations

import os
import struct
from typing import Final, Protocol

from ftdiag.datatypes import dataclass
from ftdiag.sources.budget import Budget

MAX_SECTIONS: Final = 4096
"""A file with more is refused; programs have some thirty."""
MAX_SEGMENTS: Final = 256
MAX_SECTION_NAMES_BYTES: Final = 1 << 20
MAX_SECTION_NAME_BYTES: Final = 256
MAX_LOOKED_UP_SYMBOLS: Final = 262_144
"""Entries of .dynsym that are searched for one name."""
MAX_LOOKED_UP_NAMES_BYTES: Final = 16 << 20
SYMBOL_BYTES: Final = 24
"""Elf64_Sym: name u32, info u8, other u8, section u16, value u64, size u64."""

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_MACHINES: Final = {62: "EM_X86_64", 183: "EM_AARCH64"}
_PT_LOAD: Final = 1
SHT_NOBITS: Final = 8
SHF_EXECINSTR: Final = 4
_SHF_COMPRESSED: Final = 1 << 11
_MAX_WORD: Final = 1 << 63


class Source(Protocol):
    """Bytes by offset."""

    def at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`: fewer, or none, where there are no more. Raises BudgetSpent."""
        ...


class FileSource:
    """An open file; the descriptor stays the caller's."""

    def __init__(self, descriptor: int, budget: Budget | None = None) -> None:
        self._descriptor = descriptor
        self._budget = budget

    def at(self, offset: int, size: int) -> bytes:
        """See `Source`. What cannot be read is not there."""
        if size <= 0 or not 0 <= offset < _MAX_WORD:
            return b""
        if self._budget is not None:
            self._budget.take(size)
        try:
            return os.pread(self._descriptor, size, offset)
        except (OSError, OverflowError, MemoryError):
            return b""


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def at(self, offset: int, size: int) -> bytes:
        """See `Source`."""
        return self._data[offset : offset + size] if offset >= 0 and size > 0 else b""


@dataclass(frozen=True, slots=True)
class Section:
    """One section header. `address` is virtual (unrelocated), `link` the number of another section."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def in_file(self) -> bool:
        """Whether its bytes are in the file as they are."""
        return self.kind != SHT_NOBITS and not self.flags & _SHF_COMPRESSED


@dataclass(frozen=True, slots=True)
class Elf:
    """The headers of a file. `segments` are those that are loaded: (offset in the file, virtual address,
    bytes in the file)."""

    machine: str
    segments: tuple[tuple[int, int, int], ...]
    sections: tuple[Section, ...]

    @property
    def first_load_address(self) -> int:
        """Virtual address of the page that is mapped first."""
        return min(address for _, address, _ in self.segments) & ~0xFFF

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)


def read_elf(source: Source) -> Elf | None:
    """Read the headers; `None` if this is no ELF file, a damaged one, or one that loads nothing."""
    header = source.at(0, _HEADER.size)
    if len(header) < _HEADER.size or header[:6] != b"\x7fELF\x02\x01":
        return None
    (_, _, machine, _, _, segments_at, sections_at, _, _, segment_bytes, segment_count, section_bytes,
     section_count, names_index) = _HEADER.unpack(header)  # fmt: skip
    segments = _segments(source, segments_at, segment_bytes, segment_count)
    if not segments:
        return None
    if not sections_at:
        sections: tuple[Section, ...] = ()
    else:
        read = _sections(source, sections_at, section_bytes, section_count, names_index)
        if read is None:
            return None
        sections = read
    return Elf(_MACHINES.get(machine, f"EM_{machine}"), segments, sections)


def _segments(source: Source, offset: int, entry_bytes: int, count: int) -> tuple[tuple[int, int, int], ...]:
    if entry_bytes != _SEGMENT.size or count > MAX_SEGMENTS:
        return ()
    data = source.at(offset, entry_bytes * count)
    found = []
    for kind, _, at, address, _, size, _, _ in _SEGMENT.iter_unpack(data[: len(data) // 56 * 56]):
        if kind == _PT_LOAD and at < _MAX_WORD and address < _MAX_WORD and size < _MAX_WORD:
            found.append((at, address, size))
    return tuple(found)


def _sections(
    source: Source, offset: int, entry_bytes: int, count: int, names_index: int
) -> tuple[Section, ...] | None:
    """`None` if there are too many, or headers of another form. A table that is cut short has none."""
    if entry_bytes != _SECTION.size:
        return None if count else ()
    if count == 0 or names_index == 0xFFFF:  # more than fit: section 0 has the numbers (elf(5), SHN_XINDEX)
        first = source.at(offset, _SECTION.size)
        if len(first) < _SECTION.size:
            return None
        fields = _SECTION.unpack(first)
        count = count or fields[5]
        names_index = fields[6] if names_index == 0xFFFF else names_index
    if count > MAX_SECTIONS:
        return None
    data = source.at(offset, entry_bytes * count)
    headers = list(_SECTION.iter_unpack(data[: len(data) // entry_bytes * entry_bytes]))
    if len(headers) < count:
        return None
    names = b""
    if names_index < len(headers):
        names = source.at(headers[names_index][4], min(headers[names_index][5], MAX_SECTION_NAMES_BYTES))
    return tuple(
        Section(_name(names, name), kind, flags, address, at, size, link)
        for name, kind, flags, address, at, size, link, _, _, _ in headers
    )


def _name(names: bytes, offset: int) -> str:
    end = names.find(b"\0", offset, offset + MAX_SECTION_NAME_BYTES)
    return names[offset:end].decode("utf-8", "backslashreplace") if end >= 0 else ""


def contents(source: Source, section: Section, most: int) -> bytes:
    """The first bytes of a section as they are in the file; b"" for one that is compressed or not there."""
    return source.at(section.offset, min(section.size, most)) if section.in_file else b""


def exported(source: Source, elf: Elf, name: str) -> tuple[int, int] | None:
    """Offset from the first load address, and size, of a symbol in `.dynsym`; `None` if it is not there."""
    section = elf.section(".dynsym")
    if section is None or section.link >= len(elf.sections):
        return None
    symbols = contents(source, section, MAX_LOOKED_UP_SYMBOLS * SYMBOL_BYTES)
    names = contents(source, elf.sections[section.link], MAX_LOOKED_UP_NAMES_BYTES)
    wanted = set(_places_of(names, name.encode() + b"\0"))
    if not wanted:
        return None
    for at, _, _, index, value, size in struct.iter_unpack(
        "<IBBHQQ", symbols[: len(symbols) // SYMBOL_BYTES * SYMBOL_BYTES]
    ):
        if at in wanted and index:
            return value - elf.first_load_address, size
    return None


def _places_of(names: bytes, word: bytes) -> list[int]:
    """Where a name stands, also as the end of a longer one; a table has it once, a hostile one at most 64."""
    places: list[int] = []
    at = names.find(word)
    while at >= 0 and len(places) < 64:
        places.append(at)
        at = names.find(word, at + 1)
    return places
