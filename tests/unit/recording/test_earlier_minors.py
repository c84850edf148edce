"""Recordings of every minor version of the schema, by the code of its time, open and mean the same."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from ftdiag.model import Library, MemoryKind, OtherProcess, Snapshot, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.recording.schema import SCHEMA_MAJOR, SCHEMA_MINOR
from ftdiag.reports.json import to_report
from ftdiag.session import Session

GOLDEN = Path(__file__).parents[2] / "golden/recordings"
MINORS = range(SCHEMA_MINOR + 1)


def looked_at(minor: int) -> Snapshot:
    """The whole recording of a minor version."""
    with Recording.open(GOLDEN / f"schema-1.{minor}.ftdiag") as recording:
        assert recording.verify() == ()
        return Session(recording).snapshot()


def test_there_is_one_of_every_minor_version() -> None:
    # GIVEN the versions of the schema WHEN looked for THEN each has a file (see tests/golden/README.md)
    assert {path.name for path in GOLDEN.glob("*.ftdiag")} == {f"schema-1.{minor}.ftdiag" for minor in MINORS}
    for minor in MINORS:
        with sqlite3.connect(GOLDEN / f"schema-1.{minor}.ftdiag") as database:
            (said,) = database.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        assert (json.loads(said)["major"], json.loads(said)["minor"]) == (SCHEMA_MAJOR, minor)


@pytest.mark.parametrize("minor", MINORS)
def test_earlier_ones_open_and_say_what_was_written(minor: int) -> None:
    # GIVEN three seconds of two busy threads and an idle one, written by the code of that version
    # WHEN opened
    snapshot = looked_at(minor)
    # THEN nothing is damaged, and threads, time, lock, holder, gaps and end are what was written
    named = {thread.info.name: thread for thread in snapshot.threads}
    assert set(named) >= {"MainThread", "worker-1", "worker-2"}
    assert named["worker-1"].cpu_ns == named["worker-2"].cpu_ns == 1_800_000_000
    assert named["worker-1"].states_ns[ThreadState.LOCK] == 1_200_000_000
    assert named["worker-2"].states_ns[ThreadState.IO] == 1_200_000_000
    assert named["MainThread"].states_ns[ThreadState.IDLE] == 3_000_000_000
    (lock,) = snapshot.locks
    assert lock.wait_ns == 1_200_000_000
    assert [holder.thread.name for holder in lock.holders if holder.thread is not None] == ["worker-2"]
    assert snapshot.hot[0].frame.filename == "/srv/app.py"
    assert snapshot.end is not None
    assert any(gap.why == "it changed while it was read" and gap.count == 6 for gap in snapshot.quality.gaps)
    assert json.loads(json.dumps(to_report(snapshot)))["target"]["pid"] == snapshot.target.pid


@pytest.mark.parametrize("minor", MINORS)
def test_what_a_version_could_not_write_is_missing_and_not_wrong(minor: int) -> None:
    # GIVEN recordings of each version WHEN opened THEN what came later is there from its version on
    snapshot = looked_at(minor)
    shared = {one for line in snapshot.hot for one in line.shared}
    atomic = snapshot.metrics.states_ns.get(ThreadState.ATOMIC, 0.0)
    assert ({one.name for one in shared} == {"CONFIG"}) is (minor >= 1)
    assert (atomic > 0) is (minor >= 1)
    kinds = snapshot.memory.reading.kinds if snapshot.memory.reading is not None else {}
    assert (MemoryKind.PYTHON_HEAPS in kinds) is (minor >= 2)
    states = {state for thread in snapshot.threads for state, time in thread.states_ns.items() if time}
    assert (ThreadState.NATIVE_LOCK in states) is (minor >= 3)
    flask = Library("/srv/lib/python3.14/site-packages/flask", "Flask", "3.0.3")
    assert (flask in snapshot.target.libraries) is (minor >= 4)
    paths = {(one.facts.path, one.facts.made_by) for one in shared if one.facts is not None}
    assert paths == ({("app.CONFIG", "MainThread")} if minor >= 7 else set())
    together = [one.together for one in snapshot.updates] if snapshot.updates is not None else None
    assert together == ([3] if minor >= 7 else None)
    assert (snapshot.collector is not None and snapshot.collector.count == 9) is (minor >= 5)
    unseen = {state.label for state in snapshot.metrics.unseen_parts_cores}
    assert (unseen == {"work", "alloc"}) is (minor >= 9)
    assert (snapshot.metrics.other_processes == (OtherProcess(4711, "cc1", 1_200_000_000),)) is (minor >= 6)
