"""Capacity, lost cores, concurrency, load balance."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, a_target, counted, spent
from ftdiag.model import ThreadState

MS = 1_000_000


def test_without_native_samples_useful_cores_are_not_measured(tmp_path: Path) -> None:
    # GIVEN kernel states only
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window({"w": [spent(10, "on_cpu")]})
    # WHEN summed up
    snapshot = builder.session().snapshot()
    # THEN useful cores are unknown, with the reason, and the upper bound is there
    assert snapshot.metrics.useful_cores is None
    assert snapshot.metrics.efficiency_ratio is None
    assert snapshot.metrics.on_cpu_cores == 1.0
    assert {"useful_cores", "speedup_now", "efficiency", "classified_cpu_ratio"} <= set(
        snapshot.quality.not_measured
    )


def test_with_native_samples_efficiency_is_useful_by_ideal(tmp_path: Path) -> None:
    # GIVEN two workers, one spinning half of its time, and an idle thread
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"a": [spent(10, "work")], "b": [spent(5, "work"), spent(5, "spin")], "pool": [spent(10, "idle")]}
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN 1.5 of 2 possible cores did work, and spinning cost the rest
    assert metrics.useful_cores == 1.5
    assert metrics.threads_with_work == 2
    assert metrics.ideal_speedup == 2.0
    assert metrics.efficiency_ratio == 0.75
    assert metrics.lost_cores == {ThreadState.RUNNABLE: 0.0, ThreadState.SPIN: 0.5}
    assert metrics.load_balance_ratio == 0.75


def test_lost_cores_are_capped_by_what_was_free(tmp_path: Path) -> None:
    # GIVEN two cores, one of them busy, and nine threads that wait: six for a lock, three for a list
    threads = {"holder": [spent(10, "on_cpu")]}
    threads |= {f"l{i}": [spent(10, "lock", lock="l")] for i in range(6)}
    threads |= {f"o{i}": [spent(10, "object_lock", lock="list")] for i in range(3)}
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0)).window(
        threads
    )
    # WHEN summed up
    lost = builder.session().snapshot().metrics.lost_cores
    # THEN one core is lost, shared in proportion
    assert lost[ThreadState.LOCK] == pytest.approx(2 / 3)
    assert lost[ThreadState.OBJECT_LOCK] == pytest.approx(1 / 3)


def test_loss_counts_only_the_ticks_with_a_free_core(tmp_path: Path) -> None:
    # GIVEN one core; a waiter waits while the core is busy (5 ticks) and while it is free (5 ticks)
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=1.0)).window(
        {
            "busy": [spent(5, "on_cpu"), spent(5, "sleep")],
            "waiter": [spent(10, "lock", lock="l", holder="busy")],
        }
    )
    # WHEN summed up
    snapshot = builder.session().snapshot()
    # THEN half of the wait is lost, and critical
    assert snapshot.metrics.lost_cores[ThreadState.LOCK] == pytest.approx(0.5)
    assert snapshot.locks[0].critical_wait_ns == pytest.approx(500 * MS)


def test_more_busy_threads_than_cores_lose_nothing(tmp_path: Path) -> None:
    # GIVEN two cores and four threads that always run or want to
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0)).window(
        {name: [spent(10, "on_cpu")] for name in "abcd"},
        counters={name: counted(cpu_ns=500 * MS, run_queue_ns=500 * MS) for name in "abcd"},
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN the run queue is full, but no core was lost
    assert metrics.on_cpu_cores == 2.0
    assert metrics.run_queue_cores == 2.0
    assert metrics.lost_cores == {ThreadState.RUNNABLE: 0.0}


def test_other_processes_on_our_cores_are_a_loss(tmp_path: Path) -> None:
    # GIVEN four cores and two threads that got half of the time they wanted
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {name: [spent(10, "on_cpu")] for name in "ab"},
        counters={name: counted(cpu_ns=500 * MS, run_queue_ns=500 * MS) for name in "ab"},
    )
    # WHEN summed up THEN the wait for a core is lost
    assert builder.session().snapshot().metrics.lost_cores[ThreadState.RUNNABLE] == pytest.approx(1.0)


def test_idle_sleep_and_io_are_no_loss(tmp_path: Path) -> None:
    # GIVEN threads that wait for their own reasons WHEN summed up THEN they show, but not as lost
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"a": [spent(10, "idle")], "b": [spent(10, "io", syscall="read")], "c": [spent(10, "sleep")]}
    )
    metrics = builder.session().snapshot().metrics
    assert metrics.lost_cores == {ThreadState.RUNNABLE: 0.0}
    assert metrics.states_ns[ThreadState.IO] == 1000 * MS
    assert metrics.threads_with_work == 0
    assert metrics.load_balance_ratio is None


def test_concurrency_is_the_share_of_ticks_with_k_threads_at_once(tmp_path: Path) -> None:
    # GIVEN 2 ticks with nobody, 3 with one and 5 with two threads on a core
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"a": [spent(2, "idle"), spent(8, "on_cpu")], "b": [spent(5, "idle"), spent(5, "on_cpu")]}
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN that is the histogram, and half of the time was serial
    assert metrics.concurrency == (0.2, 0.3, 0.5)
    assert metrics.serial_share_ratio == 0.5


def test_work_per_wakeup(tmp_path: Path) -> None:
    # GIVEN a second of CPU and a thousand wake-ups WHEN summed up THEN it is a millisecond for each
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {"a": [spent(10, "on_cpu")]}, counters={"a": counted(voluntary_switches=1000)}
    )
    assert builder.session().snapshot().metrics.work_per_wakeup_ns == 1 * MS


@pytest.mark.parametrize("cores", [None, 0.0, -1.0])
def test_unknown_capacity_is_said(tmp_path: Path, cores: float | None) -> None:
    # GIVEN a target whose cores are unknown or nonsense WHEN summed up THEN what needs them is not measured
    target = a_target(capacity_cores=cores, capacity_reason="cannot read the affinity")
    builder = RecordingBuilder(tmp_path / "a", target=target).window({"a": [spent(10, "lock", lock="l")]})
    snapshot = builder.session().snapshot()
    assert snapshot.metrics.capacity_cores is None
    assert snapshot.metrics.lost_cores == {}
    assert snapshot.quality.not_measured["capacity_cores"] == "cannot read the affinity"
    assert "lost_cores" in snapshot.quality.not_measured


def test_empty_windows_measure_nothing(tmp_path: Path) -> None:
    # GIVEN a window without ticks and threads WHEN summed up THEN nothing is invented
    builder = RecordingBuilder(tmp_path / "a").window(length_ns=1000 * MS, ticks=0)
    metrics = builder.session().snapshot().metrics
    assert metrics.concurrency == ()
    assert metrics.serial_share_ratio is None
    assert metrics.duration_ns == 1000 * MS


def test_halted_time_is_a_state_of_its_own_and_no_loss(tmp_path: Path) -> None:
    # GIVEN a worker, one that was stopped from outside, and one that waits for a lock of a C library
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "a": [spent(10, "on_cpu")],
            "b": [spent(4, "on_cpu"), spent(6, "halted")],
            "c": [spent(5, "on_cpu"), spent(5, "native_lock")],
        }
    )
    # WHEN summed up
    metrics = builder.session().snapshot().metrics
    # THEN halted time is shown and not lost; the wait for a lock is both
    assert metrics.states_ns[ThreadState.HALTED] == 600 * MS
    assert ThreadState.HALTED not in metrics.lost_cores
    assert metrics.lost_cores[ThreadState.NATIVE_LOCK] == pytest.approx(0.5)
