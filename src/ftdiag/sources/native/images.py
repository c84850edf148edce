"""Functions of one file of machine code: from its symbol tables, wherever they were put.

In: an ELF file, and a way to open its debug files. Out: `Image`: its segments and a table of functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, Final, Protocol

from ftdiag.datatypes import dataclass
from ftdiag.errors import BudgetSpent
from ftdiag.opening import Reader
from ftdiag.sources.budget import Budget
from ftdiag.sources.native.debugfiles import build_id_of, debug_data, debug_file, linked_file
from ftdiag.sources.native.elf import (
    BytesSource,
    Elf,
    FileSource,
    Source,
    read_elf,
)
from ftdiag.sources.native.symboltable import SymbolTable, Table, merge, table_of

_MARKS: Final = (b"PyGC_Collect\0", b"malloc\0")
"""A file that exports neither is no interpreter and no C library (`unnamed`)."""


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of one ELF file. `segments`: (file offset, virtual address, bytes in the file)."""

    machine: str
    symbols: SymbolTable
    segments: tuple[tuple[int, int, int], ...]
    stripped: bool
    """Whether only exported functions have names of their own."""
    searched: bool = False
    """Whether functions without names were looked for, and found, in a file that is stripped."""
    hides: bool = False
    """Whether functions of an allocator or of the collector have no names here."""

    def address_at(self, offset: int) -> int | None:
        """The virtual address of a file offset; `None` if no segment loads it."""
        for start, address, size in self.segments:
            if start <= offset < start + size:
                return address + offset - start
        return None


class ImageStore(Protocol):
    """What keeps images between sessions (`symbolcache`)."""

    def get(self, build_id: str | None, stream: BinaryIO) -> Image | None:
        """The image of an open file, if it is known."""

    def put(self, build_id: str | None, stream: BinaryIO, image: Image) -> None:
        """Keep the image of an open file."""


def read_image(
    stream: BinaryIO,
    debug_directories: Sequence[str] = (),
    linked_directories: Sequence[str] = (),
    store: ImageStore | None = None,
    budget: Budget | None = None,
    reader: Reader | None = None,
    *,
    search: bool = True,
) -> Image | None:
    """Read the functions of an ELF file; `None` if it is none, or too damaged to be used.

    `search` for those that have no names in interpreters and C libraries, which takes 30 times as long.

    If the file has no .symtab, a separate debug file is looked for by build id in `debug_directories`, then
    by the name in its .gnu_debuglink in `linked_directories`; `reader` (`None`: us) must be allowed to read
    it. The `store` keeps what was read for the next session. Raises BudgetSpent.
    """
    source = _source_of(stream, budget)
    elf = read_elf(source)
    if elf is None:
        return None
    build_id = None if store is None else build_id_of(elf, source)
    kept = None if store is None else store.get(build_id, stream)
    if kept is not None and not kept.stripped:
        return kept
    whole = table_of(elf, source, ".symtab") or _separate_table(
        elf, source, debug_directories, linked_directories, budget, reader
    )
    complete = whole is not None
    if whole is None and kept is not None:
        return kept
    table = whole or Table([], b"")
    del whole  # what is merged is not needed twice
    exported = table_of(elf, source, ".dynsym", table)
    if exported is not None:
        merge(table, exported)
        del exported
    found, allocates = None, False
    if not complete and any(mark in table.names for mark in _MARKS):
        # Not imported for other files, nor where all is known already, which is most of a start.
        from ftdiag.sources.native.unnamed import find_unnamed, holds_allocator

        if search:
            with suppress(BudgetSpent):  # what is exported is known all the same
                found = find_unnamed(elf, source)
        allocates = found is None and holds_allocator(elf, source)
    if found is not None:
        merge(table, Table(*found))
    # Of a file without sections it is not known what it is.
    hides = not complete and found is None and (not elf.sections or allocates)
    functions = SymbolTable(table.entries, table.names)
    image = Image(elf.machine, functions, elf.segments, not complete, found is not None, hides)
    if store is not None and (search or not hides):
        store.put(build_id, stream, image)
    return image


def is_stripped(
    stream: BinaryIO,
    debug_directories: Sequence[str] = (),
    linked_directories: Sequence[str] = (),
    budget: Budget | None = None,
    reader: Reader | None = None,
) -> bool | None:
    """Whether `read_image` knows exported functions only, at a small part of its price.

    `None` for what is no ELF file. Raises BudgetSpent.
    """
    source = _source_of(stream, budget)
    elf = read_elf(source)
    if elf is None:
        return None
    return (
        elf.section(".symtab") is None
        and _separate_table(elf, source, debug_directories, linked_directories, budget, reader) is None
    )


def _separate_table(
    elf: Elf,
    source: Source,
    debug_directories: Sequence[str],
    linked_directories: Sequence[str],
    budget: Budget | None,
    reader: Reader | None,
) -> Table | None:
    """The symbols that were taken out of a file, where they are elsewhere."""
    return (
        debug_data(elf, source)
        or debug_file(elf, source, debug_directories, budget, reader)
        or linked_file(elf, source, linked_directories, budget, reader)
    )


def _source_of(stream: BinaryIO, budget: Budget | None) -> Source:
    try:
        return FileSource(stream.fileno(), budget)
    except OSError:  # it has no descriptor: bytes in memory
        return BytesSource(stream.read())
