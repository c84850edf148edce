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
import os
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection
from collections.abc import Mapping as MappingOf
from typing import BinaryIO, Final, NamedTuple, TypeVar

from ftdiag.errors import BudgetSpent, FtdiagError
from ftdiag.opening import TargetReader
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel.memory import Mapping, open_mapped_file, read_mappings
from ftdiag.sources.kernel.tasks import proc_folder
from ftdiag.sources.native.debugfiles import open_debug_file
from ftdiag.sources.native.elf import (
    FileSource,
    Source,
)
from ftdiag.sources.native.images import Image, ImageStore, is_stripped, read_image
from ftdiag.sources.native.perfmap import PerfMap, namespace_pid, own_machine
from ftdiag.sources.native.readingcredit import ReadingCredit
from ftdiag.sources.native.symboltable import MAX_NAME_BYTES, SymbolTable

MAX_IMAGES: Final = 512
"""Files whose symbols are kept; the least recently used goes first."""
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
MAX_PLACES: Final = 16_384
"""Functions whose place is kept."""
NOWHERE: Final = "code that is mapped nowhere by now: its library was unloaded, or the program made it"
TOO_MANY_MAPPINGS: Final = "code that was mapped meanwhile: there are too many mappings to be looked at"
_Found = TypeVar("_Found")


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
        self._places: dict[tuple[int, int | None, int], Place] = {}
        """By mapping, number of the function and how far the file lies from its own addresses: of the images
        and mappings as they are now."""
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
        self._places.clear()
        self.changes += 1
        return True

    def note_nowhere(self) -> None:
        """Count a sample of code that is mapped nowhere."""
        self._note_unnamed("", NOWHERE)

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
            return self._place_in(mapping, image, address)
        if mapping.path == "[vdso]":
            return Place(mapping.path, own_machine(), "[vdso]", 0, 0)
        symbol = None if mapping.is_file else self._jit_symbols().find(address)
        if symbol is None:
            return Place(mapping.path, own_machine(), None, 0, 0, mapping.is_file)
        return Place(mapping.path, own_machine(), symbol.name, symbol.start, symbol.end)

    def _place_in(self, mapping: Mapping, image: Image, address: int) -> Place:
        """The same in a file: one object for all addresses of a function."""
        virtual = image.address_at(address - mapping.start + mapping.offset)
        index = None if virtual is None else image.symbols.index(virtual)
        bias = 0 if virtual is None or index is None else address - virtual
        key = mapping.start, index, bias
        known = self._places.get(key)
        if known is not None:
            return known
        if index is None:
            place = Place(mapping.path, image.machine, None, 0, 0, image.hides)
        else:
            symbol = image.symbols.symbol(index)
            name = symbol.name or None
            place = Place(mapping.path, image.machine, name, symbol.start + bias, symbol.end + bias)
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        self._places[key] = place
        return place

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
        self._places.clear()
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
            self._places.clear()
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
        for pid in dict.fromkeys((namespace_pid(self._pid), self._pid)):
            path = f"{proc_folder(self._pid)}/root/tmp/perf-{pid}.map"
            descriptor = open_debug_file(path, reader)
            if descriptor is not None:
                try:
                    self._perf_map.read_on(descriptor)
                finally:
                    os.close(descriptor)
                return
