"""Why a program does not scale, as rules: facts in, findings out, ranked by lost cores.

In: `Facts` of a range. Out: `Diagnosis`: findings, and for each rule that could not look, why.
"""

from __future__ import annotations

from ftdiag.datatypes import dataclass
from ftdiag.model import Finding, Severity
from ftdiag.rules.base import Facts, Found, NotApplicable, key_of
from ftdiag.rules.registry import RULES
from ftdiag.rules.whose import attributed

__all__ = ["RULES", "Diagnosis", "diagnose"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the rules say of one range: findings by lost cores, and who could not look."""

    findings: tuple[Finding, ...]
    not_applicable: tuple[tuple[str, str], ...]

    @property
    def standing(self) -> dict[str, Severity]:
        """What the next range's facts need to know, so that findings do not flicker."""
        return {key_of(finding.rule_id, finding.subject): finding.severity for finding in self.findings}


def diagnose(facts: Facts) -> Diagnosis:
    """All rules on one range. The gravest loss is first; equal losses come by score, then by rule.

    What the rest of the machine took comes last, whatever it is: nobody can change it in the program.
    """
    findings: list[tuple[bool, float, float, int, Finding]] = []
    not_applicable: list[tuple[str, str]] = []
    for number, rule in enumerate(RULES):
        verdict = rule.verdict(facts)
        if isinstance(verdict, NotApplicable):
            not_applicable.append((rule.id, verdict.reason))
        elif isinstance(verdict, Found):
            told = [attributed(each, rule, facts) for each in verdict.findings]
            findings += [(each.context, -each.lost_cores, -each.score, number, each) for each in told]
    findings.sort(key=lambda row: row[:4])
    return Diagnosis(tuple(row[4] for row in findings), tuple(not_applicable))
