"""A real program whose threads end before a tick sees them: what they do is known all the same.

In: a free-threaded interpreter, and events of cores where the kernel permits them. Out: cores that add up to
the clock of the process, told apart; without permission nothing is said of what they did.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftdiag.launcher import SamplerProcess
from ftdiag.model import ON_CPU_PARTS, CorePart, Snapshot, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.sampling.options import SamplerOptions
from ftdiag.session import Session
from ftdiag.sources.kernel.perfevents import Event, Refused, of_core
from tools.provision.verification import Interpreter
from tools.workloads import running_workload

SECONDS = (2.0, 4.0, 8.0)
FEWEST_UNSEEN = 0.05
"""Cores of threads that end unseen, for there to be something to tell apart."""
CLASSIFIED = 0.97


def cores_may_be_sampled() -> bool:
    """Whether the kernel permits events of cores."""
    core = min(os.sched_getaffinity(0))
    try:
        Event(of_core(core), 1_000_000_000, kernel=True, pages=1).close()
    except Refused:
        return False
    return True


def look(python: Interpreter, path: Path, seconds: float) -> Snapshot:
    """A program with a thread for each request, looked at."""
    with (
        SamplerProcess() as sampler,
        running_workload(python.path, "thread_per_request", "--threads", "2") as running,
    ):
        sampler.spawn()
        sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=seconds))
        sampler.wait_until_started()
        sampler.wait(seconds + 60.0)
        sampler.stop()
    with Recording.open(path) as recording:
        return Session(recording).snapshot()


def test_what_threads_do_that_no_tick_sees(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a program that makes a thread for each small request
    permitted = cores_may_be_sampled()
    told: list[str] = []
    for number, seconds in enumerate(SECONDS):
        # WHEN it is looked at
        metrics = (snapshot := look(free_threaded_python, tmp_path / f"{number}.ftdiag", seconds)).metrics
        unseen = metrics.unseen_threads_cores or 0.0
        parts = metrics.unseen_parts_cores
        told.append(
            f"{unseen:.2f} unseen, {snapshot.quality.classified_cpu_ratio} of all classified: {parts}"
        )
        # THEN whatever was told apart, all adds up to what the process used
        assert sum(parts.values()) == pytest.approx(unseen)
        used = sum(metrics.account[part] for part in ON_CPU_PARTS)
        assert used == pytest.approx(metrics.on_cpu_cores, abs=1e-6)
        if unseen < FEWEST_UNSEEN:
            continue
        if not permitted:
            assert set(parts) == {ThreadState.ON_CPU}
            assert metrics.account[CorePart.UNSEEN_THREADS] > 0
            return
        # AND where cores may be sampled, nearly all of it is told, with the functions of the interpreter
        functions = {name for name, _ in metrics.unseen_functions}
        ratio = snapshot.quality.classified_cpu_ratio or 0.0
        if ratio >= CLASSIFIED and parts.get(ThreadState.WORK, 0.0) > 0:
            assert "_PyEval_EvalFrameDefault" in functions
            return
    pytest.fail("; ".join(told))
