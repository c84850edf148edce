"""Locks and those that wait for them as of one moment: read along with the stacks of the threads.

In: what is wanted. Out: wait entries, heads of locks, whether anybody has one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import LockKind, LockRef
from ftdiag.sources.kernel.memory import ReadAlong
from ftdiag.sources.locks.parkinglot import (
    LINKS,
    REACH_BYTES,
    UNLINKED,
    WaitEntry,
    parse_wait_entry,
)
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.walking import PythonThread

MAX_OWNER_DISTANCE: Final = 256
"""How far into an object a mutex or event of its own may lie."""
SECTION: Final = struct.Struct("<QQQ")
SECTION_BYTES: Final = SECTION.size
"""struct PyCriticalSection2 {prev, mutex, mutex2}; PyCriticalSection is the first 16 bytes of it."""
_MUTEX_LOCKED: Final = 1
"""_Py_LOCKED (Include/internal/pycore_lock.h)."""
_LOCK_BYTES: Final = 8
_RLOCK_BYTES: Final = 24
"""What follows the head of a lock object: 3.14's _PyRecursiveMutex, or 3.13's pointer, owner and count."""
_SEMAPHORE_VALUE: Final = struct.Struct("<i")
"""Where a sem_t keeps its value (nptl/sem_waitcommon.c: the low half of `data`)."""


@dataclass(frozen=True, slots=True)
class LockWait:
    """What a thread blocked in a futex waits for.

    `key` is the address that all waiters and holders of the lock share. `owner` is the object it belongs
    to (0 where there is none), `owner_type` the address of its type. `suspended`: the thread is stopped by a
    stop-the-world pause. `event`: not a mutex but something that another thread will set (a queue, a
    thread's end).
    """

    key: int
    lock: LockRef | None
    owner: int = 0
    owner_type: int = 0
    suspended: bool = False
    event: bool = False

    @property
    def of_program(self) -> bool:
        """Whether it is the lock of an object of the program, of which can be read whether anybody has it.

        What an event waits for is held by nobody. Locks that Condition.wait makes for one wait have no owner
        here.
        """
        if self.event or self.lock is None or not self.owner:
            return False
        return self.lock.kind in (LockKind.OBJECT, LockKind.USER)

    @property
    def has_mutex(self) -> bool:
        """Whether it is a lock of the program and `key` a PyMutex inside its owner: its waiters park."""
        return self.of_program and 0 < self.key - self.owner < MAX_OWNER_DISTANCE

    @property
    def has_semaphore(self) -> bool:
        """Whether it is a lock of the program and `key` a semaphore elsewhere (3.13's RLock)."""
        return self.of_program and not 0 < self.key - self.owner < MAX_OWNER_DISTANCE


def says_woken(data: bytes | None) -> bool:
    """Whether what was read of a wait entry, if it is one, says that its thread waits no longer."""
    return data is not None and data[LINKS] == UNLINKED


class Moment:
    """What is read of locks and of those that wait for them, as of one moment."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = interpreter.layout
        self._owning: dict[int, bool] = {}
        self._moment = ReadAlong()
        self._unreadable: set[int] = set()
        """What was wanted in this second and could not be read: it spoils the read that takes it along."""
        self._late: Mapping[int, bytes] | None = None
        self.unreadable = 0
        """Changes when `want_beside` must be called again although entry and section are what they were."""

    @property
    def unreadable_places(self) -> tuple[set[int], int]:
        """What was wanted and could not be read, and `unreadable`."""
        return self._unreadable, self.unreadable

    @property
    def last_read(self) -> dict[int, bytes | None]:
        """What was read for the last look, by address."""
        return dict(self._moment.found)

    def look_anew(self) -> ReadAlong:
        """Begin a look at threads: forget what was read for the last one.

        What is wanted of the moment at which their stacks are read goes into what is returned.
        """
        found = self._moment.found
        if None in found.values():
            self._unreadable.update(address for address, data in found.items() if data is None)
            self.unreadable += 1
        self._moment.clear()
        self._owning.clear()
        return self._moment

    def go_back(self, found: dict[int, bytes | None], late: Mapping[int, bytes] | None) -> None:
        """Take for read what was read at another tick; `late`: wait entries as they were right after that."""
        self._moment.found = found
        self._late = late
        self._owning.clear()

    def was_read(self, address: int) -> bool:
        """Whether what has that address was taken along, or was to be."""
        return address in self._moment.found

    def want_beside(self, thread: PythonThread, entry: int) -> None:
        """Take along, right beside a thread's state, its wait entry (0: none) and last critical section."""
        unreadable = self._unreadable
        wanted: tuple[tuple[int, int], ...] = ()
        if entry and entry not in unreadable:
            wanted = ((entry, REACH_BYTES),)
        if thread.section and thread.section not in unreadable:
            wanted = (*wanted, (thread.section, SECTION_BYTES))
        thread.beside = wanted

    def want_entries(self, addresses: Iterable[int]) -> None:
        """Take along what may be the wait entries of threads that are not walked."""
        wanted, unreadable = self._moment.wanted, self._unreadable
        for address in addresses:
            if address not in unreadable:
                wanted[address] = REACH_BYTES

    def want_places(self, places: Mapping[int, int]) -> None:
        """Take along what lies at these addresses, of these sizes."""
        want, unreadable = self._moment.want, self._unreadable
        for address, size in places.items():
            if address not in unreadable:
                want(address, size)

    def look_on(self) -> None:
        """What was read is now of the next tick."""
        self._owning.clear()

    def drop_entries(self, addresses: Iterable[int]) -> None:
        """Let go of what was taken along from these places."""
        for address in addresses:
            self._moment.found.pop(address, None)

    def want_locks(self, waits: Iterable[LockWait]) -> None:
        """Take along what tells whether anybody has these locks of the program, and who."""
        want, unreadable = self._moment.want, self._unreadable
        for wait in waits:
            if wait.owner not in unreadable:
                want(wait.owner, self._owner_size(wait))
            if wait.has_semaphore and wait.key not in unreadable:
                want(wait.key, _SEMAPHORE_VALUE.size)

    def entry_at(self, address: int) -> WaitEntry | None:
        """The wait entry that was taken along; `None` if there was none."""
        data = self._moment.found.get(address)
        return None if data is None else parse_wait_entry(address, data)

    def woken(self, addresses: Sequence[int]) -> Iterator[tuple[int, WaitEntry]]:
        """Of wait entries that were taken along, those that wait no longer: their place and what they say."""
        found = self._moment.found
        for place, address in enumerate(addresses):
            data = found.get(address)
            if says_woken(data) and data is not None:  # nearly never
                entry = parse_wait_entry(address, data)
                if entry is not None:
                    yield place, entry

    def entries_now(self, addresses: Sequence[int]) -> list[WaitEntry | None]:
        """The wait entries at addresses as they are by now."""
        read: Sequence[bytes | None]
        if self._late is not None:
            read = [self._late.get(address) for address in addresses]
        else:
            read = self._memory.read_many([(address, REACH_BYTES) for address in addresses])
        return [
            None if data is None else parse_wait_entry(address, data)
            for address, data in zip(addresses, read, strict=True)
        ]

    def _owner_size(self, wait: LockWait) -> int:
        recursive = wait.lock is not None and wait.lock.type_name == "_thread.RLock"
        return self._layout.object_size + (_RLOCK_BYTES if recursive else _LOCK_BYTES)

    def _owner_bytes(self, wait: LockWait) -> bytes | None:
        """Head and lock of a lock's owner; as they were with the stacks, if they were taken along."""
        return self.bytes_at(wait.owner, self._owner_size(wait))

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """What lies at an address: as it was with the stacks, if it was taken along, else as it is now."""
        found = self._moment.found
        if address in found:
            data = found[address]
            if data is None or len(data) >= size:
                return data
        return self._memory.read_many([(address, size)])[0]

    def is_free(self, wait: LockWait) -> bool:
        """Whether nobody has a lock of the program: so it is while the thread that was woken is on its way.

        `False` where it cannot be read.
        """
        if wait.has_semaphore:
            data = self.bytes_at(wait.key, _SEMAPHORE_VALUE.size)
            return data is not None and _SEMAPHORE_VALUE.unpack_from(data)[0] > 0
        data = self._owner_bytes(wait)
        return data is not None and not data[wait.key - wait.owner] & _MUTEX_LOCKED
