"""The public API on a real process: recorded, and followed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import ftdiag
from reading import eventually

Workload = Callable[..., int]


def test_a_process_is_recorded_and_followed(workload: Workload, tmp_path: Path) -> None:
    # GIVEN a process with threads that wait for a lock
    pid = workload("hot_lock", "--threads", "2")

    # WHEN it is recorded for a moment
    end = ftdiag.record(pid, tmp_path / "app.ftdiag", duration_s=0.5)

    # THEN the file says what was seen, and why it ended
    with ftdiag.open_recording(tmp_path / "app.ftdiag") as recording:
        assert recording.end is not None
        assert recording.end.reason is end.reason
        assert ftdiag.Session(recording).snapshot().target.pid == pid

    # WHEN it is attached to THEN the session gets more from moment to moment
    with ftdiag.attach(pid) as session:
        eventually(lambda: session.refresh() and len(session.recording) > 0)
        assert session.snapshot().threads
        directory = session.recording.path.parent
    # AND nothing is left
    assert not directory.exists()


def test_a_process_that_is_not_there_is_told(tmp_path: Path) -> None:
    # GIVEN no such process WHEN it is to be recorded THEN the error says that, and there is no file
    with pytest.raises(ftdiag.errors.NoSuchProcess):
        ftdiag.record(2**22 - 3, tmp_path / "app.ftdiag", duration_s=1.0)
    assert not (tmp_path / "app.ftdiag").exists()
