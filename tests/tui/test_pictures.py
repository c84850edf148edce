"""The screen as pictures, at the three sizes people have, in every theme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from ftdiag.model import Snapshot
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK, LIGHT, PLAIN, SIXTEEN
from tui.driving import cockpit, until
from tui.pictures import FakeSource, contended, ended, finding

SnapCompare = Callable[..., bool]

SMALL = (80, 24)
MIDDLE = (120, 40)
LARGE = (200, 60)


def crowd() -> Snapshot:
    return contended(14, 6)


def keys(*pressed: str) -> Callable[[Pilot[None]], Any]:
    """Wait for the data, then press."""

    async def drive(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, CockpitApp)
        await until(pilot, lambda: app.view.snapshot is not None)
        for key in pressed:
            await pilot.press(key)
            await pilot.pause()

    return drive


@pytest.mark.parametrize("theme", [DARK, LIGHT])
@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE], ids=["80x24", "120x40", "200x60"])
def test_the_usual_sight(snap_compare: SnapCompare, size: tuple[int, int], theme: str) -> None:
    app = cockpit(FakeSource(crowd()), theme=theme)
    assert snap_compare(app, terminal_size=size, run_before=keys())


@pytest.mark.parametrize("theme", [SIXTEEN, PLAIN])
def test_few_colours(snap_compare: SnapCompare, theme: str) -> None:
    app = cockpit(FakeSource(crowd()), theme=theme)
    assert snap_compare(app, terminal_size=SMALL, run_before=keys())


def test_ascii(snap_compare: SnapCompare) -> None:
    app = cockpit(FakeSource(crowd()), ascii_only=True, theme=SIXTEEN)
    assert snap_compare(app, terminal_size=SMALL, run_before=keys())


def test_locks_on_a_small_screen(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=SMALL, run_before=keys("3"))


def test_the_lines_of_one_thread(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=SMALL, run_before=keys("j", "enter"))


def test_a_filter_being_typed(snap_compare: SnapCompare) -> None:
    app = cockpit(FakeSource(crowd()))
    # The cursor of a field blinks.
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=SMALL, run_before=keys("slash", "1", "3", "enter"))


def test_help(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=MIDDLE, run_before=keys("question_mark"))


def test_an_ended_target_with_a_finding(snap_compare: SnapCompare) -> None:
    picture = replace(contended(end=ended()), findings=(finding(),))
    assert snap_compare(cockpit(FakeSource(picture)), terminal_size=SMALL, run_before=keys())


def test_too_small(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=(50, 10), run_before=keys())
