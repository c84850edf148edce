"""Causes that are spread over lines or locks: what belongs together is told together."""

from __future__ import annotations

from pathlib import Path

from builders import a_lock, spent
from ftdiag.model import Confidence, LockKind, SharedObject, Snapshot
from unit.rules.scenes import look, named, target, wasting, workers

FIRST = "/srv/app.py:16 encode < /srv/app.py:3 main"
SECOND = "/srv/app.py:18 encode < /srv/app.py:3 main"
ELSEWHERE = "/srv/other.py:18 decode < /srv/app.py:3 main"


def losing(snapshot: Snapshot) -> dict[str, float]:
    return {finding.rule_id: finding.lost_cores for finding in snapshot.findings}


def making(folder: Path, second: str, share: float, shared: tuple[SharedObject, ...] = ()) -> Snapshot:
    """Two lines with contended atomics; at the first, machine code that makes objects of C types."""
    threads = workers(
        2, spent(30, "atomic", at=FIRST), spent(30, "atomic", at=second), spent(40, "work", at=FIRST)
    )
    snapshot = named(look(folder, threads), 16, (("_PyType_AllocNoTrack", 0.05),))
    return named(snapshot, 18, (("_PyType_AllocNoTrack", share),), shared)


def test_a_line_with_a_little_of_it_goes_with_its_function(tmp_path: Path) -> None:
    # GIVEN a function that makes objects of C types, whose second line has a little less of that
    found = losing(making(tmp_path, SECOND, 0.02))

    # THEN both are one cause
    assert set(found) == {"heap-type-churn"}
    assert found["heap-type-churn"] > 1.0


def test_other_lines_stay_what_they_are(tmp_path: Path) -> None:
    # GIVEN the same in another function, next to nothing of it, or an object that the line is known to share
    shared = (SharedObject("TABLE", "list", Confidence.KNOWN),)
    for number, snapshot in enumerate(
        [
            making(tmp_path, ELSEWHERE, 0.02),
            making(tmp_path, SECOND, 0.005),
            making(tmp_path, SECOND, 0.02, shared),
        ]
    ):
        # THEN it is told as references that are counted
        assert "refcount-contention" in losing(snapshot), number


def test_the_dict_of_a_class_goes_with_the_lock_of_all_types(tmp_path: Path) -> None:
    # GIVEN threads that set an attribute of a class: they wait for the lock of all types, and for the dict
    at = "/srv/app.py:17 count < /srv/app.py:3 main"
    types = a_lock("interpreter lock", kind=LockKind.RUNTIME, type_name=None, address=0x5000)
    namespace = a_lock(None, kind=LockKind.OBJECT, type_name="dict", address=0x9000)
    threads = workers(
        4,
        spent(30, "runtime_lock", at=at, lock=types),
        spent(30, "object_lock", at=at, lock=namespace),
        spent(40, "on_cpu", at=at),
    )
    # WHEN judged THEN it is a change of a class, and no dict that threads share
    assert set(losing(look(tmp_path, threads))) == {"class-mutation"}

    # AND alone it is a dict
    alone = workers(4, spent(60, "object_lock", at=at, lock=namespace), spent(40, "on_cpu", at=at))
    assert set(losing(look(tmp_path, alone))) == {"object-lock"}


def test_constants_are_blamed_where_they_cost(tmp_path: Path) -> None:
    # GIVEN threads that contend for counts in a program without bytecode files, on 3.14 and on 3.15
    found = {}
    for version in ("3.14.9", "3.15.1"):
        (tmp_path / version).mkdir()
        of = target(("PYTHONDONTWRITEBYTECODE=1",), python_version=version)
        snapshot = look(tmp_path / version, wasting("atomic", FIRST), of=of)
        found[version] = set(losing(snapshot)), dict(snapshot.not_applicable)

    # THEN constants are the cause where they were measured to be one
    assert found["3.14.9"][0] == {"no-bytecode-cache"}
    assert found["3.15.1"][0] == {"refcount-contention"}
    assert "measured" in found["3.15.1"][1]["no-bytecode-cache"]
