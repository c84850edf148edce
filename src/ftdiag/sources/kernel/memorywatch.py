"""Readings of a process's memory beside the sampler's ticks, as often as their cost allows.

In: a pid, its CPython, which threads it has. Out: a `MemoryReading` every few seconds at most.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from ftdiag.model import MemoryReading
from ftdiag.ownthreads import start_thread
from ftdiag.sources.kernel.memorymap import Owner, ProcessMemory
from ftdiag.sources.python.runtime import Runtime

PERIOD_NS: Final = 5_000_000_000
"""The memory is read at most this often."""
MOST_CORES: Final = 0.005
"""Part of a core that readings may take, unless told otherwise: after a costly one the pause is longer."""


class MemoryWatch:
    """Takes readings beside the sampler's ticks, in a thread of its own, as often as their cost allows.

    `begin` and `take` never wait: the system calls that read the pages take milliseconds, and ticks go on
    meanwhile.
    """

    def __init__(self, pid: int, runtime: Runtime | None, most_cores: float = MOST_CORES) -> None:
        self._most_cores = most_cores
        self._process = ProcessMemory(pid, runtime)
        self._wanted = threading.Event()
        self._closed = False
        self._owners: Sequence[Owner] = ()
        self._reading: MemoryReading | None = None
        self._busy = False
        self._began_ns = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.due_ns = 0
        """When the next reading may begin."""

    def begin(self, owners: Sequence[Owner], now_ns: int) -> None:
        """Begin a reading, unless one is under way."""
        if self._busy:
            return
        if self._thread is None:
            self._thread = start_thread(self._run, "memory")
        self.due_ns = now_ns + PERIOD_NS
        self._owners = owners
        self._began_ns = now_ns
        self._busy = True
        self._done.clear()
        self._wanted.set()

    def waits_ns(self, now_ns: int) -> int:
        """How long a reading has been under way; 0 if there is none."""
        return now_ns - self._began_ns if self._busy else 0

    def take(self, wait_s: float = 0.0) -> MemoryReading | None:
        """The reading that was finished since the last call, waiting for one under way at most `wait_s`."""
        if self._busy and wait_s:
            self._done.wait(wait_s)
        reading, self._reading = self._reading, None
        if reading is not None:
            self.due_ns = max(self.due_ns, reading.at_ns + pause_ns(reading.cost_ns, self._most_cores))
        return reading

    def close(self) -> None:
        """End the thread, in the middle of a reading if there is one."""
        self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closed:
                return
            self._wanted.clear()
            try:
                self._reading = self._process.read(self._owners, lambda: not self._closed)
            finally:
                self._busy = False
                self._done.set()


def pause_ns(cost_ns: int, most_cores: float = MOST_CORES) -> int:
    """From the beginning of a reading that took so much CPU time to the next."""
    return max(PERIOD_NS, int(cost_ns / most_cores))
