"""heap-type-churn: objects of C types are made in the loop; each counts a reference of the shared type."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    Found,
    Need,
    NotApplicable,
    Rule,
    Verdict,
    subject_of,
)
from ftdiag.rules.library import together, together_evidence
from ftdiag.rules.wording import lose, of_cores, place, place_in, report_again


def _judge(facts: Facts) -> Verdict:
    if not any(line.native for line in facts.hot):
        return NotApplicable("needs the names of native functions, which this recording does not have")
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    at = place(found.frame)
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=found.lost_cores,
                confidence="likely",
                subject=subject_of(found.frame),
                summary=(
                    f"{found.threads} {lose(found.threads)} {of_cores(found.lost_cores, facts.capacity)}"
                    " making objects of a"
                    f" C type at {place_in(found.frame)}."
                ),
                explanation=(
                    "The atomics are in the function that makes objects of C heap types (array, deque,"
                    " BytesIO, partial,"
                    " Lock, Match ...): each object counts a reference of its type, and the type is shared"
                    " by all threads."
                    " Classes written in Python do not: measured 0.7-1.4x against 1.93x / 1.67x for a Python"
                    " class."
                ),
                could_also_be=("refcount-contention: arguments of the call that threads share",),
                remedy=(
                    Remedy(
                        "make the object once per thread and use it again",
                        f"# {at}\nbuffer = io.BytesIO()            # before the loop\nfor item in items:\n"
                        "    buffer.seek(0); buffer.truncate()",
                    ),
                    Remedy(
                        "or use a list or a class of your own instead",
                        "class Pair:\n    __slots__ = ('a', 'b')",
                    ),
                ),
                verify=f"{report_again(facts.pid)}: 'contended atomics' at {at} fall",
                evidence=together_evidence(facts, found),
            ),
        )
    )


RULE: Final = Rule(
    id="heap-type-churn",
    title="Objects of C types made in the loop",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
