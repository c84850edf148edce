"""Every rule: found where its cause is, clear where something only looks like it, silent with a reason."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from ftdiag.model import Finding, Severity, Snapshot
from ftdiag.rules import RULES
from unit.rules.scenes import LOOKALIKES, TRIGGERS, UNJUDGED

ADVICE = frozenset({"threads-or-processes"})
"""Rules that say what a cause means for the choice of threads, and claim no cost themselves."""
IDS = [rule.id for rule in RULES]


def ids(snapshot: Snapshot) -> list[str]:
    return [finding.rule_id for finding in snapshot.findings]


def test_every_rule_has_its_scenes() -> None:
    # GIVEN the rules WHEN their scenes are counted THEN none lacks one
    assert set(TRIGGERS) == set(IDS)
    assert set(LOOKALIKES) == set(IDS)
    assert set(UNJUDGED) == set(IDS)
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("rule", TRIGGERS)
def test_the_cause_is_the_first_finding_and_told_once(rule: str, tmp_path: Path) -> None:
    # GIVEN a recording of the cause
    snapshot = TRIGGERS[rule](tmp_path)

    # THEN its rule comes first, and nothing else claims what it costs; advice stands behind the cause
    place = 1 if rule in ADVICE else 0
    assert ids(snapshot)[place : place + 1] == [rule], [finding.summary for finding in snapshot.findings]
    others = [each for each in snapshot.findings[1:] if each.severity is not Severity.INFO]
    assert not others, [finding.summary for finding in others]


@pytest.mark.parametrize("rule", LOOKALIKES)
def test_what_only_looks_like_it_stays_clear(rule: str, tmp_path: Path) -> None:
    # GIVEN a program that looks like it WHEN judged THEN the rule does not speak, and did look
    snapshot = LOOKALIKES[rule](tmp_path)
    assert rule not in ids(snapshot), [finding.summary for finding in snapshot.findings]


@pytest.mark.parametrize("rule", UNJUDGED)
def test_where_it_cannot_look_it_says_why(rule: str, tmp_path: Path) -> None:
    # GIVEN a recording without what the rule needs WHEN judged THEN it gives a reason
    snapshot = UNJUDGED[rule](tmp_path)
    reasons = dict(snapshot.not_applicable)
    assert rule in reasons, ids(snapshot)
    assert len(reasons[rule]) > 15
    assert rule not in ids(snapshot)


@pytest.mark.parametrize("rule", TRIGGERS)
def test_a_finding_is_complete(rule: str, tmp_path: Path) -> None:
    # GIVEN findings WHEN read THEN each says what, why, what to do, how to check, and on what figures
    for finding in TRIGGERS[rule](tmp_path).findings:
        assert_complete(finding)


def assert_complete(finding: Finding) -> None:
    assert finding.summary.endswith(".")
    assert len(finding.explanation) > 60
    assert finding.remedy
    assert all(remedy.text for remedy in finding.remedy)
    assert "ftdiag" in finding.verify
    assert finding.confidence in ("known", "likely", "possible")
    assert finding.evidence
    figures = [finding.score, finding.lost_cores, *(each.value for each in finding.evidence)]
    assert all(math.isfinite(figure) for figure in figures)
    assert 0 <= finding.score <= 100
    text = " ".join((finding.summary, finding.explanation, *(remedy.text for remedy in finding.remedy)))
    assert not re.search(r"\bnan\b|\binf\b|None|  ", text), text


def test_thresholds_have_reasons_and_rules_titles() -> None:
    # GIVEN the rules WHEN their thresholds are read THEN each has a unit and a reason
    for rule in RULES:
        assert rule.title
        for threshold in rule.thresholds:
            assert threshold.unit
            assert len(threshold.reason) > 30
