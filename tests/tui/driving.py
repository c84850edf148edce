"""What tests of the cockpit share: an application with a fake source, and its screen as text.

In: pictures. Out: a running application's screen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from ftdiag.model import Snapshot
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from ftdiag.tui.table import Table
from tui.pictures import FakeSource, FakeTexts, contended

PATIENCE = 200
"""How many short pauses to wait for something to show before a test fails."""


def cockpit(source: FakeSource, *, ascii_only: bool = False, theme: str = DARK) -> CockpitApp:
    """An application that looks the same whatever the terminal of the tests is."""
    return CockpitApp(
        source,
        refresh_seconds=0.02,
        ascii_only=ascii_only,
        theme=theme,
        texts=FakeTexts(),
        report=lambda picture: [f"report of {picture.target.pid}"],
    )


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Wait until something holds; the worker is a thread, so no single pause is enough."""
    for _ in range(PATIENCE):
        await pilot.pause(0.01)
        if holds():
            return
    raise AssertionError("waited in vain")


@asynccontextmanager
async def driving(
    source: FakeSource | Snapshot | None = None,
    size: tuple[int, int] = (80, 24),
    *,
    ascii_only: bool = False,
    theme: str = DARK,
) -> AsyncIterator[tuple[CockpitApp, Pilot[None]]]:
    """An application that has painted its first data."""
    if source is None:
        source = contended()
    if isinstance(source, Snapshot):
        source = FakeSource(source)
    app = cockpit(source, ascii_only=ascii_only, theme=theme)
    async with app.run_test(size=size) as pilot:
        if source.error is None:
            await until(pilot, lambda: app.view.snapshot is not None)
        await pilot.pause(0.03)
        yield app, pilot


async def go(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, each with the time to arrive and to be answered by the worker."""
    app = pilot.app
    assert isinstance(app, CockpitApp)
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
        await pilot.pause(0.03)


def screen_lines(app: CockpitApp) -> list[str]:
    """What is on the screen."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


def screen_text(app: CockpitApp) -> str:
    """What is on the screen, as one text."""
    return "\n".join(screen_lines(app))


def table(app: CockpitApp, name: str) -> Table[object]:
    """The table with this id."""
    return app.query_one(f"#{name}", Table)
