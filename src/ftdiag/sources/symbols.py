"""Names for code addresses: of files mapped into a process, of JIT code with a perf map, of the kernel.

In: a pid and an address. Out: a `Place` (function, its extent, the file), as far as it is known.
Files are read as the target sees them (other mount namespaces, deleted files). Names come from .symtab, where
it was stripped from the compressed .gnu_debugdata or a separate debug file (by build id, .gnu_debuglink), and
always from .dynsym. An address beyond the extent of the symbol before it has no name: in a stripped file the
functions between two exported ones must not be taken for the first.
ELF files are hostile: every size, count and offset is bounded, and what is damaged is left out.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import struct
import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Protocol

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ftdiag.errors import FtdiagError
from ftdiag.opening import open_plain
from ftdiag.sources.memory import Mapping, open_mapped_file, read_mappings

MAX_SECTIONS: Final = 4096
MAX_SEGMENTS: Final = 256
MAX_SYMBOLS: Final = 2_000_000
"""Entries of one symbol table that are read; python3.14t has 25,000, libtorch 500,000."""
MAX_NAME_TABLE_BYTES: Final = 256 << 20
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
MAX_KALLSYMS_BYTES: Final = 64 << 20

_SYMBOL_BYTES: Final = 24  # Elf64_Sym: name u32, info u8, other u8, section u16, value u64, size u64
_KERNEL_SYMBOL: Final = re.compile(rb"^([89a-f][0-9a-f]{15}) [tTwW] ([^\t\n]{1,512})", re.MULTILINE)
_KINDS_OF_CODE: Final = frozenset({0, 2, 10})  # STT_NOTYPE (assembly), STT_FUNC, STT_GNU_IFUNC
_SHT_NOBITS: Final = 8
_EXECUTABLE: Final = 4  # SHF_EXECINSTR
_ELF_ERRORS: Final = (
    ELFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    AssertionError,
    RecursionError,
    UnicodeDecodeError,
    struct.error,
    lzma.LZMAError,
)
"""All that pyelftools and the standard library raise on damaged files."""


class Symbol(NamedTuple):
    """A function of a file or of the kernel: addresses from `start` up to but without `end`."""

    name: str
    start: int
    end: int


class Place(NamedTuple):
    """Where an address lies. `start` and `end` are the function's, in the target's addresses; 0 if unknown.

    `neighbours` are the names of the known functions before and after an address that has none.
    """

    path: str
    machine: str
    name: str | None
    start: int
    end: int
    neighbours: tuple[str | None, str | None]


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

    def neighbours(self, address: int) -> tuple[str | None, str | None]:
        """The names before and after an address that no function covers."""
        index = bisect_right(self._starts, address)
        return (
            self._name(index - 1) if index > 0 else None,
            self._name(index) if index < len(self._starts) else None,
        )

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
    """Whether only exported functions have names."""

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
) -> Image | None:
    """Read the functions of an ELF file; `None` if it is none, or too damaged to be used.

    If the file has no .symtab, a separate debug file is looked for by build id in `debug_directories`, then
    by the name in its .gnu_debuglink in `linked_directories`. The `store` keeps what was
    read for the next session.
    """
    try:
        elf = ELFFile(stream)
        if elf.elfclass != 64 or not elf.little_endian or elf.num_sections() > MAX_SECTIONS:
            return None
        if elf.num_segments() > MAX_SEGMENTS:
            return None
        segments = tuple(
            (int(segment["p_offset"]), int(segment["p_vaddr"]), int(segment["p_filesz"]))
            for segment in elf.iter_segments("PT_LOAD")
        )
        machine = str(elf["e_machine"])
    except _ELF_ERRORS:
        return None
    if not segments:
        return None
    build_id = None if store is None else _build_id(elf)
    kept = None if store is None else store.get(build_id, stream)
    if kept is not None and not kept.stripped:
        return kept
    tables = []
    complete = False
    own = _table_of(elf, stream, ".symtab")
    if own is not None:
        tables.append(own)
        complete = True
    else:
        found = (
            _debug_data(elf, stream)
            or _debug_file(elf, debug_directories)
            or _linked_file(elf, linked_directories)
        )
        if found is not None:
            tables.append(found)
            complete = True
        elif kept is not None:
            return kept
    exported = _table_of(elf, stream, ".dynsym")
    if exported is not None:
        tables.append(exported)
    image = Image(machine, _merged(tables), segments, not complete)
    if store is not None:
        store.put(build_id, stream, image)
    return image


_Table = tuple[list[tuple[int, int, int]], bytes]


def _merged(tables: list[_Table]) -> SymbolTable:
    if not tables:
        return EMPTY
    if len(tables) == 1:
        return SymbolTable(*tables[0])
    entries, names = list(tables[0][0]), tables[0][1]
    known = {entry[0] for entry in entries}
    for others, other_names in tables[1:]:
        shift = len(names)
        entries += [(start, size, offset + shift) for start, size, offset in others if start not in known]
        names += other_names
    return SymbolTable(entries, names)


def _table_of(elf: ELFFile, stream: BinaryIO, name: str) -> _Table | None:
    """(entries, names) of a symbol section; `None` if there is none that can be read."""
    try:
        section = elf.get_section_by_name(name)
        if section is None or section["sh_type"] == "SHT_NOBITS":
            return None
        strings = elf.get_section(section["sh_link"])
        symbols = _bytes_of(
            stream, section["sh_offset"], min(section["sh_size"], MAX_SYMBOLS * _SYMBOL_BYTES)
        )
        names = _bytes_of(stream, strings["sh_offset"], min(strings["sh_size"], MAX_NAME_TABLE_BYTES))
        code = bytearray(0x10000)
        for index, one in enumerate(elf.iter_sections()):
            if one["sh_flags"] & _EXECUTABLE:
                code[index] = 1
    except _ELF_ERRORS:
        return None
    return functions_in(symbols, len(names), code), names


def functions_in(
    symbols: bytes, names_size: int, code_sections: bytes | bytearray
) -> list[tuple[int, int, int]]:
    """(address, size, offset of the name) of all functions of a symbol section's bytes.

    `code_sections[i]` is true if section i holds code. Works on whole columns: a Python object for each
    symbol, as pyelftools makes it, takes a second for a Python executable.
    """
    words = array("Q")
    words.frombytes(symbols[: len(symbols) // _SYMBOL_BYTES * _SYMBOL_BYTES])
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


def _bytes_of(stream: BinaryIO, offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


def _debug_data(elf: ELFFile, stream: BinaryIO) -> _Table | None:
    """The compressed symbols that Fedora leaves in stripped files (.gnu_debugdata)."""
    try:
        section = elf.get_section_by_name(".gnu_debugdata")
        if section is None:
            return None
        packed = _bytes_of(stream, section["sh_offset"], min(section["sh_size"], MAX_DEBUG_DATA_BYTES))
        data = lzma.LZMADecompressor(memlimit=MAX_DEBUG_DATA_BYTES).decompress(packed, MAX_DEBUG_DATA_BYTES)
        inner = io.BytesIO(data)
        return _table_of(ELFFile(inner), inner, ".symtab")
    except _ELF_ERRORS:
        return None


def _debug_file(elf: ELFFile, directories: Sequence[str]) -> _Table | None:
    """The symbols of a separate debug file (packages *-dbg, *-debuginfo), found by build id."""
    build_id = _build_id(elf)
    if build_id is None:
        return None
    for directory in directories:
        descriptor = _open_plain(f"{directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
        if descriptor is None:
            continue
        with os.fdopen(descriptor, "rb") as stream:
            try:
                debug = ELFFile(stream)
                if debug.num_sections() > MAX_SECTIONS or _build_id(debug) != build_id:
                    continue
            except _ELF_ERRORS:
                continue
            table = _table_of(debug, stream, ".symtab")
            if table is not None:
                return table
    return None


def _linked_file(elf: ELFFile, directories: Sequence[str]) -> _Table | None:
    """The symbols of a separate debug file that .gnu_debuglink names, if it has the checksum given there.

    The section has a file name, padded to four bytes, and the CRC-32 of the whole file (GDB manual,
    "Debugging Information in Separate Files").
    """
    try:
        section = elf.get_section_by_name(".gnu_debuglink")
        if section is None:
            return None
        data: bytes = section.data()[: MAX_NAME_BYTES + 8]
        name = os.fsdecode(data[: data.index(b"\0")])
        (checksum,) = struct.unpack_from("<I", data, len(os.fsencode(name)) + 4 & ~3)
    except (*_ELF_ERRORS, struct.error):
        return None
    if not name or "/" in name or name in (".", ".."):
        return None
    for directory in directories:
        descriptor = _open_plain(f"{directory}/{name}")
        if descriptor is None:
            continue
        with os.fdopen(descriptor, "rb") as stream:
            if _checksum(stream) != checksum:
                continue
            try:
                debug = ELFFile(stream)
                if debug.num_sections() > MAX_SECTIONS:
                    continue
            except _ELF_ERRORS:
                continue
            table = _table_of(debug, stream, ".symtab")
            if table is not None:
                return table
    return None


def _checksum(stream: BinaryIO) -> int | None:
    """CRC-32 of a file; `None` if it is too large to be read for that."""
    if os.fstat(stream.fileno()).st_size > MAX_LINKED_BYTES:
        return None
    value = 0
    while chunk := stream.read(1 << 20):
        value = zlib.crc32(chunk, value)
    stream.seek(0)
    return value


def _build_id(elf: ELFFile) -> str | None:
    try:
        section = elf.get_section_by_name(".note.gnu.build-id")
        if section is None:
            return None
        data: bytes = section.data()[:64]
        name_size, size, _ = struct.unpack_from("<III", data)
        begin = 12 + (name_size + 3 & ~3)
        value = data[begin : begin + size].hex()
    except _ELF_ERRORS:
        return None
    return value if len(value) >= 8 else None


def _open_plain(path: str) -> int | None:
    """A descriptor of a regular file; `None` for anything else."""
    try:
        return open_plain(path)
    except OSError:
        return None


# --- a process ---------------------------------------------------------------------------------------


class CodeMap:
    """The executable mappings of a process and the functions in them.

    `changes` grows by one each time the mappings turn out to be different.
    """

    def __init__(self, pid: int, store: ImageStore | None = None) -> None:
        self._pid = pid
        self._store = store
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        self._images: OrderedDict[tuple[str, int], Image | None] = OrderedDict()
        self._perf_map: SymbolTable | None = None
        self._perf_map_stamp: tuple[int, int] | None = None
        self.changes = 0
        self.reload()

    def reload(self) -> bool:
        """Read the mappings again; whether code was mapped or unmapped since."""
        try:
            mappings = [mapping for mapping in read_mappings(self._pid) if "x" in mapping.permissions]
        except (FtdiagError, OSError, ValueError, IndexError):
            return False  # ended: what was known stays
        self._perf_map = None
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
                return Place(mapping.path, image.machine, None, 0, 0, (None, None))
            symbol = image.symbols.find(virtual)
            if symbol is None:
                return Place(mapping.path, image.machine, None, 0, 0, image.symbols.neighbours(virtual))
            bias = address - virtual
            return Place(
                mapping.path, image.machine, symbol.name, symbol.start + bias, symbol.end + bias, (None, None)
            )
        if mapping.path == "[vdso]":
            return Place(mapping.path, _own_machine(), "[vdso]", 0, 0, (None, None))
        symbol = None if mapping.is_file else self._jit_symbols().find(address)
        if symbol is None:
            return Place(mapping.path, _own_machine(), None, 0, 0, (None, None))
        return Place(mapping.path, _own_machine(), symbol.name, symbol.start, symbol.end, (None, None))

    def stripped(self, path: str) -> bool | None:
        """Whether only exported functions of a mapped file have names; `None` if it is not known."""
        for mapping in self._mappings:
            if mapping.path == path and mapping.is_file:
                image = self._image(mapping)
                return None if image is None else image.stripped
        return None

    def _image(self, mapping: Mapping) -> Image | None:
        key = (mapping.path, mapping.inode)
        if key in self._images:
            self._images.move_to_end(key)
            return self._images[key]
        image: Image | None = None
        try:
            descriptor = open_mapped_file(self._pid, mapping)
        except (OSError, ValueError):
            descriptor = -1
        if descriptor >= 0:
            with os.fdopen(descriptor, "rb") as stream:
                image = read_image(stream, *self._debug_directories(mapping.path), self._store)
        self._images[key] = image
        if len(self._images) > MAX_IMAGES:
            self._images.popitem(last=False)
        return image

    def _debug_directories(self, path: str) -> tuple[list[str], list[str]]:
        """Where separate debug files may lie: by build id, and by the name in a .gnu_debuglink."""
        directory = os.path.dirname(path)
        by_id, by_name = [], []
        for root in (f"/proc/{self._pid}/root", ""):
            by_id.append(f"{root}/usr/lib/debug")
            by_name += [
                f"{root}{directory}",
                f"{root}{directory}/.debug",
                f"{root}/usr/lib/debug{directory}",
            ]
        return by_id, by_name

    def _jit_symbols(self) -> SymbolTable:
        if self._perf_map is None:
            self._perf_map = self._read_perf_map()
        return self._perf_map

    def _read_perf_map(self) -> SymbolTable:
        """/tmp/perf-PID.map as the target wrote it; it may have another pid in its own namespace."""
        for pid in dict.fromkeys((_namespace_pid(self._pid), self._pid)):
            descriptor = _open_plain(f"/proc/{self._pid}/root/tmp/perf-{pid}.map")
            if descriptor is not None:
                with os.fdopen(descriptor, "rb") as stream:
                    return parse_perf_map(stream.read(MAX_PERF_MAP_BYTES))
        return EMPTY


def parse_perf_map(data: bytes) -> SymbolTable:
    """Lines of "START SIZE name" in hexadecimal; what does not look so is left out."""
    entries = []
    names = bytearray(b"\0")
    for line in data.splitlines()[:MAX_SYMBOLS]:
        fields = line.split(None, 2)
        if len(fields) != 3:
            continue
        try:
            start, size = int(fields[0], 16), int(fields[1], 16)
        except ValueError:
            continue
        if start > 0 and size > 0 and start + size < 1 << 63:
            entries.append((start, size, len(names)))
            names += fields[2][:MAX_NAME_BYTES] + b"\0"
    return SymbolTable(entries, bytes(names))


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


def read_kernel_symbols(path: str = "/proc/kallsyms") -> KernelSymbols | None:
    """The kernel's functions; `None` where their addresses are hidden (kptr_restrict) or not there."""
    try:
        with open(path, "rb") as stream:
            symbols = KernelSymbols(stream.read(MAX_KALLSYMS_BYTES))
    except OSError:
        return None
    return symbols if symbols.shown else None
