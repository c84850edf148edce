"""The rule itself: what it needs, its thresholds, what it claims, and how it judges.

In: `Facts`. Out: a verdict, and `Finding`s with a score.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import BottleneckKind, Change, Evidence, Finding, Remedy, Snapshot
from ftdiag.rules.base.claims import Claims
from ftdiag.rules.base.facts import Facts, Need
from ftdiag.rules.base.scoring import score_of, severity_of
from ftdiag.rules.base.verdicts import (
    RELATIVE_DIGITS,
    Found,
    Judgement,
    NotApplicable,
    Threshold,
    Verdict,
    finite,
    key_of,
)

NOTHING_GAINS: Final = Remedy(
    "nothing that is usually suggested here was measured to gain on this version of Python: change one thing"
    " at a time, and compare the throughput that your program reports"
)


Without = str | Callable[[Finding, Snapshot], tuple[Change, ...] | str]
"""What is different when a finding's cause is gone, for a replay; or in words why a replay cannot know."""
NO_LOSS: Final = "it costs no work a second that a replay could give back"


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
    judge: Callable[[Facts], Judgement]
    claims: Claims = Claims()
    without: Without = NO_LOSS
    advice: Advice = Advice.PROGRAM
    cases: tuple[str, ...] = ()
    about: frozenset[BottleneckKind] = frozenset()
    """As `Finding.about`: by it a finding is known in the list of what to fix first."""
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
        judged = self.judge(facts)
        return Found((judged,)) if isinstance(judged, Finding) else judged

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
        at_least: bool = False,
    ) -> Finding:
        """A finding of this rule, scored. `least_score` is for what is grave whatever it costs; `at_least`:
        part of that does not show."""
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
            about=self.about,
            at_least=at_least,
        )
