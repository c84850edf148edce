"""Advice that fits what was asked for: who requests it, the object, the version, the program's own line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builders import Spent, a_lock, spent
from ftdiag.model import (
    Change,
    ChangeKind,
    Confidence,
    Counting,
    Finding,
    Library,
    LockKind,
    ObjectFacts,
    SharedObject,
    Snapshot,
)
from ftdiag.rules import changes_of
from ftdiag.rules.figures import measured
from unit.rules.scenes import LIB, WORK, judged, look, named, target, waiting_for, wasting, workers

RUN_ONCE = f"{LIB}/asyncio/base_events.py:2034 BaseEventLoop._run_once"
FASTAPI = "/venv/lib/python3.14/site-packages/fastapi/routing.py:381 run_endpoint_function"
IDLE_WORKER = spent(
    60, "idle", at=f"{LIB}/concurrent/futures/thread.py:86 _worker", detail="work for the thread pool"
)

TYPE = SharedObject("type", "type", Confidence.KNOWN)


def one_of(snapshot: Snapshot, rule: str) -> Finding:
    """The finding of a rule."""
    return next(each for each in snapshot.findings if each.rule_id == rule)


def loop_threads() -> dict[str, Sequence[Spent]]:
    """A loop that is on a core all the time, in a handler; workers that spin before each wait."""
    at = f"/srv/app.py:120 compute < /srv/app.py:110 index < {FASTAPI} < {RUN_ONCE} < /srv/app.py:7 main"
    library = spent(40, "work", at=f"{FASTAPI} < {RUN_ONCE}")
    spinning = spent(40, "spin", at=f"{LIB}/concurrent/futures/thread.py:86 _worker")
    return {"main": [spent(60, "work", at=at), library], **workers(2, IDLE_WORKER, spinning)}


def test_a_loop_beside_spinning_workers_is_the_program(tmp_path: Path) -> None:
    # GIVEN an event loop that works all the time, beside workers that spin and do nothing
    snapshot = look(tmp_path, loop_threads(), of=target(capacity_cores=4.0))
    # WHEN judged, THEN the loop is the finding, and the line is the program's own inside of it
    finding = next(each for each in snapshot.findings if each.rule_id == "event-loop-bound")
    assert finding.subject["file"] == "/srv/app.py"
    assert finding.subject["line"] == 120


@pytest.mark.parametrize(
    ("busy", "others", "told"),
    [
        pytest.param(97, IDLE_WORKER, True, id="a full loop"),
        pytest.param(80, IDLE_WORKER, False, id="a loop that waits, too"),
        pytest.param(97, spent(60, "work", at=f"/srv/app.py:44 more < {RUN_ONCE}"), False, id="full loops"),
    ],
)
def test_a_loop_that_is_never_idle_limits_workers_that_do_much(
    tmp_path: Path, busy: int, others: Spent, told: bool
) -> None:
    # GIVEN an event loop that is busy all the time, or most of it, and two workers that do nearly as much
    at = f"/srv/app.py:120 handle < {FASTAPI} < {RUN_ONCE} < /srv/app.py:7 main"
    loop = [spent(busy, "work", at=at), spent(100 - busy, "idle", at=RUN_ONCE)]
    worker = [spent(40, "work", at="/srv/app.py:40 compute"), others]
    snapshot = look(tmp_path, {"main": loop, **workers(2, *worker)}, of=target(capacity_cores=4.0))
    # WHEN judged, THEN the full loop is what is told, and that its workers do what it gives them
    found = [each for each in snapshot.findings if each.rule_id == "event-loop-bound"]
    assert bool(found) is told
    assert not found or "the other threads have what it gives them" in found[0].summary


def test_a_loop_without_an_executor_hands_out_no_tasks(tmp_path: Path) -> None:
    # GIVEN an event loop whose own code is hot, and no executor anywhere
    at = f"{LIB}/asyncio/base_events.py:820 BaseEventLoop._call_soon < {RUN_ONCE} < /srv/app.py:7 main"
    snapshot = look(tmp_path, {"main": [spent(70, "work", at=at), spent(30, "idle", at=RUN_ONCE)]})
    # WHEN judged, THEN no finding says that tasks are too small
    assert "executor-tiny-tasks" not in {finding.rule_id for finding in snapshot.findings}


def test_asyncio_run_for_each_call_gets_a_runner(tmp_path: Path) -> None:
    # GIVEN threads that wait for the lock of types below the making of event loops
    made = f"{LIB}/asyncio/events.py:700 new_event_loop < {LIB}/asyncio/runners.py:145 Runner._lazy_init"
    lock = a_lock("type", kind=LockKind.OBJECT, type_name="type")
    threads = waiting_for(lock, "object_lock", f"{made} < /srv/app.py:30 call < /srv/app.py:3 main")
    snapshot = look(tmp_path, threads)
    finding = snapshot.findings[0]
    # WHEN judged, THEN the advice is to keep the loop, as it was measured on this version
    assert "asyncio.run()" in finding.summary
    assert len(finding.remedy) == 1
    assert "asyncio.Runner()" in str(finding.remedy[0].code)
    assert "measured on 3.14" in finding.remedy[0].text
    # AND what it would bring is replayed with what it gained then, at that line
    gain = measured.gain("runner", "kept", (3, 14))
    place = f"{finding.subject['file']}:{finding.subject['line']}"
    assert changes_of(finding, snapshot) == (Change(ChangeKind.REMEDY, place, factor=1.0 / gain),)
    # but nothing is where it was not measured
    unmeasured = replace(finding, remedy=(replace(finding.remedy[0], gain=None),))
    assert "not in the recording" in changes_of(unmeasured, snapshot)


def test_an_object_whose_lock_is_waited_for_is_told_with_its_path(tmp_path: Path) -> None:
    # GIVEN threads that wait for the lock of a list without a name, of which it is known where it is
    lock = a_lock(None, kind=LockKind.OBJECT, type_name="list")
    snapshot = look(tmp_path, waiting_for(lock, "object_lock", WORK))
    facts = ObjectFacts(0x7000, Counting.SHARED, path="app.STATE.rows", made_by="MainThread")
    of = SharedObject("0x700a", "list", Confidence.KNOWN, facts)
    locks = tuple(replace(each, of_object=of) for each in snapshot.locks)
    # WHEN judged, THEN it is called by its path, and it is told who made it and how it is counted
    finding = one_of(judged(replace(snapshot, locks=locks)), "object-lock")
    assert finding.summary.startswith("app.STATE.rows (")
    assert (
        "It is the list at app.STATE.rows; made by MainThread; counted by the others" in finding.explanation
    )


def test_a_cache_is_told_as_one(tmp_path: Path) -> None:
    # GIVEN threads on 3.13 that wait for the own lock of a cached function
    lock = a_lock("price", kind=LockKind.OBJECT, type_name="functools._lru_cache_wrapper")
    threads = waiting_for(lock, "object_lock", WORK)
    finding = look(tmp_path, threads, of=target(python_version="3.13.5")).findings[0]
    # WHEN judged, THEN it is called what it is, and no sketch makes another by its type
    assert finding.rule_id == "object-lock"
    assert "The cache of price()" in finding.summary
    assert "one thread at a time" in finding.explanation
    for remedy in finding.remedy:
        assert "_lru_cache_wrapper" not in f"{remedy.text} {remedy.code}"


def test_a_later_python_is_a_remedy_only_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN figures of a pattern on three versions
    figures = {
        ("p", "shared", series): measured.Measurement(f"{series}.1", scaling, None, None)
        for series, scaling in (("3.13", 0.8), ("3.14", 1.4), ("3.15", 1.9))
    }
    monkeypatch.setattr(measured, "table", lambda: figures)
    # WHEN asked on each, THEN the first later version on which it scales is told, where it does not here
    assert "run on Python 3.15" in measured.newer(("p",), (3, 13))[0].text
    assert measured.newer(("p",), (3, 14)) == ()
    assert measured.newer(("p",), (3, 15)) == ()
    assert measured.newer(("unknown",), (3, 13)) == ()


def test_a_library_is_not_told_to_change_its_lines(tmp_path: Path) -> None:
    # GIVEN threads that wait for a lock in a library's line, called by the program's
    storage = "/venv/lib/python3.14/site-packages/huey/storage.py:822 SqliteStorage.enqueue"
    libraries = (Library("/venv/lib/python3.14/site-packages/huey", "huey", "3.5.4"),)
    threads = waiting_for(a_lock("SqliteStorage.lock"), "lock", f"{storage} < {WORK}")
    finding = look(tmp_path, threads, of=target(libraries=libraries)).findings[0]
    # WHEN judged, THEN nobody is told to do less under it, and the program's own line is named
    assert finding.subject["own_line"] == 10
    assert not any("while" in remedy.text and "held" in remedy.text for remedy in finding.remedy)


def test_an_object_without_a_name_is_not_sketched(tmp_path: Path) -> None:
    # GIVEN contended counts of objects that could not be named
    finding = look(tmp_path, wasting("atomic", WORK)).findings[0]
    # WHEN judged, THEN no sketch is made of a name that nobody has
    assert finding.rule_id == "refcount-contention"
    assert not any("SHARED" in str(remedy.code) for remedy in finding.remedy)


def test_a_list_that_a_c_library_reads_is_not_said_to_be_changed(tmp_path: Path) -> None:
    # GIVEN threads that wait for the own lock of a list, at a line whose machine code is mostly a C library's
    lock = a_lock("DATA", kind=LockKind.OBJECT, type_name="list")
    snapshot = look(tmp_path, waiting_for(lock, "object_lock", WORK))
    native = (("[python3.14t]", 0.4), ("[_pydantic_core.cpython-314t-x86_64-linux-gnu.so]", 0.3))
    finding = named(snapshot, 10, native).findings[0]
    # WHEN judged, THEN the library is named, and nobody is told to merge lists
    assert finding.rule_id == "object-lock"
    assert "give to pydantic_core at the same time" in finding.summary
    assert "tuple" in finding.remedy[0].text
    assert not any("merge" in remedy.text for remedy in finding.remedy)


def test_copys_own_tables_are_told_as_such(tmp_path: Path) -> None:
    # GIVEN threads that count references below copy.deepcopy()
    at = f"{LIB}/copy.py:137 deepcopy < /srv/app.py:30 request < /srv/app.py:3 main"
    (finding,) = [
        each
        for each in look(tmp_path, wasting("atomic", at)).findings
        if each.rule_id == "refcount-contention"
    ]
    # WHEN judged, THEN it is named at the program's line, and nothing that was not measured is offered
    assert "copy's tables" in finding.summary
    assert "request (app.py:30)" in finding.summary
    assert not any("deepcopy(" in str(remedy.code) for remedy in finding.remedy)
    assert not any("make the function" in remedy.text for remedy in finding.remedy)


def test_nothing_is_sketched_with_what_the_line_does_not_name(tmp_path: Path) -> None:
    # GIVEN contended references of a function of NumPy, and of another object of an extension
    wasted = look(tmp_path, wasting("atomic", WORK))
    ufunc = (SharedObject("numpy.ufunc", "numpy.ufunc", Confidence.KNOWN),)
    missing = (SharedObject("columns.Missing", "columns.Missing", Confidence.KNOWN),)

    # WHEN told THEN the first is to be called for many items, the other asked for once; neither is sketched
    first, other = (
        one_of(named(wasted, 10, (("value_at", 0.2),), shared), "extension-singleton").remedy[0]
        for shared in (ufunc, missing)
    )
    assert "many items at once" in first.text
    assert "once in each thread" in other.text
    assert first.code is other.code is None

    # GIVEN arrays of NumPy, whose machine code has functions that are called like those of array.array
    arrays = (("_PyObject_GC_New", 0.2), ("array_dealloc", 0.05), ("PyArray_NewFromDescr_int", 0.1))
    churn = one_of(named(wasted, 10, arrays), "heap-type-churn")
    # WHEN told THEN they are not taken for these
    assert "making NumPy arrays" in churn.summary
    assert "out=" in churn.remedy[0].text
    assert not any("array.array" in (each.code or "") for each in churn.remedy)

    # GIVEN what ctypes makes of arguments, on versions where a function of the thread's own gains or does not
    call = (("_PyObject_GC_New", 0.13), ("PyCArg_dealloc", 0.05), ("_ctypes_callproc", 0.04))
    for version, text in (("3.14.9", "function object of its own"), ("3.13.5", "nothing that is usually")):
        of = target(python_version=version)
        made = named(look(tmp_path, wasting("atomic", WORK), of=of), 10, call, (TYPE,))
        churn = one_of(made, "heap-type-churn")
        # WHEN told THEN nobody is told to make the arguments once
        assert "making arguments of foreign functions" in churn.summary
        assert text in churn.remedy[0].text
        assert not any("class of your own" in each.text for each in churn.remedy)

    # GIVEN that it is known what the atomics there worked on
    known = named(wasted, 10, arrays, ufunc)
    types = named(wasted, 10, arrays, (*ufunc, TYPE))
    # WHEN told THEN making arrays is the cause only where it was a type, which each array counts
    assert [finding.rule_id for finding in known.findings] == ["extension-singleton"]
    assert [finding.rule_id for finding in types.findings] == ["heap-type-churn"]
