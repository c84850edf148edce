"""What a thread that is off its core waits for.

In: its line of /proc/PID/task/TID/syscall, its Python stack and its thread state. Out: a state of the closed
set, a `Wait` for people, and for locks what is needed to find the holder.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import MemoryReadError
from ftdiag.model import Frame, LockKind, LockRef, ThreadState, Wait
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.procfs import DescriptorNames, wait_channel
from ftdiag.sources.kernel.syscalls import (
    BlockedCall,
    Blocking,
    SyscallInfo,
    parse_syscall_line,
    syscall_table,
)
from ftdiag.sources.locks.holders import MUTEX_TYPE
from ftdiag.sources.locks.identity import LockReader, entry_address
from ftdiag.sources.locks.moment import LockWait
from ftdiag.sources.locks.names import MAX_LOCKS
from ftdiag.sources.locks.parkinglot import SEMAPHORE_OFFSET
from ftdiag.sources.locks.waitpoints import (
    EVERY,
    is_condition_wait,
    is_import_wait,
    library_wait,
    places_of,
)
from ftdiag.sources.native.nativestack import NativeCallers
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.walking import PythonThread

MEMORY_MAP_LOCK: Final = "the process's memory map (held by another thread's mmap, munmap or page fault)"
PARKED_HELPER: Final = "work for a thread of native code"
STARTING_CHILD: Final = "a child process to start"
CLONE_VFORK: Final = 0x4000
"""Of include/uapi/linux/sched.h: the caller waits until the child has left its memory (execve or exit). How
subprocess starts children through posix_spawn() or vfork()."""
MAX_PARSED_LINES: Final = 4096
"""Lines of `syscall` whose meaning is remembered."""
MAX_STACK_FACTS: Final = 500_000
"""Stacks of which it is remembered how they wait."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A blocked thread: the call and what kind it is (`None`: not in the table).

    `entry` is where its wait entry would lie if CPython parked it; 0 if that cannot be. `line` is what the
    kernel said.
    """

    call: BlockedCall
    info: SyscallInfo | None
    entry: int = 0
    line: bytes = b""

    @property
    def plain(self) -> bool:
        """Whether nothing but the Python stack is needed to classify it: no lock, no file, no memory."""
        if self.info is None:
            return False
        if self.info.blocking is Blocking.READINESS:
            return self.info.name not in ("poll", "ppoll")
        return self.info.blocking in (Blocking.SLEEP, Blocking.SIGNAL_OR_CHILD)


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What the innermost frames of a stack say about a wait.

    `condition_frame` is the number of the `Condition.wait` frame at the leaf (0 or 1): the thread has
    released that condition's lock although it is inside its `with` block.
    """

    library_wait: str | None
    condition_frame: int | None
    importing: bool


NO_FACTS: Final = StackFacts(None, None, False)


@dataclass(frozen=True, slots=True)
class Classified:
    """State and wait of a blocked thread; `lock` is set while it waits for a lock that somebody holds."""

    state: ThreadState
    wait: Wait | None
    lock: LockWait | None = None


def _tells_what_is_released(frame: Frame) -> str | None:
    """The variable that tells which lock a frame has released; `None` of all but Condition.wait."""
    return "self" if is_condition_wait(frame) else None


class WaitReader:
    """Classifies the waits of one target."""

    def __init__(self, pid: int, memory: RemoteMemory) -> None:
        self._pid = pid
        self._memory = memory
        self._table = syscall_table()
        self._futex_number = next((n for n, info in self._table.items() if info.name == "futex"), -1)
        self._descriptors = DescriptorNames(pid)
        self._parsed: dict[bytes, Blocked | None] = {}
        self._facts: dict[int, StackFacts] = {}
        self._lock_waits: dict[int, Classified] = {}
        """The last waits by the key of their lock: the next waiter's is the same."""
        self._locks: LockReader | None = None
        self._places = EVERY
        self._callers: NativeCallers | None = None

    def use(self, interpreter: InterpreterReader) -> LockReader:
        """Begin to look at locks through this interpreter; returns the reader of locks."""
        version = interpreter.layout.version
        self._places = places_of((version.major, version.minor))
        self._locks = LockReader(interpreter)
        interpreter.marked = _tells_what_is_released
        self._callers = NativeCallers(self._pid, self._memory, interpreter.runtime.image)
        return self._locks

    def learn_stack(self, stack: int, frames: Sequence[Frame]) -> None:
        """Told of every new stack: its innermost frames, leaf first."""
        condition = next((i for i, frame in enumerate(frames[:2]) if is_condition_wait(frame)), None)
        facts = StackFacts(library_wait(frames, places=self._places), condition, is_import_wait(frames))
        if facts == NO_FACTS:
            return  # most stacks; not remembered
        if len(self._facts) >= MAX_STACK_FACTS:
            self._facts.clear()
        self._facts[stack] = facts

    def facts(self, stack: int) -> StackFacts:
        """What is known of how a stack waits."""
        return self._facts.get(stack, NO_FACTS)

    def parse(self, line: bytes) -> Blocked | None:
        """`None` for a thread that runs or wants to; unreadable lines count as an unknown wait."""
        if line in self._parsed:
            return self._parsed[line]
        try:
            call = parse_syscall_line(line)
        except (ValueError, IndexError):
            call = BlockedCall(-1, ())
        blocked = None if call is None else self._blocked_in(call, line)
        if len(self._parsed) >= MAX_PARSED_LINES:
            self._parsed.clear()
        self._parsed[line] = blocked
        return blocked

    def _blocked_in(self, call: BlockedCall, line: bytes = b"") -> Blocked:
        info = self._table.get(call.number)
        waits = info is not None and info.blocking is Blocking.FUTEX
        return Blocked(call, info, entry_address(call) if waits else 0, line)

    def parked_at(self, entry: int) -> Blocked:
        """A thread that waits with a wait entry at that address."""
        return self._blocked_in(BlockedCall(self._futex_number, (entry + SEMAPHORE_OFFSET,), entry))

    def classify(self, blocked: Blocked, stack: int, thread: PythonThread | None, tid: int) -> Classified:
        """State and wait of a blocked thread with the given Python stack and thread state (if any)."""
        info = blocked.info
        if info is None:
            if blocked.call.number < 0:
                return self._in_the_kernel(tid)
            return Classified(ThreadState.UNKNOWN, Wait(f"syscall {blocked.call.number}"))
        facts = self.facts(stack)
        if info.blocking is Blocking.FUTEX:
            return self._futex(blocked.call, info.name, facts, thread, stack)
        if info.blocking is Blocking.SLEEP:
            return Classified(ThreadState.SLEEP, Wait(info.name, facts.library_wait))
        if info.blocking is Blocking.IO:
            return Classified(ThreadState.IO, Wait(info.name, self._descriptor(blocked.call, info)))
        if info.blocking is Blocking.SIGNAL_OR_CHILD:
            return Classified(ThreadState.IDLE, Wait(info.name, facts.library_wait or "a child or a signal"))
        if info.blocking is Blocking.READINESS:
            return self._readiness(blocked.call, info, facts)
        if info.blocking is Blocking.MEMORY:
            # Nothing else blocks in them: changing the memory map needs its lock, which page faults of all
            # threads take, too.
            return Classified(ThreadState.RUNTIME_LOCK, Wait(info.name, MEMORY_MAP_LOCK))
        if info.blocking is Blocking.CLONE and self._waits_for_child(blocked.call, info):
            return Classified(ThreadState.IO, Wait(info.name, STARTING_CHILD))
        return Classified(ThreadState.UNKNOWN, Wait(info.name))

    def _waits_for_child(self, call: BlockedCall, info: SyscallInfo) -> bool:
        """Whether a clone is a vfork(): the flags are its first argument, or lead what that points to."""
        if info.name == "vfork":
            return True
        flags = call.arguments[0]
        if info.name == "clone3":
            try:
                (flags,) = struct.unpack("<Q", self._memory.read(flags, 8))
            except MemoryReadError:
                return False
        return bool(flags & CLONE_VFORK)

    def _in_the_kernel(self, tid: int) -> Classified:
        """A thread blocked outside a system call: a page fault mostly. The kernel's function says which."""
        function = wait_channel(self._pid, tid)
        if function is None:
            return Classified(ThreadState.UNKNOWN, Wait(None, "blocked in the kernel outside a system call"))
        if function.startswith(
            ("rwsem_", "down_", "vma_", "lock_mm", "mmap_", "exc_page_fault", "do_user_addr")
        ):
            return Classified(ThreadState.RUNTIME_LOCK, Wait("page fault", MEMORY_MAP_LOCK))
        if function.startswith(("folio_", "filemap_", "io_schedule", "swap_", "wait_on_page")):
            return Classified(ThreadState.IO, Wait("page fault", "a page of a file or of swap"))
        if "signal_stop" in function or function.startswith(("do_freezer", "ptrace_stop")):
            return Classified(ThreadState.HALTED, Wait(None, "halted from outside"))
        return Classified(ThreadState.UNKNOWN, Wait(None, f"the kernel's {function}"))

    def _library(self, call: BlockedCall, stack: int) -> str | None:
        """The library that a Python thread waits in; `None` where it cannot be told."""
        if self._callers is None or call.stack_pointer is None or call.instruction is None:
            return None
        return self._callers.library(stack, call.stack_pointer, call.instruction)

    def _futex(
        self, call: BlockedCall, name: str, facts: StackFacts, thread: PythonThread | None, stack: int
    ) -> Classified:
        found = None
        if self._locks is not None:
            found = self._locks.identify(call, thread, in_condition=facts.condition_frame == 0)
        if found is None:
            if facts.library_wait is not None:
                return Classified(ThreadState.IDLE, Wait(name, facts.library_wait))
            if thread is None and self._locks is not None:
                # No thread of the interpreter's: a helper of OpenBLAS, jemalloc, tokio without work.
                return Classified(ThreadState.IDLE, Wait(name, PARKED_HELPER))
            library = self._library(call, stack)
            if library is not None:
                return Classified(ThreadState.NATIVE_LOCK, Wait(name, library))
            return Classified(ThreadState.UNKNOWN, Wait(name, "a futex that is not CPython's"))
        if found.suspended:
            return Classified(ThreadState.STOPPED, Wait(name, "a stop-the-world pause"))
        if found.event or found.lock is None:
            return self._event(name, found, facts)
        if facts is not NO_FACTS:
            return self._lock_wait(name, found, found.lock, facts)
        known = self._lock_waits.get(found.key)
        if known is None or known.lock is not found or known.wait is None or known.wait.syscall != name:
            if len(self._lock_waits) >= MAX_LOCKS:
                self._lock_waits.clear()
            known = self._lock_waits[found.key] = self._lock_wait(name, found, found.lock, facts)
        return known

    def _lock_wait(self, name: str, found: LockWait, lock: LockRef, facts: StackFacts) -> Classified:
        """The wait for a lock that somebody holds, or that the library waits on without work."""
        if lock.kind is LockKind.GIL:
            return Classified(ThreadState.GIL, Wait(name, None, lock), found)
        if lock.kind is LockKind.OBJECT:
            return Classified(ThreadState.OBJECT_LOCK, Wait(name, None, lock), found)
        if lock.type_name == MUTEX_TYPE:
            return Classified(ThreadState.NATIVE_LOCK, Wait(name, None, lock), found)
        if lock.kind is not LockKind.USER:
            return Classified(ThreadState.RUNTIME_LOCK, Wait(name, None, lock), found)
        if facts.importing:
            return Classified(
                ThreadState.RUNTIME_LOCK, Wait(name, "an import by another thread", lock), found
            )
        # Condition.wait parks on a plain lock made for this one wait; getting the condition's own lock
        # back afterwards is contention (an RLock, or the Python method Condition._acquire_restore).
        if facts.library_wait is not None and lock.type_name == "_thread.lock":
            return Classified(ThreadState.IDLE, Wait(name, facts.library_wait))
        return Classified(ThreadState.LOCK, Wait(name, None, lock), found)

    def _event(self, name: str, found: LockWait, facts: StackFacts) -> Classified:
        if facts.library_wait is not None:
            return Classified(ThreadState.IDLE, Wait(name, facts.library_wait))
        type_name = None if found.lock is None else found.lock.type_name
        if type_name == "_queue.SimpleQueue":
            label = None if found.lock is None else found.lock.label
            return Classified(
                ThreadState.IDLE, Wait(name, f"SimpleQueue.get{f' ({label})' if label else ''}")
            )
        if found.lock is not None and found.lock.type_name is not None:
            return Classified(ThreadState.UNKNOWN, Wait(name, f"something of a {found.lock.type_name}"))
        return Classified(ThreadState.UNKNOWN, Wait(name, "an event of the interpreter"))

    def _readiness(self, call: BlockedCall, info: SyscallInfo, facts: StackFacts) -> Classified:
        """An event loop without events idles; poll() on one descriptor is I/O with a timeout."""
        if info.name in ("select", "pselect6") and call.arguments[0] == 0:
            # No descriptor to wait for: how time.sleep() waits before 3.11 (Modules/timemodule.c).
            return Classified(ThreadState.SLEEP, Wait(info.name, facts.library_wait))
        if info.name.startswith("epoll") or facts.library_wait is not None:
            return Classified(ThreadState.IDLE, Wait(info.name, facts.library_wait))
        detail = None
        if info.name in ("poll", "ppoll") and call.arguments[1] == 1:
            try:
                (descriptor,) = struct.unpack("<i", self._memory.read(call.arguments[0], 4))
                detail = self._descriptors.describe(descriptor)
            except MemoryReadError:
                detail = None
        return Classified(ThreadState.IO, Wait(info.name, detail))

    def _descriptor(self, call: BlockedCall, info: SyscallInfo) -> str | None:
        if info.descriptor_argument is None:
            return None
        return self._descriptors.describe(call.arguments[info.descriptor_argument] & 0x7FFFFFFF)
