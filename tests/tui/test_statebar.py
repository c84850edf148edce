"""The 100 % bar of states."""

from __future__ import annotations

import pytest
from rich.segment import Segment

from ftdiag.model import ThreadState
from ftdiag.tui.look import DARK, LIGHT, PLAIN, SIXTEEN, look_for
from ftdiag.tui.statebar import bar, legend, shares
from ftdiag.wording.states import BAR_ORDER, STATE_NAMES

LOOK = look_for(DARK, False)


@pytest.mark.parametrize("width", [1, 2, 7, 40])
@pytest.mark.parametrize(
    "states",
    [
        {ThreadState.WORK: 1.0},
        {ThreadState.WORK: 1.0, ThreadState.LOCK: 1.0, ThreadState.IDLE: 1.0},
        dict.fromkeys(ThreadState, 1.0),
        {ThreadState.WORK: 1e18, ThreadState.LOCK: 1e-9},
        {ThreadState.WORK: 5.0, ThreadState.LOCK: -1.0},
    ],
)
def test_the_bar_is_always_full(states: dict[ThreadState, float], width: int) -> None:
    assert sum(cells for _, cells in shares(states, width)) == width
    assert Segment.get_line_length(bar(states, width, LOOK)) == width


@pytest.mark.parametrize("states", [{}, {ThreadState.WORK: 0.0}])
def test_no_time_is_an_empty_bar(states: dict[ThreadState, float]) -> None:
    assert "".join(segment.text for segment in bar(states, 5, LOOK)) == "     "


def test_shares_follow_the_time_and_the_order_of_the_bar() -> None:
    # GIVEN a thread that worked half of the time
    states = {ThreadState.LOCK: 3.0, ThreadState.WORK: 5.0, ThreadState.IDLE: 2.0}

    # THEN the useful part is at the left
    assert shares(states, 10) == [(ThreadState.WORK, 5), (ThreadState.LOCK, 3), (ThreadState.IDLE, 2)]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_every_state_has_a_sign_of_its_own(ascii_only: bool) -> None:
    look = look_for(PLAIN, ascii_only)
    signs = [look.sign(state) for state in ThreadState]

    assert len(set(signs)) == len(ThreadState)
    assert all(len(sign) == 1 for sign in signs)
    assert not ascii_only or all(sign.isascii() for sign in signs)


@pytest.mark.parametrize("theme", [DARK, LIGHT, SIXTEEN, PLAIN])
def test_every_state_is_known_to_every_theme(theme: str) -> None:
    look = look_for(theme, False)

    assert set(look.state_styles) == set(ThreadState) == set(BAR_ORDER) == set(STATE_NAMES)


def test_the_legend_names_what_there_is_as_far_as_it_fits() -> None:
    text = "".join(s.text for s in legend({ThreadState.LOCK, ThreadState.WORK, ThreadState.IDLE}, LOOK, 20))

    assert text == "█ work  L lock  "
