"""Who holds a lock: proven in real processes, or said to be unknown; never somebody else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.accuracy import Case, claims_of, figures_of
from bench.accuracy import run as run_clocked
from ftdiag.model import NO_HOLDER, Confidence
from ftdiag.recording.reader import Recording
from reading import recorded
from tools.provision.verification import Interpreter
from tools.workloads import running_workload

HOLDERS = Path(__file__).parents[1] / "programs" / "holders.py"

# Case -> how many of its locks wait for it with a proven holder.
PROVEN = {
    "plain": 1,
    "nested": 3,
    "in_one_statement": 3,
    "of_callers": 3,
    "in_try": 2,
    "in_except_and_finally": 3,
    "around_try": 1,
    "after_others": 1,
    "in_generator": 2,
    "by_generator_that_is_suspended": 1,
    "in_coroutine": 2,
    "in_async_with": 1,
    "in_class_body": 1,
    "in_comprehension": 1,
    "in_lambda_and_sort": 1,
    "in_many_locals": 1,
    "reading": 1,
    "waiting_for_another": 1,
    "again": 1,
}
UNPROVEN = {
    "by_generator_that_is_suspended waiter 1",
    "in_async_with waiter 1",
    "by_acquire waiter 0",
    "by_acquire_beside_with waiter 0",
    "by_exit_stack waiter 0",
    "by_managed_generator waiter 0",
}


def holders_of_waiters(recording: Recording) -> dict[str, Counter[tuple[str | None, Confidence]]]:
    """Waiter's name -> who was said to hold what it waits for, in ticks."""
    found: dict[str, Counter[tuple[str | None, Confidence]]] = {}
    for position in range(len(recording)):
        columns = recording.samples(position)
        for row in range(len(columns.thread)):
            name = recording.thread(int(columns.thread[row])).name
            if " waiter " not in name:
                continue
            holder = int(columns.holder[row])
            who = None if holder == NO_HOLDER else recording.thread(holder - 1).name
            confidence = Confidence(int(columns.confidence[row]))
            found.setdefault(name, Counter())[who, confidence] += int(columns.ticks[row])
    return found


@pytest.mark.parametrize("kind", ["lock", "rlock", "condition"])
def test_holders_in_every_shape_of_code(kind: str, free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN threads that hold locks in all shapes of code, and one that waits for each lock
    with (
        running_workload(free_threaded_python.path, str(HOLDERS), kind) as running,
        # WHEN they are sampled
        recorded(running.pid, tmp_path / "r", 0.4) as recording,
    ):
        found = holders_of_waiters(recording)
    # THEN `with` blocks prove their holders at every tick
    for name, count in PROVEN.items():
        for number in range(count):
            assert set(found[f"{name} waiter {number}"]) == {(name, Confidence.KNOWN)}, (name, number)
    # AND an RLock records its owner, however it was taken; other locks that are not held by `with` have
    # nobody, rather than somebody who is inside a block of another lock
    for waiter in UNPROVEN:
        holder = (None, Confidence.UNKNOWN) if kind == "lock" else (waiter.split()[0], Confidence.KNOWN)
        assert set(found[waiter]) == {holder}, waiter


@pytest.mark.parametrize(
    ("kind", "threads", "locks", "hold_us"),
    [
        ("lock", 8, 4, 3_000),
        ("lock", 4, 1, 100),
        ("rlock", 8, 4, 3_000),
        ("condition", 8, 2, 3_000),
        ("queue", 8, 2, 3_000),
        ("list", 4, 1, 8_000),
        ("dict", 4, 1, 8_000),
    ],
)
def test_holders_of_locks_that_change_hands(
    kind: str, threads: int, locks: int, hold_us: float, free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN threads that fight for locks and write down when they have them
    case = Case(kind, threads, hold_us, 2_000 if kind in ("list", "dict") else hold_us, locks)
    # WHEN they are sampled
    recorded_run = run_clocked(Path(free_threaded_python.path), case, 0.8, tmp_path)
    claims = claims_of(recorded_run)
    for _ in range(8):
        if claims.all:
            break
        # Short holds are mostly waited for without parking: look for longer.
        recorded_run = run_clocked(Path(free_threaded_python.path), case, 3.0, tmp_path)
        claims = claims_of(recorded_run)
    figures = figures_of(recorded_run, case)
    # THEN who is blamed had the lock within the tick
    assert claims.all > 0
    assert claims.wrong <= max(1, 0.02 * claims.all), claims.examples
    # AND most of the time somebody is known (bench/accuracy.py measures how much);
    # two who are inside an object's lock are nobody
    if kind not in ("list", "dict") and hold_us >= 1_000:
        assert claims.right + claims.between >= 0.7 * claims.all
        # AND the waits are those that the threads clocked
        assert figures.parked_error is not None
        assert abs(figures.parked_error) < 0.5
    # Starting a thread is a wait for a lock of its own (Thread._started).
    assert figures.type_right is not None
    assert figures.type_right > 0.9
