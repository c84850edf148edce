"""Finding the CPython runtime in a process: which Python it is and where `_PyRuntime` lies.

In: a pid. Out: a `Runtime` (address, layout, which file), or an error that says what the process is instead.
Works for executables of any name and libpython builds, stripped or not, deleted files, other mount
namespaces, programs that embed Python or are started through the dynamic loader. Where a process has several
`_PyRuntime`s (a libpython that was loaded beside the running one), the one whose interpreters have threads
is taken. All that is read counts against one `Budget`.
"""

from __future__ import annotations

import enum
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import (
    MemoryReadError,
    NoSuchProcess,
    NotPython,
    PythonNotRunning,
    UnsupportedPython,
)
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel.memory import (
    DELETED_SUFFIX,
    Mapping,
    RemoteMemory,
    open_mapped_file,
    read_mappings,
)
from ftdiag.sources.kernel.tasks import living_task, proc_folder
from ftdiag.sources.native.elf import FileSource, exported, read_elf
from ftdiag.sources.python.layouts import (
    COOKIE,
    DEBUG_OFFSETS_BYTES,
    HEADER_BYTES,
    Layout,
    Version,
    parse_header,
    parse_layout,
)

RUNTIME_SECTION: Final = ".PyRuntime"
"""ELF section that holds `_PyRuntime` (GENERATE_DEBUG_SECTION in CPython)."""
RUNTIME_SYMBOL: Final = "_PyRuntime"
MAX_SCANNED_BYTES: Final = 256 << 20
"""Writable file mappings of one process that are searched for the cookie when no section names it."""
SCANNED_PIECE_BYTES: Final = 1 << 20
MAX_COOKIES: Final = 64
"""Places of one process that look like the beginning of `_Py_DebugOffsets` and are looked at."""
MAX_IMAGES: Final = 4096
"""Mapped files of one process whose sections are looked at."""
MAX_LOOKS: Final = 20
"""Looks at a process that replaces its program meanwhile ..."""
BETWEEN_LOOKS_S: Final = 0.005
"""... and the time between two of them: exec takes milliseconds."""
ENDING_LOOKS: Final = 4
"""Looks at a process without memory, until it is no ending one."""
MAX_INTERPRETERS: Final = 256
"""Interpreters that are asked whether they have a thread."""
MIN_RUNTIME_BYTES: Final = 64 << 10
"""Least writable memory of a file that may have a runtime in it, where its name says nothing. It has the
first interpreter and all static objects: 328,320 bytes in 3.13.5t, 362,368 in 3.14.9t, 406,016 in 3.15.1t.
A program with NumPy, SciPy and scikit-learn maps some 250 libraries, most of them with less."""
_PYTHON_FILE: Final = re.compile(r"(?:lib)?python(\d)\.(\d+)([a-z]*)(?:\.so[.\d]*|-[\w.-]+)?$")
_LIBPYTHON: Final = re.compile(r"libpython3[\w.]*\.so[.\d]*$")
_HEADER: Final = re.compile(re.escape(COOKIE) + rb".{4}\0{4}[\0\1]\0{7}", re.DOTALL)
"""Cookie, version, free_threaded: so a mapping full of cookies costs no more than one without."""
_BEFORE_HEAD: Final = 24
"""struct _PyRuntimeState has `_finalizing`, `_finalizing_id`, then struct pyinterpreters {mutex, head, main,
next_id} (Include/internal/pycore_runtime.h in 3.13, pycore_runtime_structs.h from 3.14)."""
_AFTER_HEAD: Final = 24
_IS_UNKNOWN, _IS_KNOWN, _HAS_INTERPRETER, _HAS_THREAD = range(4)


class RuntimeState(enum.Enum):
    """Whether there is a Python to look at. The values are the words for it."""

    RUNNING = "running"
    NOT_STARTED = "not started yet"
    FINALIZED = "finalised"


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where the CPython of a process is. `image` is the path of its file as the target knows it."""

    address: int
    layout: Layout
    image: str
    image_base: int


@dataclass(frozen=True, slots=True)
class RuntimeHeader:
    """What the first bytes of `_PyRuntime` say: enough to list a process, not to read it."""

    address: int
    version: Version
    free_threaded: bool
    image: str
    image_base: int


@dataclass(frozen=True, slots=True)
class _Image:
    """A mapped file: its first mapping, and those that are writable."""

    first: Mapping
    writable: tuple[Mapping, ...]

    @property
    def name(self) -> str:
        return self.first.path.removesuffix(DELETED_SUFFIX).rsplit("/", 1)[-1]


class KnownImages:
    """Where the runtime lies in files that were looked at, for looks at many processes in one go.

    A file is known by the device and inode that the kernel shows in maps, so this is for a moment only.
    """

    MAX: Final = 65_536

    def __init__(self) -> None:
        self._offsets: dict[tuple[str, int, str], int | None] = {}

    def key(self, mapping: Mapping) -> tuple[str, int, str]:
        """What a mapped file is known by."""
        return mapping.device, mapping.inode, mapping.path

    def get(self, mapping: Mapping) -> int | None:
        """Offset of the section from the file's first load address, `None` without one. Raises KeyError."""
        return self._offsets[self.key(mapping)]

    def put(self, mapping: Mapping, offset: int | None) -> None:
        """Remember it."""
        if len(self._offsets) >= self.MAX:
            self._offsets.clear()
        self._offsets[self.key(mapping)] = offset


def find_runtime(pid: int, memory: RemoteMemory, known: KnownImages | None = None) -> Runtime:
    """Find the runtime of `pid` and its layout.

    Raises NotPython, PythonNotRunning, UnsupportedPython, NoSuchProcess, PermissionRefused, TargetGone,
    BudgetSpent, MemoryReadError.
    """
    with _budgeted(pid, memory):
        header = find_runtime_header(pid, memory, known)
        try:
            return running_runtime(pid, header, memory)
        except MemoryReadError:
            # Unloaded or replaced since it was found: then that is told, or what is there now is read.
            again = find_runtime_header(pid, memory, known)
            if again == header:
                raise
            return running_runtime(pid, again, memory)


def running_runtime(pid: int, header: RuntimeHeader, memory: RemoteMemory) -> Runtime:
    """The runtime that was found, if it has an interpreter.

    Raises UnsupportedPython, PythonNotRunning, MemoryReadError, TargetGone, BudgetSpent.
    """
    runtime = _runtime_of(header, memory)
    state = runtime_state(memory, runtime)
    if state is RuntimeState.RUNNING:
        return runtime
    raise _not_running(pid, str(runtime.layout.version), state)


def _not_running(pid: int, version: str, state: RuntimeState) -> PythonNotRunning:
    if state is RuntimeState.NOT_STARTED:
        return PythonNotRunning(
            f"process {pid} has CPython {version} in it, which is not started yet: no interpreter was made",
            f"ftdiag attach {pid}   once it runs Python code",
        )
    return PythonNotRunning(
        f"process {pid} has CPython {version} in it, which was finalised: no interpreter is left",
        "ftdiag list   shows the Python processes",
    )


def _runtime_of(header: RuntimeHeader, memory: RemoteMemory) -> Runtime:
    """The runtime with its layout. Raises UnsupportedPython, MemoryReadError, TargetGone, BudgetSpent."""
    layout = parse_layout(memory.read_up_to(header.address, DEBUG_OFFSETS_BYTES))
    return Runtime(header.address, layout, header.image, header.image_base)


def runtime_state(memory: RemoteMemory, runtime: Runtime) -> RuntimeState:
    """Whether the runtime has an interpreter, or why not.

    Before Py_Initialize `next_id` is -1 (_PyRuntimeState_INIT) or 0 and no finalising thread is named; after
    Py_FinalizeEx the one that finalised stays named, and `next_id` was counted up. Raises MemoryReadError,
    TargetGone.
    """
    head_at = runtime.address + runtime.layout.runtime_interpreters_head
    data = memory.read(head_at - _BEFORE_HEAD, _BEFORE_HEAD + _AFTER_HEAD)
    finalizing, _, _, head, _, next_id = struct.unpack("<QQQQQq", data)
    if head:
        return RuntimeState.RUNNING
    return RuntimeState.FINALIZED if finalizing or next_id > 0 else RuntimeState.NOT_STARTED


def find_runtime_header(pid: int, memory: RemoteMemory, known: KnownImages | None = None) -> RuntimeHeader:
    """Find `_PyRuntime` without judging its version. Raises like `find_runtime`.

    A process that replaces its program while it is looked at has mappings of the one and memory of the other,
    or neither: then it is looked at again, some times.
    """
    with _budgeted(pid, memory) as budget:
        looks = 0
        while True:
            looks += 1
            mappings = read_mappings(pid, budget, files_only=True)
            executable = _link(f"{proc_folder(pid)}/exe")
            try:
                return _find_header(pid, memory, budget, known or KnownImages(), mappings, executable)
            except NotPython:
                after = read_mappings(pid, budget, files_only=True)
                is_whole = executable is None or any(each.path == executable for each in after)
                if looks >= MAX_LOOKS or (after == mappings and is_whole):
                    raise
            time.sleep(BETWEEN_LOOKS_S)


def _has_just_ended(pid: int) -> bool:
    """Whether a process without memory is one that ends: it lets go of that before it shows as a zombie."""
    for _ in range(ENDING_LOOKS):
        if living_task(pid) is None:
            return True
        time.sleep(BETWEEN_LOOKS_S)
    return False


def _find_header(
    pid: int,
    memory: RemoteMemory,
    budget: Budget,
    known: KnownImages,
    mappings: list[Mapping],
    executable: str | None,
) -> RuntimeHeader:
    if not mappings and not read_mappings(pid, budget):
        if _has_just_ended(pid):
            raise NoSuchProcess(
                f"process {pid} has ended; it is a zombie, of which its parent has not asked how it ended",
                "ftdiag list   shows the Python processes",
            )
        raise NotPython(f"process {pid} has no memory of its own: a kernel thread")
    images = _images(mappings, executable)
    likely = [image for image in images if _is_likely(image, executable)]
    found = _by_section(pid, memory, _large_enough(images, executable), budget, known)
    if not found:
        found = list(_by_cookie(memory, likely))
    best = found[0] if len(found) == 1 else _liveliest(memory, found)
    old = _old_python(mappings, executable)
    if old is not None and (best is None or _liveliness(memory, best) < _HAS_INTERPRETER):
        raise UnsupportedPython(
            f"process {pid} runs Python {old}; ftdiag reads CPython 3.13 and later",
            f"py-spy dump --pid {pid}   shows its stacks",
        )
    if best is None:
        best = next(_by_cookie(memory, [image for image in images if image not in likely]), None)
    if best is None:
        raise NotPython(
            f"process {pid} ({executable or 'unknown executable'}) is not a CPython process",
            "ftdiag list   shows the Python processes",
        )
    return best


def has_runtime_section(pid: int, budget: Budget, known: KnownImages) -> bool:
    """Whether a file of the process has a `.PyRuntime`, whatever it is called: without reading its memory.

    Raises NoSuchProcess, PermissionRefused, BudgetSpent.
    """
    executable = _link(f"{proc_folder(pid)}/exe")
    images = _images(read_mappings(pid, budget, files_only=True), executable)
    return any(
        _section_offset(pid, image, budget, known) is not None for image in _large_enough(images, executable)
    )


@contextmanager
def _budgeted(pid: int, memory: RemoteMemory) -> Iterator[Budget]:
    """Have the memory's reads count; with a budget of a look's size where the caller set none."""
    if memory.budget is not None:
        yield memory.budget
        return
    memory.budget = Budget(pid)
    try:
        yield memory.budget
    finally:
        memory.budget = None


def old_python(pid: int) -> str | None:
    """ "3.11" for a process that runs a Python without _Py_DebugOffsets, by the names of its files."""
    return _old_python(read_mappings(pid, Budget(pid), files_only=True), _link(f"{proc_folder(pid)}/exe"))


def static_memory(pid: int) -> tuple[int, int]:
    """Begin and end of `_PyRuntime`, the interpreter's static state; (0, 0) if it is not to be found.

    Every CPython from 3.7 on exports the symbol; its size is in the table of symbols.
    """
    budget = Budget(pid)
    executable = _link(f"{proc_folder(pid)}/exe")
    for image in _images(read_mappings(pid, budget, files_only=True), executable):
        if not _is_likely(image, executable):
            continue
        descriptor = _opened(pid, image.first)
        if descriptor is None:
            continue
        try:
            source = FileSource(descriptor, budget)
            elf = read_elf(source)
            found = None if elf is None else exported(source, elf, RUNTIME_SYMBOL)
        finally:
            os.close(descriptor)
        if found is not None:
            begin = image.first.start - image.first.offset + found[0]
            return begin, begin + found[1]
    return 0, 0


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _images(mappings: list[Mapping], executable: str | None) -> list[_Image]:
    """The mapped files that have writable memory, as a runtime must; the likeliest first."""
    first: dict[tuple[str, int], Mapping] = {}
    writable: dict[tuple[str, int], list[Mapping]] = {}
    for mapping in mappings:
        key = (mapping.path, mapping.inode)
        first.setdefault(key, mapping)
        if "w" in mapping.permissions:
            writable.setdefault(key, []).append(mapping)
    images = [
        _Image(mapping, tuple(writable.get(key, ())))
        for key, mapping in first.items()
        if key in writable or mapping.path == executable
    ]
    images.sort(key=lambda image: (not _LIBPYTHON.search(image.name), image.first.path != executable))
    return images[:MAX_IMAGES]


def _is_likely(image: _Image, executable: str | None) -> bool:
    """Whether this is where a runtime usually is: the executable, a libpython."""
    return image.first.path == executable or _LIBPYTHON.search(image.name) is not None


def _large_enough(images: list[_Image], executable: str | None) -> list[_Image]:
    """Those whose files may have a runtime: opening hundreds takes longer than all else at the start."""
    return [
        image
        for image in images
        if _is_likely(image, executable)
        or sum(mapping.end - mapping.start for mapping in image.writable) >= MIN_RUNTIME_BYTES
    ]


def _opened(pid: int, mapping: Mapping) -> int | None:
    """A descriptor of the regular file that is mapped; `None` if there is none that can be opened."""
    try:
        return open_mapped_file(pid, mapping)
    except OSError:
        return None


def _section_offset(pid: int, image: _Image, budget: Budget, known: KnownImages) -> int | None:
    """How far behind the file's first load address its runtime section lies; `None` if it has none."""
    try:
        return known.get(image.first)
    except KeyError:
        pass
    descriptor = _opened(pid, image.first)
    if descriptor is None:
        return None  # another process may be let
    try:
        elf = read_elf(FileSource(descriptor, budget))
    finally:
        os.close(descriptor)
    section = None if elf is None else elf.section(RUNTIME_SECTION)
    offset = None if elf is None or section is None else section.address - elf.first_load_address
    known.put(image.first, offset)
    return offset


def _by_section(
    pid: int, memory: RemoteMemory, images: list[_Image], budget: Budget, known: KnownImages
) -> list[RuntimeHeader]:
    """The runtimes that sections name, up to one with a thread: of the others none would be taken.

    A service has fifty files mapped, each of which is opened and read for its sections.
    """
    found = []
    for image in images:
        offset = _section_offset(pid, image, budget, known)
        if offset is None:
            continue
        header = _header_at(memory, image.first.start - image.first.offset + offset, image.first)
        if header is not None:
            found.append(header)
            if _liveliness(memory, header) == _HAS_THREAD:
                break
    return found


def _by_cookie(memory: RemoteMemory, images: list[_Image]) -> Iterator[RuntimeHeader]:
    """Runtimes found by their first bytes in writable data: for files that cannot be opened, or have no
    sections. The bounds are of all files together."""
    left_bytes, left_places = MAX_SCANNED_BYTES, MAX_COOKIES
    for image in images:
        for mapping in image.writable:
            for start in range(mapping.start, mapping.end, SCANNED_PIECE_BYTES):
                size = min(SCANNED_PIECE_BYTES, mapping.end - start)
                left_bytes -= size
                if left_bytes < 0:
                    return
                try:
                    data = memory.read(start, size)
                except MemoryReadError:
                    continue
                for place in _HEADER.finditer(data):
                    if place.start() % 8:
                        continue
                    left_places -= 1
                    if left_places < 0:
                        return
                    header = _header_at(memory, start + place.start(), image.first)
                    if header is not None:
                        yield header


def _header_at(memory: RemoteMemory, address: int, image: Mapping) -> RuntimeHeader | None:
    try:
        parsed = parse_header(memory.read(address, HEADER_BYTES))
    except MemoryReadError:
        return None
    if parsed is None:
        return None
    return RuntimeHeader(address, parsed[0], parsed[1], image.path, image.start)


def _liveliest(memory: RemoteMemory, found: list[RuntimeHeader]) -> RuntimeHeader | None:
    return max(found, key=lambda header: _liveliness(memory, header), default=None)


def _liveliness(memory: RemoteMemory, header: RuntimeHeader) -> int:
    """Of several runtimes of a process the greatest is taken: one with a thread, with an interpreter, of a
    known layout."""
    try:
        runtime = _runtime_of(header, memory)
        layout = runtime.layout
        address = memory.read_word(runtime.address + layout.runtime_interpreters_head)
        if not address:
            return _IS_KNOWN
        for _ in range(MAX_INTERPRETERS):
            if memory.read_word(address + layout.interpreter_threads_head):
                return _HAS_THREAD
            address = memory.read_word(address + layout.interpreter_next)
            if not address:
                break
    except UnsupportedPython:
        return _IS_UNKNOWN
    except MemoryReadError:
        return _IS_KNOWN
    return _HAS_INTERPRETER


def _old_python(mappings: list[Mapping], executable: str | None) -> str | None:
    """ "3.11" when a file of the process is named like a Python that has no _Py_DebugOffsets."""
    names = [executable or ""] + [mapping.path for mapping in mappings if mapping.is_file]
    for name in names:
        match = _PYTHON_FILE.search(name.removesuffix(DELETED_SUFFIX).rsplit("/", 1)[-1])
        if match and (int(match[1]), int(match[2])) < (3, 13):
            return f"{match[1]}.{match[2]}"
    return None
