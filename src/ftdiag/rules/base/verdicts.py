"""What a rule answers with: a verdict, its thresholds, and the figures that it rests on.

In: figures. Out: `Found`, `Clear` or `NotApplicable`; `Evidence`; what makes a finding the same one again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Evidence, Finding, Frame

RESOLVE_SHARE: Final = 0.8
"""A standing finding stays until its figure is below this share of the threshold: sampling noise of a
window (about 5 % at 100 ticks) must not make it come and go."""
MOSTLY_SHARE: Final = 0.6
"""A thread that does this share of something or more is named; below, several do it alike."""
RELATIVE_DIGITS: Final = 6
"""Digits kept of figures in findings: sums of floats in another order must not differ."""


@dataclass(frozen=True, slots=True)
class Found:
    """The rule's cause is there; more than one finding where it is there more than once (two locks)."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Clear:
    """The rule looked and found nothing."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The rule could not look, and why."""

    reason: str


Verdict = Found | Clear | NotApplicable
Judgement = Verdict | Finding
"""What a rule says of facts: a verdict, or the one finding that it has."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit with its name, unit and the reason why it is where it is."""

    metric: str
    value: float
    unit: str
    reason: str


WORTH_SAYING: Final = Threshold(
    "lost_share_of_capacity",
    0.02,
    "ratio",
    "below 2 % of the capacity a cause is within the noise of sampling, and not worth a change",
)


SHORT_HOLD: Final = Threshold(
    "spin_share_of_loss",
    0.5,
    "ratio",
    "a lock that is held for a moment is spun for (40 yields before parking), one held long is parked on:"
    " the first wants fewer acquisitions, the second less work under it",
)


def key_of(rule_id: str, subject: Mapping[str, str | int]) -> str:
    """What makes a finding the same one in the next range: its rule and its lock (lines come and go)."""
    return f"{rule_id} {subject.get('lock', '')}".rstrip()


def finite(value: float) -> float:
    """The value, or 0 for what is no number or negative (figures of a damaged recording)."""
    return value if math.isfinite(value) and value > 0 else 0.0


def evidence(metric: str, value: float, unit: str, threshold: Threshold | float | None = None) -> Evidence:
    """A figure that a finding rests on."""
    limit = threshold.value if isinstance(threshold, Threshold) else threshold
    return Evidence(metric, round(finite(value), RELATIVE_DIGITS), unit, limit)


def subject_of(frame: Frame | None, **more: str | int) -> dict[str, str | int]:
    """A finding's subject: the line, and what else is named."""
    subject: dict[str, str | int] = dict(more)
    if frame is not None:
        subject["file"] = frame.filename
        if frame.line is not None:
            subject["line"] = frame.line
    return subject
