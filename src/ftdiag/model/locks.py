"""Locks of the target, what threads wait for, and objects that they share; how sure a claim is.

In: nothing. Out: frozen types, and the labels of the interpreter's own locks.
"""

from __future__ import annotations

import enum
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.model.waits import LibraryWait, library_wait_of


class Confidence(enum.IntEnum):
    """How a claim is known. Stored in recordings as its value."""

    UNKNOWN = 0
    INFERRED = 1
    KNOWN = 2

    @property
    def label(self) -> str:
        """The name used in reports and JSON."""
        return self.name.lower()


class LockKind(enum.Enum):
    """Whose lock it is. The value is stored in recordings."""

    USER = "user"
    OBJECT = "object"
    RUNTIME = "runtime"
    GIL = "gil"
    NATIVE = "native"


# Labels of the interpreter's own locks.
TYPES_LOCK: Final = "the lock of all types"
IMPORT_LOCK: Final = "the import lock"
WARNINGS_LOCK: Final = "the lock of the warnings filters"
STOP_TURN: Final = "the turn to stop all threads"
STOP_EVENT: Final = "all threads to stand still"
THREADS_LOCK: Final = "the list of all threads"
CONSTANTS_LOCK: Final = "the lock of constants in code"
FUNCTIONS_LOCK: Final = "the lock of functions' versions"
DELAYED_FREES: Final = "the queue of delayed frees"
OTHERS_COUNTS: Final = "the counts of objects that other threads own"
WEAK_REFERENCES: Final = "the locks of weak references"
NAMES_LOCK: Final = "the table of names in C code"
EXTENSIONS_LOCK: Final = "the table of extension modules"
INTERPRETER_LOCKS: Final = frozenset(
    {
        *(TYPES_LOCK, IMPORT_LOCK, WARNINGS_LOCK, STOP_TURN, STOP_EVENT, THREADS_LOCK, CONSTANTS_LOCK),
        *(FUNCTIONS_LOCK, DELAYED_FREES, OTHERS_COUNTS, WEAK_REFERENCES, NAMES_LOCK, EXTENSIONS_LOCK),
    }
)
"""All of them."""


@dataclass(frozen=True, slots=True)
class LockRef:
    """A lock of the target. `address` identifies it during the session; `label` is for people.

    `type_name` is the type of the owner object ("_thread.lock", "list", "myapp.Cache"); `label` is a
    source expression or attribute name where one is known ("self._lock").
    """

    address: int
    kind: LockKind
    type_name: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """What a thread waited for, as an interned value: the same wait has the same id.

    `syscall` is the kernel's name of the blocking call ("futex", "epoll_wait"). `detail` says what it is
    about, for people: a descriptor ("socket 127.0.0.1:5432", "pipe", a path) or a library wait
    ("Queue.get"). `lock` is set where the wait is for a lock.
    """

    syscall: str | None
    detail: str | None = None
    lock: LockRef | None = None

    @property
    def library(self) -> LibraryWait | None:
        """What the standard library waits for, where it is such a wait."""
        return library_wait_of(self.detail)


OWN_LOCK: Final = "its own lock"
"""`SharedObject.name` of an object of a thread's own whose lock that same thread spins for."""
SPUN_FOR: Final = "spun for"
"""`SharedObject.name` of an object whose lock several threads spin for; its `type_name` is the label of the
lock where that is the interpreter's."""
NO_LINE: Final = 0
"""In place of a line's frame id: objects whose own locks are waited for, called by the locks' addresses."""


class Counting(enum.Enum):
    """How references to an object are counted in a free-threaded build. The value is stored in recordings."""

    IMMORTAL = "immortal"
    """Not at all: it is never freed."""
    DEFERRED = "deferred"
    """Not by what the interpreter's stack has; the collector frees it."""
    PER_THREAD = "per-thread"
    """By each thread for itself: a class."""
    BIASED = "biased"
    """By the thread that made it, without atomic operations; nobody else has counted yet."""
    SHARED = "shared"
    """By the thread that made it, and by all others with atomic operations."""
    MERGED = "merged"
    """By all threads with atomic operations: the thread that made it has let go of it, or ended."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """An object as its header has it: address, how it is counted, and who owns it.

    `owner` is `threading.get_ident()` of the thread that made it and still counts without atomic operations,
    0 where there is none (merged), `maker` its index, -1 where it is not known. `path` is how a person gets
    there from a module, "app.CONFIG.routes['x']".
    """

    address: int
    counting: Counting
    owner: int = 0
    maker: int = -1
    path: str | None = None
    made_by: str | None = None
    """The name of its maker, as a recording has it."""


@dataclass(frozen=True, slots=True)
class SharedObject:
    """An object that several threads count references to, as a line of the program names it.

    `name` is like "CONFIG", "self.table" or "cell limit". KNOWN: its header shows that several threads
    counted; INFERRED: it belongs to another thread, but nothing shows that it was counted at that moment.
    `OWN_LOCK` is not shared: no other thread has it, and still its lock is waited for.
    """

    name: str
    type_name: str
    confidence: Confidence
    facts: ObjectFacts | None = field(default=None, compare=False)
    """What else is known of one object that was called so."""

    def better_than(self, other: SharedObject | None) -> bool:
        """Whether more is known: it is surer, or has a path where the other, equally sure, has none."""
        if other is None or self.confidence != other.confidence:
            return other is None or self.confidence > other.confidence
        if self.facts is None or (self.facts.path is None and other.facts is not None):
            return False
        return other.facts is None or other.facts.path is None


UNKNOWN_GUARD: Final = 1
"""Among `UpdateSight.guards` of a thread that may have held a lock that is not known."""


@dataclass(frozen=True, slots=True)
class SharedPlace:
    """A place that an update reads and stores: an attribute, a global, a closure's cell, a container's item.

    `name` is for people ("Visits.count", "app.TOTAL", "n of handler", "app.COUNTS['a']"). `owner` is the
    address of the object, namespace, cell or container: with `name` it tells one place from another.
    """

    kind: str
    name: str
    type_name: str
    owner: int


@dataclass(frozen=True, slots=True)
class UpdateSight:
    """In so many ticks of a window a thread (its index) was at a stack in the middle of updating a place.

    `guards` are the addresses of the locks that it held then, in order, and UNKNOWN_GUARD; `guard_label` is
    what the program calls one of them. `check` where it had looked and was about to act on that, and not
    about to store what it had computed. `other` and `other_stack` are -1 and 0, or another thread that was in
    the middle of updating the same place at the same ticks, without a lock in common: such rows come besides
    those of each thread alone.
    """

    place: SharedPlace
    thread: int
    stack: int
    guards: tuple[int, ...]
    count: int
    guard_label: str | None = None
    check: bool = False
    other: int = -1
    other_stack: int = 0
