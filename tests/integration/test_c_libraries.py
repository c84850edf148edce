"""What C code does to threads, on real interpreters: its mutexes, its objects, iterators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import Confidence, LockKind, ThreadState
from ftdiag.session import Session
from reading import cores, prefer, recordings

Workload = Callable[..., int]


def test_a_mutex_of_a_library_has_its_name_and_its_holder(workload: Workload, tmp_path: Path) -> None:
    # GIVEN a C library whose one mutex all threads take
    pid = workload("native_mutex", "--threads", "4")

    # WHEN it is sampled
    seen = None
    for recording in recordings(pid, tmp_path, 1.0):
        snapshot = Session(recording).snapshot()
        locks = [lock for lock in snapshot.locks if lock.lock.kind is LockKind.NATIVE]
        # THEN nothing but that mutex is taken for one, and it has the name of its variable
        assert {lock.lock.type_name for lock in locks} <= {"pthread mutex"}
        assert all((lock.lock.label or "").startswith("plan_cache_lock of fastplan") for lock in locks)
        # AND who is known to have it is one of the threads that take it
        holders = [holder for lock in locks for holder in lock.holders if holder.thread is not None]
        assert {holder.thread.name.partition("-")[0] for holder in holders if holder.thread} <= {"transform"}
        waited = snapshot.metrics.states_ns.get(ThreadState.NATIVE_LOCK, 0.0)
        known = [holder for holder in holders if holder.confidence is Confidence.KNOWN]
        seen = waited, known
        if waited > 0 and known:
            return
    pytest.fail(f"no wait with a known holder: {seen}")


def test_threads_with_caches_of_their_own_wait_for_no_mutex(workload: Workload, tmp_path: Path) -> None:
    # GIVEN the same without the mutex WHEN sampled THEN nobody waits for one
    pid = workload("native_mutex", "--threads", "2", "--fixed")
    recording = next(recordings(pid, tmp_path, 1.0))
    assert not [lock for lock in Session(recording).snapshot().locks if lock.lock.kind is LockKind.NATIVE]


@pytest.mark.parametrize(
    ("name", "type_name"),
    [("extension_singleton", "columns.Missing"), ("shared_iterator", "itertools.count")],
)
def test_what_atomics_work_on_is_named_by_its_type(
    name: str, type_name: str, workload: Workload, tmp_path: Path
) -> None:
    # GIVEN threads that contend for an object which no line of the program names
    pid = workload(name, "--threads", "2")
    prefer(pid)

    # WHEN it is sampled
    seen = None
    for recording in recordings(pid, tmp_path, 2.0, 6 if cores() > 1 else 1):
        if recording.settings.native_missing is not None:
            return
        snapshot = Session(recording).snapshot()
        shared = {one.type_name for line in snapshot.hot for one in line.shared}
        locked = {lock.lock.type_name for lock in snapshot.locks}
        seen = shared, locked
        # THEN its type is told, or that of the lock that is waited for where it has one
        if type_name in shared | locked:
            return
    assert cores() == 1, f"not named: {seen}"
