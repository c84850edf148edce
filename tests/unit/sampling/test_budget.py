"""What the sampler does about its own cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from ftdiag.sampling.budget import (
    BURST_INTERVAL_NS,
    CpuBudget,
    default_budget_cores,
    scarce,
    scarce_budget_cores,
)

SECOND_NS = 1_000_000_000


def after(
    budget: CpuBudget, *cores: float, step_ns: int = SECOND_NS, tight: Sequence[bool] = ()
) -> list[float]:
    """The rate after each interval, in which so many cores were used for each 100 looks per second.

    In the first intervals cores are scarce or not, in the others not.
    """
    cpu_ns = now_ns = 0
    budget.used(now_ns, cpu_ns)
    rates = []
    for one, full in itertools.zip_longest(cores, tight, fillvalue=False):
        now_ns += step_ns
        cpu_ns += int(one * budget.rate_hz / 100 * step_ns)
        assert budget.due(now_ns)
        budget.used(now_ns, cpu_ns, scarce=full)
        rates.append(round(budget.rate_hz, 1))
    return rates


def test_the_budget_grows_with_the_machine_and_the_rate() -> None:
    assert default_budget_cores(2.0, 100.0) == 0.10
    assert default_budget_cores(2.0, 1000.0) == 0.25
    assert default_budget_cores(64.0, 100.0) == pytest.approx(1.92)


def test_the_first_seconds_do_not_count() -> None:
    # GIVEN a start that costs three times the budget WHEN it is over THEN the rate is what was asked for
    assert after(CpuBudget(100, 0.10), 0.3, 0.2, 0.05) == [100, 100, 100]


def test_it_looks_less_often_rather_than_use_more() -> None:
    # GIVEN a program that costs 0.2 core at 100 Hz WHEN the budget is 0.1
    budget = CpuBudget(100, 0.10)
    rates = after(budget, 0.05, 0.05, 0.2, 0.2, 0.2)

    # THEN the rate takes nine tenths of the budget, and stays
    assert rates == [100, 100, 45, 45, 45]
    assert budget.slowed
    # AND what is left out since then is counted once
    assert budget.ticks_left_out(5 * SECOND_NS) == 110
    assert budget.ticks_left_out(5 * SECOND_NS) == 0
    assert budget.ticks_left_out(6 * SECOND_NS) == 55


def test_it_looks_as_often_as_asked_when_there_is_room() -> None:
    # GIVEN a sampler that was slowed WHEN the program calms down THEN it is as fast as asked again, no faster
    budget = CpuBudget(100, 0.10)
    rates = after(budget, 0.05, 0.05, 0.4, 0.02, 0.02, 0.02)
    assert rates == [100, 100, 22.5, 45, 90, 100]
    assert not budget.slowed
    # AND what was left out in each interval is counted at the rate of that interval
    assert budget.ticks_left_out(6 * SECOND_NS) == int(77.5 + 55 + 10)


def test_while_cores_are_scarce_it_takes_a_third() -> None:
    # GIVEN a program that costs 0.06 core at 100 Hz WHEN all cores are taken, and then not
    budget = CpuBudget(100, 0.10, scarce_cores=0.03)
    rates = after(budget, *[0.06] * 6, tight=[False, True, True, True, True, False])

    # THEN it goes on with what takes 0.027 core, and as fast as asked when one is free
    assert rates == [100, 100, 45, 45, 45, 90]
    assert not budget.yields
    assert budget.cores == 0.10


def test_where_a_budget_was_asked_for_it_is_the_one() -> None:
    # GIVEN no budget of its own for scarce cores WHEN they are THEN nothing changes
    budget = CpuBudget(100, 0.10)
    assert after(budget, *[0.06] * 4, tight=[True] * 4) == [100] * 4
    assert not budget.yields


def test_scarce_cores_are_no_reason_to_look_hardly_at_all() -> None:
    # GIVEN a program that costs 0.2 or 0.6 core at 100 Hz WHEN all cores are taken
    # THEN the rate stays at 25, for which the budget of other times is enough; or at what that pays for
    tight = [True] * 6
    assert after(CpuBudget(100, 0.10, scarce_cores=0.03), *[0.2] * 6, tight=tight)[-1] == 25
    assert after(CpuBudget(100, 0.10, scarce_cores=0.03), *[0.6] * 6, tight=tight)[-1] == 15


def test_the_budget_of_scarce_cores_grows_with_the_machine() -> None:
    assert scarce_budget_cores(2.0) == pytest.approx(0.03)
    assert scarce_budget_cores(64.0) == pytest.approx(0.96)


@pytest.mark.parametrize(
    ("free_cores", "waiting_threads", "expected"),
    [
        (1.0, 0.0, False),
        (0.4, 0.0, True),
        (1.2, 0.3, True),  # all cores are taken at some moments, and few at others
        (None, 0.0, False),
        (None, 2.0, True),
    ],
)
def test_cores_are_scarce(free_cores: float | None, waiting_threads: float, expected: bool) -> None:
    assert scarce(free_cores, waiting_threads, 2.0) is expected


def test_it_never_stops() -> None:
    budget = CpuBudget(100, 0.005)
    assert after(budget, 0.01, 0.01, 50.0, 50.0, 50.0, 50.0)[-1] >= 1.0


def test_a_burst_goes_up_to_what_its_budget_permits() -> None:
    # GIVEN looks of 100 us each WHEN a burst of half a core begins
    budget = CpuBudget(10_000, 0.5, burst=True)
    rates = after(budget, *[0.01] * 10, step_ns=BURST_INTERVAL_NS)

    # THEN it doubles its rate each time until most of that is used, and none of it is called left out
    assert rates == [1_000, 2_000, *[4_000] * 8]
    assert budget.ticks_left_out(10 * SECOND_NS) == 0
