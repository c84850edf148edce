"""More, deeper and less than anybody has: every pane and report of recordings of unusual sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from builders import RecordingBuilder, a_lock, spent
from ftdiag.commands.viewing import RecordingSource
from ftdiag.model import Frame, LockRef
from ftdiag.recording.reader import Recording
from ftdiag.reports import html, text
from ftdiag.reports import json as json_report
from ftdiag.reports.html_course import course_of
from ftdiag.session import Session
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from tui.driving import idle, screen_lines, until

SIZES: Final = ((200, 60), (20, 5), (1, 1), (120, 40))
MOST_HTML_BYTES: Final = 5_000_000


def many_threads(builder: RecordingBuilder) -> None:
    """2,000 threads that wait for 500 locks of one name."""
    for number in range(2000):
        builder.thread(f"worker-{number}")
    for _ in range(2):
        builder.window(
            {
                f"worker-{number}": [
                    spent(2, "lock", at="app.py:7 pull", lock=one_of_many(number % 500), holder="worker-0")
                    if number
                    else spent(2, "on_cpu", at="app.py:9 work")
                ]
                for number in range(2000)
            }
        )


def one_of_many(number: int) -> LockRef:
    """A lock that is called like all others."""
    return LockRef(0x7F00_0000 + 64 * number, a_lock("x").kind, "_thread.lock", "lock of Target")


def deep_stack(builder: RecordingBuilder) -> None:
    """One thread 4,096 frames deep."""
    stack = tuple(Frame("/srv/deep.py", f"step{number}", number) for number in range(4096, 0, -1))
    builder.window({"main": [spent(5, "on_cpu", at=stack)]})


def nobody(builder: RecordingBuilder) -> None:
    """Windows without a thread."""
    builder.window(ticks=5).window(ticks=0, length_ns=1_000_000)


def one_sample(builder: RecordingBuilder) -> None:
    """One thread at one tick."""
    builder.window({"main": [spent(1, "on_cpu", at="app.py:9 work")]})


@pytest.mark.parametrize("made", [many_threads, deep_stack, nobody, one_sample])
async def test_every_pane_at_every_size(tmp_path: Path, made: Callable[[RecordingBuilder], None]) -> None:
    # GIVEN a finished recording of an unusual size
    builder = RecordingBuilder(tmp_path / "one.ftdiag")
    made(builder)
    builder.end()
    app = CockpitApp(
        RecordingSource(Session(Recording.open(builder.path))),
        refresh_seconds=0.02,
        ascii_only=False,
        theme=DARK,
    )
    # WHEN every pane is looked at, and the terminal gets other sizes meanwhile
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.settled)
        for number, key in enumerate("1234567F"):
            await pilot.resize_terminal(*SIZES[number % 2])
            await pilot.press(key, "down")
        for size in SIZES:
            await pilot.resize_terminal(*size)
        await idle(pilot)
        # THEN nothing failed, and it is still drawn
        assert app.view.error is None
        assert len(screen_lines(app)) == 40
        assert "ENDED" in screen_lines(app)[1]


@pytest.mark.parametrize("made", [many_threads, deep_stack, nobody, one_sample])
def test_every_report(tmp_path: Path, made: Callable[[RecordingBuilder], None]) -> None:
    # GIVEN a finished recording of an unusual size
    builder = RecordingBuilder(tmp_path / "one.ftdiag")
    made(builder)
    session = builder.end().session()
    # WHEN reports are made THEN they are, and of a size that somebody can read
    snapshot = session.with_predictions(session.snapshot())
    lines = list(text.render(snapshot, 80))
    assert 0 < len(lines) < 1000
    assert max(map(len, lines)) <= 80
    page = html.render(snapshot, course_of(session, snapshot.t0_ns, snapshot.t1_ns))
    assert len(page.encode()) < MOST_HTML_BYTES
    assert json.loads(json.dumps(json_report.to_report(snapshot)))["target"]["pid"] == 4100


def test_locks_of_one_name_are_told_apart_and_counted(tmp_path: Path) -> None:
    # GIVEN 500 locks of one name WHEN looked at THEN the longest are told one by one, and the rest together
    builder = RecordingBuilder(tmp_path / "one.ftdiag")
    many_threads(builder)
    locks = builder.end().session().snapshot().locks
    assert len({lock.number for lock in locks}) == len(locks) == 201
    assert locks[-1].lock.label == "300 other locks"
