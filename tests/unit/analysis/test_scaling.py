"""The curve of cores by number of threads: what it recovers, what it leaves open, when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from ftdiag.analysis.grouping import Floats, Ints
from ftdiag.analysis.scaling import NoCurve, ScalingCurve, curve, fit, predicted
from ftdiag.analysis.ticks import STATES
from ftdiag.model import ThreadState

SECOND = 1_000_000_000


def windows(
    threads: list[float], cores: list[float], state: ThreadState = ThreadState.WORK
) -> tuple[Ints, Floats, Ints]:
    """Seconds in which so many threads had work and so many cores did it; the others waited for a lock."""
    length = np.full(len(threads), SECOND, dtype=np.int64)
    states = np.zeros((len(threads), STATES))
    states[:, state] = np.array(cores) * SECOND
    states[:, ThreadState.LOCK] = (np.array(threads) - np.array(cores)) * SECOND
    # Idle threads are no threads with work.
    states[:, ThreadState.IDLE] = 7 * SECOND
    return length, states, (np.array(cores) * SECOND).astype(np.int64)


@pytest.mark.parametrize(
    "parameters", [(1.0, 0.0, 0.0), (0.9, 0.1, 0.0), (1.0, 0.05, 0.01), (0.7, 0.0, 0.02), (1.0, 1.0, 0.0)]
)
def test_a_fit_recovers_the_law_it_was_made_with(parameters: tuple[float, float, float]) -> None:
    threads = np.array([1.0, 2, 3, 4, 6, 8, 16])

    found = fit(threads, predicted(np.array(parameters), threads), np.ones(7))

    assert found == pytest.approx(parameters, abs=1e-6)


def test_scatter_widens_the_bands_and_they_hold_the_truth() -> None:
    # GIVEN ten seconds each with 1 to 8 threads, that scatter by 3 %
    random = np.random.default_rng(3)
    truth = np.array([0.95, 0.08, 0.01])
    threads = [float(n) for n in range(1, 9) for _ in range(10)]
    exact = predicted(truth, np.array(threads))
    cores = (exact * random.normal(1, 0.03, len(threads))).tolist()

    # WHEN a curve is fitted
    found = curve(*windows(threads, cores))

    # THEN it is near the truth, which is within the bands
    assert isinstance(found, ScalingCurve)
    assert found.useful
    assert not found.uncertain
    for between, true in zip((found.single_core, found.contention, found.crosstalk), truth, strict=True):
        assert between.low <= between.value <= between.high
        assert between.value == pytest.approx(true, abs=0.05)
    assert found.best_threads is not None
    assert found.best_threads.value == pytest.approx(np.sqrt(0.92 / 0.01), rel=0.5)
    assert [point.threads for point in found.points] == list(range(1, 9))
    assert all(point.windows == 10 for point in found.points)
    assert found.amdahl_contention > found.contention.value


def test_the_same_windows_give_the_same_curve() -> None:
    threads = [float(n) for n in range(1, 6) for _ in range(4)]
    cores = [0.9 * n / (1 + 0.1 * n) + 0.01 * (i % 3) for i, n in enumerate(threads)]

    assert curve(*windows(threads, cores)) == curve(*windows(threads, cores))


def test_without_native_samples_it_is_of_cores_in_use() -> None:
    threads = [float(n) for n in range(1, 5) for _ in range(3)]
    found = curve(*windows(threads, [0.5 * n for n in threads], ThreadState.ON_CPU))

    assert isinstance(found, ScalingCurve)
    assert not found.useful
    assert found.uncertain
    # Without crosstalk more threads are always better.
    assert found.best_threads is None


@pytest.mark.parametrize(
    ("threads", "seen"),
    [
        ([], ()),
        ([4.0] * 60, (4,)),
        ([1.0] * 3 + [2.0] * 3 + [3.0] * 3 + [4.0] * 2, (1, 2, 3)),
        # Between two numbers, or nobody has work.
        ([1.5] * 9 + [2.5] * 9 + [0.0] * 9 + [1.0] * 9, (1,)),
    ],
)
def test_too_few_numbers_of_threads_are_said(threads: list[float], seen: tuple[int, ...]) -> None:
    found = curve(*windows(threads, [0.5 * n for n in threads]))

    assert isinstance(found, NoCurve)
    assert found.seen == seen
    assert f"this range has {len(seen)}" in found.why
