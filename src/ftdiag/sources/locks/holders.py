"""Which locks threads hold, and who holds a lock.

In: frames, critical sections, what locks record of their owners. Out: keys of locks, threads.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.locks.moment import SECTION, SECTION_BYTES, LockWait, Moment
from ftdiag.sources.locks.mutexes import mutex_owner
from ftdiag.sources.locks.names import MAX_LOCKS, STACKREF_TAGS, type_name_of
from ftdiag.sources.python.interpreter import InterpreterReader, address_in
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.walking import CRITICAL_SECTION_TAGS, PythonThread

MAX_CRITICAL_SECTIONS: Final = 16
_INACTIVE: Final = 1
"""Tag of a critical section that was suspended: its locks are released (_Py_CRITICAL_SECTION_INACTIVE)."""
_TWO_MUTEXES: Final = 2
BOUND_METHODS: Final = frozenset({"builtin_function_or_method", "method"})
WORD: Final = struct.Struct("<Q")
LOCK_TYPES: Final = frozenset({"_thread.lock", "_thread.RLock"})
MUTEX_TYPE: Final = "pthread mutex"
"""The type name of a C library's mutex, as recordings have it."""


class HeldLocks(Moment):
    """Which locks threads hold, and who holds a lock, by what threads and locks themselves record."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        super().__init__(interpreter)
        self._exit_keys: dict[int, int] = {}
        self.lockless: set[int] = set()
        """Types of context managers that are no locks, as was found in this second."""
        self._lock_type = 0
        """The address of the type of plain locks, once one was seen."""
        self._held: dict[tuple[int, ...], tuple[int, ...]] = {}
        """Stack slots of `with` blocks -> keys of the locks among them, in this second."""

    def _forget_held(self) -> None:
        """A second is over: another object may be in the place of each."""
        self._exit_keys.clear()
        self._held.clear()
        self.lockless.clear()

    def _size_of_instances(self, owner: int) -> int:
        try:
            return self._memory.read_word(self._objects.type_of(owner) + self._layout.type_basic_size)
        except MemoryReadError:
            return 0

    def lock_type(self, key: int) -> int:
        """The address of the type of the `_thread.lock` that has this mutex; 0 if there is none."""
        owner = key - self._layout.object_size
        data = self._moment.found.get(owner)
        if data is not None and len(data) >= self._layout.object_size:
            type_address: int = WORD.unpack_from(data, self._layout.object_type)[0]
            if type_address == self._lock_type:
                return type_address
        if type_name_of(self._objects, owner) == "_thread.lock":
            with suppress(MemoryReadError):
                self._lock_type = self._objects.type_of(owner)
                return self._lock_type
        return 0

    def _type_of_manager(self, manager: int) -> int:
        """The address of its type: as it was read with the stacks, if it was. Raises MemoryReadError."""
        data = self._moment.found.get(manager)
        if data is not None and len(data) >= self._layout.object_size:
            type_address: int = WORD.unpack_from(data, self._layout.object_type)[0]
            return type_address
        return self._objects.type_of(manager)

    def mutex_owner(self, wait: LockWait) -> int | None:
        """The id of the thread that has a C library's mutex; `None` where nobody has it, or it is none."""
        if wait.lock is None or wait.lock.type_name != MUTEX_TYPE:
            return None
        return mutex_owner(self._memory, wait.key)

    def held_by_with_blocks(self, thread: PythonThread) -> tuple[int, ...]:
        """Keys of the locks that the thread holds through `with` blocks (proven by its frames), each once."""
        exits = tuple(thread.with_exits)
        held = self._held.get(exits)
        if held is None:
            keys = (self._remembered_key(self._manager_of_exit(word)) for word in exits)
            # An RLock that was entered twice is held once.
            held = tuple(dict.fromkeys(key for key in keys if key))
            if not self._layout.with_keeps_exit_method:
                if len(self._held) >= MAX_LOCKS:
                    self._held.clear()
                self._held[exits] = held
        return held

    def learn(self, word: int) -> bool:
        """Find out which lock is behind a `with` block's stack slot, for whoever asks in this second."""
        self._remembered_key(self._manager_of_exit(word))
        return True

    def released_lock(self, thread: PythonThread) -> int | None:
        """Key of the lock of the Condition in whose `wait` the thread is; `None` if it is not known."""
        condition = next((address_in(word) for word in thread.marked), 0)
        return self._remembered_key(condition) or None if condition else None

    def _remembered_key(self, manager: int) -> int:
        """Key of the lock behind a context manager, 0 if there is none; looked up once a second."""
        key = self._exit_keys.get(manager)
        if key is None:
            key = self._key_of_manager(manager) or 0
            if len(self._exit_keys) >= MAX_LOCKS:
                self._exit_keys.clear()
            self._exit_keys[manager] = key
        return key

    def held_by_critical_sections(self, threads: Sequence[PythonThread]) -> list[tuple[tuple[int, int], ...]]:
        """(mutex, section) addresses of the objects' locks that each thread's active critical sections hold.

        The innermost section is of the moment of the walk if it was taken along. The others of all threads
        are read together, one system call for each that any of them is inside of.
        """
        held: list[list[tuple[int, int]]] = [[] for _ in threads]
        active = [(place, thread.critical_section) for place, thread in enumerate(threads)]
        found = self._moment.found
        for _ in range(MAX_CRITICAL_SECTIONS):
            below = []
            unread = []
            for place, tagged in active:
                # An inactive section on top means that all below it are suspended, too.
                if not tagged or tagged & _INACTIVE:
                    continue
                section = tagged & ~CRITICAL_SECTION_TAGS
                data = found.get(section)
                if data is None or len(data) != SECTION_BYTES:
                    unread.append((place, tagged, section))
                else:
                    below.append((place, _held_by(data, tagged, section, held[place])))
            if unread:
                read = self._memory.read_many([(section, SECTION_BYTES) for _, _, section in unread])
                for (place, tagged, section), data in zip(unread, read, strict=True):
                    if data is not None:
                        below.append((place, _held_by(data, tagged, section, held[place])))
            if not below:
                break
            active = below
        return [tuple(each) for each in held]

    def rlock_owner(self, wait: LockWait) -> int | None:
        """`threading.get_ident()` of an RLock's owner as the lock records it; `None` if it is no RLock."""
        if wait.lock is None or wait.lock.type_name != "_thread.RLock" or not wait.owner:
            return None
        data = self._owner_bytes(wait)
        if data is None:
            return None
        # 3.14: _PyRecursiveMutex {mutex, thread, level}; 3.13: {rlock_lock, rlock_owner, rlock_count}
        ident: int
        ident, level = struct.unpack_from("<QQ", data, self._layout.object_size + 8)
        # 3.13 counts from 1 while it is held; 3.14 counts further acquisitions only.
        if self._layout.rlock_is_semaphore and not level:
            return None
        return ident or None

    def _manager_of_exit(self, word: int) -> int:
        """The context manager in a `with` block's stack slot, which may have its bound `__exit__`; 0 if none.

        Where the slot has a bound method, that was made for this one block; the next block's often gets the
        same address. So it is read anew each time.
        """
        target = word & ~STACKREF_TAGS
        if not self._layout.with_keeps_exit_method:
            return target
        size = self._layout.object_size
        try:
            data = self._memory.read(target, size + 16)
            (type_address,) = WORD.unpack_from(data, self._layout.object_type)
            if self._objects.type_name(type_address) not in BOUND_METHODS:
                return 0
        except (MemoryReadError, NotAnObject):
            return 0
        # m_self and im_self are both the second word behind the header.
        manager: int = WORD.unpack_from(data, size + 8)[0]
        return manager

    def _key_of_manager(self, manager: int) -> int | None:
        """Key of the lock behind a context manager: a lock itself, or a Condition's lock."""
        try:
            type_address = self._type_of_manager(manager)
            if type_address in self.lockless:
                return None
            type_name = self._objects.type_name(type_address)
            if type_name == "Condition":
                inner = self._objects.attribute(manager, "_lock")
                if inner is None:
                    return None
                manager = inner
                type_name = self._objects.type_name(self._objects.type_of(manager))
            elif type_name not in LOCK_TYPES:
                if len(self.lockless) < MAX_LOCKS:
                    self.lockless.add(type_address)
                return None
            if type_name == "_thread.RLock" and self._layout.rlock_is_semaphore:
                return self._memory.read_word(manager + self._layout.object_size)
            if type_name in LOCK_TYPES:
                return manager + self._layout.object_size
        except (MemoryReadError, NotAnObject):
            return None
        return None


def _held_by(data: bytes, tagged: int, section: int, held: list[tuple[int, int]]) -> int:
    """Note what a critical section holds; the tagged pointer to the one below it."""
    previous: int
    previous, first, second = SECTION.unpack(data)
    held.append((first, section))
    if tagged & _TWO_MUTEXES:
        held.append((second, section))
    return previous
