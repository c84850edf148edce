"""Spinning at lines near a lock: the machine code is sampled at other moments than the Python stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, Spent, a_lock, a_target, spent
from ftdiag.model import OTHERS_COUNTS, TYPES_LOCK, Confidence, LockKind, SharedObject, Snapshot
from ftdiag.rules import diagnose, facts_of
from ftdiag.session import Session
from unit.rules.scenes import LIB, named

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


def told_at(
    snapshot: Snapshot,
    number: int,
    *,
    spun_for: tuple[str, ...] = (),
    spun_paths: tuple[str | None, ...] = (),
    own_locks: tuple[str, ...] = (),
) -> Snapshot:
    """The snapshot judged again with that known of a line."""
    hot = tuple(
        replace(line, spun_for=spun_for, spun_paths=spun_paths, own_locks=own_locks)
        if line.frame.line == number
        else line
        for line in snapshot.hot
    )
    changed = replace(snapshot, hot=hot)
    return replace(changed, findings=diagnose(facts_of(changed)).findings)


def test_spinning_for_an_object_of_the_kind_that_is_parked_on_is_its_lock(tmp_path: Path) -> None:
    # GIVEN threads that seldom park for an object, and spin for one of that type elsewhere
    snapshot = look(
        tmp_path / "object.ftdiag",
        spent(3, "object_lock", at=ENTER, lock=a_lock(None, kind=LockKind.OBJECT, type_name="index.Engine")),
        spent(40, "spin", at=ELSEWHERE),
        spent(57, "work", at=NEXT_LINE),
    )

    # WHEN the rules judge, THEN it is one finding, the object's
    findings = told_at(snapshot, 40, spun_for=("index.Engine",)).findings
    assert [finding.rule_id for finding in findings] == ["object-lock"]
    assert findings[0].lost_cores > 0.7


def test_spinning_for_the_lock_of_all_types_is_told_as_that(tmp_path: Path) -> None:
    # GIVEN threads that spin for the lock of all types at lines of which none waits for it
    snapshot = look(
        tmp_path / "types.ftdiag", spent(40, "spin", at=ELSEWHERE), spent(60, "work", at=NEXT_LINE)
    )
    # WHEN registers say so, THEN classes are the cause; without, it is a lock that is not known
    assert [finding.rule_id for finding in snapshot.findings] == ["spin-contention"]
    (finding,) = told_at(snapshot, 40, spun_for=(TYPES_LOCK,)).findings
    assert finding.rule_id == "class-mutation"
    assert TYPES_LOCK in finding.summary
    assert finding.lost_cores > 0.7

    # WHEN it is the lock of an object, THEN it is told as that, though nobody was seen parked on it
    (finding,) = told_at(snapshot, 40, spun_for=("index.Engine",)).findings
    assert finding.rule_id == "object-lock"
    assert "an index.Engine" in finding.summary
    assert "wait for it, which they share;" in finding.summary
    assert "index.py:40" in finding.summary
    assert "worker-0 and worker-1" in finding.summary
    assert "Nobody was seen parked on it" in finding.explanation

    # AND it is called as the program does, where that is known
    named = told_at(snapshot, 40, spun_for=("index.Engine",), spun_paths=("app.ENGINE",)).findings[0]
    assert named.summary.startswith("app.ENGINE (index.py:40) costs")

    # GIVEN another lock of the interpreter that is seldom parked on
    lock = a_lock(OTHERS_COUNTS, kind=LockKind.RUNTIME, type_name=None)
    snapshot = look(
        tmp_path / "counts.ftdiag",
        spent(3, "runtime_lock", at=ENTER, lock=lock),
        spent(40, "spin", at=ELSEWHERE),
        spent(57, "work", at=NEXT_LINE),
    )
    # WHEN registers say that it is spun for elsewhere, THEN it is one finding, with all of the loss
    (finding,) = told_at(snapshot, 40, spun_for=(OTHERS_COUNTS,)).findings
    assert finding.rule_id == "hot-lock"
    assert OTHERS_COUNTS in finding.summary
    assert finding.lost_cores > 0.7


def test_who_parks_at_a_line_may_spin_there_for_something_else(tmp_path: Path) -> None:
    # GIVEN threads that seldom park for the lock of all types at a line, and spin there most of the time
    types = a_lock(TYPES_LOCK, kind=LockKind.RUNTIME, type_name=None)
    parts = (
        spent(2, "runtime_lock", at=ELSEWHERE, lock=types),
        spent(40, "spin", at=ELSEWHERE),
        spent(58, "work", at=NEXT_LINE),
    )
    snapshot = look(tmp_path / "types.ftdiag", *parts)
    # WHEN registers say that it is for a dict, and machine code that no class changes, THEN it is the dict's
    looks_up = (("_Py_dict_lookup_threadsafe", 0.4), ("_PyType_LookupRef", 0.1))
    first = told_at(named(snapshot, 40, looks_up), 40, spun_for=("dict",)).findings[0]
    assert (first.rule_id, first.lost_cores > 0.7) == ("object-lock", True)
    # AND where a class is, the dict is the class's; where registers say nothing, it is the lock of all types
    sets = (("type_setattro", 0.2), ("_PyType_LookupRef", 0.1))
    for known in (told_at(named(snapshot, 40, sets), 40, spun_for=("dict",)), snapshot):
        assert known.findings[0].rule_id == "class-mutation"

    # GIVEN a lock of the program there, which registers cannot tell WHEN few samples say otherwise
    lock = (spent(2, "lock", at=ELSEWHERE, lock=a_lock()), *parts[1:])
    snapshot = look(tmp_path / "program.ftdiag", *lock)
    # THEN it is the program's lock
    assert told_at(snapshot, 40, spun_for=("dict",)).findings[0].rule_id == "hot-lock"


PARSE = "/srv/logs.py:9 parse"
CACHE = f"{LIB}/_strptime.py:546 _strptime < {PARSE}"
TABLE = f"{LIB}/locale.py:406 normalize < {LIB}/_strptime.py:529 _strptime < {PARSE}"


def test_what_is_kept_for_the_process_is_one_cause_with_all_its_locks(tmp_path: Path) -> None:
    # GIVEN threads that wait for strptime's lock, and spin for dicts below it that nobody was seen parked on
    cache = a_lock("_cache_lock")
    snapshot = look(
        tmp_path / "strptime.ftdiag",
        spent(5, "lock", at=CACHE, lock=cache),
        spent(30, "spin", at=TABLE),
        spent(65, "work", at=CACHE),
    )
    # WHEN registers tell of the dict, or of nothing, THEN it is one finding with all of the loss
    for spun_for in (("dict",), ()):
        (finding,) = told_at(snapshot, 406, spun_for=spun_for).findings
        assert finding.rule_id == "hot-lock"
        assert finding.lost_cores > 0.6
        assert finding.summary.count("strptime's cache of formats") == 1
        assert (finding.subject["file"], finding.subject["line"]) == ("/srv/logs.py", 9)

    # WHEN nobody was seen parked at all THEN the dict is the process's all the same, and nobody is said to be
    spinning = look(tmp_path / "spun.ftdiag", spent(35, "spin", at=TABLE), spent(65, "work", at=CACHE))
    (finding,) = told_at(spinning, 406, spun_for=("dict",)).findings
    assert finding.rule_id == "hot-lock"
    assert "Nobody was seen parked on it" in finding.explanation
    assert "Threads were seen parked" not in finding.explanation
    assert "fromisoformat" in finding.remedy[0].text


@pytest.mark.parametrize(
    ("label", "elsewhere", "rules"),
    [
        pytest.param(None, CACHE, ["hot-lock"], id="what C code takes on its way there"),
        pytest.param("app.SEEN", CACHE, ["hot-lock", "object-lock"], id="the program's own dict"),
        pytest.param(None, NEXT_LINE, ["hot-lock", "object-lock"], id="a line that does other things"),
    ],
)
def test_a_dict_at_the_line_that_calls_strptime(
    tmp_path: Path, label: str | None, elsewhere: str, rules: list[str]
) -> None:
    # GIVEN threads that wait for a dict at the line that calls strptime, which most of its time is in, or not
    snapshot = look(
        tmp_path / "line.ftdiag",
        spent(5, "lock", at=CACHE, lock=a_lock("_cache_lock")),
        spent(20, "object_lock", at=PARSE, lock=a_lock(label, kind=LockKind.OBJECT, type_name="dict")),
        spent(75, "work", at=elsewhere),
    )
    # THEN it is strptime's cause where it has no name and leads nowhere else
    assert sorted(finding.rule_id for finding in snapshot.findings) == rules
    if rules == ["hot-lock"]:
        assert "_cache_lock" in snapshot.findings[0].summary
        assert "a dict" in snapshot.findings[0].summary


def test_a_thread_that_waits_for_itself(tmp_path: Path) -> None:
    # GIVEN threads of 3.13 that spin for locks of objects that only they have
    snapshot = look(tmp_path / "own.ftdiag", spent(40, "spin", at=ELSEWHERE), spent(60, "work", at=NEXT_LINE))
    old = replace(snapshot, target=replace(snapshot.target, python_version="3.13.5"))

    # WHEN the rules judge, THEN that is what is said, and a later Python is the remedy
    (finding,) = told_at(old, 40, own_locks=("index.Engine",)).findings
    assert finding.rule_id == "spin-contention"
    assert "locks that it holds itself, of objects that only it has (index.Engine)" in finding.summary
    assert "3.14" in finding.remedy[0].text
