"""What an attached tool leaves in a process: threads, open captures, debuggers that still run.

In: a pid. Out: what is there, and whether the process is still the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import FtdiagError
from ftdiag.sources.kernel import procfs

GDB: Final = "gdb"
LLDB: Final = "lldb"
STOPPED: Final = "T"
"""The kernel's letter for a process that was stopped by a signal."""
MAX_DESCRIPTORS: Final = 4096
REFUSED: Final = "the debugger may not attach to the program"
MAX_NAMED_CAPTURES: Final = 4
"""Captures of a process that are named; a program can call its files as it likes."""


def open_files(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for name in sorted(os.listdir(f"/proc/{pid}/fd"))[:MAX_DESCRIPTORS]:
            yield f"/proc/{pid}/fd/{name}"


@dataclass(frozen=True, slots=True)
class Traces:
    """What of memray is in a process."""

    capture_open: bool
    threads: tuple[int, ...] = ()
    """Threads that came when it was attached and are still there."""

    def __bool__(self) -> bool:
        return self.capture_open or bool(self.threads)


def threads_of(pid: int) -> frozenset[int]:
    """Ids of its threads; none if it is gone."""
    try:
        return frozenset(procfs.thread_ids(pid))
    except (OSError, FtdiagError):
        return frozenset()


def traces(pid: int, capture: Path, suspects: frozenset[int] = frozenset()) -> Traces:
    """What of memray is there: its open capture file, and those of the suspected threads that live."""
    wanted = os.fspath(capture)
    is_open = False
    for path in open_files(pid):
        with suppress(OSError):
            target = os.readlink(path)
            is_open = is_open or target in (wanted, f"{wanted} (deleted)")
    return Traces(is_open, tuple(sorted(suspects & threads_of(pid))))


def abandoned_captures(pid: int) -> tuple[str, ...]:
    """Captures of ours that the process has open although their folder is gone."""
    found = []
    for path in open_files(pid):
        with suppress(OSError):
            target = os.readlink(path)
            if "/ftdiag-memray-" in target and target.endswith(" (deleted)"):
                found.append(target.removesuffix(" (deleted)"))
    return tuple(dict.fromkeys(found))[:MAX_NAMED_CAPTURES]


def is_same_process(pid: int, start_ticks: int) -> bool:
    """Whether the process is still the one that was meant."""
    try:
        found = procfs.read_process_stat(pid)
    except (FtdiagError, OSError, ValueError, IndexError):
        return False
    return found.start_ticks == start_ticks and found.state not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped it. A debugger that is let at it then fails, and may leave it crashing."""
    with suppress(FtdiagError, OSError, ValueError, IndexError):
        return procfs.read_process_stat(pid).state == STOPPED
    return False


def debuggers_below(pid: int) -> tuple[int, ...]:
    """Debuggers (gdb, lldb) among the descendants of a process, which a driver must never kill by force.

    A debugger that is killed leaves its breakpoints in the process that it debugs, and they kill that one.
    """
    found: list[int] = []
    parents = [pid]
    while parents and len(found) < 16:
        parent = parents.pop()
        for child in _children(parent):
            parents.append(child)
            with suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip().startswith((GDB, LLDB)):
                    found.append(child)
    return tuple(found)


def _children(pid: int) -> Iterator[int]:
    for tid in threads_of(pid):
        with suppress(OSError, ValueError):
            for child in Path(f"/proc/{pid}/task/{tid}/children").read_text().split()[:64]:
                yield int(child)


@functools.cache
def gdb_words(said: str) -> str | None:
    """What a debugger's or memray's output means, where it is one of the known failures."""
    known = (
        (
            "Timed out waiting for connection",
            "no thread of the program came to a place where memray's code runs",
        ),
        ("You most likely do not have permission", REFUSED),
        ("ptrace: Operation not permitted", REFUSED),
        ("Remote debugging is not enabled", "the program forbids sys.remote_exec"),
        ("No more than one Tracker", "memray tracks the program already"),
        ("couldn't open the memray shared library", "the program may not read memray's files"),
        ("No space left", "the disk is full"),
    )
    return next((words for sign, words in known if sign in said), None)
