"""What rules find, how far a range can be trusted, and the snapshot that views and reports show.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ftdiag.datatypes import dataclass, field
from ftdiag.model.allocations import Allocations
from ftdiag.model.bottlenecks import BottleneckKind, Bottlenecks
from ftdiag.model.memory import MemoryMetrics
from ftdiag.model.metrics import CollectorMetrics, HotLine, LockMetrics, Metrics, Pauses, ThreadMetrics
from ftdiag.model.predictions import Prediction
from ftdiag.model.samples import Gap, ProcessCounters
from ftdiag.model.settings import End, Perturbation, RecordingSettings
from ftdiag.model.target import Target
from ftdiag.model.updates import SharedUpdate


class Severity(enum.Enum):
    """How much a finding matters; see the score in the metrics."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One figure a finding rests on."""

    metric: str
    value: float
    unit: str
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to change, with code where it can be shown.

    `gain` is what two threads that do nothing else did with it over what they did without, where that was
    measured for this version. `instead` says that the line itself is then done in another way, and not only
    without what it waits for.
    """

    text: str
    code: str | None = None
    gain: float | None = None
    instead: bool = False


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
    prediction: Prediction | None = None
    """What a replay without the cause does; `None` where none was asked for."""
    about: frozenset[BottleneckKind] = frozenset()
    """What waiting ends at where this is the cause. Empty: at what its subject names, a lock or a line."""
    at_least: bool = False
    """Whether it costs more than `lost_cores`, in a way that does not show."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What kind of program it is over a range, and what that means for the choice of threads.

    `kind` is "cpu-bound", "lock-bound", "io-bound", "event-loop-bound", "mixed" or "idle". `shares` split the
    Python threads' time into "cpu", "waiting" (for locks and cores), "io", "idle" and "unknown"; they add up
    to 1.
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
    """Share of the time of threads on a core in which machine code was sampled: below 1 where that is done in
    turns, because the program switches often, or there are more threads than can be sampled at once."""
    native_error_ratio: float | None = None
    """How far a share that native samples tell of all time on a core may be off, in 19 of 20 cases."""
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
    perturbations: tuple[Perturbation, ...] = ()
    """Times within the range that are in no figure, because an instrument changed how the target ran."""
    bottlenecks: Bottlenecks | None = None
    """What waits end at, ranked."""
    updates: tuple[SharedUpdate, ...] | None = None
    """Places that several threads update, those with most evidence first; `None` if nobody looked."""

    @property
    def imported(self) -> str | None:
        """The kind of file that was imported; then there is nothing but samples of stacks."""
        return self.settings.imported
