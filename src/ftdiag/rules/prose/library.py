"""What findings about a library's shared object have in common: its locks and its lines in one finding.

In: facts and a rule's charges. Out: `Together`: the loss, where it is, and in words.
"""

from __future__ import annotations

from ftdiag.datatypes import dataclass
from ftdiag.model import Evidence, Finding, Frame, Remedy, ThreadState
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.attribution.locks import where
from ftdiag.rules.base import (
    WORTH_SAYING,
    Facts,
    LineCharge,
    LockCharge,
    Rule,
    evidence,
    finite,
    subject_of,
)
from ftdiag.rules.prose.locks import confidence_of, waiting
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place
from ftdiag.wording.threads import lose
from ftdiag.wording.units import of_cores


@dataclass(frozen=True, slots=True)
class Together:
    """All that is charged to one rule."""

    locks: tuple[LockCharge, ...]
    lines: tuple[LineCharge, ...]
    lost_cores: float

    @property
    def frame(self) -> Frame | None:
        """The program's line that pays most."""
        if self.locks and (not self.lines or self.locks[0].lost_cores >= self.lines[0].lost_cores):
            return where(self.locks[0])
        return caller(self.lines[0].line) if self.lines else None

    def finding(
        self,
        rule: Rule,
        facts: Facts,
        *,
        summary: str,
        explanation: str,
        remedy: tuple[Remedy, ...],
        verify: str,
        could_also_be: tuple[str, ...] = (),
        confidence: str | None = None,
        frame: Frame | None = None,
        before: tuple[Evidence, ...] = (),
        after: tuple[Evidence, ...] = (),
    ) -> Finding:
        """What a rule says of all this: its loss, place and figures are those of the charges.

        `confidence` is that of the first lock, if nothing else is known; `before` and `after` are figures of
        the rule's own.
        """
        if confidence is None:
            confidence = confidence_of(self.locks[0]) if self.locks else "likely"
        return rule.finding(
            facts,
            lost_cores=self.lost_cores,
            confidence=confidence,
            subject=subject_of(self.frame if frame is None else frame),
            summary=summary,
            explanation=explanation,
            could_also_be=could_also_be,
            remedy=remedy,
            verify=f"{report_again(facts.pid)}: {verify}",
            evidence=(*before, *together_evidence(facts, self), *after),
        )

    def losing(self, facts: Facts) -> str:
        """ "worker-1 and worker-2 lose 0.6 of 2 cores"."""
        return f"{self.threads} {lose(self.threads)} {of_cores(self.lost_cores, facts.capacity)}"

    @property
    def threads(self) -> str:
        """Who pays, in words."""
        if self.locks:
            return waiting(self.locks[0])
        most = max((charge.line.threads for charge in self.lines), default=0)
        return f"{most} threads" if most != 1 else "1 thread"

    @property
    def at(self) -> str:
        """ " at app.py:7", or nothing."""
        return f" at {place(self.frame)}" if self.frame is not None else ""


def together(facts: Facts, rule_id: str) -> Together:
    """Everything charged to a rule."""
    locks, lines = facts.lock_charges(rule_id), facts.line_charges(rule_id)
    lost = sum(each.lost_cores for each in locks) + sum(each.lost_cores for each in lines)
    return Together(locks, lines, lost)


def together_evidence(facts: Facts, found: Together) -> tuple[Evidence, ...]:
    """The figures behind it."""
    parked = sum(charge.parked_cores for charge in found.locks)
    rows = [
        evidence("lost_share_of_capacity", found.lost_cores / facts.capacity, "ratio", WORTH_SAYING),
        evidence("parked", parked, "cores"),
    ]
    if facts.native:
        charges: tuple[LockCharge | LineCharge, ...] = (*found.locks, *found.lines)
        rows.append(evidence("spin", sum(each.spin_cores for each in charges), "cores"))
        rows.append(evidence("atomic", sum(each.atomic_cores for each in charges), "cores"))
    if found.locks:
        waited = sum(finite(lock.wait_ns) for charge in found.locks for lock in charge.locks)
        rows.append(evidence("wait", waited / 1e9, "s"))
    return tuple(rows)


def sees_nothing(facts: Facts) -> str | None:
    """Why contention that never parks cannot be seen here; None if it can."""
    if facts.native or facts.metrics.states_ns.get(ThreadState.OBJECT_LOCK, 0.0) > 0:
        return None
    return "contention that never parks needs native samples; no lock of this kind was seen waited for"
