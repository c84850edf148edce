"""The scaling law of measured runs: Gunther's Universal Scalability Law, and Amdahl's beside it.

In: for each run its number of threads and its throughput. Out: `Law`, with bands that say what scatter leaves
open, or `NoLaw` with the reason.

X(N) = lambda N / (1 + sigma (N-1) + kappa N (N-1)), sigma and kappa >= 0 (N. J. Gunther, Guerrilla Capacity
Planning, Springer 2007, chapter 4-6): sigma is what only one at a time can do, kappa what each pair costs
each other. With kappa = 0 it is Amdahl's law (G. Amdahl, AFIPS 1967). Its maximum is at N* = sqrt((1 -
sigma)/kappa).

Scatter of throughput is a share of it, so errors are weighed as ratios. Bands are a parametric bootstrap:
runs are made again and again with the law found and scatter as large as was seen (the scatter itself being
known only as well as the number of runs allows, by its chi-squared distribution), and fitted. Where the
points are further from the law than their own scatter explains, that distance takes the place of the
scatter.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ftdiag.analysis.grouping import Floats
from ftdiag.analysis.scaling import FARTHEST, FEW_NUMBERS, LEAST_NUMBERS, Between, predicted
from ftdiag.datatypes import dataclass

RESAMPLES: Final = 1000
BAND: Final = (1.5, 98.5)
"""Percentiles of the resamples for bands that are to hold the truth in 95 % of cases: where sigma or kappa is
next to 0, which bounds them, the plain percentiles hold it too seldom (simulated by bench/scaling.py)."""
WHOLE: Final = 0.95
"""So many of the resampled curves lie as a whole within the band of the curve."""
MISFIT_CHANCE: Final = 0.01
"""A law is said not to fit where chance alone would put the points so far off less often than this."""
MAX_RUNS: Final = 100_000
FARTHEST_LOG: Final = 12.0
"""A resample is at most so far off its law, as a logarithm."""
_UNKNOWNS: Final = 3


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law. Values come with the range that holds the truth in 95 of 100 cases.

    `best` is N*: `None` where throughput grows as far as is told (`FARTHEST` times the largest N).
    `noise_ratio` is the scatter of single runs around the law. `misfit`: it is no such law.
    """

    numbers: tuple[int, ...]
    single: Between
    """lambda: the throughput of one thread."""
    contention: Between
    crosstalk: Between
    best: Between | None
    amdahl_single: float
    amdahl_contention: float
    noise_ratio: float
    misfit: bool
    drawn: Floats
    """The resamples' parameters, a row each."""
    tails: float
    """Percent of the resamples that are left out above and below the curve's band at each number of
    threads, so that `WHOLE` of them are within it at all of them at once."""

    @property
    def uncertain(self) -> bool:
        """Hardly more numbers of threads than unknowns."""
        return len(self.numbers) < FEW_NUMBERS

    def at(self, threads: float) -> Between:
        """The throughput that the law says, with the band of the whole curve."""
        number = np.array([threads], dtype=np.float64)
        value = float(predicted(self.parameters, number)[0])
        single, contention, crosstalk = self.drawn.T
        values = single * threads / (1 + contention * (threads - 1) + crosstalk * threads * (threads - 1))
        return _between(value, values, (self.tails, 100 - self.tails))

    def amdahl_at(self, threads: float) -> float:
        """The throughput by Amdahl's law."""
        return self.amdahl_single * threads / (1 + self.amdahl_contention * (threads - 1))

    @property
    def parameters(self) -> Floats:
        """lambda, sigma, kappa."""
        return np.array([self.single.value, self.contention.value, self.crosstalk.value])


@dataclass(frozen=True, slots=True)
class NoLaw:
    """Why no law was fitted."""

    why: str


def law_of(threads: Floats, throughput: Floats) -> Law | NoLaw:
    """The law of runs; both arrays have an entry for each run. `throughput` is above 0."""
    numbers, group, counts = np.unique(threads, return_inverse=True, return_counts=True)
    if len(numbers) < LEAST_NUMBERS:
        return NoLaw(
            f"a law has three unknowns: it takes {LEAST_NUMBERS} different numbers of threads, and there"
            f" {'is' if len(numbers) == 1 else 'are'} {len(numbers)}"
        )
    # Means of logarithms: a run's scatter is a share of its throughput.
    logs = np.log(throughput)
    centres = np.bincount(group, logs) / counts
    found = _fitted(numbers, np.exp(centres)[None], counts.astype(np.float64))[0]
    off = centres - np.log(predicted(found, numbers))
    within = float(((logs - centres[group]) ** 2).sum())
    from_law = float((counts * off**2).sum())
    random = np.random.default_rng(len(threads))
    spare = len(numbers) - _UNKNOWNS
    repeats = len(threads) - len(numbers)
    misfit = False
    if repeats > 0:
        misfit = _is_beyond_chance(from_law / spare, within / repeats, spare, repeats, random)
    if misfit:
        freedom, variance = spare, from_law / spare
    else:
        freedom, variance = spare + repeats, (from_law + within) / (spare + repeats)
    scatter = float(np.sqrt(variance))
    exact = np.log(predicted(found, numbers))
    errors = scatter * np.sqrt(freedom / random.chisquare(freedom, RESAMPLES))
    chance = random.standard_normal((RESAMPLES, len(numbers))) / np.sqrt(counts)
    # With a single spare run the scatter may be anything; numbers end somewhere.
    off = np.clip(errors[:, None] * chance, -FARTHEST_LOG, FARTHEST_LOG)
    drawn = _fitted(numbers, np.exp(exact + off), counts.astype(np.float64))
    amdahl = _fitted(numbers, np.exp(centres)[None], counts.astype(np.float64), crosstalk=False)[0]
    return Law(
        numbers=tuple(int(each) for each in numbers),
        single=_between(float(found[0]), drawn[:, 0]),
        contention=_between(float(found[1]), drawn[:, 1]),
        crosstalk=_between(float(found[2]), drawn[:, 2]),
        best=_best(found, drawn, float(numbers[-1])),
        amdahl_single=float(amdahl[0]),
        amdahl_contention=float(amdahl[1]),
        noise_ratio=float(np.sqrt(within / repeats)) if repeats > 0 else scatter,
        misfit=misfit,
        drawn=drawn,
        tails=_tails(_laws(drawn, numbers)),
    )


def _fitted(numbers: Floats, throughput: Floats, counts: Floats, *, crosstalk: bool = True) -> Floats:
    """For each row of throughputs (a column for each number of threads) the law that is nearest in ratios."""
    # Errors in N/X, in which the law is linear, are weighed to be of ratios. Once more with what was fitted
    # in place of what was measured: a point that came out low must not weigh more for that.
    found = _nearest(numbers, throughput, np.sqrt(counts) * throughput / numbers, crosstalk)
    fitted = _laws(found, numbers)
    return _nearest(numbers, throughput, np.sqrt(counts) * fitted / numbers, crosstalk)


def _laws(parameters: Floats, numbers: Floats) -> Floats:
    single, contention, crosstalk = parameters.T[:, :, None]
    result: Floats = single * numbers / (1 + contention * (numbers - 1) + crosstalk * numbers * (numbers - 1))
    return result


def _nearest(numbers: Floats, throughput: Floats, scale: Floats, crosstalk: bool) -> Floats:
    """Least squares with sigma and kappa not below 0: the best of all choices of what is 0, for each row."""
    columns = np.column_stack([np.ones(len(numbers)), numbers - 1, numbers * (numbers - 1)])
    # Of like size, so that none is lost beside the others.
    sizes = columns.max(axis=0)
    target = scale * numbers / throughput
    best = np.zeros((len(throughput), _UNKNOWNS))
    least = np.full(len(throughput), np.inf)
    choices = [(0, 1, 2), (0, 1), (0, 2), (0,)] if crosstalk else [(0, 1), (0,)]
    for kept in choices:
        matrix = (columns / sizes)[:, kept] * scale[:, :, None]
        found = np.einsum("rkn,rn->rk", np.linalg.pinv(matrix), target)
        error = ((np.einsum("rnk,rk->rn", matrix, found) - target) ** 2).sum(axis=1)
        # One thread alone gets something done, so the first is above 0 where all rows are positive.
        better = (found[:, 0] > 0) & (found[:, 1:] >= 0).all(axis=1) & (error < least)
        least[better] = error[better]
        best[better] = 0.0
        best[np.ix_(better, kept)] = found[better] / sizes[list(kept)]
    result: Floats = np.column_stack([1 / best[:, 0], best[:, 1] / best[:, 0], best[:, 2] / best[:, 0]])
    return result


def _is_beyond_chance(
    from_law: float, within: float, spare: int, repeats: int, random: np.random.Generator
) -> bool:
    """Whether means lie further from the law than the scatter of the runs explains (an F test)."""
    if within <= 0:
        return from_law > 1e-12
    ratios = (random.chisquare(spare, 20_000) / spare) / (random.chisquare(repeats, 20_000) / repeats)
    return bool((ratios >= from_law / within).mean() < MISFIT_CHANCE)


def _tails(curves: Floats) -> float:
    """What is to be left out at each end, in percent, for `WHOLE` of the curves to be within all along."""
    ranks = curves.argsort(axis=0).argsort(axis=0)
    depth = np.minimum(ranks, len(curves) - 1 - ranks).min(axis=1)
    return float(100 * np.percentile(depth, 100 * (1 - WHOLE)) / len(curves))


def _between(value: float, drawn: Floats, band: tuple[float, float] = BAND) -> Between:
    low, high = np.percentile(drawn, band)
    return Between(value, min(value, float(low)), max(value, float(high)))


def _best(found: Floats, drawn: Floats, largest: float) -> Between | None:
    """N*, at least one thread."""
    limit = FARTHEST * largest

    def peaks(contention: Floats, crosstalk: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.sqrt(np.maximum(0.0, 1 - contention) / crosstalk)
        result: Floats = np.maximum(1.0, np.where(crosstalk > 0, found, np.inf))
        return result

    value = float(peaks(found[1:2], found[2:3])[0])
    if value > limit:
        return None
    return _between(value, np.minimum(peaks(drawn[:, 1], drawn[:, 2]), limit))
