"""What is known of one range of a recording, for rules to judge.

In: metrics of a range. Out: `Facts`, and what of them a rule needs (`Need`). Rules are pure and stateless: no
clock, no files; the same facts give the same verdict.

Findings do not flicker: what was found in the range looked at before (`Facts.standing`) stays until its
figure falls below `RESOLVE_SHARE` of the threshold, and keeps its severity while its score is near.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Protocol

from ftdiag.analysis.standing import StuckThread
from ftdiag.analysis.waitgraph import WaitEdge
from ftdiag.datatypes import dataclass, field
from ftdiag.model import (
    Allocations,
    CollectorMetrics,
    HotLine,
    LockMetrics,
    MemoryMetrics,
    Metrics,
    Pauses,
    Quality,
    Remedy,
    Severity,
    SharedUpdate,
    Stack,
    Target,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.rules.base.charged import Charges, LineCharge, LockCharge, Shape, Shortage
from ftdiag.rules.base.verdicts import RESOLVE_SHARE, WORTH_SAYING, Threshold, finite
from ftdiag.rules.figures import measured


@dataclass(frozen=True, slots=True)
class Now:
    """What stands at the recording's last tick."""

    edges: tuple[WaitEdge, ...] = ()
    deadlocks: tuple[tuple[WaitEdge, ...], ...] = ()
    stuck: tuple[StuckThread, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """What is known before a shape is looked for: Python threads, and cores.

    `cores` is what could run beyond what ran and what is lost to other causes; `lost_cores` is what is lost
    to all others, `own_cores` without what other processes took.
    """

    python: tuple[ThreadMetrics, ...]
    cores: float
    lost_cores: float
    own_cores: float


class Attribution(Protocol):
    """Which rule something belongs to, by the claims of all rules."""

    def library(self, stack: Stack) -> str | None:
        """The rule that knows the library call which a stack is inside of; the outermost call counts."""

    def lock(self, lock: LockMetrics, facts: Facts) -> str:
        """The rule that a lock belongs to."""

    def shape(self, facts: Facts, room: Room) -> Shape | None:
        """The way in which threads share the work, charged to its rule."""

    def shortage(self, cause: Shortage) -> str:
        """The rule that a shortage of cores belongs to; "" where nobody claims it."""


class _NoClaims:
    """Facts that nothing was charged of yet."""

    def library(self, stack: Stack) -> str | None:
        return None

    def lock(self, lock: LockMetrics, facts: Facts) -> str:
        return ""

    def shape(self, facts: Facts, room: Room) -> Shape | None:
        return None

    def shortage(self, cause: Shortage) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one range. `now` is None where the range does not reach the recording's end."""

    target: Target
    metrics: Metrics
    threads: tuple[ThreadMetrics, ...]
    hot: tuple[HotLine, ...]
    locks: tuple[LockMetrics, ...]
    quality: Quality
    pauses: tuple[Pauses, ...] = ()
    collector: CollectorMetrics | None = None
    """What the collector says that it did, where CPython publishes that."""
    native_missing: str | None = None
    """Why machine code was not sampled, where that is known."""
    imported: str | None = None
    """The kind of file that the recording was made of: then only samples of stacks are known."""
    allocations: Allocations | None = None
    """The capture of memray whose lines are joined to the hot ones."""
    now: Now | None = None
    standing: Mapping[str, Severity] = field(default_factory=dict)
    charges: Charges = Charges()
    memory: MemoryMetrics = field(default_factory=MemoryMetrics)
    attribution: Attribution = _NoClaims()
    updates: tuple[SharedUpdate, ...] | None = None
    """What several threads update; `None` where nobody looked for that."""

    @property
    def capacity(self) -> float:
        """The capacity in cores; 0 where it is not known (rules that divide need `Need.CAPACITY`)."""
        cores = self.metrics.capacity_cores
        return cores if cores is not None and math.isfinite(cores) and cores > 0 else 0.0

    @property
    def native(self) -> bool:
        """Whether the time on a core is split into work, atomics, spinning, allocation and GC."""
        return self.metrics.on_cpu_is_split

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor) of the target's Python; (0, 0) where it is not known."""
        parts = self.target.python_version.split(".")
        if len(parts) >= 2 and all(part.isascii() and part.isdigit() for part in parts[:2]):
            return int(parts[0]), int(parts[1])
        return 0, 0

    def scaling(self, case: str, variant: str = "shared") -> str:
        """What was measured of a pattern on the target's version: "0.92x on 3.14.9t"."""
        return measured.scaling(case, self.version, variant)

    def remedy(
        self, case: str, variant: str, text: str, code: str | None = None, *, instead: bool = False
    ) -> tuple[Remedy, ...]:
        """A remedy with its measured gain; none where it was not measured to gain on the target's version.

        `instead`: the line is done in another way with it.
        """
        return measured.remedy(case, variant, self.version, text, code, instead=instead)

    def scales(self, case: str, variant: str = "shared") -> bool:
        """Whether threads were measured not to contend in a pattern on the target's version."""
        return measured.scales(case, self.version, variant)

    def gain(self, case: str, variant: str) -> float:
        """What 2 threads gained by a variant on the target's version; 1.0 where it was not measured."""
        return measured.gain(case, variant, self.version)

    def newer(self, *cases: str) -> tuple[Remedy, ...]:
        """A later Python as the remedy, where a pattern that does not scale here scales there."""
        return measured.newer(cases, self.version)

    @property
    def pid(self) -> int:
        """The target's process id."""
        return self.target.pid

    def cores_in(self, *states: ThreadState) -> float:
        """Mean number of threads in these states."""
        if self.metrics.duration_ns <= 0:
            return 0.0
        spent = sum(self.metrics.states_ns.get(state, 0.0) for state in states)
        return spent / self.metrics.duration_ns

    @property
    def spinning_on_core(self) -> float:
        """The part of all time spent spinning in which the thread had a core; it yields in between."""
        spun = finite(self.metrics.states_ns.get(ThreadState.SPIN, 0.0))
        yielded = sum(
            finite(thread.run_queue_ns - thread.states_ns.get(ThreadState.RUNNABLE, 0.0))
            for thread in self.threads
        )
        return 1.0 - min(1.0, max(0.0, yielded) / spun) if spun > 0 else 1.0

    def environment(self, name: str) -> str | None:
        """A variable of the environment that the target was started with."""
        for entry in self.target.environment:
            key, separator, value = entry.partition("=")
            if separator and key == name:
                return value
        return None

    def over(self, threshold: Threshold, value: float, key: str) -> bool:
        """Whether a figure reaches its threshold; a standing finding stays a little below it."""
        limit = threshold.value * (RESOLVE_SHARE if key in self.standing else 1.0)
        return value >= limit

    def loses(self, cores: float, key: str) -> bool:
        """Whether so many lost cores are worth a finding."""
        return self.capacity > 0 and self.over(WORTH_SAYING, cores / self.capacity, key)

    def lock_charges(self, rule_id: str) -> tuple[LockCharge, ...]:
        """What is charged to a rule by locks, the largest first."""
        return tuple(charge for charge in self.charges.locks if charge.rule_id == rule_id)

    def line_charges(self, rule_id: str) -> tuple[LineCharge, ...]:
        """What is charged to a rule by lines, the largest first."""
        return tuple(charge for charge in self.charges.lines if charge.rule_id == rule_id)


class Need(enum.Enum):
    """Data without which a rule cannot look."""

    TICKS = "ticks"
    CAPACITY = "capacity"
    NATIVE = "native"
    FREE_THREADED = "free-threaded"
    NO_GIL = "no-gil"
    NOW = "now"

    def missing(self, facts: Facts) -> str | None:
        """Why it is not there, or None if it is."""
        if self is Need.TICKS and (facts.metrics.ticks <= 0 or facts.metrics.duration_ns <= 0):
            return "nothing was sampled in this range"
        if self is Need.CAPACITY and not facts.capacity:
            return facts.quality.not_measured.get("capacity_cores", "the number of cores is not known")
        if self is Need.NATIVE and not facts.native:
            return _native_reason(facts)
        if self in (Need.FREE_THREADED, Need.NO_GIL) and not facts.target.free_threaded:
            return "the target is a GIL build: its threads do not run Python code at the same time"
        if self is Need.NO_GIL and facts.target.gil_enabled:
            return "the GIL is on: gil-enabled comes first"
        if self is Need.NOW and facts.now is None:
            return "the range does not reach the end of the recording, where this is looked for"
        return None


def _native_reason(facts: Facts) -> str:
    if facts.native_missing is not None:
        return f"time on a core is not split: {facts.native_missing}"
    return facts.quality.not_measured.get(
        "classified_cpu_ratio", "needs native samples of the threads on a core (none in this range)"
    )
