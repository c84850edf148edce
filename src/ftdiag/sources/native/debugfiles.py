"""Where the symbols of a stripped file are: compressed inside of it, or in a debug file beside it.

In: an ELF file. Out: its symbols, from a file that is checked against it by build id or checksum.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from typing import Final

from ftdiag.opening import Reader, open_plain
from ftdiag.sources.budget import Budget
from ftdiag.sources.native.elf import (
    BytesSource,
    Elf,
    FileSource,
    Source,
    contents,
    read_elf,
)
from ftdiag.sources.native.symboltable import MAX_NAME_BYTES, Table, table_of

MAX_DEBUG_DATA_BYTES: Final = 64 << 20
"""Decompressed .gnu_debugdata."""
MAX_LINKED_BYTES: Final = 256 << 20
"""Largest file that .gnu_debuglink names and whose checksum is made."""


def debug_data(elf: Elf, source: Source) -> Table | None:
    """The compressed symbols that Fedora leaves in stripped files (.gnu_debugdata)."""
    section = elf.section(".gnu_debugdata")
    if section is None:
        return None
    import lzma

    packed = contents(source, section, MAX_DEBUG_DATA_BYTES)
    try:
        data = lzma.LZMADecompressor(memlimit=MAX_DEBUG_DATA_BYTES).decompress(packed, MAX_DEBUG_DATA_BYTES)
    except (lzma.LZMAError, MemoryError, EOFError):
        return None
    inner = BytesSource(data)
    debug = read_elf(inner)
    return None if debug is None else table_of(debug, inner, ".symtab")


def debug_file(
    elf: Elf, source: Source, directories: Sequence[str], budget: Budget | None, reader: Reader | None
) -> Table | None:
    """The symbols of a separate debug file (packages *-dbg, *-debuginfo), found by build id."""
    build_id = build_id_of(elf, source)
    if build_id is None:
        return None
    for directory in directories:
        descriptor = open_debug_file(f"{directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug", reader)
        if descriptor is None:
            continue
        try:
            other = FileSource(descriptor, budget)
            debug = read_elf(other)
            if debug is None or build_id_of(debug, other) != build_id:
                continue
            table = table_of(debug, other, ".symtab")
        finally:
            os.close(descriptor)
        if table is not None:
            return table
    return None


def linked_file(
    elf: Elf, source: Source, directories: Sequence[str], budget: Budget | None, reader: Reader | None
) -> Table | None:
    """The symbols of a separate debug file that .gnu_debuglink names, if it has the checksum given there.

    The section has a file name, padded to four bytes, and the CRC-32 of the whole file (GDB manual,
    "Debugging Information in Separate Files").
    """
    section = elf.section(".gnu_debuglink")
    if section is None:
        return None
    data = contents(source, section, MAX_NAME_BYTES + 8)
    end = data.find(b"\0")
    checksum_at = end + 4 & ~3
    if end <= 0 or len(data) < checksum_at + 4:
        return None
    name = os.fsdecode(data[:end])
    (checksum,) = struct.unpack_from("<I", data, checksum_at)
    if "/" in name or name in (".", ".."):
        return None
    for directory in directories:
        descriptor = open_debug_file(f"{directory}/{name}", reader)
        if descriptor is None:
            continue
        try:
            other = FileSource(descriptor, budget)
            if os.fstat(descriptor).st_size > MAX_LINKED_BYTES or _checksum(other) != checksum:
                continue
            debug = read_elf(other)
            table = None if debug is None else table_of(debug, other, ".symtab")
        finally:
            os.close(descriptor)
        if table is not None:
            return table
    return None


def _checksum(source: Source) -> int:
    """CRC-32 of a file, or of its first MAX_LINKED_BYTES."""
    value = 0
    for offset in range(0, MAX_LINKED_BYTES, 1 << 20):
        piece = source.at(offset, 1 << 20)
        if not piece:
            break
        value = zlib.crc32(piece, value)
    return value


def build_id_of(elf: Elf, source: Source) -> str | None:
    """The build id in hexadecimal (Elf64_Nhdr: sizes of name and description, type, both padded to 4)."""
    section = elf.section(".note.gnu.build-id")
    data = b"" if section is None else contents(source, section, 64)
    if len(data) < 12:
        return None
    name_size, size, _ = struct.unpack_from("<III", data)
    begin = 12 + (name_size + 3 & ~3)
    value = data[begin : begin + size].hex()
    return value if len(value) >= 8 else None


def open_debug_file(path: str, reader: Reader | None = None) -> int | None:
    """A descriptor of a regular file that `reader` (`None`: us) may read; `None` for anything else."""
    try:
        return open_plain(path, reader=reader)
    except OSError:
        return None
