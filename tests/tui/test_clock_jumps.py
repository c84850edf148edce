"""A clock that jumps in a recording: the machine slept, the sampler was stopped, the clock went back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from builders import RecordingBuilder, counted, spent
from ftdiag.commands.viewing import RecordingSource
from ftdiag.datatypes import replace
from ftdiag.model import Snapshot, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.reports import html, json, text
from ftdiag.session import Session
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from tui.driving import idle, press, screen_lines, screen_text, until

S = 1_000_000_000
HOUR = 3600 * S


def seconds(builder: RecordingBuilder, count: int) -> RecordingBuilder:
    """So many seconds of a thread that works and one that waits."""
    for _ in range(count):
        builder.window(
            {
                "main": [spent(100, ThreadState.IDLE, at="main.py:3 main")],
                "worker": [
                    spent(60, ThreadState.ON_CPU, at="app.py:10 work"),
                    spent(40, ThreadState.STOPPED, at="app.py:12 work", lock="world", holder="main"),
                ],
            }
        )
    return builder


def slept(path: Path) -> RecordingBuilder:
    """An hour between two windows."""
    return seconds(seconds(RecordingBuilder(path), 10).pause(HOUR), 10)


def stopped(path: Path) -> RecordingBuilder:
    """A window of an hour with the ticks of a second: nobody ran, also not the sampler."""
    builder = seconds(RecordingBuilder(path), 10)
    builder.window(
        {
            "main": [spent(100, ThreadState.IDLE, at="main.py:3 main")],
            "worker": [spent(100, ThreadState.ON_CPU, at="app.py:10 work")],
        },
        counters={"main": counted(alive_ns=HOUR), "worker": counted(alive_ns=HOUR, cpu_ns=S)},
        length_ns=HOUR,
    )
    return seconds(builder, 9)


def went_back(path: Path) -> RecordingBuilder:
    """Five seconds back; what is told of them once more cannot be put anywhere."""
    return seconds(seconds(RecordingBuilder(path), 10).pause(-5 * S), 10)


JUMPS = pytest.mark.parametrize("jump", [slept, stopped, went_back])


@JUMPS
def test_figures_are_of_the_time_that_was_seen(
    tmp_path: Path, jump: Callable[[Path], RecordingBuilder]
) -> None:
    # GIVEN a recording whose clock jumped
    session = jump(tmp_path / "a.ftdiag").end().session()
    snapshot = session.snapshot()
    # THEN every second that can be placed is in it, once
    length = {"slept": 20 * S, "stopped": HOUR + 19 * S, "went_back": 15 * S}[jump.__name__]
    assert snapshot.metrics.duration_ns == length
    for thread in snapshot.threads:
        assert thread.alive_ns == sum(thread.states_ns.values()) == length
    assert bool(any(gap.what == "window" for gap in snapshot.quality.gaps)) is (jump is went_back)
    # AND the time line has the same cores, where there are any
    line = session.timeline(None, None, 50)
    assert line is not None
    slice_ns = (line.t1_ns - line.t0_ns) / len(line.on_cpu_cores)
    seen = [cores for cores in line.on_cpu_cores if cores is not None]
    assert all(0.0 <= cores <= 2.0 for cores in seen)
    if jump is went_back:
        assert sum(seen) * slice_ns == pytest.approx(0.6 * 15 * S, rel=0.05)
    if jump is slept:
        assert len(seen) <= 3
    # AND lanes are as long, and empty where nobody looked
    lanes = session.lanes(None, None, 50)
    assert lanes is not None
    for cells in lanes.states.values():
        assert len(cells) == 50
        assert (0 in cells) is (jump is not went_back)
    # AND the pauses are those of the seconds that were seen
    longest = max((pause.longest_ns for pause in session.pauses()), default=0.0)
    assert longest <= S


@JUMPS
async def test_every_pane_of_a_clock_that_jumped(
    tmp_path: Path, jump: Callable[[Path], RecordingBuilder]
) -> None:
    # GIVEN the cockpit on a finished recording whose clock jumped
    path = jump(tmp_path / "a.ftdiag").end().path
    async with shown(path) as (app, pilot):
        # WHEN every pane and range is looked at
        await press(pilot, "2")
        assert "worker" in screen_text(app)
        for key in (*"v3561w[+", "enter"):
            await press(pilot, key)
            # THEN nothing fails
            assert app.view.error is None


@JUMPS
async def test_a_view_that_follows_goes_on_after_a_jump(
    tmp_path: Path, jump: Callable[[Path], RecordingBuilder]
) -> None:
    # GIVEN a cockpit that follows a recording
    builder = seconds(RecordingBuilder(tmp_path / "a.ftdiag"), 5)
    async with shown(builder.path) as (app, pilot):
        # WHEN the clock jumps while it looks
        before = app.view.snapshot
        assert before is not None
        if jump is slept:
            builder.pause(HOUR)
        elif jump is went_back:
            builder.pause(-3 * S)
        else:
            builder.window({"worker": [spent(100, ThreadState.ON_CPU, at="app.py:10 work")]}, length_ns=HOUR)
        seconds(builder, 8)
        end = builder.now_ns
        await until(pilot, lambda: taken(app).t1_ns == end)
        await idle(pilot)
        # THEN it shows the last minute, of what there is
        assert "LIVE" in screen_lines(app)[1]
        assert app.view.error is None
        length = {"slept": 8 * S, "stopped": HOUR + 8 * S, "went_back": 10 * S}[jump.__name__]
        assert taken(app).metrics.duration_ns == length
        await press(pilot, "2")
        assert "worker" in screen_text(app)
        builder.end()


def taken(app: CockpitApp) -> Snapshot:
    """The picture on the screen."""
    assert app.view.snapshot is not None
    return app.view.snapshot


@asynccontextmanager
async def shown(path: Path) -> AsyncIterator[tuple[CockpitApp, Pilot[None]]]:
    """The cockpit on a recording, with its first data."""
    source = RecordingSource(Session(Recording.open(path)))
    app = CockpitApp(source, refresh_seconds=0.02, ascii_only=False, theme=DARK)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await idle(pilot)
        yield app, pilot


@pytest.mark.parametrize("unix_s", [0, -(10**9), 253_402_300_799, 2**33 * 2**20])
def test_reports_of_a_wrong_wall_clock(tmp_path: Path, unix_s: int) -> None:
    # GIVEN a recording of a machine whose wall clock was never set, or is far off
    snapshot = seconds(RecordingBuilder(tmp_path / "a.ftdiag"), 3).end().session().snapshot()
    expected = list(text.render(snapshot))
    wrong = replace(snapshot, settings=replace(snapshot.settings, started_unix_ns=unix_s * S))
    # WHEN it is reported THEN only the line with the date is another one
    assert sum(one != other for one, other in zip(expected, text.render(wrong), strict=True)) <= 2
    assert html.render(wrong)
    before, after = json.to_report(snapshot), json.to_report(wrong)
    assert {key for key in before if before[key] != after[key]} <= {"window"}
