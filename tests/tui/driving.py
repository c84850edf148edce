"""What tests of the cockpit share: an application with a fake source, and its screen as text.

In: pictures. Out: a running application's screen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from textual.app import App
from textual.message_pump import MessagePump
from textual.pilot import Pilot

from ftdiag.model import Snapshot
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from ftdiag.tui.saving import Saver
from ftdiag.tui.table import Table
from tui.pictures import FakeSource, FakeTexts, contended

PATIENCE_S = 60.0
"""How long to wait for something to show before a test fails; a machine may be busy with other things."""
QUIET_ROUNDS = 4
"""So many times in a row nothing may be left to do: one message may lead to another."""


def cockpit(source: FakeSource, *, ascii_only: bool = False, theme: str = DARK) -> CockpitApp:
    """An application that looks the same whatever the terminal of the tests is."""
    return CockpitApp(
        source,
        refresh_seconds=0.02,
        ascii_only=ascii_only,
        theme=theme,
        texts=FakeTexts(),
        saver=Saver({"txt": lambda picture: f"report of {picture.target.pid}\n"}),
    )


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Wait until something holds; the worker is a thread, so no single pause is enough."""
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        await pilot.pause(0.01)
        if holds():
            return
    raise AssertionError("waited in vain")


def _nothing_to_do(app: App[None]) -> bool:
    """True if no message, callback, layout or paint is left, and the worker answered what was asked."""
    if isinstance(app, CockpitApp):
        answered = app._painted == app._request
        if not answered and app.view.error is None:
            return False
    # The screens below the current one are neither laid out nor painted.
    screen = app.screen
    if screen._layout_required or screen._scroll_required or screen._repaint_required:
        return False
    if screen._recompose_required or screen._dirty_widgets or screen._callbacks:
        return False
    pumps: list[MessagePump] = [app, *screen.walk_children(with_self=True)]
    return all(not pump.message_queue_size and not pump._next_callbacks for pump in pumps)


async def idle(pilot: Pilot[None]) -> None:
    """Wait until nothing is left to do: the screen is then the same however fast the application got there.

    That the processor is idle, which Textual's own `pause` looks at, says nothing on a busy machine.
    """
    deadline = monotonic() + PATIENCE_S
    quiet = 0
    while quiet < QUIET_ROUNDS:
        if monotonic() > deadline:
            raise AssertionError("the application does not come to rest")
        # Every widget handles what is in its queue, then the screen is laid out and painted.
        await pilot.pause(0)
        quiet = quiet + 1 if _nothing_to_do(pilot.app) else 0
        if not quiet:
            # The worker is a thread: let it run.
            await pilot.pause(0.002)


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one after the other, and wait for what follows from the last one."""
    await pilot.press(*keys)
    await idle(pilot)


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
        await idle(pilot)
        yield app, pilot


async def go(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, each when what the one before led to is done."""
    for key in keys:
        await press(pilot, key)


def screen_lines(app: App[None]) -> list[str]:
    """What is on the screen."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


def screen_text(app: App[None]) -> str:
    """What is on the screen, as one text."""
    return "\n".join(screen_lines(app))


def table(app: CockpitApp, name: str) -> Table[object]:
    """The table with this id."""
    return app.query_one(f"#{name}", Table)
