"""allocation-churn: objects that die in another thread than their owner's. Memory is not looked at yet."""

from __future__ import annotations

from typing import Final

from ftdiag.rules.base import Facts, NotApplicable, Rule, Verdict


def _judge(facts: Facts) -> Verdict:
    return NotApplicable("memory analysis is not in this version: recordings hold no allocations")


RULE: Final = Rule(
    id="allocation-churn",
    title="Objects that die in another thread than their owner's",
    needs=(),
    thresholds=(),
    judge=_judge,
)
