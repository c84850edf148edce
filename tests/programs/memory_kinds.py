"""Threads that hold memory of every kind, a known amount of each, and sleep.

Usage: memory_kinds.py. Writes "ready PID" once all is there. The amounts are those of tests/integration/
test_memory.py.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
import time

MIB = 1 << 20
kept: list[object] = []
holding = threading.Barrier(5)


def hold() -> None:
    """The thread keeps what it made."""
    holding.wait()
    time.sleep(1000)


def python_objects() -> None:
    """48 MiB of Python's own objects, in this thread's heap."""
    kept.append([bytes(400) for _ in range(48 * MIB // 400)])
    hold()


def libc_memory() -> None:
    """24 MiB of libc's malloc, in pieces that it does not map one by one."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    for _ in range(25 * MIB // 65_536):
        ctypes.memset(libc.malloc(65_000), 1, 65_000)
    hold()


def mapped_memory() -> None:
    """30 MiB mapped for itself, 20 MiB shared."""
    for flags, size in ((mmap.MAP_PRIVATE, 30 * MIB), (mmap.MAP_SHARED, 20 * MIB)):
        area = mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS)
        for start in range(0, size, 65_536):
            area[start : start + 65_536] = b"\1" * 65_536
        kept.append(area)
    hold()


def shortly() -> None:
    """16 MiB of objects that outlive their thread."""
    kept.append([bytes(400) for _ in range(16 * MIB // 400)])


if __name__ == "__main__":
    ended = threading.Thread(target=shortly)
    ended.start()
    ended.join()
    for body in (python_objects, libc_memory, mapped_memory):
        threading.Thread(target=body, name=body.__name__, daemon=True).start()
    threading.Thread(target=hold, name="idle", daemon=True).start()
    holding.wait()
    sys.stdout.write(f"ready {os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(1000)
