"""How the work done grows with the number of threads that have work, from one recording.

In: for each window how many threads had work and how many cores did useful work. Out: a curve fitted to the
numbers of threads that were seen, with what the windows' scatter leaves open, or why there is none.

The curve is the Universal Scalability Law, X(N) = lambda N / (1 + sigma (N-1) + kappa N (N-1)) with sigma and
kappa >= 0 (N. Gunther, Guerrilla Capacity Planning); kappa = 0 is Amdahl's law. Useful cores stand for what
the program gets done, which ftdiag does not see.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ftdiag.analysis.accounting import NATIVE_STATES, ON_CPU_STATES
from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.analysis.grouping import Floats, Ints
from ftdiag.datatypes import dataclass
from ftdiag.model import USEFUL_STATES, ThreadState

LEAST_NUMBERS: Final = 4
"""Different numbers of threads that a curve is fitted to: it has three unknowns."""
FEW_NUMBERS: Final = 6
"""Below so many the curve is said to be uncertain."""
LEAST_WINDOWS: Final = 3
"""Windows with a number of threads, for that number to count."""
NEAR: Final = 0.25
"""A window in which more or fewer threads had work on average is one between two numbers: left out."""
RESAMPLES: Final = 200
BAND: Final = (5.0, 95.0)
"""Percentiles of the resamples that are given as what is left open."""
MAX_THREADS: Final = 4096
FARTHEST: Final = 4.0
"""The best number of threads is not told beyond so many times the largest that was seen."""
_ACTIVE: Final = [int(state) for state in (*ON_CPU_STATES, ThreadState.RUNNABLE, *LOCK_STATES)]
_USEFUL: Final = [int(state) for state in USEFUL_STATES]


@dataclass(frozen=True, slots=True)
class Between:
    """A value, and the range in which nine of ten resamples of the windows put it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ScalingPoint:
    """What was seen with so many threads: mean cores over the windows, and what the curve says."""

    threads: int
    windows: int
    cores: float
    fitted: Between


@dataclass(frozen=True, slots=True)
class ScalingCurve:
    """The curve. `useful` is false where time on a core is not split: then it is of cores in use.

    `best_threads` is where the curve has its maximum; `None` where it has none within `FARTHEST` times the
    largest number that was seen. `single_core` is lambda: the cores that one thread alone makes use of.
    """

    points: tuple[ScalingPoint, ...]
    useful: bool
    single_core: Between
    contention: Between
    """sigma: the share that only one thread at a time can do."""
    crosstalk: Between
    """kappa: what each pair of threads costs the others."""
    amdahl_contention: float
    """sigma if there is no crosstalk (kappa = 0)."""
    best_threads: Between | None

    @property
    def uncertain(self) -> bool:
        """True where there are hardly more numbers of threads than unknowns."""
        return len(self.points) < FEW_NUMBERS


@dataclass(frozen=True, slots=True)
class NoCurve:
    """Why there is none, and the numbers of threads that were seen."""

    why: str
    seen: tuple[int, ...] = ()


def fit(threads: Floats, cores: Floats, weights: Floats, *, crosstalk: bool = True) -> Floats:
    """(lambda, sigma, kappa) that come nearest to the cores seen; sigma and kappa are not below 0.

    N/X is linear in the unknowns; each value is weighted so that errors count in cores.
    """
    target = threads / cores
    columns = np.column_stack([np.ones(len(threads)), threads - 1, threads * (threads - 1)])
    scale = np.sqrt(weights) * cores**2 / threads
    best: Floats | None = None
    least = np.inf
    choices = [(0, 1, 2), (0, 1), (0, 2), (0,)] if crosstalk else [(0, 1), (0,)]
    for kept in choices:
        part = columns[:, kept] * scale[:, None]
        found = np.linalg.lstsq(part, target * scale, rcond=None)[0]
        if found[0] <= 0 or (found[1:] < 0).any():
            continue
        error = float(((part @ found - target * scale) ** 2).sum())
        if error < least:
            least = error
            best = np.zeros(3)
            best[list(kept)] = found
    if best is None:
        # Each core seen with weight: a straight line through the origin always fits somehow.
        return np.array([float((weights * cores * threads).sum() / (weights * threads**2).sum()), 0.0, 0.0])
    result: Floats = np.array([1 / best[0], best[1] / best[0], best[2] / best[0]])
    return result


def predicted(parameters: Floats, threads: Floats) -> Floats:
    """Cores that the curve says."""
    single, contention, crosstalk = parameters
    result: Floats = single * threads / (1 + contention * (threads - 1) + crosstalk * threads * (threads - 1))
    return result


def curve(length_ns: Ints, states_ns: Floats, cpu_ns: Ints) -> ScalingCurve | NoCurve:
    """The curve of consecutive windows: their lengths, a row of times by state for each, their CPU time."""
    whole = length_ns > 0
    length = length_ns[whole].astype(np.float64)
    states = states_ns[whole]
    useful = bool(states[:, [int(state) for state in NATIVE_STATES]].sum() > 0)
    active = states[:, _ACTIVE].sum(axis=1) / length
    done = (states[:, _USEFUL].sum(axis=1) if useful else cpu_ns[whole].astype(np.float64)) / length
    number = np.rint(active)
    kept = (np.abs(active - number) <= NEAR) & (number >= 1) & (number <= MAX_THREADS) & (done > 0)
    number, done = number[kept], done[kept]
    numbers, group, windows = np.unique(number, return_inverse=True, return_counts=True)
    enough = windows >= LEAST_WINDOWS
    seen = tuple(int(each) for each in numbers[enough])
    if len(seen) < LEAST_NUMBERS:
        return NoCurve(
            f"not enough different numbers of threads: it needs {LEAST_NUMBERS} that had work for"
            f" {LEAST_WINDOWS} seconds each, and this range has {len(seen)}",
            seen,
        )
    samples = [done[group == place] for place in np.flatnonzero(enough)]
    counts = windows[enough].astype(np.float64)
    threads = numbers[enough]
    means = np.array([sample.mean() for sample in samples])
    found = fit(threads, means, counts)
    # The same range gives the same answer.
    random = np.random.default_rng(len(done))
    drawn = np.empty((RESAMPLES, 3))
    for row in range(RESAMPLES):
        again = np.array([random.choice(sample, len(sample)).mean() for sample in samples])
        drawn[row] = fit(threads, again, counts)
    spread = np.array([predicted(each, threads) for each in drawn])
    fitted = predicted(found, threads)
    points = tuple(
        ScalingPoint(
            int(threads[i]), int(counts[i]), float(means[i]), _between(float(fitted[i]), spread[:, i])
        )
        for i in range(len(threads))
    )
    return ScalingCurve(
        points=points,
        useful=useful,
        single_core=_between(float(found[0]), drawn[:, 0]),
        contention=_between(float(found[1]), drawn[:, 1]),
        crosstalk=_between(float(found[2]), drawn[:, 2]),
        amdahl_contention=float(fit(threads, means, counts, crosstalk=False)[1]),
        best_threads=_best(found, drawn, float(threads[-1])),
    )


def _between(value: float, drawn: Floats) -> Between:
    low, high = np.percentile(drawn, BAND)
    return Between(value, min(value, float(low)), max(value, float(high)))


def _best(found: Floats, drawn: Floats, largest: float) -> Between | None:
    """Where the curve is highest: sqrt((1 - sigma) / kappa)."""

    def peak(parameters: Floats) -> float:
        _, contention, crosstalk = parameters
        if crosstalk <= 0:
            return float("inf")
        return float(np.sqrt(max(0.0, 1 - contention) / crosstalk))

    value = peak(found)
    if value > FARTHEST * largest:
        return None
    peaks = np.minimum(np.array([peak(each) for each in drawn]), FARTHEST * largest)
    return _between(value, peaks)
