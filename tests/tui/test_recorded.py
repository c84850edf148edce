"""The cockpit on real recordings: finished, growing, and not there."""

from __future__ import annotations

from pathlib import Path

from builders import RecordingBuilder, spent
from ftdiag.commands.viewing import RecordingSource
from ftdiag.model import EndReason, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from tui.driving import idle, press, screen_lines, screen_text, until


def cockpit_on(path: Path) -> CockpitApp:
    source = RecordingSource(Session(Recording.open(path)))
    return CockpitApp(source, refresh_seconds=0.02, ascii_only=False, theme=DARK)


def a_second(builder: RecordingBuilder) -> RecordingBuilder:
    return builder.window(
        {
            "main": [spent(100, ThreadState.IDLE, at="main.py:3 main")],
            "worker": [
                spent(60, ThreadState.ON_CPU, at="app.py:10 work"),
                spent(40, ThreadState.LOCK, at="app.py:12 work", lock="self._lock", holder="main"),
            ],
        }
    )


async def test_a_finished_recording_is_shown(tmp_path: Path) -> None:
    # GIVEN a recording that ended
    builder = RecordingBuilder(tmp_path / "one.ftdiag")
    a_second(a_second(builder)).end(EndReason.EXITED, "exit status 0")

    # WHEN the cockpit opens it
    app = cockpit_on(builder.path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await idle(pilot)

        # THEN its threads and lines are there
        assert "ENDED: target exited" in screen_lines(app)[1]
        assert "worker" in screen_text(app)
        assert "on a core 0.6" in screen_text(app)
        await press(pilot, "4")
        assert "app.py:10" in screen_text(app)
        for key in (*"www2vj", "enter", "3", "enter", *"45674mm", "space"):
            await press(pilot, key)
        assert app.view.error is None


async def test_a_recording_is_followed_until_it_ends(tmp_path: Path) -> None:
    # GIVEN a recording of a second
    builder = a_second(RecordingBuilder(tmp_path / "one.ftdiag"))
    app = cockpit_on(builder.path)
    async with app.run_test(size=(120, 40)) as pilot:
        # WHEN it grows
        a_second(builder)
        await until(pilot, lambda: app.view.snapshot is not None)
        await idle(pilot)
        assert "LIVE" in screen_lines(app)[1]
        assert "worker" in screen_text(app)

        # THEN its end is seen
        a_second(builder).end(EndReason.KILLED, "signal 9")
        await until(pilot, lambda: "ENDED: target was killed" in screen_lines(app)[1])
