"""Too few cores stand in the list of what to fix first where findings say what they cost."""

from __future__ import annotations

import pytest

from ftdiag.judging import ranked_alike
from ftdiag.model import Bottleneck, BottleneckKind, Bottlenecks, Finding, Severity
from ftdiag.rules import Diagnosis

OTHERS = ("starved-by-others", 0.8, True)
OVER = ("oversubscription", 0.3, False)
LOCK = ("hot-lock", 0.5, False)


def found(rule_id: str, lost_cores: float, context: bool) -> Finding:
    """A finding that costs so much."""
    return Finding(
        rule_id=rule_id,
        severity=Severity.WARNING,
        score=1.0,
        confidence="known",
        lost_cores=lost_cores,
        subject={},
        summary="",
        explanation="",
        could_also_be=(),
        remedy=(),
        verify="",
        evidence=(),
        context=context,
    )


@pytest.mark.parametrize(
    ("findings", "first"),
    [
        ([OTHERS], BottleneckKind.CORES),
        ([OTHERS, LOCK], BottleneckKind.SERIAL),
        ([OVER], BottleneckKind.CORES),
        ([OVER, LOCK], BottleneckKind.CORES),
        ([LOCK], BottleneckKind.SERIAL),
        ([], BottleneckKind.SERIAL),
    ],
    ids=lambda value: "+".join(rule for rule, _, _ in value) or "none" if isinstance(value, list) else "",
)
def test_too_few_cores_stand_where_findings_put_them(
    findings: list[tuple[str, float, bool]], first: BottleneckKind
) -> None:
    # GIVEN threads that wait for a core, and one that runs alone for a little
    listed = Bottlenecks(
        (
            Bottleneck(BottleneckKind.CORES, 9e9, 0.0, 1.5),
            Bottleneck(BottleneckKind.SERIAL, 0.0, 0.04, 0.04),
        )
    )

    # WHEN it is ranked beside what rules found
    ranked = ranked_alike(listed, Diagnosis(tuple(found(*one) for one in findings), ()))

    # THEN they are first where the program's own threads cost it more, or the others are the answer
    assert ranked is not None
    assert ranked.ranked[0].kind is first
