"""Notices that a read of the target does not come back, and ends the look all the same.

In: the thread that reads, which says when it does. Out: calls, from a thread of its own, when that thread has
been asleep in the kernel for a while in the middle of it: first to say so, then to give up. A program that
copies a very large memory (fork) keeps who reads it waiting for seconds, too.

The pages of a program's memory may be brought by another program (userfaultfd, a file of FUSE), which may
never do so; the kernel then keeps the reader waiting, and nothing but the end of its process helps. Time
alone proves nothing: a busy machine, a stop signal or a suspended laptop take as long. So it is asked whether
the thread used any CPU time between two looks and whether it waits for a core, and looks are counted, not
seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ftdiag.ownthreads import start_thread

LOOK_EVERY_S: Final = 0.25
SLOW_LOOKS: Final = 10
"""Looks in a row at which nothing moved: two and a half seconds, after which a person is told."""
SILENT_LOOKS: Final = 40
"""Ten seconds, after which it is given up."""
_READS_OF_MEMORY: Final = {"x86_64": 310, "aarch64": 270}
"""process_vm_readv (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""
_WAITS_FOR_A_THREAD: Final = {"x86_64": 202, "aarch64": 98}
"""futex."""
OWN_THREAD: Final = "a part of ftdiag does not come up"
"""What is said where it waits for a thread of its own: one that had no memory to begin with never says so."""


class Watchdog:
    """Watches the thread that makes it, whenever that has `reading` set."""

    def __init__(
        self,
        silent: Callable[[str], None],
        slow: Callable[[str], None] | None = None,
        back: Callable[[], None] | None = None,
        *,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`silent` is called once, with what does not come back, in words; `slow` before that, every time it
        seems so, and `back` when it came. Without `slow` it is given up as early as that would be called.
        """
        self.reading = False
        self._silent = silent
        self._slow = slow
        self._back = back
        self._most = SLOW_LOOKS if slow is None else SILENT_LOOKS
        self._every_s = every_s
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._folder = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._ended = threading.Event()
        self._thread = start_thread(self._watch, "watchdog")

    def close(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self) -> None:
        used_ns, looks = -1, 0
        while not self._ended.wait(self._every_s):
            try:
                now_ns = time.clock_gettime_ns(self._clock)
            except OSError:
                return  # the thread has ended
            if not self.reading or now_ns != used_ns or self._wants_a_core():
                if looks >= SLOW_LOOKS and self._back is not None:
                    self._back()
                used_ns, looks = now_ns, 0
                continue
            looks += 1
            if looks >= self._most:
                self._silent(self._what())
                return
            if looks == SLOW_LOOKS and self._slow is not None:
                self._slow(self._what())

    def _wants_a_core(self) -> bool:
        try:
            return (self._folder / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"R"
        except (OSError, IndexError):
            return False

    def _what(self) -> str:
        """What the thread waits for."""
        try:
            number = int((self._folder / "syscall").read_bytes().split()[0])
        except (OSError, ValueError, IndexError):
            number = -1
        machine = os.uname().machine
        if number == _READS_OF_MEMORY.get(machine):
            return "a read of its memory does not come back"
        if number == _WAITS_FOR_A_THREAD.get(machine):
            return OWN_THREAD
        return "the kernel does not answer what it was asked of it"
