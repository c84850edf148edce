"""What the sampler writes: states of threads, runs of ticks, counters, windows.

In: nothing. Out: frozen types whose columns are `array.array`, so that the sampler needs no numpy; ids that
are reserved in recordings.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.model.locks import SharedObject, UpdateSight
from ftdiag.model.memory import MemoryReading


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
NO_WAIT: Final = 0
"""Wait id: the thread did not wait, or nothing is known of its wait."""
NO_HOLDER: Final = 0
"""Holder column: nobody known. Otherwise the holder's thread index + 1."""


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
    NATIVE_FILE), number of samples. `unseen_` columns have those of threads that no tick saw, or after the
    last one that did: state, frame and number. `lost` samples were dropped by the kernel; `sampled_ratio` is
    the share of thread-time in which samples could be taken.
    """

    thread: array[int] = field(default_factory=lambda: array("I"))
    stack: array[int] = field(default_factory=lambda: array("I"))
    state: array[int] = field(default_factory=lambda: array("B"))
    frame: array[int] = field(default_factory=lambda: array("I"))
    samples: array[int] = field(default_factory=lambda: array("I"))
    unseen_state: array[int] = field(default_factory=lambda: array("B"))
    unseen_frame: array[int] = field(default_factory=lambda: array("I"))
    unseen_samples: array[int] = field(default_factory=lambda: array("I"))
    lost: int = 0
    sampled_ratio: float = 1.0


UNNAMED_INTERPRETER: Final = "interpreter (no name)"
"""The native symbol of a function of the interpreter that has no name and is known to be of no other kind."""
NATIVE_FILE: Final = "<native>"
"""`Frame.filename` of native frames in `NativeSamples`."""


MAX_OTHERS: Final = 5
"""Most other processes that a window names."""
MAX_OTHER_NAME: Final = 32
"""Longest name of one, in characters; the kernel's have 15."""


@dataclass(frozen=True, slots=True)
class OtherProcess:
    """A process beside the target, by the name that the kernel has for it, and the CPU time that it used."""

    pid: int
    name: str
    cpu_ns: int


@dataclass(frozen=True, slots=True)
class ProcessCounters:
    """Whole-process readings at the end of a window; `None` where not readable.

    `machine_busy_ns` is the CPU time that all programs of the machine used in the window, `throttled_ns` the
    time for which the target's cgroup was held back by its CPU quota (summed over its cores), `cpu_ns` the
    CPU time of the process with all threads that it had in the window, those that were never seen included.
    `ftdiag_ns` is what ftdiag's processes used besides the sampler; `others` are the busiest of the rest.
    """

    rss_bytes: int | None = None
    threads: int | None = None
    gil_enabled: bool | None = None
    machine_busy_ns: int | None = None
    throttled_ns: int | None = None
    cpu_ns: int | None = None
    ftdiag_ns: int | None = None
    others: tuple[OtherProcess, ...] = ()


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
    updates: tuple[UpdateSight, ...] | None = None
    """Threads that were seen in the middle of updating something; `None` where nobody looked for that."""
