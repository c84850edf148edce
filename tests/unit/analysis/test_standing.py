"""What stands at the last tick: found window by window as by a look at all recent windows at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders import RecordingBuilder, a_lock, spent, stands
from ftdiag.analysis.standing import StandingLook
from ftdiag.recording.reader import Recording
from ftdiag.recording.tables import RunColumns
from ftdiag.rules.base import Now
from ftdiag.session import Session
from tools.record_samples import RECORDINGS

LOCK_A, LOCK_B = a_lock("a"), a_lock("b", address=0x7000)
CIRCLE: dict[str, Any] = {
    "alice": [spent(100, "lock", at="bank.py:9 move", lock=LOCK_B, holder="bob")],
    "bob": [spent(100, "lock", at="bank.py:9 move", lock=LOCK_A, holder="alice")],
}
WORKING: dict[str, Any] = {"worker": [spent(100, "on_cpu", at="app.py:3 work")]}
MOVING: dict[str, Any] = {
    "carol": [
        spent(40, "lock", at="bank.py:9 move", lock=LOCK_A, holder="alice"),
        spent(20, "on_cpu", at="bank.py:2 count"),
        spent(40, "lock", at="bank.py:9 move", lock=LOCK_A, holder="alice"),
    ]
}


def expected(session: Session) -> Now:
    """The answer of a new look at all recent windows."""
    found = stands(session)
    return Now(found.edges, found.deadlocks, found.stuck)


def seen(session: Session) -> Now:
    """The answer that rules get."""
    return session._judge.now()


def test_a_growing_recording_is_answered_as_one_that_is_opened_new(tmp_path: Path) -> None:
    # GIVEN threads that come to stand, one that moves on, and one that works, seen window by window
    builder = RecordingBuilder(tmp_path / "r")
    course = (
        [WORKING]
        + [{**CIRCLE, **WORKING, **MOVING}] * 14
        + [{**WORKING, **MOVING}]
        + [{**CIRCLE, **WORKING}] * 4
    )
    session: Session | None = None
    found = []
    for window in course:
        builder.window(window)
        if session is None:
            session = builder.session()
        session.refresh()
        now = seen(session)

        # THEN each look says what a new look at everything says
        assert now == expected(session)
        found.append((len(now.deadlocks), len(now.stuck)))

    # AND the deadlock is there after three seconds, stuck threads after ten, and all is gone when they go on
    assert found[1] == (0, 0)
    assert found[4] == (1, 0)
    assert found[14][1] >= 2
    assert found[15] == (0, 0)
    assert found[-1] == (1, 0)


@pytest.mark.parametrize("name", ["deadlock", "stuck_thread", "hot_lock", "class_assignment", "idle_pool"])
@pytest.mark.parametrize("version", ["3.13t", "3.14t"])
def test_real_recordings_have_the_same_answer(version: str, name: str) -> None:
    # GIVEN a recording WHEN looked at once THEN it is the answer of a look at all its windows
    with Recording.open(RECORDINGS / version / f"{name}.ftdiag") as recording:
        session = Session(recording)
        assert seen(session) == expected(session)


def test_only_windows_in_which_something_stood_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN twenty windows of threads that wait for a lock again and again, then five in which two stand
    builder = RecordingBuilder(tmp_path / "r")
    for _ in range(20):
        builder.window({**MOVING, **WORKING})
    for _ in range(5):
        builder.window({**CIRCLE, **WORKING})
    session = builder.session()
    read: list[int] = []
    samples = Recording.samples

    def noted(self: Recording, position: int) -> RunColumns:
        read.append(position)
        return samples(self, position)

    monkeypatch.setattr(Recording, "samples", noted)

    # WHEN looked at for the first time THEN only those are read, and the one that ends it
    look = StandingLook(session.recording, session._ranges.numbers)
    look.at(0, 25, session._ranges.locks_known(), session._ranges.periods(0, 25))
    assert min(read) == 19

    # WHEN there is one more window THEN only that one is read
    builder.window({**CIRCLE, **WORKING})
    session.refresh()
    read.clear()
    look.at(0, 26, session._ranges.locks_known(), session._ranges.periods(0, 26))
    assert set(read) == {25}
