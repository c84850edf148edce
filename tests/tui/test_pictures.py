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
from tui.driving import cockpit, go, idle, until
from tui.pictures import FakeSource, contended, ended, measured

SnapCompare = Callable[..., bool]

SMALL = (80, 24)
MIDDLE = (120, 40)
LARGE = (200, 60)


def crowd() -> Snapshot:
    return measured(contended(14, 6))


def keys(*pressed: str) -> Callable[[Pilot[None]], Any]:
    """Wait for the data, then press."""

    async def drive(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, CockpitApp)
        await until(pilot, lambda: app.view.snapshot is not None)
        await idle(pilot)
        await go(pilot, *pressed)
        # Notices go away by the clock.
        app.clear_notifications()
        await idle(pilot)

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


@pytest.mark.parametrize(
    "pressed",
    ["enter", "2", "2v<", "2j!", "3", "4", "4m", "4mm", "5", "6", "7", "cwc"],
)
def test_every_pane_on_a_small_screen(snap_compare: SnapCompare, pressed: str) -> None:
    names = {"!": "enter", "<": "left"}
    pressed_keys = [pressed] if pressed == "enter" else [names.get(key, key) for key in pressed]
    app = cockpit(FakeSource(replace(crowd(), t1_ns=crowd().t1_ns)))
    assert snap_compare(app, terminal_size=SMALL, run_before=keys(*pressed_keys))


@pytest.mark.parametrize("pressed", ["enter", "2j!", "3", "4", "5"])
def test_panes_on_a_middle_screen_in_light(snap_compare: SnapCompare, pressed: str) -> None:
    pressed_keys = [pressed] if pressed == "enter" else [{"!": "enter"}.get(key, key) for key in pressed]
    app = cockpit(FakeSource(crowd()), theme=LIGHT)
    assert snap_compare(app, terminal_size=MIDDLE, run_before=keys(*pressed_keys))


def test_a_filter_being_typed(snap_compare: SnapCompare) -> None:
    app = cockpit(FakeSource(crowd()))
    # The cursor of a field blinks.
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=SMALL, run_before=keys("2", "slash", "1", "3", "enter"))


def test_help(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=MIDDLE, run_before=keys("question_mark"))


def test_an_ended_target_without_findings(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(contended(end=ended()))), terminal_size=SMALL, run_before=keys())


def test_too_small(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=(50, 10), run_before=keys())
