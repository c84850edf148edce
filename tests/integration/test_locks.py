"""Locks inside the interpreter: those of objects, pauses of all threads, the GIL; and targets that fork."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import LockKind, LockMetrics, Snapshot, StateGroup, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from reading import named, recordings
from tools.workloads import RunningWorkload, running_workload

Program = Callable[..., RunningWorkload]

OBJECT_LOCKS = """
    import os, random, sys, threading, time
    def numbers():
        for number in range(3):
            until = time.perf_counter() + 0.005
            while time.perf_counter() < until:
                pass
            yield number
    class Slow:
        def __hash__(self):
            return 1
        def __eq__(self, other):
            until = time.perf_counter() + 0.01
            while time.perf_counter() < until:
                pass
            return self is other
    slow, other = Slow(), Slow()
    orders, journal = list(range(300_000)), []
    prices = dict.fromkeys(range(500_000))
    known = {slow}
    def sort_orders():
        while True:
            orders.sort(key=lambda number: -number)
    def extend_journal():
        while True:
            journal.extend(numbers())
            journal.clear()
    def copy_prices():
        while True:
            prices.copy()
            prices[1] = 1
    def drop_other():
        while True:
            known.discard(other)  # (asking takes no lock from 3.15 on)
            known.add(slow)
    function = globals()[sys.argv[1]]
    for number in range(3):
        threading.Thread(target=function, name=f"worker {number}", daemon=True).start()
    print("ready", os.getpid(), flush=True)
    time.sleep(1000)
    """


WORKERS = {"worker 0", "worker 1", "worker 2"}


def states_of(snapshot: Snapshot, name: str) -> Counter[ThreadState]:
    """Time in every state of the threads whose name begins so."""
    total: Counter[ThreadState] = Counter()
    for thread in snapshot.threads:
        assert sum(thread.states_ns.values()) == thread.alive_ns
        if thread.info.name.startswith(name):
            total.update(Counter({state: int(spent) for state, spent in thread.states_ns.items()}))
    return total


def off_cpu(states: Counter[ThreadState]) -> int:
    """Time in known states off the cores, however full the machine is.

    Without what is unknown: the kernel counts a wait for a core when it ends, so the last one is not there.
    """
    return sum(
        spent
        for state, spent in states.items()
        if state.group is StateGroup.OFF_CPU and state is not ThreadState.UNKNOWN
    )


def most_waited_for(snapshot: Snapshot, kind: LockKind) -> LockMetrics | None:
    """The first lock of a kind; `None` if nobody was seen waiting for one."""
    return next((lock for lock in snapshot.locks if lock.lock.kind is kind), None)


def waiters_of(lock: LockMetrics) -> set[str]:
    """The names of the threads that waited for a lock."""
    return {waiter.thread.name for waiter in lock.waiters}


def blamed_for(lock: LockMetrics) -> set[str]:
    """The names of the threads that are said to have held a lock."""
    return {holder.thread.name for holder in lock.holders if holder.thread}


@pytest.mark.parametrize(
    ("function", "type_name", "label"),
    [
        ("sort_orders", "list", "orders"),
        ("extend_journal", "list", "journal"),
        ("copy_prices", "dict", "prices"),
        ("drop_other", "set", "known"),
    ],
)
def test_locks_of_containers_have_their_names(
    function: str, type_name: str, label: str, program: Program, tmp_path: Path
) -> None:
    # GIVEN threads that do long things with one container
    running = program(OBJECT_LOCKS, function)

    # WHEN they are sampled
    locks: list[LockMetrics] = []
    for recording in recordings(running.pid, tmp_path, 0.8):
        locks = [lock for lock in Session(recording).snapshot().locks if lock.lock.kind is LockKind.OBJECT]
        for lock in locks:
            # THEN only those that use it ever wait, and only they are ever blamed
            assert waiters_of(lock) <= WORKERS
            assert blamed_for(lock) <= WORKERS
            assert sum(holder.blame_ns for holder in lock.holders) == pytest.approx(lock.wait_ns)
        # AND they wait for the container's own lock, which has its type and name
        if locks and (locks[0].lock.type_name, locks[0].lock.label) == (type_name, label):
            assert locks[0].waiters_max >= 1
            if label != "prices":
                break
            # AND there is its path, which is looked for in the seconds after it was waited for first
            of = locks[0].of_object
            if of is not None and of.facts is not None and of.facts.path is not None:
                assert (of.type_name, of.facts.path) == (type_name, "__main__.prices")
                break
    else:
        pytest.fail(f"most waited for: {locks[:1]}")


def test_pauses_of_all_threads_are_seen(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that collects a big heap while others compute
    running = program(
        """
        import gc, os, threading, time
        heap = [[number] for number in range(700_000)]
        stamps = [{"a": stamp} for stamp in range(200_000)]
        def compute():
            total = 0
            while True:
                total += 1
        def collect():
            while True:
                gc.collect()
                time.sleep(0.002)  # who stops the world again at once may never let another thread in
        threading.Thread(target=compute, name="computing", daemon=True).start()
        print("ready", os.getpid(), flush=True)
        threading.Thread(target=collect, name="collecting", daemon=True).start()
        time.sleep(1000)
        """
    )
    # WHEN it is sampled
    stopped: Counter[ThreadState] = Counter()
    for recording in recordings(running.pid, tmp_path, 1.0):
        snapshot = Session(recording).snapshot()
        # THEN those who compute were stopped, and who collects was not
        assert states_of(snapshot, "collecting")[ThreadState.STOPPED] == 0
        stopped = states_of(snapshot, "computing")
        if stopped[ThreadState.STOPPED] > max(0.05 * off_cpu(stopped), 2 * stopped[ThreadState.UNKNOWN]):
            break
    else:
        pytest.fail(f"of the thread that computes: {stopped}")


GIL = """
import os, threading, time
def compute():
    total = 0
    while True:
        total += 1
for number in range(3):
    threading.Thread(target=compute, name=f"worker {number}", daemon=True).start()
print("ready", os.getpid(), flush=True)
time.sleep(1000)
"""


def check_gil(python: str | os.PathLike[str], tmp_path: Path, options: tuple[str, ...]) -> None:
    """Threads that compute under a GIL wait for it, and who has it is known."""
    path = tmp_path / "gil.py"
    path.write_text(GIL)
    seen = None
    with running_workload(python, str(path), options=options) as running:
        for recording in recordings(running.pid, tmp_path, 0.8):
            assert recording.target.gil_enabled is True
            snapshot = Session(recording).snapshot()
            states, lock = states_of(snapshot, "worker"), most_waited_for(snapshot, LockKind.GIL)
            # The main thread may have just begun to sleep.
            blamed = blamed_for(lock) if lock else set()
            assert blamed <= {*WORKERS, "MainThread"}
            seen = states, blamed
            # Nobody has it while the next thread is woken and waits for a core: how much of the time that is
            # depends on what else the machine has to do, nine tenths and more where others want every core.
            if (
                blamed & WORKERS
                and states[ThreadState.GIL] > 0.9 * off_cpu(states)
                and states[ThreadState.LOCK] == states[ThreadState.OBJECT_LOCK] == 0
            ):
                assert lock is not None
                assert lock.lock.label == "the GIL"
                break
        else:
            pytest.fail(f"states, and who is blamed: {seen}")


def test_threads_wait_for_the_gil(python_with_gil: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    # GIVEN an interpreter with the GIL: a build that has it, or a free-threaded one that is told to use it
    # WHEN threads compute, THEN they wait for the GIL
    python, options = python_with_gil
    check_gil(python, tmp_path, options)


def test_an_event_loop_with_work_is_not_idle(program: Program, tmp_path: Path) -> None:
    # GIVEN a loop that computes most of the time, and one that has hardly anything to do
    running = program(
        """
        import asyncio, os, threading, time
        async def work(share):
            while True:
                until = time.perf_counter() + 0.01 * share
                while time.perf_counter() < until:
                    pass
                await asyncio.sleep(0.01 * (1 - share))
        for name, share in (("busy", 1.0), ("calm", 0.02)):
            threading.Thread(target=lambda: asyncio.run(work(share)), name=name, daemon=True).start()
            time.sleep(0.1)
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    # WHEN they are sampled
    seen = None
    for recording in recordings(running.pid, tmp_path, 0.8):
        snapshot = Session(recording).snapshot()
        busy, calm = states_of(snapshot, "busy"), states_of(snapshot, "calm")
        seen = busy, calm
        # THEN only the one that waits for events is idle
        if (
            busy[ThreadState.IDLE] < 0.1 * busy.total()
            and calm[ThreadState.IDLE] > 0.95 * off_cpu(calm)
            and calm[ThreadState.IDLE] > 0
        ):
            break
    else:
        pytest.fail(f"busy and calm: {seen}")


def test_consumers_idle_while_the_queue_is_fought_for(program: Program, tmp_path: Path) -> None:
    # GIVEN a queue that is empty most of the time, and one whose mutex somebody keeps
    running = program(
        """
        import os, queue, threading, time
        quiet, kept = queue.Queue(), queue.Queue()
        def consume(jobs):
            while True:
                jobs.get()
        def keep():
            while True:
                with kept.mutex:
                    time.sleep(0.02)
                kept.put(1)
        for number in range(2):
            threading.Thread(target=consume, args=(quiet,), name=f"quiet {number}", daemon=True).start()
            threading.Thread(target=consume, args=(kept,), name=f"kept {number}", daemon=True).start()
        threading.Thread(target=keep, name="keeper", daemon=True).start()
        print("ready", os.getpid(), flush=True)
        while True:
            # Not more often: on a crowded core, threads that were woken spin for a second before they park.
            time.sleep(2)
            quiet.put(1)
        """
    )
    # WHEN they are sampled
    seen = None
    for recording in recordings(running.pid, tmp_path, 0.8):
        snapshot = Session(recording).snapshot()
        quiet, kept = states_of(snapshot, "quiet"), states_of(snapshot, "kept")
        lock = most_waited_for(snapshot, LockKind.USER)
        seen = quiet, kept, lock
        # THEN waiting for jobs is idle, waiting for the mutex is contention
        if (
            lock is not None
            and waiters_of(lock) <= {"keeper", "kept 0", "kept 1"}
            and quiet[ThreadState.IDLE] > 0.95 * off_cpu(quiet)
            and quiet[ThreadState.IDLE] > 0
            and kept[ThreadState.LOCK] > 0.05 * off_cpu(kept)
        ):
            assert lock.lock.label is not None
            assert lock.lock.label.endswith("(Queue.mutex)")
            assert blamed_for(lock) <= {"keeper", "kept 0", "kept 1"}
            break
    else:
        pytest.fail(f"quiet and kept: {seen}")


def test_a_pool_with_and_without_work(program: Program, tmp_path: Path) -> None:
    # GIVEN a pool whose workers compute, and one whose workers have done their work
    running = program(
        """
        import os, time
        from concurrent.futures import ThreadPoolExecutor
        def compute():
            while True:
                pass
        idle = ThreadPoolExecutor(2, thread_name_prefix="idle")
        list(idle.map(time.sleep, [0.05] * 2))
        busy = ThreadPoolExecutor(1, thread_name_prefix="busy")
        busy.submit(compute)
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    # WHEN they are sampled
    seen = None
    for recording in recordings(running.pid, tmp_path, 0.5):
        snapshot = Session(recording).snapshot()
        idle, busy = states_of(snapshot, "idle"), states_of(snapshot, "busy")
        seen = idle, busy
        # THEN only the latter are idle
        if idle[ThreadState.IDLE] > 0.95 * idle.total() > 0 and off_cpu(busy) < 0.1 * busy.total():
            break
    else:
        pytest.fail(f"idle and busy: {seen}")


def test_a_target_that_forks_while_its_locks_are_held(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that forks again and again while its threads fight for a lock
    running = program(
        """
        import os, threading, time, warnings
        warnings.simplefilter("ignore")
        guard = threading.Lock()
        def fight():
            while True:
                with guard:
                    time.sleep(0.002)
        for number in range(4):
            threading.Thread(target=fight, name=f"worker {number}", daemon=True).start()
        print("ready", os.getpid(), flush=True)
        while True:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            time.sleep(0.01)
        """
    )
    # WHEN it is sampled
    lock = None
    for recording in recordings(running.pid, tmp_path, 0.8):
        # THEN the children are no threads of it
        assert set(named(recording)) == {"MainThread", *WORKERS, "worker 3"}
        # AND the lock is named as ever
        lock = most_waited_for(Session(recording).snapshot(), LockKind.USER)
        if lock is not None and lock.lock.label == "guard":
            break
    else:
        pytest.fail(f"most waited for: {lock}")


def test_thousands_of_locks_and_hundreds_of_waiters(program: Program, tmp_path: Path) -> None:
    # GIVEN a new lock for each job, now and then fought for, and a hundred threads that wait for one
    running = program(
        """
        import os, threading, time
        gate = threading.Lock()
        gate.acquire()
        def wait():
            gate.acquire()
        def jobs():
            while True:
                job_lock = threading.Lock()
                started = threading.Event()
                def hold():
                    with job_lock:
                        started.set()
                        time.sleep(0.012)
                helper = threading.Thread(target=hold, daemon=True)
                helper.start()
                started.wait()
                with job_lock:
                    pass
                helper.join()
        for number in range(100):
            threading.Thread(target=wait, name=f"waiter {number}", daemon=True).start()
        threading.Thread(target=jobs, name="jobs", daemon=True).start()
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    # WHEN it is sampled
    seen = None
    for recording in recordings(running.pid, tmp_path, 1.0):
        locks = locks_by_label(recording)
        # THEN each has its name, however often an address is used again: a job's is waited for by one thread
        assert locks.keys() >= {"gate"}
        assert all(waiters_of(lock) == {"jobs"} for lock in locks.get("job_lock", ()))
        # AND all hundred wait for the gate, and nobody is known to hold it
        (gate,) = locks["gate"]
        assert all(name.startswith("waiter ") for name in waiters_of(gate))
        assert blamed_for(gate) == set()
        # A lock that was gone before its name was looked for has none, and is not called anything else.
        assert all(waiters_of(lock) == {"jobs"} for lock in locks.get(None, ()))
        nameless, named = len(locks.get(None, ())), len(locks.get("job_lock", ()))
        seen = gate.waiters_max, nameless, named
        # A busy machine may let the jobs' thread run only when its helper is done with the lock.
        if named > 4 * nameless and gate.waiters_max == 100:
            break
    else:
        pytest.fail(f"threads at the gate, locks of jobs without and with their name: {seen}")


def locks_by_label(recording: Recording) -> dict[str | None, list[LockMetrics]]:
    """The locks that the program made."""
    found: dict[str | None, list[LockMetrics]] = {}
    for lock in Session(recording).snapshot().locks:
        if lock.lock.kind is LockKind.USER:
            found.setdefault(lock.lock.label, []).append(lock)
    return found
