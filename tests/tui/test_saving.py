"""What the cockpit saves of a real recording that grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.notifications import Notification

from builders import RecordingBuilder, spent
from ftdiag.commands.viewing import RecordingSource, saver
from ftdiag.errors import DiskFull
from ftdiag.model import EndReason, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from ftdiag.tui.saving import Saver
from tui.driving import idle, press, until


def a_second(builder: RecordingBuilder) -> None:
    builder.window({"worker": [spent(100, ThreadState.ON_CPU, at="app.py:10 work")]})


def cockpit_on(path: Path, saves: Saver) -> CockpitApp:
    source = RecordingSource(Session(Recording.open(path)))
    return CockpitApp(source, refresh_seconds=0.02, ascii_only=False, theme=DARK, saver=saves)


def notices(app: CockpitApp) -> list[Notification]:
    return list(app._notifications)


@pytest.fixture
def growing(tmp_path: Path) -> RecordingBuilder:
    """A recording of two seconds that is still written."""
    builder = RecordingBuilder(tmp_path / "live.ftdiag", keep_ns=3600 * 10**9, keep_bytes=1 << 24)
    a_second(builder)
    a_second(builder)
    return builder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


async def test_reports_and_the_recording_are_saved(growing: RecordingBuilder, here: Path) -> None:
    app = cockpit_on(growing.path, saver(growing.path))
    pid = growing.target.pid
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await idle(pilot)

        # WHEN each key is pressed
        await press(pilot, "o", "J", "H", "R")
        await until(pilot, lambda: len(notices(app)) == 4)

        # THEN there is a file of each kind, and the screen says so
        names = {f"ftdiag-{pid}-{rest}" for rest in ("0-2s.txt", "0-2s.json", "0-2s.html", "2s.ftdiag")}
        assert {path.name for path in here.iterdir()} == names
        assert {notice.message for notice in notices(app)} == {f"saved {name}" for name in names}
        assert f"pid {pid}" in (here / f"ftdiag-{pid}-0-2s.txt").read_text()
        assert json.loads((here / f"ftdiag-{pid}-0-2s.json").read_text())["schema"] == "ftdiag-report/1"
        page = (here / f"ftdiag-{pid}-0-2s.html").read_text()
        assert page.startswith("<!DOCTYPE html>")
        assert page.endswith("</html>\n")

        # AND the recording goes on, while its copy stays what it was
        a_second(growing)
        await until(pilot, lambda: app.view.span_ns is not None and _seconds(app.view.span_ns) == 3)
        with Recording.open(here / f"ftdiag-{pid}-2s.ftdiag") as copied:
            assert len(copied) == 2
            assert copied.end is None
        growing.end(EndReason.EXITED, "exit status 0")
        await until(pilot, lambda: not app.view.live)

        # AND so does a copy of the finished one
        await press(pilot, "R")
        await until(pilot, (here / f"ftdiag-{pid}-3s.ftdiag").exists)
        await until(pilot, lambda: any("3s.ftdiag" in notice.message for notice in notices(app)))
        with Recording.open(here / f"ftdiag-{pid}-3s.ftdiag") as copied:
            assert len(copied) == 3
            assert copied.end is not None


def _seconds(span_ns: tuple[int, int]) -> int:
    return (span_ns[1] - span_ns[0]) // 10**9


@pytest.mark.parametrize("key", ["J", "H", "R"])
async def test_a_file_that_is_there_stays(growing: RecordingBuilder, here: Path, key: str) -> None:
    app = cockpit_on(growing.path, saver(growing.path))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await press(pilot, key)
        await until(pilot, lambda: len(notices(app)) == 1)
        (saved,) = here.iterdir()
        saved.write_text("mine")
        await press(pilot, key)
        await until(pilot, lambda: len(notices(app)) == 2)
        assert "exists" in notices(app)[-1].message
        assert notices(app)[-1].severity == "warning"
        assert saved.read_text() == "mine"
    growing.close()


@pytest.mark.parametrize(
    "error", [DiskFull("The disk is full: x.", "Free some space."), OSError("no [b] disk")]
)
async def test_what_cannot_be_saved_is_one_notice(
    growing: RecordingBuilder, here: Path, error: Exception
) -> None:
    def fail(path: Path) -> None:
        raise error

    app = cockpit_on(growing.path, Saver(copy_recording=fail))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await press(pilot, "R")
        await until(pilot, lambda: len(notices(app)) == 1)
        assert "disk" in notices(app)[0].message
        await press(pilot, "J")
        await until(pilot, lambda: len(notices(app)) == 2)
        assert notices(app)[-1].message == "nothing to save here"
    growing.close()


async def test_a_directory_without_permission(
    growing: RecordingBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody may create a file there, root included.
    monkeypatch.chdir("/proc/self")
    app = cockpit_on(growing.path, saver(growing.path))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await press(pilot, "J", "R")
        await until(pilot, lambda: len(notices(app)) == 2)
        assert all(notice.severity == "warning" for notice in notices(app))
        assert {"is not written" in n.message or "cannot be created" in n.message for n in notices(app)} == {
            True
        }
    growing.close()


async def test_a_range_is_exported(growing: RecordingBuilder, here: Path) -> None:
    # GIVEN a cockpit on a recording WHEN an export is chosen in its palette
    app = cockpit_on(growing.path, saver(growing.path))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        (command,) = [each for each in app.get_system_commands(app.screen) if each.title == "Export as pprof"]
        command.callback()
        await until(pilot, lambda: any("saved" in notice.message for notice in notices(app)))

    # THEN it lies in the current directory
    assert [path.name for path in here.glob("*.pb.gz")] == [f"ftdiag-{growing.target.pid}-0-2s.pb.gz"]
    growing.close()
