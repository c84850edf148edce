"""The cockpit on real recordings: finished, growing, and not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ftdiag.analysis.ranges
import ftdiag.tui.base
from builders import RecordingBuilder, spent
from ftdiag.analysis.digests import Digest
from ftdiag.analysis.ranges import Ranges
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


async def test_a_long_recording_is_shown_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a recording of several pieces, of which the second takes its time
    monkeypatch.setattr(ftdiag.tui.base, "FIRST_GLIMPSE_S", 0.0)
    monkeypatch.setattr(ftdiag.analysis.ranges, "CHUNK_WINDOWS", 2)
    builder = RecordingBuilder(tmp_path / "one.ftdiag")
    for _ in range(8):
        a_second(builder)
    builder.end()
    go_on, real = threading.Event(), Ranges._digested

    def slowly(self: Ranges, first: int, last: int, capacity: float | None) -> Digest:
        if first > 0:
            go_on.wait(60)
        return real(self, first, last, capacity)

    monkeypatch.setattr(Ranges, "_digested", slowly)
    # WHEN the cockpit opens it
    app = cockpit_on(builder.path)
    async with app.run_test(size=(120, 40)) as pilot:
        # THEN it shows what is read, says how much that is, and is not done
        await until(pilot, lambda: "of it read" in screen_lines(app)[1])
        assert "12 % of it read" in screen_lines(app)[1]
        assert app.view.snapshot is not None
        assert app.view.snapshot.metrics.duration_ns == 1_000_000_000
        assert not app.settled
        # AND WHEN the rest is read THEN it is what it would have been
        go_on.set()
        await idle(pilot)
        assert "of it read" not in screen_text(app)
        assert app.view.snapshot == Session(Recording.open(builder.path)).snapshot()


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
