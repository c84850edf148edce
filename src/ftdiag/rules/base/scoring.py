"""How grave a loss is: its score, and the severity that follows, which does not flicker.

In: lost cores and the capacity, ticks, the severity before. Out: a score of 0 to 100, a `Severity`.
"""

from __future__ import annotations

import math
from typing import Final

from ftdiag.model import Severity

SEVERITY_MARGIN: Final = 5.0
"""A standing finding changes severity when its score is this far beyond the border."""
MIN_TICKS: Final = 100
"""Fewer ticks than this cap the severity at info: a share of 10 % is then uncertain by 3 points and more."""
SCORE_CORES: Final = 0.25
"""Lost cores, as a share of the capacity, that make a score of 75 (see the definition of the score)."""
WARNING_SCORE: Final = 25.0
CRITICAL_SCORE: Final = 75.0


def score_of(lost_cores: float, capacity: float) -> float:
    """100 (1 - 4^(-lost / (0.25 P))): 0 for nothing, 75 for a quarter of the capacity."""
    if capacity <= 0 or not 0 < lost_cores < math.inf:
        return 0.0
    return 100.0 * (1.0 - math.pow(4.0, -lost_cores / (SCORE_CORES * capacity)))


def severity_of(score: float, ticks: int, before: Severity | None) -> Severity:
    """The severity of a finding that had another one in the range before, or none."""
    if ticks < MIN_TICKS:
        return Severity.INFO
    critical, warning = CRITICAL_SCORE, WARNING_SCORE
    if before is Severity.CRITICAL:
        critical -= SEVERITY_MARGIN
    elif before is Severity.WARNING:
        critical += SEVERITY_MARGIN
        warning -= SEVERITY_MARGIN
    elif before is Severity.INFO:
        warning += SEVERITY_MARGIN
    if score >= critical:
        return Severity.CRITICAL
    return Severity.WARNING if score >= warning else Severity.INFO
