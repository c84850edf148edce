"""What scatter leaves open: intervals of means and of differences, and how many runs would tell.

In: values of runs. Out: means with the range that holds the truth with a given probability, by Student's t
(Welch's for two sides; B. L. Welch, Biometrika 34, 1947). Pure; no tables: quantiles are computed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass

CONFIDENCE: Final = 0.95
MOST_RUNS: Final = 1000
"""Beyond so many runs it is only said that it would take more."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of `number` values; `low` and `high` are `None` where one value says nothing of scatter."""

    value: float
    number: int
    low: float | None = None
    high: float | None = None
    deviation: float | None = None


def mean_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """The mean of at least one value, with the interval that holds the truth with that probability."""
    number = len(values)
    value = math.fsum(values) / number
    if number < 2:
        return Mean(value, number)
    deviation = math.sqrt(math.fsum((each - value) ** 2 for each in values) / (number - 1))
    half = t_quantile(number - 1, confidence) * deviation / math.sqrt(number)
    return Mean(value, number, value - half, value + half, deviation)


def ratio_mean_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """The same of values above 0 that scatter by a share of themselves: of their logarithms."""
    mean = mean_of([math.log(value) for value in values], confidence)
    if mean.low is None or mean.high is None:
        return Mean(math.exp(mean.value), mean.number)
    # Of two values that lie far apart nothing is known; there are no numbers beyond that.
    low, high = math.exp(max(mean.low, -700.0)), math.exp(min(mean.high, 700.0))
    return Mean(math.exp(mean.value), mean.number, low, high, mean.deviation)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two means, `after` - `before`, with its interval; `None` where that is not known."""

    value: float
    low: float | None
    high: float | None
    error: float | None
    """Its standard error."""


def difference_of(
    before: Sequence[float],
    after: Sequence[float],
    confidence: float = CONFIDENCE,
    correlation: float = 0.0,
) -> Difference:
    """The difference of the means of two sides that scatter each in its own way.

    `correlation` is that of neighbouring values (0 for runs of their own): it makes them count for less.
    """
    one, two = mean_of(before), mean_of(after)
    value = two.value - one.value
    if one.deviation is None or two.deviation is None:
        return Difference(value, None, None, None)
    shrunk = (1 - correlation) / (1 + correlation)
    counts = max(2.0, one.number * shrunk), max(2.0, two.number * shrunk)
    parts = one.deviation**2 / counts[0], two.deviation**2 / counts[1]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(value, value, value, 0.0)
    freedom = sum(parts) ** 2 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    half = t_quantile(max(1, math.floor(freedom)), confidence) * error
    return Difference(value, value - half, value + half, error)


def neighbours_correlation(values: Sequence[float]) -> float:
    """How alike neighbouring values are beyond their mean: lag-1 autocorrelation, between 0 and 0.8."""
    number = len(values)
    if number < 4:
        return 0.0
    mean = math.fsum(values) / number
    spread = math.fsum((each - mean) ** 2 for each in values)
    if spread == 0:
        return 0.0
    together = math.fsum((values[i] - mean) * (values[i + 1] - mean) for i in range(number - 1))
    # Of few values it comes out too small by about 1 / number.
    return min(0.8, max(0.0, together / spread + 1 / number))


def runs_to_tell(
    deviation: float, change: float, margin: float, confidence: float = CONFIDENCE
) -> int | None:
    """How many runs of each side would tell such a change beyond the margin, with even chances or better.

    `None`: more than `MOST_RUNS`, or no number of them.
    """
    room = abs(change) - margin
    if room <= 0:
        return None
    for number in range(2, MOST_RUNS + 1):
        if t_quantile(2 * number - 2, confidence) * deviation * math.sqrt(2 / number) <= room:
            return number
    return None


@functools.lru_cache(maxsize=4096)
def t_quantile(freedom: int, confidence: float) -> float:
    """T such that Student's distribution has `confidence` between -t and t. `freedom` is at least 1."""
    low, high = 0.0, 2.0
    while _t_within(high, freedom) < confidence:
        high *= 2
        if high > 1e9:
            return high
    for _ in range(80):
        middle = (low + high) / 2
        if _t_within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def _t_within(t: float, freedom: int) -> float:
    """P(-t < T < t): the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    if freedom > 400:
        return math.erf(t * (1 - 1 / (4 * freedom)) / math.sqrt(1 + t * t / (2 * freedom)) / math.sqrt(2))
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    if freedom == 1:
        return 2 * angle / math.pi
    if freedom % 2:
        term = total = cosine
        for k in range(3, freedom - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        return 2 / math.pi * (angle + sine * total)
    term = total = 1.0
    for k in range(2, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return sine * total
