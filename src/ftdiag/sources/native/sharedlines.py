"""Which cache lines more than one thread changes with atomic instructions.

In: what atomic instructions of samples worked on, in which thread. Out: whether a line is shared, and what is
changed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_LINES: Final = 65_536
"""Cache lines whose last user is remembered."""
LINE_BITS: Final = 6
COUNT_OFFSET: Final = 16
"""Where an object has the count that threads share (`ob_ref_shared`, Include/object.h)."""
LOWEST: Final = 4096 - COUNT_OFFSET
"""Where an object begins at least whose count can be changed: nothing is mapped on the first page."""
ANYHOW_SHARE: Final = 0.024
"""Part of a thread's samples that is at such instructions where nobody else changes the lines: 1 to 4 %, 2.4
on average, in seven programs that count shared references, run with one thread (docs/accuracy.md)."""
MOST_ANYHOW: Final = 2.0
"""So many samples of it are kept for later at most: a thread's beginning says nothing of its end."""
MAX_THREADS: Final = 8192
_SHARED: Final = -1


class SharedLines:
    """Which cache lines more than one thread changes with atomic instructions.

    An atomic instruction on a line that only one thread uses costs little and is part of its work: the lock
    of a thread's own list, the reference count of its own dictionary keys. It is time lost to others only if
    others change the line too. `age` forgets what was not seen since the call before.
    """

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._changed: dict[int, int] = {}
        """Of the shared ones, the place on it that was changed last."""
        self._anyhow: dict[int, float] = {}
        """Thread -> samples at such instructions that it would have without the others."""

    def hit(self, address: int, tid: int) -> bool:
        """Note that a thread changes a place; whether others were seen to do so too."""
        line = address >> LINE_BITS
        shared = self._note(line, tid)
        if shared:
            self._changed[line] = address
        return shared

    def _note(self, line: int, tid: int) -> bool:
        user = self._young.get(line)
        if user is None:
            if len(self._young) >= MAX_LINES:
                self.age()
            self._young[line] = tid
            user = self._old.get(line, tid)
            if user not in (tid, _SHARED):
                self._young[line] = _SHARED
            return user != tid
        if user != tid:
            self._young[line] = _SHARED
            return True
        return self._old.get(line) == _SHARED

    def sampled(self, tid: int) -> None:
        """Note that a thread was sampled, wherever it was."""
        anyhow = self._anyhow.get(tid, 0.0) + ANYHOW_SHARE
        if len(self._anyhow) >= MAX_THREADS:
            self._anyhow.clear()
            anyhow = ANYHOW_SHARE
        self._anyhow[tid] = anyhow if anyhow < MOST_ANYHOW else MOST_ANYHOW

    def lost(self, tid: int) -> bool:
        """Whether a sample of a thread at a line that others change is time lost to them.

        Of those that it would have anyhow it is not known which they are: as many are none as come to that.
        """
        anyhow = self._anyhow.get(tid, 0.0)
        if anyhow < 1.0:
            return True
        self._anyhow[tid] = anyhow - 1.0
        return False

    @property
    def places(self) -> Mapping[int, int]:
        """The places on shared lines that were changed last, by line; until the next `age` it grows."""
        return self._changed

    def near(self, registers: bytes) -> bool:
        """Whether one of these registers points to a shared line, or to an object whose count is on one."""
        changed = self._changed
        if not changed:
            return False
        for value in memoryview(registers)[: len(registers) & ~7].cast("Q"):
            # Most are numbers. A count is on another line than its object's begin where that is in the last
            # quarter of one.
            if value >= LOWEST and (
                value >> LINE_BITS in changed or value + COUNT_OFFSET >> LINE_BITS in changed
            ):
                return True
        return False

    def changed(self, address: int) -> int | None:
        """What more than one thread was seen to change on the line of a place; `None` where there is none."""
        return self._changed.get(address >> LINE_BITS)

    def age(self) -> None:
        """Forget what was last seen before the previous call."""
        self._old, self._young = self._young, {}
        shared = {line for line, user in self._old.items() if user == _SHARED}
        self._changed = {line: place for line, place in self._changed.items() if line in shared}
