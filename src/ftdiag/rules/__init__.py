"""Why a program does not scale, as rules: facts in, findings out, ranked by lost cores.

In: a snapshot, whose `Facts` are charged to rules. Out: `Diagnosis`: findings, and for each rule that could
not look, why. `base` is what a rule is made of, `causes` are the rules, one a file, `attribution` says whose
code, what line and what object something is, `prose` has sentences and remedies, `figures` what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import Change, Finding, Severity, Snapshot
from ftdiag.rules.attribution.changes import as_remedied, remedy_of
from ftdiag.rules.attribution.charges import charges_of
from ftdiag.rules.base import NO_LOSS, Facts, Found, NotApplicable, Now, key_of
from ftdiag.rules.prose.whose import attributed
from ftdiag.rules.registry import CLAIMS, RULES

__all__ = ["RULES", "Diagnosis", "changes_of", "diagnose", "facts_of", "remedy_of"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the rules say of one range: findings by lost cores, and who could not look."""

    findings: tuple[Finding, ...]
    not_applicable: tuple[tuple[str, str], ...]

    @property
    def standing(self) -> dict[str, Severity]:
        """What the next range's facts need to know, so that findings do not flicker."""
        return {key_of(finding.rule_id, finding.subject): finding.severity for finding in self.findings}


def facts_of(
    snapshot: Snapshot,
    *,
    now: Now | None = None,
    standing: Mapping[str, Severity] | None = None,
) -> Facts:
    """The facts of a snapshot, with everything charged to the rule that claims it."""
    facts = Facts(
        target=snapshot.target,
        metrics=snapshot.metrics,
        threads=snapshot.threads,
        hot=snapshot.hot,
        locks=snapshot.locks,
        quality=snapshot.quality,
        pauses=snapshot.pauses,
        collector=snapshot.collector,
        native_missing=snapshot.settings.native_missing,
        imported=snapshot.imported,
        allocations=snapshot.allocations,
        now=now,
        standing=standing or {},
        memory=snapshot.memory,
        attribution=CLAIMS,
        updates=snapshot.updates,
    )
    return replace(facts, charges=charges_of(facts, CLAIMS))


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


def changes_of(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """What is different when the finding's cause is gone; or why that cannot be told."""
    if finding.remedy and finding.remedy[0].instead:
        return as_remedied(finding)
    without = next((rule.without for rule in RULES if rule.id == finding.rule_id), NO_LOSS)
    return without if isinstance(without, str) else without(finding, snapshot)
