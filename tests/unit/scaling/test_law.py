"""The law of measured runs: what it recovers, what its bands hold, when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from ftdiag.analysis.grouping import Floats
from ftdiag.analysis.scaling import predicted
from ftdiag.scaling.law import Law, NoLaw, law_of

NUMBERS = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])


def fitted(truth: tuple[float, float, float], *, rounds: int = 1, noise: float = 0.0, seed: int = 0) -> Law:
    threads = np.repeat(NUMBERS, rounds)
    random = np.random.default_rng(seed)
    law = law_of(threads, predicted(np.array(truth), threads) * np.exp(random.normal(0, noise, len(threads))))
    assert isinstance(law, Law)
    return law


@pytest.mark.parametrize(
    "truth",
    [
        (100.0, 0.05, 0.001),
        (3e6, 0.0, 0.0),
        (1.0, 0.2, 0.0),
        (100.0, 0.0, 0.01),
        (7.0, 1.0, 0.0),
        (5.0, 2.0, 0.3),
    ],
)
def test_exact_points_give_the_law_back(truth: tuple[float, float, float]) -> None:
    law = fitted(truth)

    assert law.parameters == pytest.approx(truth, abs=1e-6 * max(1.0, truth[0]))
    assert not law.misfit
    for number in (1.0, 8.0, 128.0):
        exact = float(predicted(np.array(truth), np.array([number]))[0])
        assert law.at(number).value == pytest.approx(exact, rel=1e-6)


def test_noisy_points_give_it_within_a_tenth_and_bands_hold_it() -> None:
    # GIVEN 60 sweeps of 8 numbers of threads up to 128 cores, one run each, that scatter by 5 %
    truth = np.array([100.0, 0.05, 0.001])
    laws = [fitted((100.0, 0.05, 0.001), noise=0.05, seed=seed) for seed in range(60)]

    # THEN half of them are within a tenth of every parameter
    errors = np.array([abs(law.parameters / truth - 1) for law in laws])
    assert (np.median(errors, axis=0) < 0.1).all()
    # AND bands hold the truth in nine of ten: each parameter's, the maximum's, and the curve's all along
    exact = predicted(truth, NUMBERS)
    best = float(np.sqrt(0.95 / 0.001))

    def share(held: list[bool]) -> float:
        return sum(held) / len(held)

    for place, name in enumerate(("single", "contention", "crosstalk")):
        assert share([_holds(getattr(law, name), truth[place]) for law in laws]) >= 0.9, name
    assert share([law.best is not None and _holds(law.best, best) for law in laws]) >= 0.9
    assert share([_holds_all(law, exact) for law in laws]) >= 0.9


def _holds(between: object, value: float) -> bool:
    return bool(between.low <= value <= between.high)  # type: ignore[attr-defined]


def _holds_all(law: Law, exact: Floats) -> bool:
    return all(_holds(law.at(number), value) for number, value in zip(NUMBERS, exact, strict=True))


def test_rounds_narrow_the_bands() -> None:
    one, five = (
        np.median(
            [
                (law := fitted((100.0, 0.05, 0.001), rounds=rounds, noise=0.05, seed=seed)).contention.high
                - law.contention.low
                for seed in range(12)
            ]
        )
        for rounds in (1, 5)
    )
    assert five < 0.65 * one


def test_points_of_another_shape_are_said_not_to_fit() -> None:
    # GIVEN a program that does not gain from 8 threads on, all at once, and runs that hardly scatter
    threads = np.repeat(NUMBERS, 3)
    random = np.random.default_rng(4)
    throughput = np.minimum(threads, 8.0) * np.exp(random.normal(0, 0.005, len(threads)))
    law = law_of(threads, throughput)

    assert isinstance(law, Law)
    assert law.misfit
    # AND its bands are of how far it is off, not of how little runs scatter
    assert law.at(8).high > 1.2 * law.at(8).value


def test_throughput_that_only_falls_has_its_best_at_one_thread() -> None:
    law = law_of(np.array([1.0, 2, 4, 8]), np.array([100.0, 50, 30, 20]))

    assert isinstance(law, Law)
    assert law.best is None or law.best.value == 1.0
    assert law.at(8).value < law.at(1).value


@pytest.mark.parametrize("threads", [[1.0], [1.0, 2.0], [1.0, 2.0, 2.0, 4.0]])
def test_too_few_numbers_of_threads_have_no_law(threads: list[float]) -> None:
    found = law_of(np.array(threads), np.array(threads))

    assert isinstance(found, NoLaw)
    assert "it takes 4 different numbers of threads" in found.why


def test_the_same_runs_give_the_same_law() -> None:
    one, two = (fitted((100.0, 0.05, 0.001), noise=0.05, seed=3) for _ in range(2))
    assert one.contention == two.contention
    assert one.at(16) == two.at(16)


def test_few_numbers_are_uncertain() -> None:
    law = law_of(np.array([1.0, 2, 3, 4]), np.array([10.0, 19, 27, 34]))

    assert isinstance(law, Law)
    assert law.uncertain
