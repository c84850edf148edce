"""What a rule is: facts of a range in, a verdict out.

In: `Facts`, everything that is known of one range of a recording. Out: `Found`, `Clear` or `NotApplicable`
with the reason. Rules are pure and stateless: no clock, no files; the same facts give the same verdict.

A rule says what data it needs, names its thresholds each with a reason, has its prose beside them, and
declares what it claims: locks, lines, libraries, stops, shapes of programs. Who is charged with which lost
core is decided once, in `charges`, by these claims and their priorities, so that one cause is one finding.

Findings do not flicker: what was found in the range looked at before (`Facts.standing`) stays until its
figure falls below `RESOLVE_SHARE` of the threshold, and keeps its severity while its score is near.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ftdiag.analysis.locks import StuckThread, WaitEdge
from ftdiag.datatypes import dataclass, field
from ftdiag.model import (
    Allocations,
    CollectorMetrics,
    Evidence,
    Finding,
    Frame,
    HotLine,
    LockKind,
    LockMetrics,
    MemoryMetrics,
    Metrics,
    Pauses,
    Quality,
    Remedy,
    Severity,
    Stack,
    Target,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.rules import measured
from ftdiag.rules.scoring import score_of, severity_of

RESOLVE_SHARE: Final = 0.8
"""A standing finding stays until its figure is below this share of the threshold: sampling noise of a
window (about 5 % at 100 ticks) must not make it come and go."""
MOSTLY_SHARE: Final = 0.6
"""A thread that does this share of something or more is named; below, several do it alike."""
RELATIVE_DIGITS: Final = 6
"""Digits kept of figures in findings: sums of floats in another order must not differ."""
NOTHING_GAINS: Final = Remedy(
    "nothing that is usually suggested here was measured to gain on this version of Python: change one thing"
    " at a time, and compare the throughput that your program reports"
)


@dataclass(frozen=True, slots=True)
class Found:
    """The rule's cause is there; more than one finding where it is there more than once (two locks)."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Clear:
    """The rule looked and found nothing."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The rule could not look, and why."""

    reason: str


Verdict = Found | Clear | NotApplicable


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit with its name, unit and the reason why it is where it is."""

    metric: str
    value: float
    unit: str
    reason: str


WORTH_SAYING: Final = Threshold(
    "lost_share_of_capacity",
    0.02,
    "ratio",
    "below 2 % of the capacity a cause is within the noise of sampling, and not worth a change",
)


SHORT_HOLD: Final = Threshold(
    "spin_share_of_loss",
    0.5,
    "ratio",
    "a lock that is held for a moment is spun for (40 yields before parking), one held long is parked on:"
    " the first wants fewer acquisitions, the second less work under it",
)


# --- facts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Now:
    """What stands at the recording's last tick."""

    edges: tuple[WaitEdge, ...] = ()
    deadlocks: tuple[tuple[WaitEdge, ...], ...] = ()
    stuck: tuple[StuckThread, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Charges:
    """Who is charged with what; every lost core once."""

    locks: tuple[LockCharge, ...] = ()
    lines: tuple[LineCharge, ...] = ()
    stop_shares: Mapping[str, float] = field(default_factory=dict)
    """Rule -> the share of what stops of all threads cost; they add up to 1, or there were no stops."""
    shape: Shape = Shape()


class Attribution(Protocol):
    """Which rule something belongs to, by the claims of all rules."""

    def library(self, stack: Stack) -> str | None:
        """The rule that knows the library call which a stack is inside of; the outermost call counts."""

    def lock(self, lock: LockMetrics, facts: Facts) -> str:
        """The rule that a lock belongs to."""

    def shape(self, facts: Facts, room: Room) -> Shape | None:
        """The way in which threads share the work, charged to its rule."""


class _NoClaims:
    """Facts that nothing was charged of yet."""

    def library(self, stack: Stack) -> str | None:
        return None

    def lock(self, lock: LockMetrics, facts: Facts) -> str:
        return ""

    def shape(self, facts: Facts, room: Room) -> Shape | None:
        return None


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

    def remedy(self, case: str, variant: str, text: str, code: str | None = None) -> tuple[Remedy, ...]:
        """A remedy with its measured gain; none where it was not measured to gain on the target's version."""
        return measured.remedy(case, variant, self.version, text, code)

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


# --- claims ----------------------------------------------------------------------------------------------


class Priority(enum.IntEnum):
    """Whose claim counts where several fit: the lowest. Numbers between these order claims of one kind.

    Claims of the same priority must not fit the same lock or line (`claims.overlaps`).
    """

    GIL = 10
    PROVEN = 20
    """What stands at the recording's end proves it: a cycle, a holder that does not come back."""
    LIBRARY = 30
    """The library that a stack is inside of, seen from the program."""
    PROCESS = 40
    """One for the whole process."""
    NAMED = 50
    """Its type, its label, or a function of machine code names it."""
    SIGNS = 60
    """What is around it speaks for it."""
    KIND = 80
    """Nothing better is known than its kind."""
    REST = 90


@dataclass(frozen=True, slots=True)
class LockClaim:
    """Locks that belong to a rule: of these kinds, types and labels (any where none is named), if `when`."""

    priority: int
    kinds: tuple[LockKind, ...] = ()
    types: tuple[str, ...] = ()
    labels: tuple[str | None, ...] = ()
    when: Callable[[LockMetrics, Facts], bool] | None = None


@dataclass(frozen=True, slots=True)
class LibraryClaim:
    """Library calls that belong to a rule, with the locks and lines inside of them.

    `files` are ends of names of files of the standard library, where there are `functions` only these of
    them; `frames` says of any other frame whether it is one. `when` is asked of what was found.
    """

    files: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    frames: Callable[[Frame], bool] | None = None
    when: Callable[[Facts], bool] | None = None
    locks_of_interpreter: bool = False
    """Whether locks of the kind that programs make are the interpreter's own here."""


@dataclass(frozen=True, slots=True)
class Wasted:
    """Cores that were wasted at a line, by spinning and by contended atomics."""

    line: HotLine
    spin_cores: float
    atomic_cores: float


@dataclass(frozen=True, slots=True)
class LineClaim:
    """Wasted time of lines that belongs to a rule: by functions of machine code, or `when`.

    `symbols` are names, in which `?` stands for one letter and `*` for any number of them; where there is
    `among_first`, they count only among so many functions of a line. `near_lock` says of which lines the time
    belongs to a lock that is waited for near by, if there is one, and `nobodys` of which it is no loss
    without; `joins` of which it goes with another line of the function that a rule claims by its symbols.
    """

    priority: int
    symbols: tuple[str, ...] = ()
    among_first: int | None = None
    when: Callable[[Wasted, Facts], bool] | None = None
    near_lock: Callable[[HotLine], bool] | None = None
    nobodys: Callable[[HotLine], bool] | None = None
    joins: Callable[[HotLine], bool] | None = None


class StopCause(enum.Enum):
    """What all threads are stopped for."""

    COLLECTOR = "the cyclic collector"
    REQUESTS = "what a thread of the program does"


@dataclass(frozen=True, slots=True)
class Room:
    """What is known before a shape is looked for: Python threads, and cores.

    `cores` is what could run beyond what ran and what is lost to other causes; `lost_cores` is what is lost
    to all others, `own_cores` without what other programs took.
    """

    python: tuple[ThreadMetrics, ...]
    cores: float
    lost_cores: float
    own_cores: float


@dataclass(frozen=True, slots=True)
class ShapeClaim:
    """The way in which threads share the work that belongs to a rule; the lowest priority is asked first."""

    priority: int
    find: Callable[[Facts, Room], Shape | None]


@dataclass(frozen=True, slots=True)
class Claims:
    """All that a rule claims. What nobody claims falls to those that claim the rest."""

    locks: tuple[LockClaim, ...] = ()
    lines: tuple[LineClaim, ...] = ()
    libraries: tuple[LibraryClaim, ...] = ()
    stops: StopCause | None = None
    shape: ShapeClaim | None = None


# --- the rule --------------------------------------------------------------------------------------------


class Advice(enum.Flag):
    """What a rule's advice is about."""

    PROGRAM = 0
    """Settings, or the program as a whole."""
    LINE = enum.auto()
    """The line that is named is to be changed."""
    LOCK = enum.auto()
    """A lock, which may be one of the standard library's for the whole process."""
    OBJECT = enum.auto()
    """Advice without code is about an object that the program made, whoever's the line is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One cause why programs do not scale. `judge` is asked only when all that is needed is there.

    `cases` are the measured patterns that the rule's page shows (`measured.tsv`).
    """

    id: str
    title: str
    needs: tuple[Need, ...]
    thresholds: tuple[Threshold, ...]
    judge: Callable[[Facts], Verdict]
    claims: Claims = Claims()
    advice: Advice = Advice.PROGRAM
    cases: tuple[str, ...] = ()
    of_allocations: bool = False
    """Whether it judges a capture of allocations, which is made with an instrument attached."""

    def verdict(self, facts: Facts) -> Verdict:
        """What the rule says of the facts."""
        if facts.imported is not None:
            return NotApplicable(f"a {facts.imported} file has samples only: neither CPU time nor waits")
        for need in self.needs:
            reason = need.missing(facts)
            if reason is not None:
                return NotApplicable(reason)
        return self.judge(facts)

    def finding(
        self,
        facts: Facts,
        *,
        lost_cores: float,
        confidence: str,
        summary: str,
        explanation: str,
        remedy: tuple[Remedy, ...],
        verify: str,
        evidence: tuple[Evidence, ...],
        could_also_be: tuple[str, ...] = (),
        subject: Mapping[str, str | int] | None = None,
        least_score: float = 0.0,
        context: bool = False,
    ) -> Finding:
        """A finding of this rule, scored. `least_score` is for what is grave whatever it costs."""
        lost = finite(lost_cores)
        if facts.capacity:
            lost = min(lost, facts.capacity)
        score = max(score_of(lost, facts.capacity), least_score)
        subject = dict(subject or {})
        before = facts.standing.get(key_of(self.id, subject))
        return Finding(
            rule_id=self.id,
            severity=severity_of(score, facts.metrics.ticks, before),
            score=round(score, RELATIVE_DIGITS),
            confidence=confidence,
            lost_cores=round(lost, RELATIVE_DIGITS),
            subject=subject,
            summary=summary,
            explanation=explanation,
            could_also_be=could_also_be,
            remedy=remedy or (NOTHING_GAINS,),
            verify=verify,
            evidence=evidence,
            context=context,
        )


def key_of(rule_id: str, subject: Mapping[str, str | int]) -> str:
    """What makes a finding the same one in the next range: its rule and its lock (lines come and go)."""
    return f"{rule_id} {subject.get('lock', '')}".rstrip()


def finite(value: float) -> float:
    """The value, or 0 for what is no number or negative (figures of a damaged recording)."""
    return value if math.isfinite(value) and value > 0 else 0.0


def evidence(metric: str, value: float, unit: str, threshold: Threshold | float | None = None) -> Evidence:
    """A figure that a finding rests on."""
    limit = threshold.value if isinstance(threshold, Threshold) else threshold
    return Evidence(metric, round(finite(value), RELATIVE_DIGITS), unit, limit)


def subject_of(frame: Frame | None, **more: str | int) -> dict[str, str | int]:
    """A finding's subject: the line, and what else is named."""
    subject: dict[str, str | int] = dict(more)
    if frame is not None:
        subject["file"] = frame.filename
        if frame.line is not None:
            subject["line"] = frame.line
    return subject
