"""Names for code addresses: of files mapped into a process, of JIT code with a perf map, of the kernel.

In: a pid and an address. Out: a `Place` (function, its extent, the file), as far as it is known.
Files are read as the target sees them (other mount namespaces, deleted files). Names come from .symtab, where
it was stripped from the compressed .gnu_debugdata or a separate debug file (by build id, .gnu_debuglink), and
always from .dynsym. Functions of stripped interpreters and C libraries are found by what refers to them
(`unnamed`). An address beyond the extent of the symbol before it has no name: in a stripped file the
functions between two exported ones must not be taken for the first.
ELF files are hostile: every size, count and offset is bounded, what is damaged is left out, and all files of
a process together cost a bounded share of time and memory.
"""

from __future__ import annotations

import functools
import io
import lzma
import os
import re
import struct
import time
import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Mapping as MappingOf
from contextlib import suppress
from typing import BinaryIO, Final, NamedTuple, Protocol, TypeVar

from ftdiag.datatypes import dataclass
from ftdiag.errors import BudgetSpent, FtdiagError
from ftdiag.opening import Reader, TargetReader, open_plain
from ftdiag.sources.budget import Budget
from ftdiag.sources.elf import (
    SHF_EXECINSTR,
    SYMBOL_BYTES,
    BytesSource,
    Elf,
    FileSource,
    Source,
    contents,
    read_elf,
)
from ftdiag.sources.memory import Mapping, open_mapped_file, read_mappings
from ftdiag.sources.tasks import proc_folder
from ftdiag.sources.unnamed import find_unnamed, holds_allocator

MAX_SYMBOLS: Final = 1_000_000
"""Entries of the symbol tables of one file that are read; python3.14t has 25,000, libtorch 500,000."""
MAX_NAME_TABLE_BYTES: Final = 128 << 20
"""Names of one file, of all its tables together."""
MAX_NAME_BYTES: Final = 512
MAX_DEBUG_DATA_BYTES: Final = 64 << 20
"""Decompressed .gnu_debugdata."""
MAX_LINKED_BYTES: Final = 256 << 20
"""Largest file that .gnu_debuglink names and whose checksum is made."""
MAX_IMAGES: Final = 512
"""Files whose symbols are kept; the least recently used goes first."""
MAX_SIZELESS_BYTES: Final = 4096
"""How far a symbol reaches that has no size (assembly) and no successor."""
MAX_PERF_MAP_BYTES: Final = 32 << 20
"""Of a perf map, what is read in all; it is read on where it grew, not again."""
PERF_MAP_TAIL_BYTES: Final = 256
"""The end of what was read: if it is still there, the file has only grown."""
MAX_KALLSYMS_BYTES: Final = 64 << 20
FIRST_KALLSYMS_BYTES: Final = 1 << 16
MAPS_BYTES: Final = 8 << 20
"""Of the list of mappings, when it is read again: some 80,000 of them."""
MAPS_AGAIN_S: Final = 60.0
"""A list that was longer is looked at again after so long."""
HIDES: Final = (
    "its functions have no names and nothing tells where they begin: what they do is not known, and counts as"
    " time on a core that is not told apart"
)
MAX_ALL_SYMBOLS: Final = 6_000_000
"""Functions of all files of a process that are kept."""
MAX_ALL_NAMES_BYTES: Final = 384 << 20
IMAGE_BYTES: Final = 1 << 30
"""Read for one file, with its debug files and their checksums."""
IMAGE_S: Final = 5.0
MAX_UNNAMED: Final = 32
TOO_MANY_MAPPINGS: Final = "code that was mapped meanwhile: there are too many mappings to be looked at"
READING_CREDIT_S: Final = 10.0
"""Time for reading files of a process that may be spent at once, as at the beginning."""
READING_SHARE: Final = 0.02
"""Part of a core that reading files may take in the long run; what comes too soon is read later."""

_Found = TypeVar("_Found")
_KERNEL_SYMBOL: Final = re.compile(rb"^([89a-f][0-9a-f]{15}) [tTwW] ([^\t\n]{1,512})", re.MULTILINE)
_KINDS_OF_CODE: Final = frozenset({0, 2, 10})  # STT_NOTYPE (assembly), STT_FUNC, STT_GNU_IFUNC


class Symbol(NamedTuple):
    """A function of a file or of the kernel: addresses from `start` up to but without `end`."""

    name: str
    start: int
    end: int


class Place(NamedTuple):
    """Where an address lies. `start` and `end` are the function's, in the target's addresses; 0 if unknown.

    `hides` says of code without a name that it may be an allocator's or the collector's all the same: the
    file could not be read, or has them and they were not found.
    """

    path: str
    machine: str
    name: str | None
    start: int
    end: int
    hides: bool = False


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
        index = bisect_right(self._starts, address) - 1
        # A label inside a function (assembly) hides it from its end on: look a few places further back.
        for place in range(index, max(-1, index - 4), -1):
            if address < self._ends[place]:
                return Symbol(self._name(place), self._starts[place], self._ends[place])
        return None

    def _name(self, index: int) -> str:
        offset = self._offsets[index]
        end = self._names.find(b"\0", offset, offset + MAX_NAME_BYTES)
        if end < 0:
            end = min(len(self._names), offset + MAX_NAME_BYTES)
        return self._names[offset:end].decode("utf-8", "backslashreplace")


EMPTY: Final = SymbolTable((), b"")


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


# --- ELF ---------------------------------------------------------------------------------------------


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
    build_id = None if store is None else _build_id(elf, source)
    kept = None if store is None else store.get(build_id, stream)
    if kept is not None and not kept.stripped:
        return kept
    whole = _table_of(elf, source, ".symtab") or _separate_table(
        elf, source, debug_directories, linked_directories, budget, reader
    )
    complete = whole is not None
    if whole is None and kept is not None:
        return kept
    table = whole or _Table([], b"")
    del whole  # what is merged is not needed twice
    exported = _table_of(elf, source, ".dynsym", table)
    if exported is not None:
        _merge(table, exported)
        del exported
    found = None
    if search and not complete:
        with suppress(BudgetSpent):  # what is exported is known all the same
            found = find_unnamed(elf, source)
    if found is not None:
        _merge(table, _Table(*found))
    # Of a file without sections it is not known what it is.
    hides = not complete and found is None and (not elf.sections or holds_allocator(elf, source))
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
) -> _Table | None:
    """The symbols that were taken out of a file, where they are elsewhere."""
    return (
        _debug_data(elf, source)
        or _debug_file(elf, source, debug_directories, budget, reader)
        or _linked_file(elf, source, linked_directories, budget, reader)
    )


def _source_of(stream: BinaryIO, budget: Budget | None) -> Source:
    try:
        return FileSource(stream.fileno(), budget)
    except OSError:  # it has no descriptor: bytes in memory
        return BytesSource(stream.read())


@dataclass(slots=True)
class _Table:
    """Functions as `SymbolTable` takes them: (start, size, offset of the name in `names`)."""

    entries: list[tuple[int, int, int]]
    names: bytes


def _merge(table: _Table, other: _Table) -> None:
    """Add the functions whose addresses are not known yet."""
    known = {entry[0] for entry in table.entries}
    shift = len(table.names)
    new = [(start, size, at + shift) for start, size, at in other.entries if start not in known]
    if new:
        table.entries += new
        table.names += other.names


def _table_of(elf: Elf, source: Source, name: str, beside: _Table | None = None) -> _Table | None:
    """The functions of a symbol section; `None` if there is none that can be read.

    `beside` is what is known of the same file: the bounds are of both together.
    """
    section = elf.section(name)
    if section is None or not section.in_file or section.link >= len(elf.sections):
        return None
    known = _Table([], b"") if beside is None else beside
    symbols = contents(source, section, (MAX_SYMBOLS - len(known.entries)) * SYMBOL_BYTES)
    names = contents(source, elf.sections[section.link], MAX_NAME_TABLE_BYTES - len(known.names))
    code = bytearray(0x10000)
    for index, one in enumerate(elf.sections):
        if one.flags & SHF_EXECINSTR:
            code[index] = 1
    entries = functions_in(symbols, len(names), code)
    # A table may be far larger than what is named in it: a sparse file has any size.
    end = max((at for _, _, at in entries), default=0) + MAX_NAME_BYTES
    return _Table(entries, names if end >= len(names) else names[:end])


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


def _debug_data(elf: Elf, source: Source) -> _Table | None:
    """The compressed symbols that Fedora leaves in stripped files (.gnu_debugdata)."""
    section = elf.section(".gnu_debugdata")
    if section is None:
        return None
    packed = contents(source, section, MAX_DEBUG_DATA_BYTES)
    try:
        data = lzma.LZMADecompressor(memlimit=MAX_DEBUG_DATA_BYTES).decompress(packed, MAX_DEBUG_DATA_BYTES)
    except (lzma.LZMAError, MemoryError, EOFError):
        return None
    inner = BytesSource(data)
    debug = read_elf(inner)
    return None if debug is None else _table_of(debug, inner, ".symtab")


def _debug_file(
    elf: Elf, source: Source, directories: Sequence[str], budget: Budget | None, reader: Reader | None
) -> _Table | None:
    """The symbols of a separate debug file (packages *-dbg, *-debuginfo), found by build id."""
    build_id = _build_id(elf, source)
    if build_id is None:
        return None
    for directory in directories:
        descriptor = _open_plain(f"{directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug", reader)
        if descriptor is None:
            continue
        try:
            other = FileSource(descriptor, budget)
            debug = read_elf(other)
            if debug is None or _build_id(debug, other) != build_id:
                continue
            table = _table_of(debug, other, ".symtab")
        finally:
            os.close(descriptor)
        if table is not None:
            return table
    return None


def _linked_file(
    elf: Elf, source: Source, directories: Sequence[str], budget: Budget | None, reader: Reader | None
) -> _Table | None:
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
        descriptor = _open_plain(f"{directory}/{name}", reader)
        if descriptor is None:
            continue
        try:
            other = FileSource(descriptor, budget)
            if os.fstat(descriptor).st_size > MAX_LINKED_BYTES or _checksum(other) != checksum:
                continue
            debug = read_elf(other)
            table = None if debug is None else _table_of(debug, other, ".symtab")
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


def _build_id(elf: Elf, source: Source) -> str | None:
    """The build id in hexadecimal (Elf64_Nhdr: sizes of name and description, type, both padded to 4)."""
    section = elf.section(".note.gnu.build-id")
    data = b"" if section is None else contents(source, section, 64)
    if len(data) < 12:
        return None
    name_size, size, _ = struct.unpack_from("<III", data)
    begin = 12 + (name_size + 3 & ~3)
    value = data[begin : begin + size].hex()
    return value if len(value) >= 8 else None


def _open_plain(path: str, reader: Reader | None = None) -> int | None:
    """A descriptor of a regular file that `reader` (`None`: us) may read; `None` for anything else."""
    try:
        return open_plain(path, reader=reader)
    except OSError:
        return None


# --- a process ---------------------------------------------------------------------------------------


class CodeMap:
    """The executable mappings of a process and the functions in them.

    `changes` grows by one each time the mappings turn out to be different.
    """

    def __init__(
        self, pid: int, store: ImageStore | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pid = pid
        self._store = store
        # What its files say is shown: it has to be what the target's user may read.
        self._reader = TargetReader(pid)
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        self._images: OrderedDict[tuple[str, int], Image | None] = OrderedDict()
        self._credit = ReadingCredit(clock)
        self._perf_map = PerfMap(self._credit)
        self._perf_map_is_old = True
        self._clock = clock
        self._maps_again_s = 0.0
        self._unnamed: dict[tuple[str, str], int] = {}
        self.changes = 0
        self.reload()

    def take_unnamed(self) -> dict[tuple[str, str], int]:
        """(file, why) -> how often: what has no names because reading it would have cost too much, or because
        it was not possible; since this was asked last."""
        unnamed, self._unnamed = self._unnamed, {}
        return unnamed

    def _note_unnamed(self, path: str, why: str) -> None:
        place = os.path.basename(path)[:MAX_NAME_BYTES], why
        if place in self._unnamed or len(self._unnamed) < MAX_UNNAMED:
            self._unnamed[place] = self._unnamed.get(place, 0) + 1

    def reload(self) -> bool:
        """Read the mappings again; whether code was mapped or unmapped since."""
        now_s = self._clock()
        if now_s < self._maps_again_s:
            return False
        try:
            budget = Budget(self._pid, size_bytes=MAPS_BYTES)
            mappings = [one for one in read_mappings(self._pid, budget) if "x" in one.permissions]
        except BudgetSpent:
            self._maps_again_s = now_s + MAPS_AGAIN_S
            self._note_unnamed("", TOO_MANY_MAPPINGS)
            return False
        except FtdiagError:
            return False  # ended: what was known stays
        self._perf_map_is_old = True
        if not mappings or mappings == self._mappings:
            return False
        self._mappings = mappings
        self._starts = [mapping.start for mapping in mappings]
        self.changes += 1
        return True

    def mapping_at(self, address: int) -> Mapping | None:
        """The executable mapping that holds the address."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._mappings[index].end:
            return None
        return self._mappings[index]

    def place(self, address: int) -> Place | None:
        """Where the address lies; `None` if no code is mapped there."""
        mapping = self.mapping_at(address)
        if mapping is None:
            return None
        image = self._image(mapping) if mapping.is_file else None
        if image is not None:
            virtual = image.address_at(address - mapping.start + mapping.offset)
            if virtual is None:
                return Place(mapping.path, image.machine, None, 0, 0, image.hides)
            symbol = image.symbols.find(virtual)
            if symbol is None:
                return Place(mapping.path, image.machine, None, 0, 0, image.hides)
            bias = address - virtual
            return Place(
                mapping.path, image.machine, symbol.name or None, symbol.start + bias, symbol.end + bias
            )
        if mapping.path == "[vdso]":
            return Place(mapping.path, _own_machine(), "[vdso]", 0, 0)
        symbol = None if mapping.is_file else self._jit_symbols().find(address)
        if symbol is None:
            return Place(mapping.path, _own_machine(), None, 0, 0, mapping.is_file)
        return Place(mapping.path, _own_machine(), symbol.name, symbol.start, symbol.end)

    def stripped(self, path: str) -> bool | None:
        """Whether only exported functions of a mapped file have names; `None` if it is not known.

        Its functions are not read for that: reading them may take longer than the first ticks can wait.
        """
        for mapping in self._mappings:
            if mapping.path == path and mapping.is_file:
                key = (mapping.path, mapping.inode)
                image = self._images.get(key)
                if image is not None:
                    return image.stripped
                return self._opened(mapping, is_stripped)
        return None

    def search(self, paths: Collection[str]) -> dict[tuple[str, int], Image]:
        """Read mapped files with the functions that have no names, for `adopt`.

        That may take half a second, for which look-ups can go on in another thread.
        """
        found = {}
        for mapping in tuple(self._mappings):
            key = (mapping.path, mapping.inode)
            if mapping.path in paths and mapping.is_file and key not in found:
                image = self._opened(mapping, functools.partial(read_image, store=self._store))
                if image is not None:
                    found[key] = image
        return found

    def adopt(self, found: MappingOf[tuple[str, int], Image]) -> None:
        """Use what `search` found from now on."""
        self._images.update(found)
        for (path, _), image in found.items():
            if image.hides:
                self._note_unnamed(path, HIDES)
        self._forget_some()

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that code is mapped of."""
        return tuple(dict.fromkeys(mapping.path for mapping in self._mappings if mapping.is_file))

    def _image(self, mapping: Mapping) -> Image | None:
        key = (mapping.path, mapping.inode)
        if key in self._images:
            self._images.move_to_end(key)
            return self._images[key]
        if not self._credit.left:
            return None  # not now: it is asked for again
        image = self._opened(mapping, functools.partial(read_image, store=self._store, search=False))
        self._images[key] = image
        self._forget_some()
        return image

    def read_file(self, mapping: Mapping, read: Callable[[Source], _Found | None]) -> _Found | None:
        """What `read` finds in the bytes of a mapped file; `None` if it cannot be read now."""
        if not self._credit.left:
            return None

        def read_bytes(stream: BinaryIO, *_: object, budget: Budget, **__: object) -> _Found | None:
            return read(FileSource(stream.fileno(), budget))

        return self._opened(mapping, read_bytes)

    def _opened(
        self,
        mapping: Mapping,
        read: Callable[..., _Found | None],
    ) -> _Found | None:
        """What `read` finds in a mapped file; `None` if it cannot be opened, or costs too much."""
        reader = self._reader.now
        why = "it is no ELF file that can be read, or has too many sections"
        try:
            descriptor = open_mapped_file(self._pid, mapping, reader)
        except (OSError, ValueError) as error:
            why = f"it cannot be opened with its user's rights ({getattr(error, 'strerror', None) or error})"
        else:
            with self._credit, os.fdopen(descriptor, "rb") as stream:
                budget = Budget(self._pid, size_bytes=IMAGE_BYTES, seconds=IMAGE_S)
                directories = self._debug_directories(mapping.path)
                try:
                    found = read(stream, *directories, budget=budget, reader=reader)
                    if found is not None:
                        return found
                except BudgetSpent:
                    why = f"reading its functions takes more than {IMAGE_BYTES >> 20} MiB or {IMAGE_S:g} s"
        self._note_unnamed(mapping.path, why)
        return None

    def _forget_some(self) -> None:
        """Keep the bounds of all images together; the least recently used go first."""
        kept = [image.symbols for image in self._images.values() if image is not None]
        functions = sum(map(len, kept))
        names = sum(table.names_bytes for table in kept)
        while self._images and (
            len(self._images) > MAX_IMAGES or functions > MAX_ALL_SYMBOLS or names > MAX_ALL_NAMES_BYTES
        ):
            _, image = self._images.popitem(last=False)
            if image is not None:
                functions -= len(image.symbols)
                names -= image.symbols.names_bytes

    def _debug_directories(self, path: str) -> tuple[list[str], list[str]]:
        """Where separate debug files may lie: by build id, and by the name in a .gnu_debuglink."""
        directory = os.path.dirname(path)
        by_id, by_name = [], []
        for root in (f"{proc_folder(self._pid)}/root", ""):
            by_id.append(f"{root}/usr/lib/debug")
            by_name += [
                f"{root}{directory}",
                f"{root}{directory}/.debug",
                f"{root}/usr/lib/debug{directory}",
            ]
        return by_id, by_name

    def _jit_symbols(self) -> SymbolTable:
        if self._perf_map_is_old:
            self._perf_map_is_old = False
            self._read_perf_map()
        return self._perf_map.symbols

    def _read_perf_map(self) -> None:
        """/tmp/perf-PID.map as the target wrote it; it may have another pid in its own namespace."""
        reader = self._reader.now
        for pid in dict.fromkeys((_namespace_pid(self._pid), self._pid)):
            path = f"{proc_folder(self._pid)}/root/tmp/perf-{pid}.map"
            descriptor = _open_plain(path, reader)
            if descriptor is not None:
                try:
                    self._perf_map.read_on(descriptor)
                finally:
                    os.close(descriptor)
                return


class ReadingCredit:
    """Time that reading a target's files may take: some at once, then a share of what goes by.

    A context manager that counts the time spent in it. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left_s = READING_CREDIT_S
        self._seen = clock()
        self._began = 0.0

    @property
    def left(self) -> bool:
        """Whether something may be read now."""
        now = self._clock()
        self._left_s = min(READING_CREDIT_S, self._left_s + READING_SHARE * (now - self._seen))
        self._seen = now
        return self._left_s > 0

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        self._left_s -= self._clock() - self._began


class PerfMap:
    """The functions of a perf map, which its writer appends to: what was read is not read again."""

    def __init__(self, credit: ReadingCredit) -> None:
        self._credit = credit
        self._file: tuple[int, int] | None = None
        self._read_bytes = 0
        self._tail = b""
        self._entries: list[tuple[int, int, int]] = []
        self._names = bytearray(b"\0")
        self.symbols = EMPTY

    def read_on(self, descriptor: int) -> None:
        """Read what was appended to the open file; all of it if it is another, or was cut."""
        at = os.fstat(descriptor)
        file = (at.st_dev, at.st_ino)
        if file != self._file or at.st_size < self._read_bytes:
            self._file = file
            self._begin_anew()
        wanted = min(at.st_size, MAX_PERF_MAP_BYTES) - self._read_bytes
        if wanted <= 0 or not self._credit.left:
            return
        with self._credit:
            source = FileSource(descriptor)
            if source.at(self._read_bytes - len(self._tail), len(self._tail)) != self._tail:
                self._begin_anew()  # written anew, and longer than before
                wanted = min(at.st_size, MAX_PERF_MAP_BYTES)
            data = source.at(self._read_bytes, wanted)
            whole_lines = data[: data.rfind(b"\n") + 1]
            if whole_lines:
                self._read_bytes += len(whole_lines)
                self._tail = whole_lines[-PERF_MAP_TAIL_BYTES:]
                _add_perf_lines(whole_lines, self._entries, self._names)
                self.symbols = SymbolTable(self._entries, bytes(self._names))

    def _begin_anew(self) -> None:
        self._read_bytes, self._tail = 0, b""
        self._entries, self._names, self.symbols = [], bytearray(b"\0"), EMPTY


def parse_perf_map(data: bytes) -> SymbolTable:
    """Lines of "START SIZE name" in hexadecimal; what does not look so is left out."""
    entries: list[tuple[int, int, int]] = []
    names = bytearray(b"\0")
    _add_perf_lines(data, entries, names)
    return SymbolTable(entries, bytes(names))


def _add_perf_lines(data: bytes, entries: list[tuple[int, int, int]], names: bytearray) -> None:
    for line in io.BytesIO(data):  # not all of them at once
        fields = line.rstrip(b"\n").split(None, 2)
        if len(fields) != 3:
            continue
        try:
            start, size = int(fields[0], 16), int(fields[1], 16)
        except ValueError:
            continue
        if start > 0 and size > 0 and start + size < 1 << 63 and len(entries) < MAX_SYMBOLS:
            entries.append((start, size, len(names)))
            names += fields[2][:MAX_NAME_BYTES] + b"\0"


def _namespace_pid(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            for line in stream.read(65_536).splitlines():
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except (OSError, ValueError):
        pass
    return pid


def _own_machine() -> str:
    return "EM_AARCH64" if os.uname().machine == "aarch64" else "EM_X86_64"


# --- the kernel --------------------------------------------------------------------------------------


class KernelSymbols:
    """The kernel's functions, searched in the text of /proc/kallsyms as it is.

    An object for each of 120,000 lines would take a quarter of a second; a few hundred are ever asked for.
    """

    __slots__ = ("_core_end", "_data", "_modules")

    def __init__(self, data: bytes) -> None:
        """`data`: lines of "ADDRESS type name [module]", those without a module first and in order."""
        self._data = data
        module = data.find(b"\t[")
        self._core_end = len(data) if module < 0 else data.rfind(b"\n", 0, module) + 1
        self._modules: SymbolTable | None = None

    @property
    def shown(self) -> bool:
        """Whether addresses are there at all (kptr_restrict)."""
        return _KERNEL_SYMBOL.search(self._data) is not None

    def find(self, address: int) -> Symbol | None:
        """The function that covers the address."""
        wanted = b"%016x" % address
        low, high = 0, self._core_end  # low is always the beginning of a line
        before = -1
        while low < high:
            middle = (low + high) // 2
            begin = max(low, self._data.rfind(b"\n", 0, middle) + 1)
            end = self._data.find(b"\n", begin, self._core_end)
            end = self._core_end if end < 0 else end + 1
            if self._data[begin : begin + 16] <= wanted:
                before, low = begin, end
            else:
                high = begin
        if low >= self._core_end:  # beyond the last one: a module
            return self._in_modules(address)
        found = None if before < 0 else _KERNEL_SYMBOL.match(self._data, before)
        following = self._data[low : low + 16]
        try:
            return found and Symbol(
                found[2].decode("utf-8", "replace"), int(found[1], 16), int(following, 16)
            )
        except ValueError:
            return None

    def _in_modules(self, address: int) -> Symbol | None:
        if self._modules is None:
            entries = [
                (int(found[1], 16), 0, found.start(2))
                for found, _ in zip(
                    _KERNEL_SYMBOL.finditer(self._data, self._core_end), range(MAX_SYMBOLS), strict=False
                )
            ]
            self._modules = SymbolTable(entries, re.sub(rb"[\t\n]", b"\0", self._data))
        return self._modules.find(address)


def kernel_symbols_shown(path: str = "/proc/kallsyms") -> bool:
    """Whether `read_kernel_symbols` finds something, from the first lines alone."""
    try:
        with open(path, "rb") as stream:
            return KernelSymbols(stream.read(FIRST_KALLSYMS_BYTES)).shown
    except OSError:
        return False


def read_kernel_symbols(path: str = "/proc/kallsyms") -> KernelSymbols | None:
    """The kernel's functions; `None` where their addresses are hidden (kptr_restrict) or not there."""
    try:
        with open(path, "rb") as stream:
            symbols = KernelSymbols(stream.read(MAX_KALLSYMS_BYTES))
    except OSError:
        return None
    return symbols if symbols.shown else None
