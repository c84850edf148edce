"""The screen as pictures, at the three sizes people have, in every theme."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pytest_textual_snapshot import SVGImageExtension
from syrupy.assertion import SnapshotAssertion
from textual.command import CommandList
from textual.pilot import Pilot

from ftdiag.model import Snapshot
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK, LIGHT
from tui.driving import cockpit, driving, go, idle, until
from tui.pictures import FakeSource, RangedSource, contended, ended, measured

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


WALK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("overview", ()),
    ("finding", ("enter",)),
    ("threads", ("escape", "2")),
    ("lanes", ("v", "left")),
    ("pools unfolded", ("v", "u")),
    ("thread", ("j", "enter")),
    ("locks", ("escape", "3")),
    ("lines and source", ("4",)),
    ("functions", ("m",)),
    ("tree", ("m",)),
    ("scaling", ("m", "5")),
    ("memory", ("6",)),
    ("quality", ("7",)),
    ("fix first", ("8",)),
    ("compare", ("1", "c", "w", "c")),
    ("help", ("escape", "question_mark")),
    ("palette", ("escape", "ctrl+p")),
)
"""Every pane, and the keys that lead there from the one before."""


async def all_panes(app: CockpitApp, pilot: Pilot[None]) -> AsyncIterator[str]:
    """Go from pane to pane; the name of each that is on the screen."""
    # The cursor of a field blinks.
    app.animation_level = "none"
    commands = len(list(app.get_system_commands(app.screen)))
    for name, pressed in WALK:
        await go(pilot, *pressed)
        if name == "palette":
            # Its commands come one by one.
            await until(
                pilot, lambda: any(each.option_count == commands for each in app.screen.query(CommandList))
            )
        # Notices go away by the clock.
        app.clear_notifications()
        await idle(pilot)
        yield name


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE], ids=["80x24", "120x40", "200x60"])
async def test_every_pane(snapshot: SnapshotAssertion, size: tuple[int, int], theme: str) -> None:
    pictures = snapshot.use_extension(SVGImageExtension)
    async with driving(RangedSource(crowd()), size, theme=theme) as (app, pilot):
        different = [
            name async for name in all_panes(app, pilot) if app.export_screenshot() != pictures(name=name)
        ]
    assert different == []


def test_a_filter_being_typed(snap_compare: SnapCompare) -> None:
    app = cockpit(FakeSource(crowd()))
    # The cursor of a field blinks.
    app.animation_level = "none"
    assert snap_compare(app, terminal_size=SMALL, run_before=keys("2", "slash", "1", "3", "enter"))


def test_an_ended_target_without_findings(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(contended(end=ended()))), terminal_size=SMALL, run_before=keys())


def test_too_small(snap_compare: SnapCompare) -> None:
    assert snap_compare(cockpit(FakeSource(crowd())), terminal_size=(50, 10), run_before=keys())
