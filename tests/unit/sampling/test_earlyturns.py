"""Early turns that were lost are asked for again."""

from __future__ import annotations

from ftdiag.sampling.earlyturns import MOST_RETURNS, EarlyTurns


def test_they_are_asked_for_again_when_they_were_lost() -> None:
    # GIVEN a sampler that has early turns
    has = [True]
    asked: list[int] = []
    turns = EarlyTurns(first=lambda: has[-1], ask=lambda: asked.append(1))

    # WHEN it keeps them THEN nothing is done
    turns.keep()
    assert asked == []

    # WHEN it lost them THEN they are asked for at each window, and not for ever
    has.append(False)
    for _ in range(2 * MOST_RETURNS):
        turns.keep()
    assert len(asked) == MOST_RETURNS


def test_who_never_had_them_does_not_ask() -> None:
    asked: list[int] = []
    turns = EarlyTurns(first=lambda: False, ask=lambda: asked.append(1))
    turns.keep()
    assert asked == []
