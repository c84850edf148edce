"""Waits for locks that were seen before: what they are, and their ids in the recording.

In: what was concluded of a thread that waits. Out: the same for the next one that waits there, without going
through all that it may wait for.
"""

from __future__ import annotations

from ftdiag.model import NO_WAIT
from ftdiag.sampling.holders import MAX_PLACES
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sources.kernel.syscalls import SyscallInfo
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.locks.names import MAX_LOCKS
from ftdiag.sources.locks.parkinglot import WaitEntry
from ftdiag.sources.locks.waits import NO_FACTS, Blocked, Classified, WaitReader
from ftdiag.sources.python.walking import PythonThread


class KnownWaits:
    """The waits for locks of one target."""

    def __init__(self, locks: LockReader, waits: WaitReader, sink: RecordingSink) -> None:
        self._locks = locks
        self._waits = waits
        self._sink = sink
        self._ids: dict[int, tuple[Classified, int]] = {}
        self._places: dict[tuple[int, int], tuple[SyscallInfo | None, Classified, int]] = {}
        """(Lock, stack) -> the call that waits, what it waits for, and its id."""

    def again(
        self, blocked: Blocked, stack: int, entry: WaitEntry, thread: PythonThread | None
    ) -> tuple[Classified, int] | None:
        """The wait of a thread that parks where threads were seen to park, as its entry has it."""
        known = self._places.get((entry.key, stack))
        if known is None:
            return None
        call, found, wait_id = known
        if call is not blocked.info or found.lock is None:
            return None
        return (found, wait_id) if self._locks.is_still(found.lock, entry.key, thread) else None

    def note(self, blocked: Blocked, stack: int, entry: WaitEntry | None, found: Classified) -> int:
        """A thread waits for a lock: the recording's id of that; most are what the last one for it was."""
        assert found.lock is not None, "it waits for one"
        key = found.lock.key
        last, wait_id = self._ids.get(key, (None, NO_WAIT))
        if last is not found:
            wait_id = NO_WAIT if found.wait is None else self._sink.intern_wait(found.wait)
            if len(self._ids) >= MAX_LOCKS:
                self._ids.clear()
            self._ids[key] = found, wait_id
        # The lock that a condition makes for one wait is another one each time.
        if blocked.entry and entry is not None and entry.key == key and self._waits.facts(stack) is NO_FACTS:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[key, stack] = blocked.info, found, wait_id
        return wait_id
