"""Mutexes of C code: what is one, who has it, what the variable is called."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from ftdiag.sources.kernel.memory import Mapping, RemoteMemory
from ftdiag.sources.locks.mutexes import MUTEX, _image_at, is_mutex, mutex_owner, variable_at


def a_mutex(lock: int = 2, count: int = 0, owner: int | None = None, users: int = 1, kind: int = 0) -> bytes:
    """The bytes of one, locked by this thread and waited for."""
    return MUTEX.pack(lock, count, threading.get_native_id() if owner is None else owner, users, kind)


def owner_of(data: bytes) -> int | None:
    """What is said of these bytes in this process's own memory."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[: len(data)] = data
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return mutex_owner(RemoteMemory(os.getpid()), address)


def test_a_mutex_that_is_waited_for_tells_its_owner() -> None:
    # GIVEN the words of a locked mutex WHEN read THEN its owner is the thread that it records
    assert owner_of(a_mutex()) == threading.get_native_id()
    # AND a recursive one counts how often it is held
    assert owner_of(a_mutex(count=3, kind=1)) == threading.get_native_id()


@pytest.mark.parametrize(
    "data",
    [
        a_mutex(lock=0),
        a_mutex(lock=1),
        a_mutex(lock=7),
        a_mutex(owner=0),
        a_mutex(owner=-5),
        a_mutex(owner=2**31 - 1),
        a_mutex(users=0),
        a_mutex(kind=0x7000),
        a_mutex(kind=-1),
        b"\xff" * 20,
        bytes(20),
    ],
    # Not by their bytes, which have the process in them: workers would collect other tests than each other.
    ids=[
        "free",
        "waited for",
        "odd",
        "nobody",
        "negative",
        "gone",
        "unused",
        "kind",
        "no kind",
        "ones",
        "zeros",
    ],
)
def test_other_words_are_none(data: bytes) -> None:
    # GIVEN words that a condition, a semaphore or chance may have WHEN read THEN that is no mutex
    assert owner_of(data) is None


FUTEX_WAIT_PRIVATE, FUTEX_WAIT_BITSET_PRIVATE = 128, 137


@pytest.mark.parametrize(
    ("data", "operation", "value", "expected"),
    [
        (a_mutex(), FUTEX_WAIT_BITSET_PRIVATE, 7, True),
        (a_mutex(lock=0, owner=0, users=0), FUTEX_WAIT_PRIVATE, 2, True),
        (a_mutex(lock=1, owner=0, users=1), FUTEX_WAIT_PRIVATE, 2, True),
        (a_mutex(lock=0, owner=0, users=0), FUTEX_WAIT_BITSET_PRIVATE, 2, False),
        (a_mutex(lock=0, owner=0, users=0), FUTEX_WAIT_PRIVATE, 0, False),
        (a_mutex(lock=9, owner=0, users=0), FUTEX_WAIT_PRIVATE, 2, False),
        (a_mutex(lock=0, owner=0, users=70_000), FUTEX_WAIT_PRIVATE, 2, False),
        (b"\xff" * 20, FUTEX_WAIT_PRIVATE, 2, False),
    ],
    ids=["held", "given back", "taken", "condition", "other value", "no lock", "no count", "garbage"],
)
def test_a_mutex_that_changes_hands_is_known_by_how_it_is_waited_for(
    data: bytes, operation: int, value: int, expected: bool
) -> None:
    # GIVEN the words of a lock, and a thread that is blocked in futex(2) on it
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[: len(data)] = data
    word = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # WHEN looked at THEN it is a mutex or none
    assert is_mutex(RemoteMemory(os.getpid()), (word, operation, value, 0, 0, 0)) is expected


def test_memory_that_is_not_there_is_none() -> None:
    # GIVEN an address that nothing is mapped at WHEN read THEN there is no mutex
    assert mutex_owner(RemoteMemory(os.getpid()), 4096) is None
    assert not is_mutex(RemoteMemory(os.getpid()), (4096, FUTEX_WAIT_PRIVATE, 2))


def mapping(start: int, end: int, permissions: str, offset: int, path: str) -> Mapping:
    return Mapping(start, end, permissions, offset, 1 if path.startswith("/") else 0, path)


LIBRARY = [
    mapping(0x1000, 0x2000, "r--p", 0, "/lib/libfft.so"),
    mapping(0x2000, 0x3000, "r-xp", 0x1000, "/lib/libfft.so"),
    mapping(0x3000, 0x4000, "rw-p", 0x2000, "/lib/libfft.so"),
    mapping(0x4000, 0x5000, "rw-p", 0, ""),
    mapping(0x8000, 0x9000, "rw-p", 0, ""),
    mapping(0x9000, 0xA000, "rw-p", 0, "[heap]"),
    mapping(0xA000, 0xB000, "rw-p", 0, ""),
]


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        (0x3010, True),  # .data
        (0x4010, True),  # .bss: anonymous, right behind
        (0x2010, False),  # code
        (0x8010, False),  # memory of nobody's file
        (0xA010, False),  # behind the heap
        (0xF000, False),
    ],
)
def test_variables_are_in_a_file_or_right_behind_it(address: int, inside: bool) -> None:
    # GIVEN a library's mappings WHEN an address is looked up THEN it is one of its variables or not
    last, first = _image_at(LIBRARY, address)
    assert (first is LIBRARY[0]) is inside
    assert (last is LIBRARY[2]) is inside


SOURCE = """
#include <pthread.h>
static pthread_mutex_t plan_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t cleared_lock;
void *plan(void) { return &plan_lock; }
void *cleared(void) { return &cleared_lock; }
"""


def built(folder: Path, *options: str) -> ctypes.CDLL:
    """A small library with two mutexes."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "needs a C compiler: apt-get install gcc"
    source, library = folder / "fft.c", folder / "libfft.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", *options, source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    for name in ("plan", "cleared"):
        getattr(loaded, name).restype = ctypes.c_void_p
    return loaded


def test_a_variable_is_called_by_its_symbol(tmp_path: Path) -> None:
    # GIVEN a library with a mutex that has a value from the start, and one that has none
    library = built(tmp_path)
    # WHEN their places are looked up THEN both have the names of the source
    assert variable_at(os.getpid(), library.plan()) == "plan_lock of libfft.so"
    assert variable_at(os.getpid(), library.cleared()) == "cleared_lock of libfft.so"


def test_a_stripped_library_is_named_alone(tmp_path: Path) -> None:
    # GIVEN the same without symbols WHEN looked up THEN the file is what is known
    assert variable_at(os.getpid(), built(tmp_path, "-s").plan()) == "a mutex of libfft.so"


def test_memory_without_a_file_has_no_name() -> None:
    # GIVEN memory of malloc WHEN looked up THEN it has no name
    block = ctypes.create_string_buffer(64)
    assert variable_at(os.getpid(), ctypes.addressof(block)) is None
