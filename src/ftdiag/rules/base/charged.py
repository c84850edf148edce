"""What is charged to rules: locks, lines, stops of all threads, the shape of the program.

In and out: frozen types. Every lost core is charged once (`attribution.charges`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ftdiag.datatypes import dataclass, field
from ftdiag.model import HotLine, LockMetrics, ThreadMetrics, ThreadState
from ftdiag.rules.base.verdicts import SHORT_HOLD


@dataclass(frozen=True, slots=True)
class LockCharge:
    """Locks that are one cause, charged to one rule.

    `locks` are alike (same kind, type, name and waiting line), those with the longest waits first.
    `parked_cores` is the critical part of the wait, `spin_cores` and `atomic_cores` what the lines that
    wait for them wasted on a core.
    """

    rule_id: str
    locks: tuple[LockMetrics, ...]
    state: ThreadState
    parked_cores: float
    spin_cores: float
    atomic_cores: float
    threads: int = 0
    """Most threads at one of these lines."""
    beside: tuple[LockMetrics, ...] = ()
    """Other locks that are the same cause: what the standard library keeps for the process has a lock of its
    own, and objects inside have theirs."""

    @property
    def wasted_cores(self) -> float:
        """Cores that were kept busy by waiting for these locks."""
        return self.spin_cores + self.atomic_cores

    @property
    def mostly_spun(self) -> bool:
        """Whether most of the loss is spinning: the lock is held for a moment, and taken very often."""
        return self.wasted_cores >= SHORT_HOLD.value * self.lost_cores

    @property
    def lost_cores(self) -> float:
        """Cores lost to these locks."""
        return self.parked_cores + self.spin_cores + self.atomic_cores


@dataclass(frozen=True, slots=True)
class LineCharge:
    """A line whose wasted time on a core is charged to one rule, without a lock that is known."""

    rule_id: str
    line: HotLine
    spin_cores: float
    atomic_cores: float

    @property
    def lost_cores(self) -> float:
        """Cores wasted at this line."""
        return self.spin_cores + self.atomic_cores


@dataclass(frozen=True, slots=True)
class Shape:
    """The rule that the program's shape is charged to, if any: how its threads share the work.

    `unnamed` says why nothing is charged where too much time is in waits that could not be named.
    `room_cores` is what could run beyond what ran and what is lost to other causes. `thread` is the one
    that is on a core most; `group` are threads alike, the busiest first.
    """

    rule_id: str | None = None
    unnamed: str | None = None
    room_cores: float = 0.0
    lost_cores: float = 0.0
    share: float = 0.0
    thread: ThreadMetrics | None = None
    group: tuple[ThreadMetrics, ...] = ()


class Shortage(enum.Enum):
    """Why threads that are ready have no core."""

    QUOTA = "a CPU quota"
    LIBRARY = "threads of libraries"
    TOO_MANY = "too many threads of the program"
    OTHERS = "other processes"


@dataclass(frozen=True, slots=True)
class Charges:
    """Who is charged with what; every lost core once."""

    locks: tuple[LockCharge, ...] = ()
    lines: tuple[LineCharge, ...] = ()
    stop_shares: Mapping[str, float] = field(default_factory=dict)
    """Rule -> the share of what stops of all threads cost; they add up to 1, or there were no stops."""
    shape: Shape = Shape()
