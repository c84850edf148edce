"""Summaries that are made while a recording grows."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

import ftdiag.analysis.ranges
import ftdiag.summing
from builders import RecordingBuilder, spent
from ftdiag.analysis.ranges import Ranges
from ftdiag.recording.additions import put_summaries
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.summing import Summing, sum_up

S = 1_000_000_000


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, looked for all the time."""
    monkeypatch.setattr(ftdiag.analysis.ranges, "BLOCK_WINDOWS", 8)
    monkeypatch.setattr(ftdiag.summing, "FIRST_S", 0.0)
    monkeypatch.setattr(ftdiag.summing, "EVERY_S", 0.001)


def working(builder: RecordingBuilder, windows: int) -> None:
    for number in range(windows):
        line = f"a.py:{number} f"
        builder.window({"w": [spent(5, "on_cpu", at=line), spent(5, "lock", at=line, lock="L", holder="w")]})


def summarised(path: Path) -> list[int]:
    """The ids of the windows that have a summary."""
    with Recording.open(path) as recording:
        return [window for window in recording.window_ids.tolist() if recording.summary_parts(window)]


def test_blocks_are_summed_up_while_the_recording_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a recording that grows while it is summed up
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    working(builder, 3)
    summing = Summing(builder.path)
    working(builder, 22)
    # THEN what is whole has its summary at once: nobody knows how it will end
    deadline = time.monotonic() + 60
    while summarised(builder.path) != [7, 15, 23] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert summarised(builder.path) == [7, 15, 23]
    # WHEN it has ended
    builder.end()
    summing.finish()
    # THEN the rest has one, too, and it opens without its rows
    assert summarised(builder.path) == [7, 15, 23, 25]
    expected = builder.session().snapshot()
    with Recording.open(builder.path) as recording:
        monkeypatch.setattr(Ranges, "_digested", lambda *_: pytest.fail("rows are read"))
        assert Session(recording).snapshot() == expected


def test_what_a_ring_has_dropped_has_no_summary(tmp_path: Path) -> None:
    # GIVEN a ring of 20 seconds whose first blocks were summed up before they were dropped
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, keep_ns=20 * S)
    ended = threading.Event()
    working(builder, 16)
    follower = threading.Thread(target=sum_up, args=(builder.path, ended))
    follower.start()
    working(builder, 24)
    builder.end()
    # WHEN it has ended
    ended.set()
    follower.join(60)
    # THEN blocks that are there have one
    found = summarised(builder.path)
    with Recording.open(builder.path) as recording:
        ids = recording.window_ids.tolist()
        # AND one whose first windows were dropped since is not believed
        expected = Session(recording).snapshot()
    whole = [last for last in (7, 15, 23, 31, 39) if last - 7 >= ids[0]]
    assert [last for last in found if last - 7 >= ids[0]] == [*whole, 40]
    assert expected == builder.session().snapshot()
    # AND one of windows that are gone is not added
    put_summaries(builder.path, ids[0] - 1, ids[-1], {"facts": b"x"})
    assert summarised(builder.path) == found


def test_what_cannot_be_added_leaves_the_recording_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a recording that is gone, or that may not be written to, when it has ended
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    working(builder, 16)
    builder.end()
    before = builder.path.read_bytes()
    monkeypatch.setattr("ftdiag.recording.additions.BUSY_WAIT_S", 0.01)
    monkeypatch.setattr("ftdiag.recording.file.BUSY_WAIT_S", 0.01)
    # WHEN it is summed up while somebody else holds it THEN nothing is said and nothing changed
    database = sqlite3.connect(builder.path, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    summing = Summing(builder.path)
    summing.finish()
    database.close()
    assert builder.path.read_bytes() == before
    # AND one that is not there is no error
    Summing(tmp_path / "none").finish()
