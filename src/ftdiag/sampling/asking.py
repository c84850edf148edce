"""What a thread waits for as of a tick, where the kernel and memory did not say it of one moment.

In: what the kernel said of a thread, the stack and the wait entry that were read after that. Out: what blocks
it by then; and of a tick that is concluded later what it waits for, found out at the tick itself.
"""

from __future__ import annotations

from typing import NamedTuple

from ftdiag.model import ThreadState
from ftdiag.sampling.holders import Holders
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.locks.parkinglot import WaitEntry
from ftdiag.sources.locks.waits import Blocked, Classified, WaitReader


class Asked(NamedTuple):
    """Of a thread at a tick that is concluded later: what blocks it, and what it waits for.

    Both are `None` if it runs, or wants to.
    """

    blocked: Blocked | None
    found: Classified | None


class Asking:
    """Asks about the threads of one target."""

    def __init__(self, locks: LockReader, waits: WaitReader, holders: Holders) -> None:
        self._locks = locks
        self._waits = waits
        self._holders = holders

    def as_of_stacks(
        self, thread: SampledThread, blocked: Blocked | None, stack: int, entry: WaitEntry | None
    ) -> Blocked | None:
        """What a thread waits for as of the moment at which stacks were read; `None` if it runs, or wants to.

        The kernel was asked before; what changed since shows in the wait entry.
        """
        if blocked is None or not blocked.entry:
            if entry is not None and entry.queued and self._holders.parks_at(stack, entry):
                return self._waits.parked_at(thread.entry)
            return blocked
        if entry is not None and (entry.queued or self._holders.parks_at(stack, entry)):
            return blocked if entry.queued else None
        # It left the place where it waited, or did not wait as CPython does.
        line = thread.syscall_line()
        return None if line is None else self._waits.parse(line)

    def now(self, thread: SampledThread, blocked: Blocked, stack: int) -> Asked | None:
        """The same with what it waits for; `None` if that is a lock, or a pause: there is more to conclude.

        Of a thread with one state, whose wait is not told by what was read with its stack.
        """
        entry = self._locks.entry_at(thread.entry) if thread.entry else None
        by_now = self.as_of_stacks(thread, blocked, stack, entry)
        if by_now is None:
            return Asked(None, None)
        found = self._waits.classify(by_now, stack, thread.python[0], thread.info.tid)
        return None if found.lock is not None or found.state is ThreadState.STOPPED else Asked(by_now, found)
