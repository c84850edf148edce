"""A finding's price and figures in words, and the command that looks once more.

In: findings. Out: plain text.
"""

from __future__ import annotations

from ftdiag.model import ChangeKind, Evidence, Finding
from ftdiag.wording import units
from ftdiag.wording.account import SAID_CORES
from ftdiag.wording.predictions import gain_words
from ftdiag.wording.states import FINDING_CONFIDENCE


def price_words(finding: Finding) -> str:
    """What a finding costs: "0.30 cores lost (upper bound)", or what a replay without its cause does."""
    if finding.lost_cores < SAID_CORES:
        return "no loss of cores measured"
    lost = f"{units.cores(finding.lost_cores)} cores lost"
    if finding.prediction is None or finding.prediction.low is None:
        return f"{lost} ({'at least' if finding.at_least else 'upper bound'})"
    other = any(change.kind is ChangeKind.REMEDY for change in finding.prediction.changes)
    return f"{lost}; {'done as below' if other else 'without it'} {gain_words(finding.prediction)}"


def sure_words(finding: Finding) -> str:
    """How sure it is: "measured", "likely", "possible"."""
    return FINDING_CONFIDENCE.get(finding.confidence, finding.confidence)


def cost_words(finding: Finding) -> str:
    """What it costs, how sure that is, and the rule: "0.30 cores lost (upper bound); likely; hot-lock"."""
    return f"{price_words(finding)}; {sure_words(finding)}; {finding.rule_id}"


def metric_words(name: str) -> str:
    """The name of a figure for people."""
    return name.replace("_", " ")


def evidence_words(evidence: Evidence) -> tuple[str, str, str]:
    """A figure: its name, its amount, and the threshold that made it worth saying ("" without one)."""
    limit = "" if evidence.threshold is None else units.amount(evidence.threshold, evidence.unit)
    return metric_words(evidence.metric), units.amount(evidence.value, evidence.unit), limit


def report_again(pid: int) -> str:
    """The command that looks once more, in text."""
    return f"ftdiag attach {pid} --duration 10 --format text"
