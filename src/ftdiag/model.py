"""The frozen types that every room shares: what a sample, a window and a finding are.

In: nothing; this module imports only the standard library.
Out: immutable values. Columns of a window are `array.array`, so that the sampler needs no numpy.

Conventions: units live in names (`_ns`, `_bytes`, `_ratio`, `_hz`); what is unknown is `None` or a
`Gap`, never 0 or -1; ids of a recording are non-negative integers with the reserved values below.
"""

from __future__ import annotations

import enum
import re
from array import array
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass, field


class ThreadState(enum.IntEnum):
    """What a thread did at a tick. The closed set; the values are stored in recordings and never change.

    `ON_CPU` is what the kernel alone can say: the thread is on a core or waits for one. Native
    sampling splits it into WORK, ATOMIC, SPIN, ALLOC and GC; the kernel's run-queue counter splits off
    RUNNABLE exactly, but for the time in which a thread that spins has yielded its core, which is SPIN.
    """

    ON_CPU = 1
    WORK = 2
    ATOMIC = 3
    SPIN = 4
    ALLOC = 5
    GC = 6
    RUNNABLE = 7
    LOCK = 8
    OBJECT_LOCK = 9
    RUNTIME_LOCK = 10
    STOPPED = 11
    GIL = 12
    IO = 13
    SLEEP = 14
    IDLE = 15
    UNKNOWN = 16
    HALTED = 17
    """Kept from running: a stop signal, a debugger, a frozen cgroup. No finding is made of it."""
    NATIVE_LOCK = 18
    """Parked on a lock of a C library (a pthread mutex or condition, a barrier of OpenMP)."""

    @property
    def label(self) -> str:
        """The name used in reports and JSON: `on_cpu`, `object_lock`, ..."""
        return self.name.lower()

    @property
    def group(self) -> StateGroup:
        """The kernel total that this state is a part of."""
        return _GROUPS[self]


class StateGroup(enum.Enum):
    """The three exact totals of the kernel that add up to a thread's lifetime in a window."""

    ON_CPU = "on_cpu"
    RUN_QUEUE = "run_queue"
    OFF_CPU = "off_cpu"


_ON_CPU_STATES: Final = frozenset(
    {
        ThreadState.ON_CPU,
        ThreadState.WORK,
        ThreadState.ATOMIC,
        ThreadState.SPIN,
        ThreadState.ALLOC,
        ThreadState.GC,
    }
)
_GROUPS: Final[Mapping[ThreadState, StateGroup]] = {
    state: StateGroup.ON_CPU
    if state in _ON_CPU_STATES
    else StateGroup.RUN_QUEUE
    if state is ThreadState.RUNNABLE
    else StateGroup.OFF_CPU
    for state in ThreadState
}

NO_STACK: Final = 0
"""Stack id: the thread runs no Python code (not a Python thread, or no frame)."""
TORN_STACK: Final = 1
"""Stack id: the thread has Python frames, but they could not be read consistently at this tick."""
UNKEPT_STACK: Final = 2
"""Stack id: the recording's table of stacks is full; the stack was read but not kept."""
FIRST_STACK_ID: Final = 8
"""Smallest id of a real stack; the ids below are reserved."""
IMPORTED_PREFIX: Final = "import: "
"""`RecordingSettings.source` of a recording that was made of another program's file begins with this."""
NO_STACKS_PREFIX: Final = "none: "
"""`RecordingSettings.source` where nobody read the stacks begins with this; the reason follows."""
NO_WAIT: Final = 0
"""Wait id: the thread did not wait, or nothing is known of its wait."""
NO_HOLDER: Final = 0
"""Holder column: nobody known. Otherwise the holder's thread index + 1."""


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


@dataclass(frozen=True, slots=True)
class Library:
    """A distribution that is installed for the target: what is at or below `prefix` is its code.

    `name` and `version` are those of its metadata.
    """

    prefix: str
    name: str
    version: str

    def has(self, filename: str) -> bool:
        """Whether a file is the library's."""
        return filename == self.prefix or filename.startswith(f"{self.prefix}/")


STANDARD_LIBRARY: Final = "standard library"
PROGRAM: Final = "program"
NO_METADATA: Final = "a library without metadata"
_INSTALLED: Final = re.compile(r"/(?:site|dist)-packages/")
_STANDARD: Final = re.compile(
    r"/(?:lib|lib64)/python3\.[0-9]+t?/(?!(?:site|dist)-packages/)|/Lib/(?!site-packages/)"
)


def is_standard_library(filename: str) -> bool:
    """Whether a file is of Python's standard library."""
    return filename.startswith("<frozen ") or _STANDARD.search(filename) is not None


@dataclass(frozen=True, slots=True)
class Target:
    """The process that is looked at.

    `start_ticks` is field 22 of /proc/PID/stat: with `pid` it identifies the process. `gil_enabled` is
    `None` where it could not be read. `python_version` is like "3.14.0" or "3.15.0a5". `gil_culprits` are
    the extension modules that ask for the GIL. `environment` has the variables that change how Python,
    its allocator or its libraries use threads, as "NAME=value", in the order of the process. `distribution`
    has the names of the target's Linux distribution and of those it is like ("ubuntu", "debian"), the nearest
    first; `machine` is the kernel's name of the processor ("x86_64"). `libraries` are those of which code was
    seen to run.
    """

    pid: int
    start_ticks: int
    executable: str
    command: str
    python_version: str
    free_threaded: bool
    gil_enabled: bool | None
    gil_culprits: tuple[str, ...] = ()
    capacity_cores: float | None = None
    capacity_reason: str | None = None
    environment: tuple[str, ...] = ()
    distribution: tuple[str, ...] = ()
    machine: str | None = None
    libraries: tuple[Library, ...] = ()
    gil_importers: tuple[tuple[str, ...], ...] = ()
    """For each of the culprits who imported it, the outermost first; empty where it is not known."""

    def library_of(self, filename: str) -> Library | None:
        """The library that a file belongs to; the one that says it most closely."""
        having = (library for library in self.libraries if library.has(filename))
        return max(having, key=lambda library: len(library.prefix), default=None)

    def whose(self, filename: str) -> str:
        """Whose code a file is: "program", "standard library", "SQLAlchemy 2.0", or that nobody says so."""
        library = self.library_of(filename)
        if library is not None:
            return f"{library.name} {library.version}"
        if is_standard_library(filename):
            return STANDARD_LIBRARY
        return NO_METADATA if _INSTALLED.search(filename) else PROGRAM


@dataclass(frozen=True, slots=True)
class Frame:
    """One Python frame: file, function (qualified name) and line. `line` is `None` where unknown."""

    filename: str
    function: str
    line: int | None


Stack = tuple[Frame, ...]
"""Frames of a thread, leaf (the innermost call) first."""


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
    ("queue.Queue.get"). `lock` is set where the wait is for a lock.
    """

    syscall: str | None
    detail: str | None = None
    lock: LockRef | None = None


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """A thread of the target.

    `index` is its number in the recording (a tid can be reused, an index cannot). `name` is the Python
    name where there is one, else the OS name. `python` is false for threads that the interpreter does
    not know. `started_ns`/`ended_ns` are on the recording's clock; `None` when not seen.
    """

    index: int
    tid: int
    name: str
    python: bool
    main: bool = False
    interpreter: int = 0
    started_ns: int | None = None
    ended_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be read: what, why, and how many times in the window."""

    what: str
    why: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class ThreadCounters:
    """Exact kernel counters of the threads alive in a window: one element per thread in every column.

    All are differences over the part of the window in which the thread was seen. `alive_ns` is the
    length of that part, so `cpu_ns + run_queue_ns <= alive_ns` up to the clock's grain. -1 in a column
    means "could not be read" and is turned into a `Gap` by readers.
    """

    thread: array[int] = field(default_factory=lambda: array("I"))
    alive_ns: array[int] = field(default_factory=lambda: array("q"))
    cpu_ns: array[int] = field(default_factory=lambda: array("q"))
    run_queue_ns: array[int] = field(default_factory=lambda: array("q"))
    voluntary_switches: array[int] = field(default_factory=lambda: array("q"))
    involuntary_switches: array[int] = field(default_factory=lambda: array("q"))
    minor_faults: array[int] = field(default_factory=lambda: array("q"))
    major_faults: array[int] = field(default_factory=lambda: array("q"))
    migrations: array[int] = field(default_factory=lambda: array("q"))
    """Moves to another core; -1 also where the kernel was built without CONFIG_SCHED_DEBUG."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Thread samples as runs: `ticks[i]` consecutive ticks in which nothing about a thread changed.

    Sorted by thread, then by time. `first_tick[i]` is the run's first tick as an index into the
    window's `tick_ns`. A thread is absent at the ticks that no run of its covers. Columns: thread index,
    first_tick, ticks, state (`ThreadState` value), stack id, wait id, holder (thread index + 1, or
    NO_HOLDER), confidence of the holder (`Confidence` value; `KNOWN` without one: nobody had the lock).
    """

    thread: array[int] = field(default_factory=lambda: array("I"))
    first_tick: array[int] = field(default_factory=lambda: array("I"))
    ticks: array[int] = field(default_factory=lambda: array("I"))
    state: array[int] = field(default_factory=lambda: array("B"))
    stack: array[int] = field(default_factory=lambda: array("I"))
    wait: array[int] = field(default_factory=lambda: array("I"))
    holder: array[int] = field(default_factory=lambda: array("I"))
    confidence: array[int] = field(default_factory=lambda: array("B"))


@dataclass(frozen=True, slots=True)
class SamplerCost:
    """What the sampler itself did in a window: its CPU time, and the ticks it took, was late for, missed."""

    cpu_ns: int
    ticks: int
    late_ticks: int
    missed_ticks: int
    walked_stacks: int
    torn_stacks: int


@dataclass(frozen=True, slots=True)
class NativeSamples:
    """Samples of where threads were in machine code while on a core, counted: how CPU time is split.

    Columns of one row per thread, Python stack, state (WORK, ATOMIC, SPIN, ALLOC, GC or UNKNOWN) and native
    frame: thread index, stack id, `ThreadState` value, frame id (the function's symbol; the file is
    NATIVE_FILE), number of samples. `lost` samples were dropped by the kernel; `sampled_ratio` is the
    share of threads that were sampled at a time.
    """

    thread: array[int] = field(default_factory=lambda: array("I"))
    stack: array[int] = field(default_factory=lambda: array("I"))
    state: array[int] = field(default_factory=lambda: array("B"))
    frame: array[int] = field(default_factory=lambda: array("I"))
    samples: array[int] = field(default_factory=lambda: array("I"))
    lost: int = 0
    sampled_ratio: float = 1.0


UNNAMED_INTERPRETER: Final = "interpreter (no name)"
"""The native symbol of a function of the interpreter that has no name and is known to be of no other kind."""
NATIVE_FILE: Final = "<native>"
"""`Frame.filename` of native frames in `NativeSamples`."""


@dataclass(frozen=True, slots=True)
class SharedObject:
    """An object that several threads count references to, as a line of the program names it.

    `name` is like "CONFIG", "self.table" or "cell limit". KNOWN: its header shows that several threads
    counted; INFERRED: it belongs to another thread, but nothing shows that it was counted at that moment.
    """

    name: str
    type_name: str
    confidence: Confidence


class MemoryKind(enum.IntEnum):
    """What resident memory is there for. The closed set; the values are stored in recordings."""

    PYTHON_HEAPS = 1
    """Heaps of mimalloc, one or more of each thread of a free-threaded build: Python's own objects."""
    LIBC_HEAP = 2
    """The heap that the C library grows with brk: its main arena."""
    LIBC_ARENAS = 3
    """The other arenas of glibc's malloc."""
    THREAD_STACKS = 4
    ANONYMOUS = 5
    """Anonymous memory of all other kinds; where Python's heaps cannot be told, these too."""
    FILES = 6
    """Mapped files: code and data of libraries, files that the program maps."""
    SHARED = 7
    """Memory shared with other processes: shared memory segments, memfd, tmpfs."""

    @property
    def label(self) -> str:
        """The name used in reports and JSON: `python_heaps`, ..."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ThreadMemory:
    """Resident bytes that belong to single threads, one element a thread; -1 where it is not known."""

    thread: array[int] = field(default_factory=lambda: array("I"))
    stack_bytes: array[int] = field(default_factory=lambda: array("q"))
    heap_bytes: array[int] = field(default_factory=lambda: array("q"))
    """Python heaps that the thread owns."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """The memory of the process at one moment; `None` and missing kinds are explained in `not_measured`.

    `cost_ns` is the CPU time that the reading took. `ended_heap_bytes` are Python heaps whose threads have
    ended, `arenas` the number of glibc's arenas besides the main one. All bytes are resident but
    `virtual_bytes` and `swap_bytes`.
    """

    at_ns: int
    cost_ns: int
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    uss_bytes: int | None = None
    swap_bytes: int | None = None
    virtual_bytes: int | None = None
    threads: int | None = None
    arenas: int | None = None
    ended_heap_bytes: int | None = None
    kinds: Mapping[MemoryKind, int] = field(default_factory=dict)
    by_thread: ThreadMemory = field(default_factory=ThreadMemory)
    not_measured: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessCounters:
    """Whole-process readings at the end of a window; `None` where not readable.

    `machine_busy_ns` is the CPU time that all programs of the machine used in the window, `throttled_ns` the
    time for which the target's cgroup was held back by its CPU quota (summed over its cores), `cpu_ns` the
    CPU time of the process with all threads that it had in the window, those that were never seen included.
    """

    rss_bytes: int | None = None
    threads: int | None = None
    gil_enabled: bool | None = None
    machine_busy_ns: int | None = None
    throttled_ns: int | None = None
    cpu_ns: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationCollections:
    """What the cyclic collector did to one generation, 0 the youngest, by its own count.

    `looked_at` and `freed` count objects; `total_ns` is wall-clock time from begin to end of each collection,
    with the finalizers that it runs.
    """

    generation: int
    count: int
    total_ns: int
    looked_at: int
    freed: int


@dataclass(frozen=True, slots=True)
class Collections:
    """The collections that ended in a window: exact sums, and the times of those that were the last of their
    generation at a tick (columns of equal length; the clock is the recording's).
    """

    generations: tuple[GenerationCollections, ...] = ()
    generation: array[int] = field(default_factory=lambda: array("B"))
    begin_ns: array[int] = field(default_factory=lambda: array("q"))
    end_ns: array[int] = field(default_factory=lambda: array("q"))


@dataclass(frozen=True, slots=True)
class Window:
    """What the sampler saw between `t0_ns` and `t1_ns` (CLOCK_MONOTONIC of the sampling machine).

    `tick_ns` has the time of every tick taken in the window.
    """

    t0_ns: int
    t1_ns: int
    tick_ns: array[int]
    runs: Runs
    counters: ThreadCounters
    cost: SamplerCost
    process: ProcessCounters = ProcessCounters()
    gaps: tuple[Gap, ...] = ()
    native: NativeSamples | None = None
    shared: tuple[tuple[int, SharedObject], ...] = ()
    """(frame id of a line with much ATOMIC time, an object that it touches)."""
    memory: MemoryReading | None = None
    """The reading of the memory that was finished in the window, if any."""
    collections: Collections | None = None
    """What the collector says that it did; `None` where CPython does not publish it."""


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """How a recording was made. `started_unix_ns` is wall-clock time of `started_ns`.

    `native` says how machine code was sampled, or why it was not (beginning with "not measured: ").
    `source` says who read the stacks: "native" (our reader), "py-spy", NO_STACKS_PREFIX and the reason where
    only the kernel was asked, or IMPORTED_PREFIX and the kind of file: that has no counters of the kernel.
    """

    rate_hz: float
    started_ns: int
    started_unix_ns: int
    ftdiag_version: str
    host: str
    source: str = "native"
    native: str | None = None

    @property
    def imported(self) -> str | None:
        """The kind of file that the recording was made of, where ftdiag did not record it itself."""
        return self.source[len(IMPORTED_PREFIX) :] if self.source.startswith(IMPORTED_PREFIX) else None

    @property
    def no_stacks(self) -> str | None:
        """Why nobody read the stacks; `None` if somebody did."""
        return self.source[len(NO_STACKS_PREFIX) :] if self.source.startswith(NO_STACKS_PREFIX) else None


class EndReason(enum.Enum):
    """Why a recording ended. The value is stored."""

    EXITED = "exited"
    KILLED = "killed"
    EXECED = "execed"
    VANISHED = "vanished"
    DURATION = "duration"
    STOPPED = "stopped"
    DISK_FULL = "disk-full"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """How a recording ended: the reason, one sentence for people, and when."""

    reason: EndReason
    detail: str
    at_ns: int


class Severity(enum.Enum):
    """How much a finding matters; see the score in the metrics."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


# --- what a memray capture says ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Intrusion:
    """A time (on the recording's clock) in which ftdiag itself changed how the target ran.

    `what` names the instrument ("memray"). Its windows are left out of every figure of efficiency.
    """

    what: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class LineAllocations:
    """What one line allocated while memray was attached; `None`: this kind of capture does not say.

    `temporary` allocations were freed by the thread that made them before it had made two more.
    `peak_bytes` is the line's part of the largest heap, `left_*` was not freed by the end of the capture.
    `stack` is the call stack, innermost first, that allocated there most often.
    """

    frame: Frame
    threads: int
    count: int | None = None
    size_bytes: int | None = None
    temporary: int | None = None
    peak_bytes: int | None = None
    left_count: int | None = None
    left_bytes: int | None = None
    stack: Stack = ()


@dataclass(frozen=True, slots=True)
class ThreadAllocations:
    """The same for one thread. `number` is memray's own counter, not a tid; few threads have a `name`."""

    number: int
    name: str | None
    count: int | None = None
    size_bytes: int | None = None
    temporary: int | None = None
    peak_bytes: int | None = None
    left_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Allocations:
    """A capture of memray, by line and by thread; those with the most allocations first.

    `python_allocators`: Python's own objects are in it, not only what malloc and mmap gave.
    `cut_short`: the capture ends before its writer wanted it to. Totals cover also the lines that are left
    out (`lines_left_out`). `not_measured` says for a field why it is `None`.
    """

    pid: int
    command: str
    begin_unix_ns: int
    duration_ns: int
    python_allocators: bool
    aggregated: bool
    cut_short: bool
    count: int | None
    size_bytes: int | None
    temporary: int | None
    peak_bytes: int | None
    left_count: int | None
    left_bytes: int | None
    lines: tuple[LineAllocations, ...]
    threads: tuple[ThreadAllocations, ...]
    lines_left_out: int = 0
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def per_second(self, number: int | None) -> float | None:
        """A count or size of the capture as a rate; `None` where there is none."""
        return None if number is None or self.duration_ns <= 0 else number / (self.duration_ns / 1e9)


# --- what analysis makes of a range of a recording ------------------------------------------------


@dataclass(frozen=True, slots=True)
class HotLine:
    """Thread-time charged to one line (or, with `frame.line` None, one function).

    `total_ns` and `states_ns` are thread-time in which this was the innermost Python frame.
    `stacks` are the commonest call stacks that end here with their thread-time, longest first.
    """

    frame: Frame
    total_ns: float
    states_ns: Mapping[ThreadState, float]
    threads: int
    stacks: tuple[tuple[Stack, float], ...] = ()
    shared: tuple[SharedObject, ...] = ()
    """Objects whose reference counts threads contend for on this line, where they could be named."""
    native: tuple[tuple[str, float], ...] = ()
    """The machine code most often found there while on a core: (symbol, share of the samples), top first."""
    allocations: LineAllocations | None = None
    """What the line allocated, from a capture of memray; `None` without one, or if it has nothing there."""
    wall_ns: float | None = None
    """The line's part of the wall time: each tick is shared among the threads that ran at it."""


@dataclass(frozen=True, slots=True)
class ThreadMetrics:
    """One thread over a range. `sum(states_ns.values()) == alive_ns` exactly (metrics: states that add up).

    `states_ns` splits `cpu_ns` (as ON_CPU where not split by native samples), `run_queue_ns` (RUNNABLE, and
    SPIN where it yielded while it spun) and the rest. `waits` are the commonest waits, longest first.
    `role` is a short word such as "main", "worker", "native".
    """

    info: ThreadInfo
    role: str
    alive_ns: int
    cpu_ns: int
    run_queue_ns: int
    states_ns: Mapping[ThreadState, float]
    voluntary_switches: int
    involuntary_switches: int
    minor_faults: int
    major_faults: int
    hot: tuple[HotLine, ...] = ()
    waits: tuple[tuple[Wait, float], ...] = ()
    latest_state: ThreadState | None = None
    latest_stack: Stack = ()
    migrations: int | None = None
    """Moves to another core; `None` where the kernel does not count them."""
    tasks: tuple[tuple[str, float], ...] = ()
    """For a thread with an event loop: the coroutines that it ran, with their thread-time in ns."""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Blame: thread-time that others waited for a lock while this thread held it at this stack.

    Without a thread and known: nobody had the lock. It was free, and the thread that was to have it next,
    which had been woken, was not back yet.
    """

    thread: ThreadInfo | None
    confidence: Confidence
    blame_ns: float
    stack: Stack

    @property
    def free(self) -> bool:
        """Whether nobody had the lock, which is not the same as not knowing who."""
        return self.thread is None and self.confidence is Confidence.KNOWN


@dataclass(frozen=True, slots=True)
class LockWaiter:
    """Thread-time that a thread waited for a lock at this stack."""

    thread: ThreadInfo
    wait_ns: float
    stack: Stack


@dataclass(frozen=True, slots=True)
class LockMetrics:
    """One lock over a range; the definitions are those of the metrics (wait, critical wait, mean queue)."""

    number: int
    lock: LockRef
    wait_ns: float
    critical_wait_ns: float
    mean_queue: float
    waiters_max: int
    longest_wait_ns: float
    waiters: tuple[LockWaiter, ...]
    holders: tuple[LockHolder, ...]


@dataclass(frozen=True, slots=True)
class Pauses:
    """Stop-the-world pauses that one thread asked for at one place.

    `count` is a lower bound: pauses between two looks are not seen, and close ones are seen as one; the time
    is an unbiased estimate. `reason` is like "garbage collection"; `None` where only the place is known.
    """

    requester: ThreadInfo | None
    confidence: Confidence
    reason: str | None
    stack: Stack
    count: int
    total_ns: float
    longest_ns: float
    threads_max: int


@dataclass(frozen=True, slots=True)
class CollectorMetrics:
    """What the cyclic collector did in a range, by its own statistics: exact, not sampled.

    `covered_ratio` is the part of the range for which there are statistics. `longest_ns` is the longest of
    the `timed` collections whose own times are known (those that were the last of their generation at a
    tick); `None` without one.
    """

    generations: tuple[GenerationCollections, ...]
    covered_ratio: float
    timed: int
    longest_ns: int | None

    @property
    def count(self) -> int:
        """Collections of all generations."""
        return sum(each.count for each in self.generations)

    @property
    def total_ns(self) -> int:
        """Their wall-clock time."""
        return sum(each.total_ns for each in self.generations)

    @property
    def looked_at(self) -> int:
        """Objects that they looked at."""
        return sum(each.looked_at for each in self.generations)

    @property
    def freed(self) -> int:
        """Objects that they freed."""
        return sum(each.freed for each in self.generations)


class AllocatorPart(enum.Enum):
    """What time in the allocator goes to. The values are the names used in reports and JSON."""

    MIMALLOC = "mimalloc"
    """Python's objects: mimalloc's own code."""
    LIBC = "libc_malloc"
    """malloc and free of the C library: extensions, raw memory."""
    OTHER = "other_allocator"
    """jemalloc, tcmalloc and others that take malloc's place."""
    FAULTS = "page_faults"
    """The kernel finds and clears a page that is touched for the first time."""
    MAPPING = "mapping"
    """The kernel is asked for more address space."""
    UNMAPPING = "unmapping"
    """Memory goes back to the kernel."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AllocatorLine:
    """Thread-time in the allocator that one line caused, split; `parts_ns` adds up to `total_ns`."""

    frame: Frame
    total_ns: float
    parts_ns: Mapping[AllocatorPart, float]


@dataclass(frozen=True, slots=True)
class MemoryOfThread:
    """Resident memory that belongs to one thread; `None` where it is not known."""

    info: ThreadInfo
    stack_bytes: int | None
    heap_bytes: int | None
    """Python heaps that the thread owns."""

    @property
    def total_bytes(self) -> int | None:
        """Both together, where both are known."""
        if self.stack_bytes is None or self.heap_bytes is None:
            return None
        return self.stack_bytes + self.heap_bytes


LEAST_RATE_NS: Final = 10_000_000_000
"""A resident size that was followed for less than this says nothing about a minute."""


@dataclass(frozen=True, slots=True)
class MemoryMetrics:
    """The memory of the process over a range.

    `rss_bytes` is the last reading of the resident size, `growth_bytes` what it gained from the first to the
    last second of the range. `reading` is the latest detailed reading up to the range's end, `since` the
    earliest one in the range: what kinds gained lies between them. `course` has the resident size every
    second (or less often), `kinds_course` the readings' kinds. Threads with most memory come first.
    `per_thread_bytes` is the mean over all threads but the main one of what is known to be theirs alone.
    """

    rss_bytes: int | None = None
    growth_bytes: int | None = None
    growth_ns: int = 0
    """Over how long the resident size grew so."""
    reading: MemoryReading | None = None
    since: MemoryReading | None = None
    readings: int = 0
    threads: tuple[MemoryOfThread, ...] = ()
    per_thread_bytes: float | None = None
    course: tuple[tuple[int, int], ...] = ()
    """(time on the recording's clock, resident bytes)."""
    kinds_course: tuple[tuple[int, Mapping[MemoryKind, int]], ...] = ()
    allocator_ns: Mapping[AllocatorPart, float] = field(default_factory=dict)
    allocator_lines: tuple[AllocatorLine, ...] = ()
    minor_faults: int = 0
    major_faults: int = 0
    not_measured: Mapping[str, str] = field(default_factory=dict)

    @property
    def growth_per_minute_bytes(self) -> float | None:
        """What the resident size gains in a minute, where the range is long enough to say."""
        if self.growth_bytes is None or self.growth_ns < LEAST_RATE_NS:
            return None
        return self.growth_bytes * 60e9 / self.growth_ns


class CorePart(enum.Enum):
    """What a core of the capacity was there for. The parts of a range add up to the capacity.

    The values are the names used in reports and JSON; those of states are their labels.
    """

    USEFUL = "useful"
    """Work, allocation and collection of the program's threads: a run with one thread pays for them, too."""
    ON_CPU = "on_cpu"
    """On a core, and not known what for: no native sample, or none that could be classified."""
    UNSEEN_THREADS = "unseen_threads"
    """On a core: threads that began and ended between two looks."""
    ATOMIC = "atomic"
    SPIN = "spin"
    LOCK = "lock"
    OBJECT_LOCK = "object_lock"
    RUNTIME_LOCK = "runtime_lock"
    NATIVE_LOCK = "native_lock"
    STOPPED = "stopped"
    GIL = "gil"
    CPU_QUOTA = "runnable_quota"
    """A thread wanted a core, and the cgroup's quota kept it off."""
    OTHER_PROGRAMS = "runnable_other_programs"
    """A thread wanted a core, and another program had it."""
    FTDIAG = "runnable_ftdiag"
    """A thread wanted a core, and the sampler had it."""
    OWN_THREADS = "runnable_too_many_threads"
    """A thread wanted a core while there were more such threads than cores: changing between them."""
    RUNNABLE = "runnable"
    """A thread wanted a core, and it is not known who had it."""
    IO = "io"
    UNKNOWN = "unknown"
    """A thread waited there, and it is not known for what."""
    NO_DEMAND = "no_demand"
    """Nobody wanted it: threads were idle or asleep, or there were not enough of them."""

    @property
    def label(self) -> str:
        """The name used in reports and JSON."""
        return self.value


ON_CPU_PARTS: Final = (
    CorePart.USEFUL,
    CorePart.ATOMIC,
    CorePart.SPIN,
    CorePart.ON_CPU,
    CorePart.UNSEEN_THREADS,
)
"""The parts in which a core was in use; together they are `Metrics.on_cpu_cores`."""
RUNNABLE_PARTS: Final = (
    CorePart.CPU_QUOTA,
    CorePart.OTHER_PROGRAMS,
    CorePart.FTDIAG,
    CorePart.OWN_THREADS,
    CorePart.RUNNABLE,
)
"""The parts in which a thread wanted a core that somebody else had."""
USEFUL_STATES: Final = (ThreadState.WORK, ThreadState.ALLOC, ThreadState.GC)
"""The states that are useful."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The whole program over a range. `None` means not measured; `Quality.not_measured` says why.

    `account` says where the cores of the capacity went: no part is negative, and together they are
    `capacity_cores`; it is empty where that is not known. All other figures in cores are parts of it.
    `useful_cores` is what is known to be useful; where time on a core could not be told apart, the truth lies
    between it and `useful_most_cores`, and that of the efficiency between `efficiency_ratio` and
    `efficiency_most_ratio`. `useful_parts_cores` splits it by state.
    `on_cpu_cores` is all CPU time of the process per second (of the threads that were seen where its clock
    was not read). Of an imported
    recording it, `run_queue_cores` and `threads_with_work` are 0 and mean nothing: ask `Snapshot.imported`.
    `lost_cores` maps a state to the cores it cost. `concurrency[k]` is the share of ticks with exactly k
    threads on a core or wanting one.
    """

    duration_ns: int
    ticks: int
    capacity_cores: float | None
    capacity_reason: str | None
    threads: int
    threads_with_work: int
    on_cpu_cores: float
    run_queue_cores: float
    useful_cores: float | None
    ideal_speedup: float | None
    efficiency_ratio: float | None
    lost_cores: Mapping[ThreadState, float]
    states_ns: Mapping[ThreadState, float]
    load_balance_ratio: float | None
    serial_share_ratio: float | None
    concurrency: tuple[float, ...]
    work_per_wakeup_ns: float | None
    other_programs_cores: float | None = None
    """Cores that other programs of the machine used, the sampler left out."""
    throttled_cores: float | None = None
    """Cores that the cgroup's CPU quota took away while threads wanted them; `None`: no quota, or unknown."""
    unseen_threads_cores: float | None = None
    """Cores of `on_cpu_cores` that threads used which ended before, or began and ended between, two looks."""
    account: Mapping[CorePart, float] = field(default_factory=dict)
    useful_most_cores: float | None = None
    efficiency_most_ratio: float | None = None
    useful_parts_cores: Mapping[ThreadState, float] = field(default_factory=dict)

    @property
    def on_cpu_is_split(self) -> bool:
        """Whether time on a core is told apart into work, atomics, spinning, allocation and collection."""
        return any(
            self.states_ns.get(state, 0.0) > 0
            for state in ThreadState
            if state.group is StateGroup.ON_CPU and state is not ThreadState.ON_CPU
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """One figure a finding rests on."""

    metric: str
    value: float
    unit: str
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to change, with code where it can be shown."""

    text: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, what it costs and what to do. `confidence` is "known", "likely" or "possible".

    `context` findings are about the machine beside the program: what others took. They stand beside the
    answer, and are the answer only where the program has no cause of its own.
    """

    rule_id: str
    severity: Severity
    score: float
    confidence: str
    lost_cores: float
    subject: Mapping[str, str | int]
    summary: str
    explanation: str
    could_also_be: tuple[str, ...]
    remedy: tuple[Remedy, ...]
    verify: str
    evidence: tuple[Evidence, ...]
    context: bool = False
    whose: str | None = None
    """Whose code the line of its subject is (`Target.whose`); `None` where no line is named."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What kind of program it is over a range, and what that means for the choice of threads.

    `kind` is "cpu-bound", "io-bound", "event-loop-bound", "mixed" or "idle". `shares` split the Python
    threads' time into "cpu", "waiting" (for locks and cores), "io", "idle" and "unknown"; they add up to 1.
    """

    kind: str
    shares: Mapping[str, float]
    advice: str


@dataclass(frozen=True, slots=True)
class Quality:
    """How far the figures can be trusted, and what is not measured and why."""

    torn_ratio: float | None
    missed_tick_ratio: float | None
    unknown_ratio: float | None
    classified_cpu_ratio: float | None
    sampler_cpu_ratio: float | None
    not_measured: Mapping[str, str]
    gaps: tuple[Gap, ...]
    native_lost: int | None = None
    """Native samples that the kernel dropped; `None` where there are no native samples."""
    native_sampled_ratio: float | None = None
    """Share of the threads on a core that were sampled at a time; below 1 where they had to take turns."""
    unnamed_cpu_ratio: float | None = None
    """Share of the native samples in functions of a stripped interpreter that have no name. They count as
    work: what of the allocator or the collector was not found is at most this. `None` without samples."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a view or a report shows of one range of a recording."""

    target: Target
    settings: RecordingSettings
    end: End | None
    t0_ns: int
    t1_ns: int
    metrics: Metrics
    threads: tuple[ThreadMetrics, ...]
    hot: tuple[HotLine, ...]
    locks: tuple[LockMetrics, ...]
    findings: tuple[Finding, ...]
    not_applicable: tuple[tuple[str, str], ...]
    quality: Quality
    workload: Workload | None = None
    process: ProcessCounters | None = None
    """The last readings of the whole process in the range."""
    pauses: tuple[Pauses, ...] = ()
    """Stop-the-world pauses, those with most time first."""
    collector: CollectorMetrics | None = None
    """What the collector did; `None` where CPython does not say it (`quality.not_measured` has why)."""
    memory: MemoryMetrics = field(default_factory=MemoryMetrics)
    allocations: Allocations | None = None
    """The latest capture of memray, if there is one; it need not be from the time of the range."""
    intrusions: tuple[Intrusion, ...] = ()
    """Times within the range that are in no figure, because an instrument changed how the target ran."""
    bottlenecks: Bottlenecks | None = None
    """What waits end at, ranked."""

    @property
    def imported(self) -> str | None:
        """The kind of file that was imported; then there is nothing but samples of stacks."""
        return self.settings.imported


# --- what to fix first ------------------------------------------------------------------------------


class BottleneckKind(enum.Enum):
    """What waiting ends at. The values are the names used in reports and JSON."""

    LOCK = "lock"
    LINE = "line"
    """A line that wastes time on a core: it spins, or waits for a contended place in memory."""
    SERIAL = "serial"
    """A thread that runs while threads that could run beside it have nothing to do."""
    IO = "io"
    CORES = "cores"
    """Too few cores: threads could run and had none."""
    STOP = "stop"
    """Stop-the-world pauses."""
    GIL = "gil"
    KNOT = "knot"
    """Threads that wait for each other only."""
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """The name used in reports and JSON."""
        return self.value


class EndOfWait(enum.Enum):
    """What the thread at the end of a chain of waits did. The values are the names in reports and JSON."""

    RUNS = "runs"
    WANTS_CORE = "wants a core"
    IO = "waits for I/O"
    SLEEPS = "sleeps"
    IDLE = "is idle"
    WAITS = "waits"
    HANDED_OVER = "the lock is free, who is next has no core yet"
    NOT_KNOWN = "who has it is not known"

    @property
    def label(self) -> str:
        """The name used in reports and JSON."""
        return self.value


@dataclass(frozen=True, slots=True)
class BottleneckPlace:
    """Where waits ended: what the threads there did, their stack, the thread-time that ended there."""

    end: EndOfWait
    stack: Stack
    threads: int
    wait_ns: float


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One thing that waits end at; `number` of a lock is that of `LockMetrics`.

    `wait_ns` is the thread-time of waiting that ends here, `direct_ns` that of the threads that waited for
    it themselves. `lost_cores` is the part of it that kept a core from work, with what was wasted on a core
    (`wasted_cores`); `gain_cores` is what could run more without it, at most: the same, but for too few
    cores, where it is how many threads wait for one on average. `wall_ratio` is the share of wall time at
    which waiting ended here while cores were free; `None` where that has no moments (of time on a core only
    the amount is known). `known_ratio` is the share of the waiting for which holders are known.
    """

    kind: BottleneckKind
    wait_ns: float
    lost_cores: float
    gain_cores: float
    direct_ns: float = 0.0
    wasted_cores: float = 0.0
    wall_ratio: float | None = None
    waiters_max: int = 0
    known_ratio: float | None = None
    lock: LockRef | None = None
    number: int = 0
    thread: ThreadInfo | None = None
    detail: str | None = None
    places: tuple[BottleneckPlace, ...] = ()
    members: tuple[ThreadInfo, ...] = ()
    """The threads of a knot."""
    context: bool = False
    """It is about the machine beside the program."""


@dataclass(frozen=True, slots=True)
class WaitsFor:
    """An edge of the graph: `waiter` waited so long for a lock while `holder` had it (`None`: not known)."""

    waiter: ThreadInfo
    lock: LockRef
    number: int
    holder: ThreadInfo | None
    wait_ns: float


@dataclass(frozen=True, slots=True)
class Bottlenecks:
    """What to fix first, by `gain_cores`, and the graph it comes from, the longest waits first.

    What other programs of the machine took comes last: nobody can change it in the program.

    `waited_ns` is all thread-time of waiting that was redistributed: the sum of the ranked ones' `wait_ns`
    that are waits for locks, stops, the GIL or knots is exactly that. `not_told` says why nothing is ranked.
    """

    ranked: tuple[Bottleneck, ...] = ()
    edges: tuple[WaitsFor, ...] = ()
    waited_ns: float = 0.0
    left_out: int = 0
    """Further ones that are not listed."""
    not_told: str | None = None
