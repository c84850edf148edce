"""What analysis makes of a range: time of lines, threads and locks, pauses, collections, cores.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.model.allocations import LineAllocations, ThreadAllocations
from ftdiag.model.locks import Confidence, LockRef, SharedObject, Wait
from ftdiag.model.samples import GenerationCollections, OtherProcess, StateGroup, ThreadState
from ftdiag.model.target import Frame, Stack, ThreadInfo


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
    own_locks: tuple[str, ...] = ()
    """Types of objects of a thread's own for whose locks that same thread spins on this line."""
    spun_for: tuple[str, ...] = ()
    """What several threads spin for on this line: types of objects with such locks, names of locks of the
    interpreter."""
    spun_paths: tuple[str | None, ...] = ()
    """Where these objects are to be found, in the same order, as far as it is known."""
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
    allocations: ThreadAllocations | None = None
    """What the thread allocated, from a capture of memray that knows which thread it is."""


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
    of_object: SharedObject | None = None
    """The object whose own lock it is, where that was looked at."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Stop-the-world pauses that one thread asked for at one place.

    `count` is a lower bound: pauses between two samples are not seen, and close ones are seen as one; the
    time is an unbiased estimate. `reason` is like "garbage collection"; `None` where only the place is known.
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


class CorePart(enum.Enum):
    """What a core of the capacity was there for. The parts of a range add up to the capacity.

    The values are the names used in reports and JSON; those of states are their labels.
    """

    USEFUL = "useful"
    """Work, allocation and collection of the program's threads: a run with one thread pays for them, too."""
    ON_CPU = "on_cpu"
    """On a core, and not known what for: no native sample, or none that could be classified."""
    UNSEEN_THREADS = "unseen_threads"
    """On a core, and not known what for: threads that began and ended between two samples."""
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
    """Cores that other processes of the machine used, those of ftdiag left out."""
    other_processes: tuple[OtherProcess, ...] = ()
    """The busiest of them with their CPU time in the range, most first; empty where they were not read."""
    throttled_cores: float | None = None
    """Cores that the cgroup's CPU quota took away while threads wanted them; `None`: no quota, or unknown."""
    unseen_threads_cores: float | None = None
    """Cores of `on_cpu_cores` of threads that ended before, or began and ended between, two samples."""
    unseen_parts_cores: Mapping[ThreadState, float] = field(default_factory=dict)
    """These by what samples of machine code say of them; ON_CPU is what could not be told apart. The others
    are in `useful_cores` and the account, and in no thread's time."""
    unseen_functions: tuple[tuple[str, float], ...] = ()
    """Functions of machine code that these samples were in, with their shares, most first."""
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
