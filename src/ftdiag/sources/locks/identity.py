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

from collections.abc import Collection, Mapping
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.errors import MemoryReadError
from ftdiag.model import UNKNOWN_GUARD, LockKind, LockRef
from ftdiag.sources.kernel.syscalls import BlockedCall
from ftdiag.sources.locks.handovers import MovedLocks
from ftdiag.sources.locks.holders import BOUND_METHODS, LOCK_TYPES, MUTEX_TYPE, WORD, HeldLocks
from ftdiag.sources.locks.moment import MAX_OWNER_DISTANCE, LockWait
from ftdiag.sources.locks.mutexes import is_mutex, variable_at
from ftdiag.sources.locks.names import MAX_LOCKS, LockNames, type_name_of, words_of_frame
from ftdiag.sources.locks.parkinglot import ENTRY_BYTES, SEMAPHORE_OFFSET, parse_wait_entry
from ftdiag.sources.python.counting import OBJECT_MUTEX_OFFSET
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.walking import PythonThread

MAX_OBJECTS_ASKED: Final = 1000
"""Objects of a window whose locks are counted by how often they were waited for."""
MAX_STACK_DISTANCE: Final = 1 << 16
"""A wait entry lies this near above the stack pointer of a parked thread (sem_wait's frames between)."""
MAX_NAMED_RANGES: Final = 100
"""Locks that are known by each of their addresses: those of some eight interpreters, the main one first."""
_GIL_STATE_BYTES: Final = 256
"""struct _gil_runtime_state is 216 bytes on x86-64 and aarch64 (Include/internal/pycore_gil.h)."""
_MALLOC_HEAP_BYTES: Final = 64 << 20
"""HEAP_MAX_SIZE of glibc on 64-bit: arenas but the main one begin at multiples of it (malloc/arena.c)."""


_NO_GUARDS: Final = frozenset(
    "ThreadPoolExecutor ProcessPoolExecutor suppress nullcontext closing socket SSLSocket memoryview Popen"
    " catch_warnings TemporaryDirectory _TemporaryFileWrapper scandir".split()
)
"""Types of context managers, without their module, that hold no lock."""


def _protects_nothing(type_name: str) -> bool:
    return type_name.startswith(("_io.", "decimal.")) or type_name.rpartition(".")[2] in _NO_GUARDS


class LockReader(HeldLocks):
    """Identifies locks of one target. Labels and identities are remembered by address.

    Memory is freed and used again. So what is remembered of a lock is checked against the type of its
    owner when a thread begins to wait for it, and its name is looked up anew after nobody waited for a while.
    """

    def __init__(self, interpreter: InterpreterReader) -> None:
        super().__init__(interpreter)
        self._names = LockNames(interpreter)
        self._waits: dict[int, LockWait] = {}
        self._asked: set[int] = set()
        self._objects_asked: dict[int, int] = {}
        """Objects whose own lock was waited for, and at how many looks, until somebody takes them."""
        self._runtime_ranges: list[tuple[int, int, str]] = []
        self.named_places: Mapping[int, str] = {}
        """Every address of the interpreter's locks that are known by name, with the name."""
        self._named_ranges: list[tuple[int, int, str]] = []
        self._moved = MovedLocks(self._memory, self._layout.moved_locks)
        self._gil_ranges: list[tuple[int, int]] = []
        self._semaphore_owners: dict[int, int] = {}

    def guards(self, thread: PythonThread, skipped: int) -> tuple[tuple[int, str | None], ...]:
        """(key, what the program calls it) of what protects the thread by `with` blocks, as of the last walk.

        All but the innermost `skipped` blocks. UNKNOWN_GUARD stands for a context manager that may hold a
        lock and is none; files, pools and the like protect nothing.
        """
        found: list[tuple[int, str | None]] = []
        for word in tuple(thread.with_exits)[skipped:]:
            manager = self._manager_of_exit(word)
            key = self._remembered_key(manager) if manager else 0
            type_name = type_name_of(self._objects, manager)
            if key:
                found.append(
                    (key, None if type_name is None else self._names.label(manager, type_name, thread))
                )
            elif type_name is None or not _protects_nothing(type_name):
                found.append((UNKNOWN_GUARD, None))
        return tuple(found)

    def refresh(self, waited_for: Collection[int] = ()) -> None:
        """About once a second: forget what freed and reused memory could make wrong.

        `waited_for`: keys of the locks that threads wait for now; these locks live.
        """
        layout = self._layout
        self._objects.forget_names()
        self._unreadable.clear()
        self.unreadable += 1
        self._forget_held()
        self._semaphore_owners.clear()
        runtime = self._interpreter.runtime.address
        named = [(runtime + at, runtime + at + size, label) for at, size, label in layout.runtime_locks]
        whole = []
        self._gil_ranges = []
        for interpreter in self._interpreter.interpreters():
            start = interpreter.address
            known = (*layout.interpreter_locks, *self._moved.of(start))
            named += [(start + at, start + at + size, label) for at, size, label in known]
            whole.append((start, start + layout.interpreter_size, "interpreter lock"))
            gil = start + layout.interpreter_gil_state
            self._gil_ranges.append((gil, gil + _GIL_STATE_BYTES))
        if named != self._named_ranges:
            self._named_ranges = named
            self.named_places = {
                at: label for start, end, label in named[:MAX_NAMED_RANGES] for at in range(start, end)
            }
        # The main interpreter lies in the runtime: the smallest that has an address says what it is.
        self._runtime_ranges = [*named, *whole, (runtime, runtime + layout.runtime_size, "runtime lock")]
        for key in self._waits.keys() - self._asked - set(waited_for):
            self._forget(key)
        self._asked.clear()
        self._names.begin_second()

    def take_objects(self, waited_for: Collection[int] = ()) -> dict[int, int]:
        """Objects whose own lock was waited for since this was asked last, with the number of looks.

        `waited_for` are keys of locks that are waited for now.
        """
        taken, self._objects_asked = self._objects_asked, {}
        for key in waited_for:
            self._note_object(self._waits.get(key), taken)
        return taken

    @staticmethod
    def _note_object(wait: LockWait | None, where: dict[int, int]) -> None:
        if wait is None or wait.lock is None or wait.lock.kind is not LockKind.OBJECT:
            return
        if wait.owner in where or len(where) < MAX_OBJECTS_ASKED:
            where[wait.owner] = where.get(wait.owner, 0) + 1

    def _forget(self, key: int) -> None:
        wait = self._waits.pop(key)
        self._names.forget(wait.owner, None if wait.lock is None else wait.lock.type_name)

    def _known(self, key: int, thread: PythonThread | None) -> LockWait | None:
        """What is remembered of a lock, if it still is that lock; with a name if one is found by now."""
        wait = self._waits.get(key)
        if wait is None:
            return None
        if wait.owner and not self._still_owns(wait):
            self._forget(key)
            return None
        self._asked.add(key)
        self._note_object(wait, self._objects_asked)
        lock = wait.lock
        if lock is not None and lock.label is None and lock.type_name is not None and thread is not None:
            label = self._names.label(wait.owner, lock.type_name, thread)
            if label is not None:
                wait = self._waits[key] = replace(wait, lock=replace(lock, label=label))
        return wait

    def is_still(self, wait: LockWait, key: int, thread: PythonThread | None) -> bool:
        """Whether what a thread waits on by its entry is this lock, with all that is known of it by now."""
        return wait.key == key and self._waits.get(key) is wait and self._known(key, thread) is wait

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
        if WORD.unpack_from(data, self._layout.object_type)[0] != wait.owner_type:
            return False
        # Of 3.13's RLock the key is the semaphore that it points to.
        return not wait.has_semaphore or WORD.unpack_from(data, self._layout.object_size)[0] == wait.key

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
            if in_condition and self.lock_type(parked):
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
        return None if found is None else self._remember(found)

    def _parked_on(self, call: BlockedCall) -> int | None:
        """The address that a parked thread waits on, from the wait entry on its stack."""
        address = entry_address(call)
        data = self.bytes_at(address, ENTRY_BYTES) if address else None
        entry = None if data is None else parse_wait_entry(address, data)
        return None if entry is None else entry.key

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
        return self._remember(wait)

    def _remember(self, wait: LockWait) -> LockWait:
        """It is that from now on, with the type of its owner."""
        if len(self._waits) >= MAX_LOCKS:
            self._waits.clear()
        if wait.owner:
            try:
                wait = replace(wait, owner_type=self._objects.type_of(wait.owner))
            except MemoryReadError:
                return wait
        self._waits[wait.key] = wait
        self._asked.add(wait.key)
        self._note_object(wait, self._objects_asked)
        return wait

    def _object_lock(self, address: int, thread: PythonThread | None) -> LockWait | None:
        if not self._layout.free_threaded or address % 8 != OBJECT_MUTEX_OFFSET % 8:
            return None
        owner = address - OBJECT_MUTEX_OFFSET
        type_name = type_name_of(self._objects, owner)
        if type_name is None:
            return None
        label = self._names.label(owner, type_name, thread)
        return LockWait(address, LockRef(address, LockKind.OBJECT, type_name, label), owner)

    def _owned_lock(self, address: int, thread: PythonThread | None) -> LockWait | None:
        """A mutex or event inside an object: a lock, a queue."""
        first = address - self._layout.object_size
        for owner in range(first & ~15, first - MAX_OWNER_DISTANCE, -16):
            type_name = type_name_of(self._objects, owner)
            if type_name is None:
                continue
            if type_name in LOCK_TYPES and owner == first:
                label = self._names.label(owner, type_name, thread)
                return LockWait(address, LockRef(address, LockKind.USER, type_name, label), owner)
            if self._size_of_instances(owner) > address - owner and type_name not in LOCK_TYPES:
                label = self._names.label(owner, type_name, thread)
                reference = LockRef(address, LockKind.RUNTIME, type_name, label)
                return LockWait(address, reference, owner, event=True)
            return None
        return None

    def _semaphore_rlock(self, word: int, thread: PythonThread) -> LockWait | None:
        """3.13's RLock waits on a semaphore in the heap: found through the waiting frame's own stack."""
        if not self._layout.rlock_is_semaphore:
            return None
        for pointer in words_of_frame(self._interpreter, thread, 0):
            candidate = self._rlock_behind(pointer)
            if candidate is None:
                continue
            try:
                semaphore = self._memory.read_word(candidate + self._layout.object_size)
            except MemoryReadError:
                continue
            if semaphore == word:
                label = self._names.label(candidate, "_thread.RLock", thread)
                return LockWait(word, LockRef(word, LockKind.USER, "_thread.RLock", label), candidate)
        return None

    def _rlock_behind(self, address: int) -> int | None:
        """The RLock that an object is: itself, a bound method of it, or a Condition with it."""
        try:
            type_name = type_name_of(self._objects, address)
            if type_name in BOUND_METHODS:
                address = self._memory.read_word(address + self._layout.object_size + 8)
                type_name = type_name_of(self._objects, address)
            if type_name == "Condition":
                address = self._objects.attribute(address, "_lock") or 0
                type_name = type_name_of(self._objects, address)
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
