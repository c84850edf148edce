"""Finding the CPython runtime in a process: which Python it is and where `_PyRuntime` lies.

In: a pid. Out: a `Runtime` (address, layout, which file), or an error that says what the process is instead.
Works for executables and libpython builds, stripped or not, deleted files, other mount namespaces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ftdiag.errors import MemoryReadError, NotPython, UnsupportedPython
from ftdiag.sources.layouts import (
    COOKIE,
    DEBUG_OFFSETS_BYTES,
    HEADER_BYTES,
    Layout,
    Version,
    parse_header,
    parse_layout,
)
from ftdiag.sources.memory import (
    DELETED_SUFFIX,
    Mapping,
    RemoteMemory,
    exported_symbol,
    open_mapped_file,
    read_elf_image,
    read_mappings,
)

RUNTIME_SECTION: Final = ".PyRuntime"
"""ELF section that holds `_PyRuntime` (GENERATE_DEBUG_SECTION in CPython)."""
RUNTIME_SYMBOL: Final = "_PyRuntime"
MAX_SCANNED_BYTES: Final = 256 << 20
"""Writable file mappings searched for the cookie when no section names it."""
_PYTHON_FILE: Final = re.compile(r"(?:lib)?python(\d)\.(\d+)([a-z]*)(?:\.so[.\d]*|-[\w.-]+)?$")
_LIBPYTHON: Final = re.compile(r"libpython3[\w.]*\.so[.\d]*$")


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


def find_runtime(pid: int, memory: RemoteMemory) -> Runtime:
    """Find the runtime of `pid` and its layout.

    Raises NotPython, UnsupportedPython, NoSuchProcess, PermissionRefused, TargetGone.
    """
    header = find_runtime_header(pid, memory)
    layout = parse_layout(memory.read_up_to(header.address, DEBUG_OFFSETS_BYTES))
    return Runtime(header.address, layout, header.image, header.image_base)


def find_runtime_header(pid: int, memory: RemoteMemory) -> RuntimeHeader:
    """Find `_PyRuntime` without judging its version. Raises like `find_runtime`."""
    mappings = read_mappings(pid)
    executable = _link(f"/proc/{pid}/exe")
    if not mappings:
        raise NotPython(f"process {pid} has no memory of its own: a kernel thread or a zombie")
    images = _candidate_images(mappings, executable)
    for image in images:
        header = _from_section(pid, memory, image) or _from_cookie(memory, mappings, image)
        if header is not None:
            return header
    old = _old_python(mappings, executable)
    if old is not None:
        raise UnsupportedPython(
            f"process {pid} runs Python {old}; ftdiag reads CPython 3.13 and later",
            f"py-spy dump --pid {pid}   shows its stacks",
        )
    for image in _writable_images(mappings, images):
        header = _from_cookie(memory, mappings, image)
        if header is not None:
            return header
    raise NotPython(
        f"process {pid} ({executable or 'unknown executable'}) is not a CPython process",
        "ftdiag list   shows the Python processes",
    )


def old_python(pid: int) -> str | None:
    """ "3.11" for a process that runs a Python without _Py_DebugOffsets, by the names of its files."""
    return _old_python(read_mappings(pid), _link(f"/proc/{pid}/exe"))


def static_memory(pid: int) -> tuple[int, int]:
    """Begin and end of `_PyRuntime`, the interpreter's static state; (0, 0) if it is not to be found.

    Every CPython from 3.7 on exports the symbol; its size is in the table of symbols.
    """
    mappings = read_mappings(pid)
    for image in _candidate_images(mappings, _link(f"/proc/{pid}/exe")):
        try:
            descriptor = open_mapped_file(pid, image)
        except OSError:
            continue
        try:
            found = exported_symbol(descriptor, RUNTIME_SYMBOL)
        finally:
            os.close(descriptor)
        if found is not None:
            begin = image.start - image.offset + found[0]
            return begin, begin + found[1]
    return 0, 0


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _candidate_images(mappings: list[Mapping], executable: str | None) -> list[Mapping]:
    """First mapping of each file that usually holds the runtime: libpython, then the executable."""
    first: dict[str, Mapping] = {}
    for mapping in mappings:
        if mapping.is_file and mapping.path not in first:
            first[mapping.path] = mapping
    libraries = [
        mapping
        for path, mapping in first.items()
        if _LIBPYTHON.search(path.removesuffix(DELETED_SUFFIX).rsplit("/", 1)[-1])
    ]
    program = first.get(executable) if executable else None
    return libraries + ([program] if program is not None else [])


def _writable_images(mappings: list[Mapping], done: list[Mapping]) -> Iterator[Mapping]:
    """First mapping of every other file with a writable mapping, as long as they are not too big."""
    seen = {mapping.path for mapping in done}
    budget = MAX_SCANNED_BYTES
    first: dict[str, Mapping] = {}
    for mapping in mappings:
        if not mapping.is_file:
            continue
        first.setdefault(mapping.path, mapping)
        if "w" in mapping.permissions and mapping.path not in seen:
            seen.add(mapping.path)
            budget -= mapping.size
            if budget < 0:
                return
            yield first[mapping.path]


def _from_section(pid: int, memory: RemoteMemory, image: Mapping) -> RuntimeHeader | None:
    try:
        descriptor = open_mapped_file(pid, image)
    except OSError:
        return None
    try:
        elf = read_elf_image(descriptor)
    finally:
        os.close(descriptor)
    if elf is None or RUNTIME_SECTION not in elf.sections:
        return None
    address = image.start - image.offset - elf.first_load_address + elf.sections[RUNTIME_SECTION][0]
    return _header_at(memory, address, image)


def _from_cookie(memory: RemoteMemory, mappings: list[Mapping], image: Mapping) -> RuntimeHeader | None:
    """Search the writable data for the cookie: for files that cannot be opened or have no sections."""
    for mapping in mappings:
        if mapping.path != image.path or "w" not in mapping.permissions or mapping.size > MAX_SCANNED_BYTES:
            continue
        for start in range(mapping.start, mapping.end, 1 << 20):
            try:
                data = memory.read(start, min(1 << 20, mapping.end - start))
            except MemoryReadError:
                continue
            place = data.find(COOKIE)
            while place >= 0:
                header = _header_at(memory, start + place, image) if place % 8 == 0 else None
                if header is not None:
                    return header
                place = data.find(COOKIE, place + 1)
    return None


def _header_at(memory: RemoteMemory, address: int, image: Mapping) -> RuntimeHeader | None:
    try:
        parsed = parse_header(memory.read(address, HEADER_BYTES))
    except MemoryReadError:
        return None
    if parsed is None:
        return None
    return RuntimeHeader(address, parsed[0], parsed[1], image.path, image.start)


def _old_python(mappings: list[Mapping], executable: str | None) -> str | None:
    """ "3.11" when a file of the process is named like a Python that has no _Py_DebugOffsets."""
    names = [executable or ""] + [mapping.path for mapping in mappings if mapping.is_file]
    for name in names:
        match = _PYTHON_FILE.search(name.removesuffix(DELETED_SUFFIX).rsplit("/", 1)[-1])
        if match and (int(match[1]), int(match[2])) < (3, 13):
            return f"{match[1]}.{match[2]}"
    return None
