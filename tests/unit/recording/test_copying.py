"""Copies of recordings: finished, growing, and where there is no room."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ftdiag.errors import DiskFull, RecordingError
from ftdiag.model import End, EndReason
from ftdiag.recording.copying import copy_recording
from ftdiag.recording.reader import Recording
from unit.recording.windows import create, window


def test_a_copy_of_a_recording_that_grows(tmp_path: Path) -> None:
    # GIVEN a ring that is written
    path, first, second = (tmp_path / name for name in ("ring.ftdiag", "first.ftdiag", "second.ftdiag"))
    writer = create(path, keep_ns=3600 * 10**9, keep_bytes=1 << 24)
    for number in range(3):
        writer.write_window(window(writer, number))

    # WHEN it is copied while its writer has it open and a reader follows it
    with Recording.open(path) as original:
        copy_recording(path, first)
        writer.write_window(window(writer, 3))
        original.refresh()
        assert len(original) == 4

    # THEN the copy has what there was, in one private file, and does not say that it ended
    assert first.stat().st_mode & 0o777 == 0o600
    assert not [other for other in tmp_path.iterdir() if other.name.startswith("first.ftdiag-")]
    with Recording.open(first) as copied:
        assert len(copied) == 3
        assert copied.end is None
        assert copied.verify() == ()
        assert not copied.refresh()

    # AND a copy of the finished one has its end
    writer.finish(End(EndReason.EXITED, "exit status 0", 10**10))
    writer.close()
    copy_recording(path, second)
    with Recording.open(second) as copied:
        assert len(copied) == 4
        assert copied.end is not None
        assert copied.end.reason is EndReason.EXITED
        assert copied.verify() == ()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording that nobody writes any more."""
    path = tmp_path / "one.ftdiag"
    writer = create(path)
    writer.write_window(window(writer, 0))
    writer.close()
    return path


def test_nothing_is_overwritten(recording: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.ftdiag"
    there.write_text("mine")
    with pytest.raises(RecordingError, match="exists already"):
        copy_recording(recording, there)
    assert there.read_text() == "mine"


def test_where_nothing_can_be_made(recording: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be created"):
        copy_recording(recording, Path("/proc/copy.ftdiag"))


def test_what_is_no_recording_leaves_no_copy(tmp_path: Path) -> None:
    other, copy = tmp_path / "other", tmp_path / "copy.ftdiag"
    other.write_text("no recording " * 100)
    with pytest.raises(RecordingError, match="not a recording"):
        copy_recording(other, copy)
    assert not copy.exists()


def test_a_full_disk_leaves_no_copy(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a copy that may not grow beyond two pages, which SQLite takes for a full disk
    connect = sqlite3.connect

    def limited(name: str, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(name, **options)
        if "copy.ftdiag" in name:
            database.execute("PRAGMA max_page_count=2").fetchall()
        return database

    monkeypatch.setattr("ftdiag.recording.copying.sqlite3.connect", limited)

    # THEN it says so, and nothing is left
    with pytest.raises(DiskFull, match="disk is full"):
        copy_recording(recording, tmp_path / "copy.ftdiag")
    assert list(tmp_path.glob("copy*")) == []
