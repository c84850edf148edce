"""Functions by address, and how they are read from the symbol tables of a file.

In: ELF files, which are hostile: every size and count is bounded. Out: `SymbolTable`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from ftdiag.datatypes import dataclass
from ftdiag.sources.native.elf import (
    SHF_EXECINSTR,
    SYMBOL_BYTES,
    Elf,
    Source,
    contents,
)

MAX_SYMBOLS: Final = 1_000_000
"""Entries of the symbol tables of one file that are read; python3.14t has 25,000, libtorch 500,000."""
MAX_NAME_TABLE_BYTES: Final = 128 << 20
"""Names of one file, of all its tables together."""
MAX_NAME_BYTES: Final = 512
MAX_SIZELESS_BYTES: Final = 4096
"""How far a symbol reaches that has no size (assembly) and no successor."""
_KINDS_OF_CODE: Final = frozenset({0, 2, 10})  # STT_NOTYPE (assembly), STT_FUNC, STT_GNU_IFUNC


class Symbol(NamedTuple):
    """A function of a file or of the kernel: addresses from `start` up to but without `end`."""

    name: str
    start: int
    end: int


class SymbolTable:
    """Functions by address. Names are decoded when asked for."""

    __slots__ = ("_ends", "_names", "_offsets", "_starts")

    def __init__(self, entries: Iterable[tuple[int, int, int]], names: bytes) -> None:
        """`entries` are (start, size, offset of the name in `names`)."""
        ordered = sorted(entries)
        self._starts = array("Q")
        self._ends = array("Q")
        self._offsets = array("Q")
        self._names = names
        last = -1
        for start, size, offset in ordered:
            if start == last:  # an alias: the longest extent stays, sorted last
                self._ends[-1] = start + size
                self._offsets[-1] = offset
                continue
            self._starts.append(start)
            self._ends.append(start + size)
            self._offsets.append(offset)
            last = start
        starts, ends = self._starts, self._ends
        for index, start in enumerate(starts):
            if ends[index] == start:  # no size: up to the next
                following = starts[index + 1] if index + 1 < len(starts) else start + MAX_SIZELESS_BYTES
                ends[index] = min(following, start + MAX_SIZELESS_BYTES)

    @classmethod
    def of_columns(
        cls, starts: array[int], ends: array[int], offsets: array[int], names: bytes
    ) -> SymbolTable:
        """A table as `columns` gave it; the starts are in order."""
        table = cls((), names)
        table._starts, table._ends, table._offsets = starts, ends, offsets
        return table

    @property
    def columns(self) -> tuple[array[int], array[int], array[int], bytes]:
        """Starts in order, ends, offsets of the names (one of each for a function), and the names."""
        return self._starts, self._ends, self._offsets, self._names

    @property
    def names_bytes(self) -> int:
        """Length of the names."""
        return len(self._names)

    def __len__(self) -> int:
        return len(self._starts)

    def find(self, address: int) -> Symbol | None:
        """The function that covers the address."""
        index = self.index(address)
        return None if index is None else self.symbol(index)

    def index(self, address: int) -> int | None:
        """The number of the function that covers the address, for `symbol`."""
        index = bisect_right(self._starts, address) - 1
        # A label inside a function (assembly) hides it from its end on: look a few places further back.
        for place in range(index, max(-1, index - 4), -1):
            if address < self._ends[place]:
                return place
        return None

    def symbol(self, index: int) -> Symbol:
        """A function by its number."""
        return Symbol(self._name(index), self._starts[index], self._ends[index])

    def _name(self, index: int) -> str:
        offset = self._offsets[index]
        end = self._names.find(b"\0", offset, offset + MAX_NAME_BYTES)
        if end < 0:
            end = min(len(self._names), offset + MAX_NAME_BYTES)
        return self._names[offset:end].decode("utf-8", "backslashreplace")


EMPTY: Final = SymbolTable((), b"")


@dataclass(slots=True)
class Table:
    """Functions as `SymbolTable` takes them: (start, size, offset of the name in `names`)."""

    entries: list[tuple[int, int, int]]
    names: bytes


def merge(table: Table, other: Table) -> None:
    """Add the functions whose addresses are not known yet."""
    known = {entry[0] for entry in table.entries}
    shift = len(table.names)
    new = [(start, size, at + shift) for start, size, at in other.entries if start not in known]
    if new:
        table.entries += new
        table.names += other.names


def table_of(elf: Elf, source: Source, name: str, beside: Table | None = None) -> Table | None:
    """The functions of a symbol section; `None` if there is none that can be read.

    `beside` is what is known of the same file: the bounds are of both together.
    """
    section = elf.section(name)
    if section is None or not section.in_file or section.link >= len(elf.sections):
        return None
    known = Table([], b"") if beside is None else beside
    symbols = contents(source, section, (MAX_SYMBOLS - len(known.entries)) * SYMBOL_BYTES)
    names = contents(source, elf.sections[section.link], MAX_NAME_TABLE_BYTES - len(known.names))
    code = bytearray(0x10000)
    for index, one in enumerate(elf.sections):
        if one.flags & SHF_EXECINSTR:
            code[index] = 1
    entries = functions_in(symbols, len(names), code)
    # A table may be far larger than what is named in it: a sparse file has any size.
    end = max((at for _, _, at in entries), default=0) + MAX_NAME_BYTES
    return Table(entries, names if end >= len(names) else names[:end])


def functions_in(
    symbols: bytes, names_size: int, code_sections: bytes | bytearray
) -> list[tuple[int, int, int]]:
    """(address, size, offset of the name) of all functions of a symbol section's bytes.

    `code_sections[i]` is true if section i holds code. Works on whole columns: a Python object for each
    symbol takes a second for a Python executable.
    """
    words = array("Q")
    words.frombytes(symbols[: len(symbols) // SYMBOL_BYTES * SYMBOL_BYTES])
    entries = []
    for first, value, size in zip(words[0::3], words[1::3], words[2::3], strict=True):
        kind = first >> 32 & 0xF
        name = first & 0xFFFF_FFFF
        if (
            kind in _KINDS_OF_CODE
            and value
            and 0 < name < names_size
            and code_sections[first >> 48]
            and value + size < 1 << 63
        ):
            entries.append((value, size, name))
    return entries
