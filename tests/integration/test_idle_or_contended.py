"""What threads wait for: work, each other, the kernel; told apart in real processes."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builders import stands
from ftdiag.analysis.waitgraph import deadlocks
from ftdiag.model import FIRST_STACK_ID, NO_HOLDER, Confidence, Snapshot, Stack, ThreadState, Wait
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from reading import recordings, until_asleep
from tools.provision.verification import Interpreter
from tools.workloads import running_workload

WAITS = Path(__file__).parents[1] / "programs" / "waits.py"

FEWEST_TICKS = 30
IDLE = {
    "condition_wait": "Condition.wait",
    "condition_wait_for": "Condition.wait_for",
    "condition_wait_with_timeout": "Condition.wait",
    "event_wait": "Event.wait",
    "barrier_wait": "Barrier.wait",
    "semaphore_acquire": "Semaphore.acquire",
    "queue_get": "Queue.get",
    "queue_get_with_timeout": "Queue.get",
    "queue_put": "room in a Queue (put)",
    "queue_join": "Queue.join",
    "priority_queue_get": "Queue.get",
    "simple_queue_get": "SimpleQueue.get (orders)",
    "simple_queue_get_with_timeout": "SimpleQueue.get (orders)",
    "thread_join": "Thread.join",
    "thread_join_with_timeout": "Thread.join",
    "future_result": "Future.result",
    "futures_wait": "futures.wait",
    "futures_as_completed": "futures.as_completed",
    "executor_map": "Executor.map",
    "pool_0": "work for the thread pool",
    "timer itself": "a timer",
    "event_loop": "events (asyncio event loop)",
    "selector": "events (selector)",
    "poll_selector": "events (selector)",
    "child_process": "a child process",
}
CONTENDED = {
    "lock": ("_thread.lock", "cache (Cache._lock)"),
    "rlock": ("_thread.RLock", "cache (Cache._lock)"),
    "lock_of_a_part": ("_thread.lock", "Server.cache (Cache._lock)"),
    "lock_by_acquire": ("_thread.lock", "guard"),
    "lock_with_timeout": ("_thread.lock", "guard"),
    "condition": ("_thread.RLock", "changed (Condition._lock)"),
    "condition_with_lock": ("_thread.lock", "changed (Condition._lock)"),
    "condition_notified": ("_thread.RLock", "changed (Condition._lock)"),
    "condition_with_lock_notified": ("_thread.lock", "changed (Condition._lock)"),
    "queue_mutex": ("_thread.lock", "orders (Queue.mutex)"),
    "queue_mutex_of_put": ("_thread.lock", "orders (Queue.mutex)"),
    "logging_handler": ("_thread.RLock", "hdlr (StreamHandler.lock)"),
}
INPUT_OUTPUT = {
    "socket_receive": r"socket 127\.0\.0\.1:\d+",
    "socket_receive_with_timeout": r"socket 127\.0\.0\.1:\d+",
    "socket_accept": r"socket listening on port \d+",
    "unix_socket": r"socket unix",
    "pipe_read": r"pipe",
    "fifo_read": r"/.*/orders\.fifo",
    "file_lock": r"/.*/pid\.lock",
    "poll_call": r"pipe",
}


@dataclass
class Seen:
    """What was seen of one thread, in ticks."""

    states: Counter[ThreadState] = field(default_factory=Counter)
    waits: Counter[Wait | None] = field(default_factory=Counter)
    holders: Counter[tuple[str | None, Confidence]] = field(default_factory=Counter)
    stacks: Counter[Stack] = field(default_factory=Counter)
    python: bool = True

    @property
    def state(self) -> ThreadState:
        """The state of almost all ticks."""
        ((state, ticks),) = self.states.most_common(1)
        assert ticks >= 0.9 * self.states.total(), self.states
        return state

    @property
    def wait(self) -> Wait:
        """The wait of almost all ticks."""
        ((wait, ticks),) = self.waits.most_common(1)
        assert ticks >= 0.9 * self.waits.total(), self.waits
        assert wait is not None
        return wait


@dataclass
class Watched:
    """A recording of the program, read."""

    threads: dict[str, Seen]
    snapshot: Snapshot
    recording: Recording
    session: Session


def seen_in(recording: Recording) -> dict[str, Seen]:
    """Every thread of a recording by its name, without the first window."""
    threads: dict[str, Seen] = {}
    for position in range(1, len(recording)):
        columns = recording.samples(position)
        for row in range(len(columns.thread)):
            info = recording.thread(int(columns.thread[row]))
            thread = threads.setdefault(info.name, Seen(python=info.python))
            ticks = int(columns.ticks[row])
            thread.states[ThreadState(int(columns.state[row]))] += ticks
            thread.waits[recording.wait(int(columns.wait[row]))] += ticks
            holder = int(columns.holder[row])
            name = None if holder == NO_HOLDER else recording.thread(holder - 1).name
            thread.holders[name, Confidence(int(columns.confidence[row]))] += ticks
            if columns.stack[row] >= FIRST_STACK_ID:
                thread.stacks[recording.stack(int(columns.stack[row]))] += ticks
    return threads


@pytest.fixture(scope="module")
def watched(free_threaded_python: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The program of all waits, sampled for a while."""
    with running_workload(free_threaded_python.path, str(WAITS)) as running:
        # The main thread works all the time.
        until_asleep(running.pid, running.pid)
        # Kept: what is left of it would be closed.
        made = recordings(running.pid, tmp_path_factory.mktemp("waits"), 1.6)
        for recording in made:
            seen = seen_in(recording)
            if all(sum(thread.states.values()) >= FEWEST_TICKS for thread in seen.values()) and seen:
                break
        else:
            pytest.fail(f"the sampler took {FEWEST_TICKS} ticks in none of its recordings")
        session = Session(recording)
        yield Watched(seen, session.snapshot(), recording, session)


def test_waiting_for_work_is_idle(watched: Watched) -> None:
    # GIVEN threads in every wait of the standard library for work, a signal or an end
    # WHEN their states are looked at
    found = {name: (watched.threads[name].state, watched.threads[name].wait.detail) for name in IDLE}
    # THEN they are idle, and what they wait for is said
    assert found == {name: (ThreadState.IDLE, words) for name, words in IDLE.items()}


def test_waiting_for_a_lock_is_contention(watched: Watched) -> None:
    # GIVEN threads that want a lock which a sleeping thread holds by `with`
    # WHEN their waits are looked at
    found = {}
    for name in CONTENDED:
        lock = watched.threads[name].wait.lock
        assert lock is not None, name
        found[name] = watched.threads[name].state, lock.type_name, lock.label
    # THEN the lock is named as the program names it
    assert found == {name: (ThreadState.LOCK, *lock) for name, lock in CONTENDED.items()}


def test_holders_that_sleep_are_known(watched: Watched) -> None:
    # GIVEN the same threads
    # WHEN their holders are looked at, THEN each is the thread that sleeps with the lock, and surely so
    for name in CONTENDED:
        ((holder, ticks),) = watched.threads[name].holders.most_common(1)
        assert holder == (f"{name} holder", Confidence.KNOWN)
        assert ticks >= 0.9 * watched.threads[name].holders.total()
        assert {who for who, _ in watched.threads[name].holders} <= {None, f"{name} holder"}
    # AND they are blamed at the line where they sleep
    blamed = {
        holder.thread.name: holder.stack[0].function
        for lock in watched.snapshot.locks
        for holder in lock.holders
        if holder.thread is not None and holder.stack
    }
    assert blamed["lock holder"] == "held_by_another.<locals>.hold"
    assert blamed["condition_notified holder"] == "notified.<locals>.notify"


def test_import_of_another_thread_is_a_runtime_lock(watched: Watched) -> None:
    # GIVEN a thread that imports a module which another one is importing
    thread = watched.threads["importing"]
    # WHEN its wait is looked at, THEN it is the import lock, not idleness and no lock of the program
    assert thread.state is ThreadState.RUNTIME_LOCK
    assert thread.wait.detail == "an import by another thread"


def test_input_and_output_say_on_what(watched: Watched) -> None:
    # GIVEN threads blocked in system calls on descriptors
    # WHEN their waits are looked at, THEN what the descriptor is is said
    for name, pattern in INPUT_OUTPUT.items():
        assert watched.threads[name].state is ThreadState.IO, name
        assert re.fullmatch(pattern, watched.threads[name].wait.detail or ""), name
    assert watched.threads["select_call"].state is ThreadState.IO
    assert watched.threads["sleep"].state is ThreadState.SLEEP


def test_threads_without_python(watched: Watched) -> None:
    # GIVEN a thread that a library made
    thread = watched.threads["blas-worker"]
    # WHEN it is looked at, THEN it has its name of the OS, a state, and no Python
    assert not thread.python
    assert not thread.stacks
    assert thread.state is ThreadState.IDLE
    # AND one that a library has parked until there is something to do is idle as well
    parked = watched.threads["blas-parked"]
    assert not parked.python
    assert (parked.state, parked.wait.detail) == (ThreadState.IDLE, "work for a thread of native code")


def test_a_wait_inside_a_library_has_its_name(watched: Watched) -> None:
    # GIVEN a thread that a library has parked by way of the C library
    thread = watched.threads["inside_a_library"]
    # WHEN it is looked at, THEN it is said which library that is: libffi, which may be inside of ctypes
    if platform.machine() == "x86_64":
        assert thread.state is ThreadState.NATIVE_LOCK
        assert (thread.wait.detail or "").startswith(("libffi", "_ctypes"))


def test_states_add_up(watched: Watched) -> None:
    # GIVEN the accounts of all threads
    # WHEN their states are summed, THEN they are the life of each thread to the nanosecond
    assert len(watched.snapshot.threads) > 60
    for thread in watched.snapshot.threads:
        assert sum(thread.states_ns.values()) == thread.alive_ns, thread.info.name
    # AND hardly anything is unknown
    assert watched.snapshot.quality.unknown_ratio is not None
    assert watched.snapshot.quality.unknown_ratio < 0.02


def test_deadlocks_are_found_with_their_lines(watched: Watched) -> None:
    # GIVEN two pairs of threads that wait for each other, and many that wait for nobody in a cycle
    # WHEN cycles of some age are asked for
    cycles = deadlocks(watched.session.wait_graph(), standing_ns=0.5e9)
    # THEN both are found, each with the lines that wait
    assert sorted(tuple(sorted(edge.waiter.name for edge in cycle)) for cycle in cycles) == [
        ("dead locks 1", "dead locks 2"),
        ("dead rlocks 1", "dead rlocks 2"),
    ]
    for cycle in cycles:
        functions = {edge.waiter.name[-1]: edge.stack[0].function for edge in cycle}
        assert functions == {"1": "dead.<locals>.forwards", "2": "dead.<locals>.backwards"}
        assert all(edge.holder is not None and edge.confidence is Confidence.KNOWN for edge in cycle)
        assert all(edge.holder_stack[0].line is not None for edge in cycle)


def test_stuck_threads_are_found(watched: Watched) -> None:
    # GIVEN the same, while the main thread works
    # WHEN threads that stand still are asked for
    stuck = {each.thread.name for each in stands(watched.session, stuck_ns=0.5e9).stuck}
    # THEN those in lock waits are named, and none that idles, sleeps or waits for the kernel
    assert stuck >= {*CONTENDED, "dead locks 1", "dead rlocks 2"}
    assert not stuck & {*IDLE, *INPUT_OUTPUT, "sleep", "lock holder"}
