"""Spinning at lines near a lock: the machine code is sampled at other moments than the Python stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builders import RecordingBuilder, Spent, a_target, spent
from ftdiag.model import Confidence, SharedObject, Snapshot
from ftdiag.session import Session
from unit.rules.scenes import named

ENTER = "/srv/cache.py:88 Cache.get < /srv/app.py:10 serve"
NEXT_LINE = "/srv/cache.py:89 Cache.get < /srv/app.py:10 serve"
CALLED = "/srv/cache.py:120 Cache.refresh < /srv/cache.py:91 Cache.get < /srv/app.py:10 serve"
ELSEWHERE = "/srv/index.py:40 Index.search < /srv/app.py:12 serve"


def look(path: Path, *parts: Spent) -> Snapshot:
    """Two threads that spend their time so."""
    threads: dict[str, Sequence[Spent]] = {f"worker-{number}": parts for number in range(2)}
    target = replace(a_target(), capacity_cores=2.0, capacity_reason="all 2 cores of the machine")
    builder = RecordingBuilder(path, target=target)
    for _ in range(5):
        builder.window(threads)
    with builder.end().open() as recording:
        return Session(recording).snapshot()


def test_spinning_beside_a_lock_is_the_lock(tmp_path: Path) -> None:
    # GIVEN threads that park at a `with` and spin at the next line and in what is called from there
    snapshot = look(
        tmp_path / "near.ftdiag",
        spent(10, "lock", at=ENTER, lock="l"),
        spent(20, "spin", at=NEXT_LINE),
        spent(20, "spin", at=CALLED),
        spent(50, "work", at=CALLED),
    )

    # WHEN the rules judge, THEN it is one finding, the lock's, with all of the loss
    assert [finding.rule_id for finding in snapshot.findings] == ["hot-lock"]
    assert snapshot.findings[0].lost_cores > 0.7


def test_spinning_elsewhere_is_not(tmp_path: Path) -> None:
    # GIVEN threads that park at a `with` and spin in another function
    snapshot = look(
        tmp_path / "far.ftdiag",
        spent(10, "lock", at=ENTER, lock="l"),
        spent(40, "spin", at=ELSEWHERE),
        spent(50, "work", at=NEXT_LINE),
    )

    # WHEN the rules judge, THEN the lock that nobody was seen waiting for is another finding
    assert sorted(finding.rule_id for finding in snapshot.findings) == ["hot-lock", "spin-contention"]


def test_counting_the_references_of_a_lock_is_the_lock(tmp_path: Path) -> None:
    # GIVEN threads that seldom park at a `with`, and count references at the next line
    snapshot = look(
        tmp_path / "counted.ftdiag",
        spent(10, "lock", at=ENTER, lock="l"),
        spent(40, "atomic", at=NEXT_LINE),
        spent(50, "work", at=CALLED),
    )
    # WHEN they are those of the lock itself, THEN it is one finding: a copy of a lock would be no lock
    lock = named(snapshot, 89, (), (SharedObject("self._lock", "_thread.RLock", Confidence.KNOWN),))
    assert [finding.rule_id for finding in lock.findings] == ["hot-lock"]
    assert lock.findings[0].lost_cores > 0.7
    # AND when they are those of data, THEN these are a cause of their own
    data = named(snapshot, 89, (), (SharedObject("self._table", "dict", Confidence.KNOWN),))
    assert sorted(finding.rule_id for finding in data.findings) == ["hot-lock", "refcount-contention"]
