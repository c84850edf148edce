"""When machine code is sampled."""

from __future__ import annotations

import random

import pytest

from ftdiag.sampling.turns import CYCLE_NS, LEAST_SHARE, Turns

SECOND_NS = 1_000_000_000


def test_a_program_that_is_seldom_switched_is_always_sampled() -> None:
    # GIVEN a program of two cores that is switched 1,000 times a second WHEN asked THEN there is no pause
    turns = Turns(2.0)
    turns.learn(1_000, SECOND_NS)
    assert turns.share == 1.0
    assert all(turns.on(now_ns) for now_ns in range(0, 3 * SECOND_NS, SECOND_NS // 7))


@pytest.mark.parametrize(
    ("switches", "length_ns", "cores", "share"),
    [
        (15_000, SECOND_NS, 2.0, 1 / 9),  # 0.09 core, of which 0.01 may be lost
        (3_750, SECOND_NS // 4, 2.0, 1 / 9),  # the same rate
        (15_000, SECOND_NS, 8.0, 4 / 9),
        (10_000_000, SECOND_NS, 2.0, LEAST_SHARE),
        (1_700, SECOND_NS, 2.0, 1.0),  # not worth it
        (5, 0, 2.0, 1.0),
    ],
)
def test_the_share_follows_the_switches(switches: int, length_ns: int, cores: float, share: float) -> None:
    turns = Turns(cores)
    turns.learn(switches, length_ns)
    assert turns.share == pytest.approx(share)


def test_turns_come_at_random_and_make_the_share() -> None:
    # GIVEN a share of 1/9 WHEN asked every millisecond for 200 cycles
    turns = Turns(2.0, random.Random(1).random)
    turns.learn(15_000, SECOND_NS)
    asked = range(0, 200 * CYCLE_NS, CYCLE_NS // 1000)
    on = [now_ns for now_ns in asked if turns.on(now_ns)]

    # THEN that share of the answers is yes, and no part of a cycle is left out
    assert len(on) / len(asked) == pytest.approx(1 / 9, abs=0.005)
    assert len({now_ns % CYCLE_NS * 20 // CYCLE_NS for now_ns in on}) == 20
