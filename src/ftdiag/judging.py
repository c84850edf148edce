"""What the rules say of a range: findings that do not flicker, of windows in which the program could run.

In: ranges of a recording, snapshots without findings. Out: snapshots with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import halts
from ftdiag.analysis.assembly import assembled
from ftdiag.analysis.digests import Digest
from ftdiag.analysis.grouping import Bools
from ftdiag.analysis.quality import attached
from ftdiag.analysis.ranges import Ranges
from ftdiag.analysis.standing import StandingLook
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import Bottleneck, BottleneckKind, Bottlenecks, Gap, Severity, Snapshot
from ftdiag.rules import RULES, Diagnosis, diagnose, facts_of
from ftdiag.rules.base import Now
from ftdiag.rules.workload import workload_of

SHORTAGES: Final = frozenset(rule.id for rule in RULES if rule.claims.shortage is not None)
"""Rules about too few cores."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the last look at a range found, for findings that do not flicker."""

    t0_ns: int
    t1_ns: int
    standing: dict[str, Severity]


class Judge:
    """Judges ranges of one recording, one look after the other."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._standing = StandingLook(ranges.recording, ranges.numbers)
        self._now: tuple[int, Now] | None = None
        self._found = _Found(0, 0, {})

    def diagnosed(self, snapshot: Snapshot, first: int, last: int, digests: Sequence[Digest]) -> Snapshot:
        """The snapshot with what the rules say of it; they see the windows in which the program could run."""
        halted = self._halted(first, last)
        if halted.any():
            running = self._running_digests(halted, first, last)
            why = halts.halted_words(self._ranges.recording, self._ranges.merged_time(digests))
            snapshot = _with_gap(snapshot, f"{why}; no finding is made of them", int(halted.sum()))
            if not running:
                self._found = _Found(snapshot.t0_ns, snapshot.t1_ns, {})
                return replace(snapshot, not_applicable=_silent(f"the program was {why} all the time"))
            judged = self._judged(assembled(self._ranges, first, last, running, snapshot.allocations), last)
            return replace(
                snapshot,
                findings=judged.findings,
                not_applicable=judged.not_applicable,
                workload=judged.workload,
            )
        return self._judged(snapshot, last)

    def _halted(self, first: int, last: int) -> Bools:
        """Of the windows at [first, last), those in which somebody kept the program from running."""
        if first >= last:
            return np.zeros(0, dtype=np.bool_)
        return np.concatenate(
            [halts.halted_windows(digest.series.states_ns) for digest in self._ranges.digests(first, last)]
        )

    def _running_digests(self, halted: Bools, first: int, last: int) -> list[Digest]:
        """The usable digests of a range without its halted windows."""
        return [
            digest
            for begin, end in halts.ranges_without(halted.tolist(), first)
            for digest in self._ranges.usable(begin, end)
        ]

    def _judged(self, snapshot: Snapshot, last: int) -> Snapshot:
        """The snapshot with what the rules say of all of it."""
        before = self._found
        # What was found a moment ago stays a little below its threshold; a look at another time does not.
        follows = before.t0_ns <= snapshot.t1_ns and snapshot.t0_ns < before.t1_ns <= snapshot.t1_ns
        facts = facts_of(
            snapshot,
            now=self.now() if last == len(self._ranges.recording.window_ids) else None,
            standing=before.standing if follows else {},
        )
        diagnosis = diagnose(facts)
        if snapshot.perturbations and snapshot.metrics.useful_cores is None and not self._has_quiet(snapshot):
            diagnosis = _only_of_allocations(diagnosis, attached(snapshot.perturbations))
        self._found = _Found(snapshot.t0_ns, snapshot.t1_ns, diagnosis.standing)
        return replace(
            snapshot,
            findings=diagnosis.findings,
            not_applicable=diagnosis.not_applicable,
            workload=None if snapshot.imported is not None else workload_of(facts),
            bottlenecks=ranked_alike(snapshot.bottlenecks, diagnosis),
        )

    def _has_quiet(self, snapshot: Snapshot) -> bool:
        return bool(self._ranges.quiet(*self._ranges.positions(snapshot.t0_ns, snapshot.t1_ns)))

    def now(self) -> Now:
        """What stands at the recording's last tick; computed once for each new window."""
        last = len(self._ranges.recording.window_ids)
        if last <= 0:
            return Now()
        window = int(self._ranges.recording.window_ids[last - 1])
        if self._now is None or self._now[0] != window:
            self._now = (window, self._standing_now())
        return self._now[1]

    def _standing_now(self) -> Now:
        first, last = self._ranges.recent()
        stands = self._standing.at(first, last, self._ranges.locks_known(), self._ranges.periods(first, last))
        return Now(stands.edges, stands.deadlocks, stands.stuck)


def ranked_alike(found: Bottlenecks | None, diagnosis: Diagnosis) -> Bottlenecks | None:
    """The ranked list with too few cores at the place that findings give it.

    A shortage of cores costs none, so it is ranked by what more cores would bring: mostly more than anything
    that the program itself could change. Findings say what it costs the program; where none does, it is last.
    """
    if found is None or len(found.ranked) < 2:
        return found
    # Of the machine beside the program only where nothing of its own is found: then it is the answer.
    beside = all(one.context for one in diagnosis.findings if one.lost_cores > 0)
    shortages = [one for one in diagnosis.findings if one.rule_id in SHORTAGES]
    cost = max((one.lost_cores for one in shortages if beside or not one.context), default=0.0)

    def place(one: Bottleneck) -> tuple[bool, float]:
        return one.context, -round(cost if one.kind is BottleneckKind.CORES else one.gain_cores, 6)

    return replace(found, ranked=tuple(sorted(found.ranked, key=place)))


def _with_gap(snapshot: Snapshot, why: str, windows: int) -> Snapshot:
    gaps = (*snapshot.quality.gaps, Gap("windows", why, windows))
    return replace(snapshot, quality=replace(snapshot.quality, gaps=gaps))


def _silent(why: str) -> tuple[tuple[str, str], ...]:
    """Every rule with the reason why none has anything to say."""
    return tuple((rule.id, why) for rule in RULES)


def _only_of_allocations(diagnosis: Diagnosis, why: str) -> Diagnosis:
    """Without findings about time: a program that an instrument slows down has other ones."""
    known = {rule for rule, _ in diagnosis.not_applicable}
    looks = {rule.id for rule in RULES if rule.of_allocations}
    silenced = [rule.id for rule in RULES if rule.id not in known | looks]
    return Diagnosis(
        tuple(finding for finding in diagnosis.findings if finding.rule_id in looks),
        (*diagnosis.not_applicable, *((rule, f"{why} all the time") for rule in silenced)),
    )
