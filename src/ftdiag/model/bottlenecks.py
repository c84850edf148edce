"""What waits end at: what to fix first.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum

from ftdiag.datatypes import dataclass
from ftdiag.model.locks import LockRef
from ftdiag.model.target import Stack, ThreadInfo


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

    What other processes of the machine took comes last: nobody can change it in the program.

    `waited_ns` is all thread-time of waiting that was redistributed: the sum of the ranked ones' `wait_ns`
    that are waits for locks, stops, the GIL or knots is exactly that. `not_told` says why nothing is ranked.
    """

    ranked: tuple[Bottleneck, ...] = ()
    edges: tuple[WaitsFor, ...] = ()
    waited_ns: float = 0.0
    left_out: int = 0
    """Further ones that are not listed."""
    not_told: str | None = None
