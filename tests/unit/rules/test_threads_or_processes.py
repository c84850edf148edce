"""What processes in place of threads would spare and take, by the figures of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import a_reading
from ftdiag.model import Finding, MemoryKind, ProcessCounters, Snapshot
from unit.rules.scenes import look, waiting_for

MIB = 1 << 20


def advice(snapshot: Snapshot) -> Finding:
    (found,) = [each for each in snapshot.findings if each.rule_id == "threads-or-processes"]
    return found


def test_what_threads_own_is_not_copied(tmp_path: Path) -> None:
    # GIVEN a process of 400 MiB whose threads have 10 MiB each of their own, and lose cores to one lock
    threads = waiting_for("self._lock", "lock", "/srv/cache.py:88 Cache.get < /srv/app.py:5 worker")
    own = dict.fromkeys(range(len(threads)), (0, 10 << 10))
    reading = a_reading({MemoryKind.PYTHON_HEAPS: 400}, own)
    snapshot = look(
        tmp_path, threads, memory=reading, process=ProcessCounters(rss_bytes=400 * MIB, threads=5)
    )
    # WHEN two processes are reckoned, one a core
    found = advice(snapshot)
    figures = {each.metric: each.value for each in found.evidence}
    # THEN each has what is shared once, and one thread's own
    working = snapshot.metrics.threads_with_work
    assert figures["per_thread_bytes"] == pytest.approx(10 * MIB)
    assert figures["processes"] == 2
    assert figures["processes_bytes"] == pytest.approx(2 * ((400 - 10 * working) + 10) * MIB)
    assert found.confidence == "likely"
    # AND it claims no core of its own
    assert found.lost_cores == 0


def test_without_a_reading_of_the_memory_it_is_possible_only(tmp_path: Path) -> None:
    threads = waiting_for("self._lock", "lock", "/srv/cache.py:88 Cache.get < /srv/app.py:5 worker")
    snapshot = look(tmp_path, threads, process=ProcessCounters(rss_bytes=400 * MIB, threads=5))
    found = advice(snapshot)
    assert found.confidence == "possible"
    assert {each.metric for each in found.evidence} >= {"rss_bytes", "processes_bytes"}
