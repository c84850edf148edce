"""What the sampler does about its own cost."""

from __future__ import annotations

import pytest

from ftdiag.sampling.budget import BURST_INTERVAL_NS, CpuBudget, default_budget_cores

SECOND_NS = 1_000_000_000


def after(budget: CpuBudget, *cores: float, step_ns: int = SECOND_NS) -> list[float]:
    """The rate after each interval, in which so many cores were used for each 100 looks per second."""
    cpu_ns = now_ns = 0
    budget.used(now_ns, cpu_ns)
    rates = []
    for one in cores:
        now_ns += step_ns
        cpu_ns += int(one * budget.rate_hz / 100 * step_ns)
        assert budget.due(now_ns)
        budget.used(now_ns, cpu_ns)
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
    assert budget.ticks_left_out(SECOND_NS) == 55


def test_it_looks_as_often_as_asked_when_there_is_room() -> None:
    # GIVEN a sampler that was slowed WHEN the program calms down THEN it is as fast as asked again, no faster
    budget = CpuBudget(100, 0.10)
    rates = after(budget, 0.05, 0.05, 0.4, 0.02, 0.02, 0.02)
    assert rates == [100, 100, 22.5, 45, 90, 100]
    assert not budget.slowed
    assert budget.ticks_left_out(SECOND_NS) == 0


def test_it_never_stops() -> None:
    budget = CpuBudget(100, 0.005)
    assert after(budget, 0.01, 0.01, 50.0, 50.0, 50.0, 50.0)[-1] >= 1.0


def test_a_burst_goes_up_to_what_its_budget_permits() -> None:
    # GIVEN looks of 100 us each WHEN a burst of half a core begins
    budget = CpuBudget(10_000, 0.5, burst=True)
    rates = after(budget, *[0.01] * 10, step_ns=BURST_INTERVAL_NS)

    # THEN it doubles its rate each time until most of that is used, and none of it is called left out
    assert rates == [1_000, 2_000, *[4_000] * 8]
    assert budget.ticks_left_out(SECOND_NS) == 0
