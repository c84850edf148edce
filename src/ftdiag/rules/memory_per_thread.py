"""memory-per-thread: memory that each thread costs. Memory is not looked at in this version."""

from __future__ import annotations

from typing import Final

from ftdiag.rules.base import Facts, NotApplicable, Rule, Verdict


def _judge(facts: Facts) -> Verdict:
    return NotApplicable("memory analysis is not in this version: recordings hold no allocations")


RULE: Final = Rule(
    id="memory-per-thread", title="Memory that each thread costs", needs=(), thresholds=(), judge=_judge
)
