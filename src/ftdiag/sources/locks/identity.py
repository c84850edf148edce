"""Which lock a blocked thread waits for, what it belongs to, and who holds it.

In: a thread blocked in futex(2), its Python frames. Out: the lock as a `LockRef`, and keys under which
waiters and holders of the same lock meet.

How it is known (Python/parking_lot.c, Python/lock.c, Python/critical_section.c, Modules/_threadmodule.c):
- A thread parked by CPython waits on the semaphore of a wait entry on its own C stack, which has the address
  of what it waits for (see `parkinglot`).
- The byte 10 of every object of a free-threaded build is its per-object mutex; a `threading.Lock` has its
  mutex at the end of the object header, an `RLock` too (3.14 on), or a pointer to a semaphore (3.13).
- Holders: the chain of critical sections of a thread names the object mutexes it holds; an RLock records
  its owner; a frame inside a `with` block holds the block's lock (see `withblocks`).
What is wanted as of the moment at which stacks are read is read along with them (`look_anew`).
Everything is checked before it is believed; what does not fit is unknown, never guessed.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from ftdiag.datatypes import dataclass, replace
from ftdiag.errors import MemoryReadError
from ftdiag.model import LockKind, LockRef
from ftdiag.sources.kernel.memory import ReadAlong
from ftdiag.sources.kernel.syscalls import BlockedCall
from ftdiag.sources.locks.mutexes import is_mutex, mutex_owner, variable_at
from ftdiag.sources.locks.parkinglot import (
    LINKS,
    LOWEST_ADDRESS,
    REACH_BYTES,
    SEMAPHORE_OFFSET,
    UNLINKED,
    WaitEntry,
    parse_wait_entry,
)
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.stackwalk import CRITICAL_SECTION_TAGS, PythonThread

OBJECT_MUTEX_OFFSET: Final = 10
"""`PyObject.ob_mutex` of free-threaded builds (Include/object.h)."""
MAX_STACK_DISTANCE: Final = 1 << 16
"""A wait entry lies this near above the stack pointer of a parked thread (sem_wait's frames between)."""
MAX_OWNER_DISTANCE: Final = 256
"""How far into an object a mutex or event of its own may lie."""
MAX_LOCKS: Final = 20_000
"""Locks that are remembered; the table starts anew beyond."""
MAX_SEARCHES: Final = 3
"""Waiters whose frames are searched for a lock's name when it is first waited for; some do not have one.

After that it is one in each of the seconds in which it is tried again.
"""
MAX_SEARCH_PAUSE_S: Final = 32
"""Seconds between the seconds in which a name is looked for that was never found."""
MAX_CRITICAL_SECTIONS: Final = 16
MAX_NAMED_FRAMES: Final = 8
MAX_NAMED_VALUES: Final = 64
MAX_GLOBALS: Final = 4000
MAX_LABEL_CHARACTERS: Final = 60

_INACTIVE: Final = 1
"""Tag of a critical section that was suspended: its locks are released (_Py_CRITICAL_SECTION_INACTIVE)."""
_TWO_MUTEXES: Final = 2
_SECTION: Final = struct.Struct("<QQQ")
_SECTION_BYTES: Final = _SECTION.size
"""struct PyCriticalSection2 {prev, mutex, mutex2}; PyCriticalSection is the first 16 bytes of it."""
_STACKREF_TAGS: Final = 7
_TPFLAGS_TYPE_SUBCLASS: Final = 1 << 31
_GIL_STATE_BYTES: Final = 256
"""struct _gil_runtime_state is 216 bytes on x86-64 and aarch64 (Include/internal/pycore_gil.h)."""
_BOUND_METHODS: Final = frozenset({"builtin_function_or_method", "method"})
_WORD: Final = struct.Struct("<Q")
_MUTEX_LOCKED: Final = 1
"""_Py_LOCKED (Include/internal/pycore_lock.h)."""
_LOCK_BYTES: Final = 8
_RLOCK_BYTES: Final = 24
"""What follows the head of a lock object: 3.14's _PyRecursiveMutex, or 3.13's pointer, owner and count."""
_SEMAPHORE_VALUE: Final = struct.Struct("<i")
"""Where a sem_t keeps its value (nptl/sem_waitcommon.c: the low half of `data`)."""
_LOCK_TYPES: Final = frozenset({"_thread.lock", "_thread.RLock"})
MUTEX_TYPE: Final = "pthread mutex"
"""The type name of a C library's mutex, as recordings have it."""
_MALLOC_HEAP_BYTES: Final = 64 << 20
"""HEAP_MAX_SIZE of glibc on 64-bit: arenas but the main one begin at multiples of it (malloc/arena.c)."""


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


@dataclass(frozen=True, slots=True)
class _Label:
    """What a lock is called, and how that can be checked later: `container`'s `name` is the lock.

    `container` is an instance or a dict of globals; 0 for the name of a local variable, which proves nothing
    once the frame is gone.
    """

    text: str
    container: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of an object in a frame: `text` for people; `container`'s `attribute` where it is one.

    `goes_on`: it is the frame's `self` that is meant, which may have a name further out.
    """

    text: str
    container: int = 0
    attribute: str = ""
    goes_on: bool = False


class _Searches:
    """How often a lock was searched for a name in vain: the longer that is so, the rarer it is tried."""

    __slots__ = ("again", "left", "pause")

    def __init__(self) -> None:
        self.left = MAX_SEARCHES
        self.pause = 1
        self.again = 0

    def allowed(self, second: int) -> bool:
        """Whether to search in this second; counts it."""
        if not self.left:
            if second < self.again:
                return False
            self.left = 1
        self.left -= 1
        if not self.left:
            self.again = second + self.pause
            self.pause = min(2 * self.pause, MAX_SEARCH_PAUSE_S)
        return True


class LockReader:
    """Identifies locks of one target. Labels and identities are remembered by address.

    Memory is freed and used again. So what is remembered of a lock is checked against the type of its
    owner when a thread begins to wait for it, and its name is looked up anew after nobody waited for a while.
    """

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = interpreter.layout
        self._waits: dict[int, LockWait] = {}
        self._labels: dict[tuple[int, str], _Label] = {}
        self._former_labels: dict[tuple[int, str], _Label] = {}
        self._searches: dict[int, _Searches] = {}
        self._searched: set[int] = set()
        """Objects that have no name for what is looked for: outer frames have the same `self` and globals."""
        self._searched_inside: set[int] = set()
        """Those whose attributes have none either."""
        self._seconds = 0
        self._moment = ReadAlong()
        self._unreadable: set[int] = set()
        """What was wanted in this second and could not be read: it spoils the read that takes it along."""
        self.unreadable = 0
        """Changes when `want_beside` must be called again although entry and section are what they were."""
        self._owning: dict[int, bool] = {}
        self._asked: set[int] = set()
        self._exit_keys: dict[int, int] = {}
        self._held: dict[tuple[int, ...], tuple[int, ...]] = {}
        """Stack slots of `with` blocks -> keys of the locks among them, in this second."""
        self._runtime_ranges: list[tuple[int, int, str]] = []
        self._gil_ranges: list[tuple[int, int]] = []
        self._semaphore_owners: dict[int, int] = {}

    def refresh(self, waited_for: Collection[int] = ()) -> None:
        """About once a second: forget what freed and reused memory could make wrong.

        `waited_for`: keys of the locks that threads wait for now; these locks live.
        """
        layout = self._layout
        self._objects.forget_names()
        self._unreadable.clear()
        self.unreadable += 1
        self._exit_keys.clear()
        self._held.clear()
        self._semaphore_owners.clear()
        runtime = self._interpreter.runtime.address
        named = [(runtime + at, runtime + at + size, label) for at, size, label in layout.runtime_locks]
        whole = []
        self._gil_ranges = []
        for interpreter in self._interpreter.interpreters():
            start = interpreter.address
            named += [(start + at, start + at + size, label) for at, size, label in layout.interpreter_locks]
            whole.append((start, start + layout.interpreter_size, "interpreter lock"))
            gil = start + layout.interpreter_gil_state
            self._gil_ranges.append((gil, gil + _GIL_STATE_BYTES))
        # The main interpreter lies in the runtime: the smallest that has an address says what it is.
        self._runtime_ranges = [*named, *whole, (runtime, runtime + layout.runtime_size, "runtime lock")]
        for key in self._waits.keys() - self._asked - set(waited_for):
            self._forget(key)
        self._asked.clear()
        self._seconds += 1

    def _forget(self, key: int) -> None:
        wait = self._waits.pop(key)
        self._searches.pop(wait.owner, None)
        if wait.lock is not None and wait.lock.type_name is not None:
            place = wait.owner, wait.lock.type_name
            label = self._labels.pop(place, None)
            if label is not None and label.container:
                if len(self._former_labels) >= MAX_LOCKS:
                    self._former_labels.clear()
                self._former_labels[place] = label

    def _known(self, key: int, thread: PythonThread | None) -> LockWait | None:
        """What is remembered of a lock, if it still is that lock; with a name if one is found by now."""
        wait = self._waits.get(key)
        if wait is None:
            return None
        if wait.owner and not self._still_owns(wait):
            self._forget(key)
            return None
        self._asked.add(key)
        lock = wait.lock
        if lock is not None and lock.label is None and lock.type_name is not None and thread is not None:
            label = self._label(wait.owner, lock.type_name, thread)
            if label is not None:
                wait = self._waits[key] = replace(wait, lock=replace(lock, label=label))
        return wait

    def _still_owns(self, wait: LockWait) -> bool:
        """Whether the owner of a remembered lock is what it was; found out once for all waiters of a look."""
        owns = self._owning.get(wait.key)
        if owns is None:
            owns = self._owning[wait.key] = self._is_owner(wait, self._owner_bytes(wait))
        return owns

    def _is_owner(self, wait: LockWait, data: bytes | None) -> bool:
        """Whether what was read of a lock's owner, its head and the word behind, still is what it was."""
        if data is None:
            return False
        if _WORD.unpack_from(data, self._layout.object_type)[0] != wait.owner_type:
            return False
        # Of 3.13's RLock the key is the semaphore that it points to.
        return not wait.has_semaphore or _WORD.unpack_from(data, self._layout.object_size)[0] == wait.key

    # --- what is read as of one moment ---

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

    def want_beside(self, thread: PythonThread, entry: int) -> None:
        """Take along, right beside a thread's state, its wait entry (0: none) and last critical section."""
        unreadable = self._unreadable
        wanted: tuple[tuple[int, int], ...] = ()
        if entry and entry not in unreadable:
            wanted = ((entry, REACH_BYTES),)
        if thread.section and thread.section not in unreadable:
            wanted = (*wanted, (thread.section, _SECTION_BYTES))
        thread.beside = wanted

    def want_entries(self, addresses: Iterable[int]) -> None:
        """Take along what may be the wait entries of threads that are not walked."""
        wanted, unreadable = self._moment.wanted, self._unreadable
        for address in addresses:
            if address not in unreadable:
                wanted[address] = REACH_BYTES

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
            if data is not None and data[LINKS] == UNLINKED:  # nearly never
                entry = parse_wait_entry(address, data)
                if entry is not None:
                    yield place, entry

    def entries_now(self, addresses: Sequence[int]) -> list[WaitEntry | None]:
        """The wait entries at addresses as they are by now."""
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
        return self._bytes_at(wait.owner, self._owner_size(wait))

    def _bytes_at(self, address: int, size: int) -> bytes | None:
        found = self._moment.found
        if address in found:
            data = found[address]
            return data if data is None or len(data) >= size else None
        return self._memory.read_many([(address, size)])[0]

    def is_free(self, wait: LockWait) -> bool:
        """Whether nobody has a lock of the program: so it is while the thread that was woken is on its way.

        `False` where it cannot be read.
        """
        if wait.has_semaphore:
            data = self._bytes_at(wait.key, _SEMAPHORE_VALUE.size)
            return data is not None and _SEMAPHORE_VALUE.unpack_from(data)[0] > 0
        data = self._owner_bytes(wait)
        return data is not None and not data[wait.key - wait.owner] & _MUTEX_LOCKED

    # --- waiters ---

    def identify(
        self, call: BlockedCall, thread: PythonThread | None, *, in_condition: bool = False
    ) -> LockWait | None:
        """What a thread blocked in futex(2) waits for; `None` if it cannot be told.

        `thread` is its thread state with the frames of the last walk; `None` for native threads.
        `in_condition`: its innermost frame is Condition.wait, which makes a lock for each wait; such locks
        are not remembered, because another one is soon made in their place.
        """
        word = call.arguments[0]
        parked = self._parked_on(call)
        if parked is not None:
            if thread is not None and parked == thread.address + self._layout.thread_state:
                return LockWait(parked, None, suspended=True)
            if in_condition and self._type_name(parked - self._layout.object_size) == "_thread.lock":
                return LockWait(parked, LockRef(parked, LockKind.USER, "_thread.lock", None))
            return self._lock_at(parked, thread)
        for start, end in self._gil_ranges:
            if start <= word < end:
                # One lock, whichever of its condition's words is waited on.
                return LockWait(start, LockRef(start, LockKind.GIL, None, "the GIL"))
        known = self._known(word, thread)
        if known is not None:
            return known
        found = None if thread is None else self._semaphore_rlock(word, thread)
        if found is None:
            found = self._native(word) or self._mutex(call)
        if found is not None:
            self._remember(found)
        return found

    def _parked_on(self, call: BlockedCall) -> int | None:
        """The address that a parked thread waits on, from the wait entry on its stack."""
        entry = entry_address(call)
        data = self._bytes_at(entry, SEMAPHORE_OFFSET) if entry else None
        if data is None:
            return None
        key: int = _WORD.unpack_from(data, 8)[0]
        return key if key > LOWEST_ADDRESS else None

    def _lock_at(self, address: int, thread: PythonThread | None) -> LockWait | None:
        known = self._known(address, thread)
        if known is not None:
            return known
        if self._memory.read_many([(address, 1)])[0] is None:
            # The thread went on since the kernel was asked: what is read of its stack is of something else.
            return LockWait(address, None, event=True)
        wait = self._object_lock(address, thread) or self._owned_lock(address, thread)
        if wait is None:
            # Those that have a name come before the structs that they lie in.
            inside = (name for start, end, name in self._runtime_ranges if start <= address < end)
            name = next(inside, None)
            if name is not None:
                wait = LockWait(address, LockRef(address, LockKind.RUNTIME, None, name))
        if wait is None:
            # An event outside any object (a thread's end, its start) or memory we do not understand.
            return LockWait(address, None, event=True)
        self._remember(wait)
        return wait

    def _remember(self, wait: LockWait) -> None:
        if len(self._waits) >= MAX_LOCKS:
            self._waits.clear()
        if wait.owner:
            try:
                wait = replace(wait, owner_type=self._objects.type_of(wait.owner))
            except MemoryReadError:
                return
        self._waits[wait.key] = wait
        self._asked.add(wait.key)

    def _object_lock(self, address: int, thread: PythonThread | None) -> LockWait | None:
        if not self._layout.free_threaded or address % 8 != OBJECT_MUTEX_OFFSET % 8:
            return None
        owner = address - OBJECT_MUTEX_OFFSET
        type_name = self._type_name(owner)
        if type_name is None:
            return None
        label = self._label(owner, type_name, thread)
        return LockWait(address, LockRef(address, LockKind.OBJECT, type_name, label), owner)

    def _owned_lock(self, address: int, thread: PythonThread | None) -> LockWait | None:
        """A mutex or event inside an object: a lock, a queue."""
        first = address - self._layout.object_size
        for owner in range(first & ~15, first - MAX_OWNER_DISTANCE, -16):
            type_name = self._type_name(owner)
            if type_name is None:
                continue
            if type_name in _LOCK_TYPES and owner == first:
                label = self._label(owner, type_name, thread)
                return LockWait(address, LockRef(address, LockKind.USER, type_name, label), owner)
            if self._size_of_instances(owner) > address - owner and type_name not in _LOCK_TYPES:
                label = self._label(owner, type_name, thread)
                reference = LockRef(address, LockKind.RUNTIME, type_name, label)
                return LockWait(address, reference, owner, event=True)
            return None
        return None

    def _semaphore_rlock(self, word: int, thread: PythonThread) -> LockWait | None:
        """3.13's RLock waits on a semaphore in the heap: found through the waiting frame's own stack."""
        if not self._layout.rlock_is_semaphore:
            return None
        for pointer in self._words_of_frame(thread, 0):
            candidate = self._rlock_behind(pointer)
            if candidate is None:
                continue
            try:
                semaphore = self._memory.read_word(candidate + self._layout.object_size)
            except MemoryReadError:
                continue
            if semaphore == word:
                label = self._label(candidate, "_thread.RLock", thread)
                return LockWait(word, LockRef(word, LockKind.USER, "_thread.RLock", label), candidate)
        return None

    def _rlock_behind(self, address: int) -> int | None:
        """The RLock that an object is: itself, a bound method of it, or a Condition with it."""
        try:
            type_name = self._type_name(address)
            if type_name in _BOUND_METHODS:
                address = self._memory.read_word(address + self._layout.object_size + 8)
                type_name = self._type_name(address)
            if type_name == "Condition":
                address = self._objects.attribute(address, "_lock") or 0
                type_name = self._type_name(address)
        except (MemoryReadError, NotAnObject):
            return None
        return address if type_name == "_thread.RLock" else None

    def _native(self, word: int) -> LockWait | None:
        """A futex that is not CPython's: the mutex of one of glibc's malloc arenas (malloc/arena.c).

        A heap of an arena begins with `ar_ptr`, the address of its `malloc_state`, whose first field is the
        mutex; the first heap of an arena holds that state itself. Other words in a heap are ordinary memory.
        """
        heap = word - word % _MALLOC_HEAP_BYTES
        if not 0 < word - heap < 4096:
            return None
        try:
            arena = self._memory.read_word(heap)
        except MemoryReadError:
            return None
        if arena != word:
            return None
        return LockWait(word, LockRef(word, LockKind.NATIVE, "malloc arena", "malloc arena"))

    def _mutex(self, call: BlockedCall) -> LockWait | None:
        """A mutex of a C library: its name is looked up once for as long as it is waited for."""
        if not is_mutex(self._memory, call.arguments):
            return None
        word = call.arguments[0]
        name = variable_at(self._memory.pid, word) or "a mutex of a C library"
        return LockWait(word, LockRef(word, LockKind.NATIVE, MUTEX_TYPE, name))

    # --- holders ---

    def mutex_owner(self, wait: LockWait) -> int | None:
        """The id of the thread that has a C library's mutex; `None` where nobody has it, or it is none."""
        if wait.lock is None or wait.lock.type_name != MUTEX_TYPE:
            return None
        return mutex_owner(self._memory, wait.key)

    def held_by_with_blocks(self, thread: PythonThread) -> tuple[int, ...]:
        """Keys of the locks that the thread holds through `with` blocks (proven by its frames)."""
        exits = tuple(thread.with_exits)
        held = self._held.get(exits)
        if held is None:
            keys = (self._remembered_key(self._manager_of_exit(word)) for word in exits)
            held = tuple(key for key in keys if key)
            if not self._layout.with_keeps_exit_method:
                if len(self._held) >= MAX_LOCKS:
                    self._held.clear()
                self._held[exits] = held
        return held

    def condition_lock(self, thread: PythonThread, frame: int) -> int | None:
        """Key of the lock of the Condition whose `wait` is the thread's frame of that number."""
        condition = self._interpreter.variable(thread, frame, "self")
        return None if condition is None else self._remembered_key(condition) or None

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
                if data is None or len(data) != _SECTION_BYTES:
                    unread.append((place, tagged, section))
                else:
                    below.append((place, _held_by(data, tagged, section, held[place])))
            if unread:
                read = self._memory.read_many([(section, _SECTION_BYTES) for _, _, section in unread])
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
        target = word & ~_STACKREF_TAGS
        if not self._layout.with_keeps_exit_method:
            return target
        size = self._layout.object_size
        try:
            data = self._memory.read(target, size + 16)
            (type_address,) = _WORD.unpack_from(data, self._layout.object_type)
            if self._objects.type_name(type_address) not in _BOUND_METHODS:
                return 0
        except (MemoryReadError, NotAnObject):
            return 0
        # m_self and im_self are both the second word behind the header.
        manager: int = _WORD.unpack_from(data, size + 8)[0]
        return manager

    def _key_of_manager(self, manager: int) -> int | None:
        """Key of the lock behind a context manager: a lock itself, or a Condition's lock."""
        try:
            type_name = self._objects.type_name(self._objects.type_of(manager))
            if type_name == "Condition":
                inner = self._objects.attribute(manager, "_lock")
                if inner is None:
                    return None
                manager = inner
                type_name = self._objects.type_name(self._objects.type_of(manager))
            if type_name == "_thread.RLock" and self._layout.rlock_is_semaphore:
                return self._memory.read_word(manager + self._layout.object_size)
            if type_name in _LOCK_TYPES:
                return manager + self._layout.object_size
        except (MemoryReadError, NotAnObject):
            return None
        return None

    # --- names ---

    def _type_name(self, address: int) -> str | None:
        """Type name of an object, or `None` if there is no object: its type must be a type."""
        if address <= 4096:
            return None
        try:
            type_address = self._objects.type_of(address)
            if type_address <= 4096 or type_address % 8:
                return None
            metatype = self._objects.type_of(type_address)
            if not self._objects.flags_of(metatype) & _TPFLAGS_TYPE_SUBCLASS:
                return None
            return self._objects.type_name(type_address)
        except (MemoryReadError, NotAnObject):
            return None

    def _size_of_instances(self, owner: int) -> int:
        try:
            return self._memory.read_word(self._objects.type_of(owner) + self._layout.type_basic_size)
        except MemoryReadError:
            return 0

    def _words_of_frame(self, thread: PythonThread, number: int) -> Iterable[int]:
        """Pointers in a frame's locals and stack, without their tags."""
        return (
            word & ~_STACKREF_TAGS for word in self._interpreter.frame_words(thread, number) if word > 4096
        )

    def _label(self, owner: int, type_name: str, thread: PythonThread | None) -> str | None:
        """What the program calls the object: remembered, so that it stays the same for all waiters."""
        place = owner, type_name
        known = self._labels.get(place)
        if known is None and thread is not None:
            searches = self._searches.get(owner)
            if searches is None:
                if len(self._searches) >= MAX_LOCKS:
                    self._searches.clear()
                searches = self._searches[owner] = _Searches()
            if not searches.allowed(self._seconds):
                return None
            known = self._find_label(owner, thread)
            former = self._former_labels.pop(place, None)
            if former is not None and former != known and self._still_called(owner, former):
                known = former
            if known is None and type_name == "type":
                known = self._class_name(owner)
            if known is not None:
                if len(self._labels) >= MAX_LOCKS:
                    self._labels.clear()
                self._labels[place] = known
        return None if known is None else known.text

    def _still_called(self, owner: int, label: _Label) -> bool:
        """Whether the attribute or global variable that a lock was found by is still that lock."""
        try:
            if self._type_name(label.container) == "dict":
                return self._objects.dict_get(label.container, label.name) == owner
            return self._attributes(label.container).get(label.name) == owner
        except (MemoryReadError, NotAnObject):
            return False

    def _class_name(self, owner: int) -> _Label | None:
        try:
            return _Label(f"class {self._objects.type_name(owner)}")
        except (MemoryReadError, NotAnObject):
            return None

    def _find_label(self, owner: int, thread: PythonThread) -> _Label | None:
        """Search the waiting frames for a name of the object, from the leaf outwards.

        The lock of a Condition in a Queue is found as `Condition._lock`, then `Queue.mutex`, then as what
        the program calls that queue: the outermost name wins, the one before it is put in brackets.
        """
        targets = {owner}
        self._search_anew()
        names: list[str] = []
        container, attribute = 0, ""
        for number in range(min(len(thread.frames), MAX_NAMED_FRAMES)):
            found = self._name_in_frame(thread, number, targets)
            if found is None:
                if names:
                    break
                continue
            if not names:
                container, attribute = found.container, found.attribute
            if found.text and found.text not in names[-1:]:
                names.append(found.text)
            if not found.goes_on:
                break
            targets.add(found.container)
            self._search_anew()
        if not names:
            return None
        text = names[0] if len(names) == 1 else f"{names[-1]} ({names[-2]})"
        return _Label(text[:MAX_LABEL_CHARACTERS], container, attribute)

    def _search_anew(self) -> None:
        self._searched.clear()
        self._searched_inside.clear()

    def _name_in_frame(self, thread: PythonThread, number: int, targets: set[int]) -> _Name | None:
        """A name for one of the targets in a frame."""
        self._objects.look_ahead(tuple(self._words_of_frame(thread, number)))
        variables = self._interpreter.local_variables(thread, number)[:MAX_NAMED_VALUES]
        self._objects.look_ahead([value for _, value in variables])
        try:
            return self._name_among(variables, thread, number, targets)
        finally:
            self._objects.look_ahead(())

    def _name_among(
        self, variables: Sequence[tuple[str, int]], thread: PythonThread, number: int, targets: set[int]
    ) -> _Name | None:
        """A name for one of the targets: a variable of a frame, an attribute of one, or a global."""
        for name, value in variables:
            if name == "self" and value not in targets:
                attribute = self._attribute_that_is(value, targets)
                if attribute is not None:
                    type_name = self._type_name(value) or "?"
                    return _Name(f"{type_name}.{attribute}", value, attribute, goes_on=True)
        for name, value in variables:
            if value in targets and name != "self":
                return _Name(name)
        for name, value in variables:
            attribute = self._attribute_that_is(value, targets) if value not in targets else None
            if attribute is not None:
                return _Name(f"{name}.{attribute}", value, attribute)
        name_elsewhere = self._global_that_is(thread, number, targets) or self._nested_attribute(
            variables, targets
        )
        if name_elsewhere is None and any(name == "self" and value in targets for name, value in variables):
            return _Name("", goes_on=True)  # a method of the object: its caller may know it
        return name_elsewhere

    def _nested_attribute(self, variables: Sequence[tuple[str, int]], targets: set[int]) -> _Name | None:
        """`self.cache.lock`: one level deeper than the attributes of `self`."""
        for name, value in variables:
            if name != "self" or value in self._searched_inside:
                continue
            self._searched_inside.add(value)
            inside = list(self._attributes(value).items())[:MAX_NAMED_VALUES]
            self._objects.look_ahead([inner for _, inner in inside])
            for attribute, inner in inside:
                deeper = self._attribute_that_is(inner, targets)
                if deeper is not None:
                    return _Name(f"{self._type_name(value) or name}.{attribute}.{deeper}", inner, deeper)
        return None

    def _attributes(self, instance: int) -> dict[str, int]:
        try:
            return self._objects.attributes(instance)
        except (MemoryReadError, NotAnObject):
            return {}

    def _attribute_that_is(self, instance: int, targets: set[int]) -> str | None:
        if instance in self._searched:
            return None
        try:
            name = self._objects.attribute_that_is(instance, targets)
        except (MemoryReadError, NotAnObject):
            name = None
        if name is None:
            self._searched.add(instance)
        return name

    def _global_that_is(self, thread: PythonThread, number: int, targets: set[int]) -> _Name | None:
        address = self._interpreter.globals_of(thread, number)
        if address is None or address in self._searched:
            return None
        self._searched.add(address)
        try:
            if address in targets:
                return _Name("module globals")
            for key, value in self._objects.dict_items(address)[:MAX_GLOBALS]:
                if value in targets:
                    name = self._objects.string(key)
                    return _Name(name, address, name)
        except (MemoryReadError, NotAnObject):
            return None
        return None


def _held_by(data: bytes, tagged: int, section: int, held: list[tuple[int, int]]) -> int:
    """Note what a critical section holds; the tagged pointer to the one below it."""
    previous: int
    previous, first, second = _SECTION.unpack(data)
    held.append((first, section))
    if tagged & _TWO_MUTEXES:
        held.append((second, section))
    return previous


def entry_address(call: BlockedCall) -> int:
    """Where a thread blocked in futex(2) has its wait entry; 0 if the futex is not on its own stack."""
    word = call.arguments[0]
    if call.stack_pointer is None or not 16 <= word - call.stack_pointer < MAX_STACK_DISTANCE:
        return 0
    return word - SEMAPHORE_OFFSET


def calls_from(thread: PythonThread, section: int) -> bool:
    """Whether the thread runs Python code that was called from inside a critical section.

    A section lies on the C stack. So does the entry frame of the interpreter that C code calls; it lies
    deeper, which is at a lower address, when it was called from inside.
    """
    return any(0 < section - address < MAX_STACK_DISTANCE for address in thread.elsewhere)
