"""What looking at one process may cost: bytes, calls of the kernel, seconds, for all its readers together.

In: the limits, and whose process it is. Out: `Budget`, which readers ask before they read; what goes beyond
it is `BudgetSpent`. A bound for each item (a mapping, a section, a name) bounds nothing: a process chooses
how many items it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ftdiag.errors import BudgetSpent

LOOK_BYTES: Final = 512 << 20
"""Memory and files read to find and identify the interpreter of a process; 2 MB are usual."""
LOOK_CALLS: Final = 200_000
LOOK_S: Final = 10.0
"""A look takes some milliseconds; seconds on a machine that is short of memory."""
TICK_BYTES: Final = 256 << 20
TICK_CALLS: Final = 100_000
TICK_S: Final = 0.5
"""CPU time of one tick; a tick takes some 0.5 ms."""
FIRST_CREDIT_S: Final = 5.0
"""CPU time that the first ticks of a look may take beyond that, all of them together: everything is seen for
the first time, which takes a millisecond for each of a thousand threads that wait for a lock of their own."""
REFRESH_S: Final = 0.5
"""The same for what is read once a second: names, code objects, modules."""
ASKED_EVERY: Final = 4
"""Reads between two looks at the clock, of which that of CPU time costs a tenth of a read."""


class Budget:
    """Counts down while a process is read. Not thread-safe.

    `clock` gives seconds, as time.monotonic does; it is asked once in `asked_every` reads.
    """

    __slots__ = ("_asked_every", "_bytes", "_calls", "_clock", "_ends", "_limits", "_pid", "_unasked")

    def __init__(
        self,
        pid: int,
        *,
        size_bytes: int = LOOK_BYTES,
        calls: int = LOOK_CALLS,
        seconds: float = LOOK_S,
        clock: Callable[[], float] = time.monotonic,
        asked_every: int = 1,
    ) -> None:
        self._pid = pid
        self._clock = clock
        self._asked_every = asked_every
        self._limits = (size_bytes, calls, seconds)
        self.renew()

    def renew(self, seconds: float | None = None, extra_s: float = 0.0) -> None:
        """Begin anew, with as much as before, or another time; `extra_s` comes on top, with its reads."""
        if seconds is not None:
            self._limits = (*self._limits[:2], seconds)
        size_bytes, calls, allowed_s = self._limits
        more = 1.0 + extra_s / allowed_s
        self._bytes, self._calls = int(size_bytes * more), int(calls * more)
        self._ends = self._clock() + allowed_s + extra_s
        self._unasked = self._asked_every

    def take(self, size_bytes: int, calls: int = 1) -> None:
        """Account for a read before it is made. Raises BudgetSpent."""
        self._bytes -= size_bytes
        self._calls -= calls
        if self._bytes < 0:
            raise self._spent(f"{self._limits[0] >> 20} MiB of its memory and files are not enough")
        if self._calls < 0:
            raise self._spent(f"{self._limits[1]:,} reads of its memory and files are not enough")
        self._unasked -= 1
        if self._unasked <= 0:
            self.check()

    def check(self) -> None:
        """Look at the clock: where something may take long without a read. Raises BudgetSpent."""
        self._unasked = self._asked_every
        if self._clock() > self._ends:
            raise self._spent(f"it takes more than {self._limits[2]:g} s")

    def _spent(self, why: str) -> BudgetSpent:
        return BudgetSpent(
            f"reading process {self._pid} was given up: {why}",
            f"ftdiag attach {self._pid} --source py-spy   shows what the kernel knows of its threads",
        )
