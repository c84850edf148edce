"""Mutexes of C and C++ code: what a futex outside the interpreter is, who has it, what it is called.

In: the memory of a process and the address of a word that a thread sleeps on. Out: whether that is a
pthread_mutex_t (a C++ std::mutex is one), its owner's thread id, and the name of the variable that it is.

glibc's `struct __pthread_mutex_s {int __lock; unsigned __count; int __owner; unsigned __nusers; int __kind;
...}` (sysdeps/nptl/bits/struct_mutex.h; x86-64 and aarch64): the lock is 2 while somebody waits, and the
owner is the id of a thread of this process. Both together are proof. One that is being given back is known by
how it is waited for: FUTEX_WAIT for the value 2 (nptl/lowlevellock.c; conditions, semaphores and the end of a
thread are waited for with FUTEX_WAIT_BITSET). Variables are named by the data symbols of the file that they
are in, where it is not stripped.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Sequence
from typing import Final

from ftdiag.errors import FtdiagError, MemoryReadError
from ftdiag.sources.kernel.memory import Mapping, RemoteMemory, open_mapped_file, read_mappings
from ftdiag.sources.kernel.tasks import proc_folder
from ftdiag.sources.native.elf import SYMBOL_BYTES, Elf, FileSource, contents, read_elf

MUTEX: Final = struct.Struct("<iIiIi")
"""__lock, __count, __owner, __nusers, __kind."""
_LOCKED_AND_WAITED_FOR: Final = 2
_FUTEX_COMMAND: Final = 0x7F
_FUTEX_WAIT: Final = 0
MOST: Final = 1 << 16
"""Times that a mutex is held by its owner, or threads that use it: more are no such count."""
_KINDS: Final = 0x200
"""Above the kinds of <pthread.h> (recursive, error-checking, adaptive) and glibc's flags for elision."""
MAX_SYMBOLS: Final = 262_144
"""Entries of a symbol table that are searched; one with more is that of a very large library."""
MAX_NAMES_BYTES: Final = 32 << 20
MAX_NAME_BYTES: Final = 120
_STT_OBJECT: Final = 1
_WRITABLE: Final = 1
"""SHF_WRITE: sections of variables."""


def is_mutex(memory: RemoteMemory, arguments: Sequence[int]) -> bool:
    """Whether a thread that is blocked in futex(2) with these arguments waits for a mutex."""
    word, operation, value = arguments[:3]
    if mutex_owner(memory, word) is not None:
        return True
    if operation & _FUTEX_COMMAND != _FUTEX_WAIT or value & 0xFFFF_FFFF != _LOCKED_AND_WAITED_FOR:
        return False
    try:
        lock, count, owner, users, kind = MUTEX.unpack(memory.read(word, MUTEX.size))
    except MemoryReadError:
        return False
    # Its owner is not noted yet, or not any more.
    return (
        0 <= lock <= _LOCKED_AND_WAITED_FOR
        and not owner
        and count < MOST
        and users < MOST
        and 0 <= kind < _KINDS
    )


def mutex_owner(memory: RemoteMemory, word: int) -> int | None:
    """The id of the thread that has the mutex at an address; `None` where there is none, or nobody has it."""
    try:
        lock, count, owner, users, kind = MUTEX.unpack(memory.read(word, MUTEX.size))
    except MemoryReadError:
        return None
    if lock != _LOCKED_AND_WAITED_FOR or owner <= 0 or not 0 <= kind < _KINDS:
        return None
    if count >= MOST or not 0 < users < MOST:
        return None
    return owner if os.path.exists(f"{proc_folder(memory.pid)}/task/{owner}") else None


def variable_at(pid: int, address: int) -> str | None:
    """The variable of a mapped file that is at an address: "plan_lock of libfft.so"; the file alone where it
    has no name there, `None` for other memory."""
    try:
        mapping, first = _image_at(read_mappings(pid), address)
        if mapping is None or first is None:
            return None
        file = os.path.basename(mapping.path)
        descriptor = open_mapped_file(pid, mapping)
    except (FtdiagError, OSError):
        return None
    try:
        source = FileSource(descriptor)
        elf = read_elf(source)
        if elf is None:
            return None
        place = address - first.start + elf.first_load_address
        # Other memory may be mapped right behind a file's.
        if not any(
            one.flags & _WRITABLE and one.address <= place < one.address + one.size for one in elf.sections
        ):
            return None
        name = _variable_in(elf, source, place)
    finally:
        os.close(descriptor)
    return f"a mutex of {file}" if name is None else f"{name} of {file}"


def _image_at(mappings: list[Mapping], address: int) -> tuple[Mapping | None, Mapping | None]:
    """The last mapping of the file whose data an address is in, and the file's first.

    Variables without a value from the start (.bss) are in anonymous memory right behind the file's.
    """
    first: Mapping | None = None
    last: Mapping | None = None
    end = 0
    for mapping in mappings:
        if mapping.is_file:
            if first is None or mapping.path != first.path or mapping.offset == 0:
                first = mapping
            last = mapping
        elif mapping.path or mapping.start != end:
            first = last = None
        end = mapping.end
        if mapping.start <= address < mapping.end:
            inside = "w" in mapping.permissions and first is not None and first.offset == 0
            return (last, first) if inside else (None, None)
    return None, None


def _variable_in(elf: Elf, source: FileSource, address: int) -> str | None:
    """The data symbol that covers a virtual address."""
    for table in (".symtab", ".dynsym"):
        section = elf.section(table)
        if section is None or not section.in_file or section.link >= len(elf.sections):
            continue
        symbols = array("Q")
        data = contents(source, section, MAX_SYMBOLS * SYMBOL_BYTES)
        symbols.frombytes(data[: len(data) // SYMBOL_BYTES * SYMBOL_BYTES])
        for head, value, size in zip(symbols[0::3], symbols[1::3], symbols[2::3], strict=True):
            if value <= address < value + size and head >> 32 & 0xF == _STT_OBJECT:
                names = contents(source, elf.sections[section.link], MAX_NAMES_BYTES)
                at = head & 0xFFFF_FFFF
                end = names.find(b"\0", at, at + MAX_NAME_BYTES)
                if end > at:
                    return names[at:end].decode("utf-8", "backslashreplace")
    return None
