"""A recorder followed for a screen: who is there, who was there last; looks cost a bounded part of a core."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from builders import RecordingBuilder, spent
from ftdiag.errors import RecordingError
from ftdiag.model import Snapshot
from ftdiag.watching.following import Following
from ftdiag.watching.recorder import Recorder
from ftdiag.watching.store import Limits, Store
from ftdiag.watching.targets import Wanted
from ftdiag.watching.watched import Plan
from reading import eventually

PLAN = Plan(5.0, 100.0, 19.0, None, 60.0, 1.0, 1 << 20, (), 60.0)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A thread that works."""
    builder = RecordingBuilder(tmp_path_factory.mktemp("made") / "a.ftdiag", rate_hz=10)
    return builder.window({"a": [spent(10, "work", at="a.py:1 f")]}).end().session().snapshot()


class FakeRecorder:
    """Processes that a test lets come and go."""

    def __init__(self) -> None:
        self.watched: dict[int, Any] = {}
        self.steps = 0
        self.failure: RecordingError | None = None

    def has(self, *pids: int, snapshot: Snapshot | None) -> None:
        """These are there."""
        self.watched = {
            pid: SimpleNamespace(gone=False, snapshot=snapshot, ring=Path(f"/{pid}.ftdiag")) for pid in pids
        }

    def step(self) -> None:
        """Counts."""
        self.steps += 1
        if self.failure is not None:
            raise self.failure


def test_what_was_there_last_is_kept(snapshot: Snapshot) -> None:
    # GIVEN three processes that are seen
    recorder, following = FakeRecorder(), Following()
    recorder.has(1, 2, 3, snapshot=snapshot)
    following.take(cast(Recorder, recorder))
    assert [member.name for member in following.fleet().members] == ["process 1", "process 2", "process 3"]
    assert following.ring("process 2") == Path("/2.ftdiag")

    # WHEN one ends THEN the others are shown
    recorder.has(1, 3, snapshot=snapshot)
    following.take(cast(Recorder, recorder))
    assert [member.name for member in following.fleet().members] == ["process 1", "process 3"]
    assert following.ring("process 2") is None
    assert [following.over] == [False]

    # WHEN the others end THEN they are what was there last
    recorder.watched[1].gone = recorder.watched[3].gone = True
    following.take(cast(Recorder, recorder))
    assert following.over
    assert [member.name for member in following.fleet().members] == ["process 1", "process 3"]
    assert following.ring("process 1") is None

    # WHEN new ones come of which nothing is seen yet THEN it is not over
    recorder.has(7, snapshot=None)
    following.take(cast(Recorder, recorder))
    assert not following.over


def test_it_steps_until_it_is_left_and_keeps_what_ends_it() -> None:
    # GIVEN a recorder that is followed WHEN it fails THEN that is kept for whoever asks; nothing is raised
    recorder, following = FakeRecorder(), Following()
    with following.follow(cast(Recorder, recorder)):
        eventually(lambda: recorder.steps >= 2)
        recorder.failure = RecordingError("the disk is gone", "look for it")
        eventually(lambda: following.failure is not None)
    assert following.failure is recorder.failure
    # AND it is not stepped any more
    steps = recorder.steps
    time.sleep(0.3)
    assert recorder.steps == steps


def test_many_lines_at_once_are_few() -> None:
    following = Following()
    for number in range(60):
        following.say(f"process {number} has ended")
    assert following.words() == [
        "process 40 has ended",
        "process 41 has ended",
        "process 42 has ended",
        "and 17 lines more like these",
    ]
    assert following.words() == []


class CostlyWatched:
    """A process of which a look takes some CPU time."""

    looked: list[int]

    def __init__(self, pid: int, *_: object, **__: object) -> None:
        self.pid = pid
        self.gone = self.foreign = False
        self.snapshot = None
        self.incidents: dict[str, int] = {}
        self.recording_fully = False

    def step(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def look(self) -> list[Any]:
        """Ten milliseconds of work."""
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass
        self.looked.append(self.pid)
        return []


def test_looks_in_turn_take_a_bounded_part_of_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN twenty processes, looks that take 10 ms each, and a tenth of a core for all of them
    CostlyWatched.looked = []
    monkeypatch.setattr(Wanted, "now", lambda _: list(range(1, 21)))
    now = itertools.count()
    recorder = Recorder(
        Wanted(parent=1),
        PLAN,
        Store(tmp_path, Limits(1 << 30, 3600.0)),
        lambda _: None,
        look_every_s=1.0,
        look_share=0.1,
        clock=lambda: next(now) / 100,
        make=cast(Any, CostlyWatched),
    )
    # WHEN it goes on for a time
    while next(now) < 1000:
        recorder.step()
    looked = CostlyWatched.looked
    # THEN looks took a tenth of it: a hundred of 10 ms in ten seconds at most, each process in its turn
    assert 40 <= len(looked) <= 101
    counts = [looked.count(pid) for pid in range(1, 21)]
    assert max(counts) - min(counts) <= 1


def test_few_processes_are_looked_at_as_often_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CostlyWatched.looked = []
    monkeypatch.setattr(Wanted, "now", lambda _: [1, 2])
    clock = {"now": 0.0}
    recorder = Recorder(
        Wanted(parent=1),
        PLAN,
        Store(tmp_path, Limits(1 << 30, 3600.0)),
        lambda _: None,
        look_every_s=1.0,
        look_share=0.5,
        clock=lambda: clock["now"],
        make=cast(Any, CostlyWatched),
    )
    for _ in range(100):
        clock["now"] += 0.1
        recorder.step()
    # THEN each about once a second, no more
    assert 16 <= len(CostlyWatched.looked) <= 20
