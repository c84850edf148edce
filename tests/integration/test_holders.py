"""Who holds a lock: proven in real processes, or said to be unknown; never somebody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.accuracy import Case, Run, claims_of, figures_of
from bench.accuracy import run as run_clocked
from ftdiag.model import NO_HOLDER, Confidence
from ftdiag.recording.reader import Recording
from reading import recordings, until_asleep
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
    # `with` blocks prove their holders; an RLock records its owner, however it was taken; other locks that
    # are not held by `with` have nobody, rather than somebody who is inside a block of another lock.
    nobody = (None, Confidence.UNKNOWN)
    expected: dict[str, tuple[str | None, Confidence]] = {
        f"{name} waiter {number}": (name, Confidence.KNOWN)
        for name, count in PROVEN.items()
        for number in range(count)
    }
    for waiter in UNPROVEN:
        expected[waiter] = nobody if kind == "lock" else (waiter.split()[0], Confidence.KNOWN)
    with running_workload(free_threaded_python.path, str(HOLDERS), kind) as running:
        until_asleep(running.pid)
        unseen = set(expected)
        # WHEN they are sampled
        for recording in recordings(running.pid, tmp_path, 0.4):
            found = holders_of_waiters(recording)
            # THEN it is so at every tick
            for waiter in expected.keys() & found.keys():
                assert set(found[waiter]) == {expected[waiter]}, waiter
            unseen -= found.keys()
            if not unseen:
                break
        else:
            pytest.fail(f"never seen: {unseen}")


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
    # WHEN they are sampled: for longer where little was seen, as on a busy machine, or of short holds, which
    # are mostly waited for without parking
    wrong = ["nothing was recorded"]
    for seconds in (0.8, 3.0, 3.0, 6.0, 6.0, 12.0, 12.0):
        clocked = run_clocked(Path(free_threaded_python.path), case, seconds, tmp_path)
        wrong = list(misses(clocked, case))
        if not wrong:
            break
    # THEN the claims are true
    assert wrong == []


def misses(clocked: Run, case: Case) -> Iterator[str]:
    """What of a recording does not fit what the threads clocked; bench/accuracy.py measures how well."""
    claims, figures = claims_of(clocked), figures_of(clocked, case)
    # Who is blamed had the lock within the tick.
    if not claims.all:
        yield "nobody was seen waiting"
    if claims.wrong > max(1, 0.02 * claims.all):
        yield f"{claims.wrong} of {claims.all} blamed are wrong: {claims.examples}"
    # Most of the time somebody is known; two who are inside an object's lock are nobody.
    if case.kind not in ("list", "dict") and case.hold_us >= 1_000:
        if claims.right + claims.between < 0.7 * claims.all:
            yield f"only {claims.right} + {claims.between} of {claims.all} are known"
        # The waits are those that the threads clocked.
        if figures.parked_error is None or abs(figures.parked_error) >= 0.5:
            yield f"waited for {figures.parked_s} s, said to be {figures.said_parked_s} s"
    # Starting a thread is a wait for a lock of its own (Thread._started).
    if figures.type_right is None or figures.type_right <= 0.9:
        yield f"the types of locks are right in {figures.type_right} only"
