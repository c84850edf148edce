"""Intervals of means and differences: against published tables, and by simulation."""

from __future__ import annotations

import math
import random

import pytest

from ftdiag.scaling.noise import (
    difference_of,
    mean_of,
    neighbours_correlation,
    ratio_mean_of,
    runs_to_tell,
    t_quantile,
)


@pytest.mark.parametrize(
    ("freedom", "confidence", "quantile"),
    [
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (3, 0.99, 5.841),
        (4, 0.95, 2.776),
        (10, 0.90, 1.812),
        (18, 0.99, 2.878),
        (120, 0.95, 1.980),
        (500, 0.95, 1.965),
    ],
)
def test_quantiles_are_those_of_the_tables(freedom: int, confidence: float, quantile: float) -> None:
    assert t_quantile(freedom, confidence) == pytest.approx(quantile, abs=0.001)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(5)
    held = 0
    for _ in range(2000):
        mean = mean_of([chance.gauss(10, 2) for _ in range(5)])
        assert mean.low is not None
        assert mean.high is not None
        held += mean.low <= 10 <= mean.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_value_says_nothing_of_scatter() -> None:
    assert mean_of([3.0]).low is None
    assert difference_of([3.0], [4.0, 5.0]).low is None
    assert ratio_mean_of([4.0]).value == pytest.approx(4.0)


def test_a_ratio_never_reaches_below_nothing() -> None:
    mean = ratio_mean_of([1.0, 100.0])
    assert mean.value == pytest.approx(10.0)
    assert mean.low is not None
    assert mean.low > 0


def test_alike_values_have_no_difference_and_neighbours_count_for_less() -> None:
    assert difference_of([2.0, 2.0], [2.0, 2.0]).high == 0.0
    wave = [math.sin(number / 3) for number in range(40)]
    assert neighbours_correlation(wave) > 0.7
    one = difference_of(wave, [value + 1 for value in wave])
    two = difference_of(wave, [value + 1 for value in wave], correlation=0.8)
    assert one.high is not None
    assert two.high is not None
    assert two.high - two.value > 2 * (one.high - one.value)


def test_runs_to_tell() -> None:
    # GIVEN runs that scatter by 5 % THEN a tenth takes a few runs, a fiftieth many, and none beyond a margin
    needed = runs_to_tell(0.05, 0.10, 0.02)
    assert needed is not None
    assert 4 <= needed <= 8
    assert (runs_to_tell(0.05, 0.03, 0.02) or 0) > 100
    assert runs_to_tell(0.05, 0.01, 0.02) is None
