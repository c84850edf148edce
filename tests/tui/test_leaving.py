"""Leaving the cockpit: asked first where a recording would be lost that nobody kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ftdiag.tui.app import CockpitApp
from ftdiag.tui.leaving import LeaveDialog
from ftdiag.tui.look import DARK
from ftdiag.tui.saving import Saver
from tui.driving import idle, until
from tui.pictures import FakeSource, FakeTexts, contended


def app_with(copied: list[Path], *, temporary: bool) -> CockpitApp:
    saver = Saver({}, copied.append, temporary)
    return CockpitApp(
        FakeSource(contended(), live=True),
        refresh_seconds=0.02,
        ascii_only=False,
        theme=DARK,
        texts=FakeTexts(),
        saver=saver,
    )


@pytest.mark.parametrize(
    ("keys", "kept", "left"),
    [(("k",), 1, True), (("d",), 0, True), (("q",), 0, True), (("escape",), 0, False)],
)
async def test_a_temporary_recording_is_kept_discarded_or_gone_on_with(
    keys: tuple[str, ...], kept: int, left: bool
) -> None:
    # GIVEN a live look of some minutes whose recording goes away with the cockpit
    copied: list[Path] = []
    app = app_with(copied, temporary=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        # WHEN it is left THEN it asks, and does what the answer says
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, LeaveDialog))
        await pilot.press(*keys)
        await until(pilot, lambda: app._exit == left and len(copied) == kept)
        if not left:
            await idle(pilot)
            assert not isinstance(app.screen, LeaveDialog)
    assert (app.kept is not None) == bool(kept)
    assert not kept or app.kept == copied[0]


async def test_what_stays_or_is_short_is_left_at_once() -> None:
    for temporary, length in ((False, 600), (True, 1)):
        app = app_with([], temporary=temporary)
        async with app.run_test() as pilot:
            await until(pilot, lambda app=app: app.view.snapshot is not None)  # type: ignore[misc]
            end = app.view.span_ns[1] if app.view.span_ns else 0
            app._view = replace(app.view, span_ns=(end - length * 1_000_000_000, end))
            await app.action_quit()
            await until(pilot, lambda app=app: app._exit)  # type: ignore[misc]
            assert not isinstance(app.screen, LeaveDialog)
