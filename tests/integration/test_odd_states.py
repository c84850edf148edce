"""Processes in odd states, told rightly: stopped, traced, frozen; forked in C; without their main thread."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fake_process import Sink
from ftdiag.commands.processes import identify
from ftdiag.model import TORN_STACK, Snapshot, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.sources.kernel.halts import halt_of
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.permissions import Verdict, check_target
from ftdiag.sources.kernel.tasks import has_ended
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import find_runtime
from ftdiag.wording.answer import answer
from reading import SamplerRun, eventually, is_root, named, recorded, thread_state, until_asleep
from tools.workloads import RunningWorkload

Program = Callable[..., RunningWorkload]

# Two threads that wait for each other, and one that works: a deadlock, if nobody keeps them from going on.
DEADLOCKED = """
    import os, threading, time
    first, second, both = threading.Lock(), threading.Lock(), threading.Barrier(2)
    def hold(own, other):
        with own:
            both.wait()
            with other:
                pass
    def work():
        while True:
            sum(range(20_000))
            time.sleep(0.001)
    for target, arguments in ((hold, (first, second)), (hold, (second, first)), (work, ())):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    print("ready", os.getpid(), flush=True)
    time.sleep(1000)
"""
MAIN_ENDS = """
    import ctypes, os, signal, threading, time
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    def work():
        while True:
            sum(range(20_000))
            time.sleep(0.01)
    threading.Thread(target=work, name="stays").start()
    print("ready", os.getpid(), flush=True)
    signal.sigwait({signal.SIGUSR1})
    ctypes.CDLL(None).pthread_exit(0)
"""
FORKED_IN_C = """
    import ctypes, os, threading, time
    def burn():
        while True:
            sum(range(20_000))
            time.sleep(0.001)
    begun = threading.Event()
    def other():
        begun.set()
        time.sleep(1000)
    def fork():
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: end with the parent
            burn()
        print("ready", os.getpid(), flush=True)
        os.waitpid(child, 0)
    threading.Thread(target=other, daemon=True).start()
    begun.wait()
    {how}
    time.sleep(1000)
"""
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


def snapshot_of(recording: Recording) -> Snapshot:
    return Session(recording).snapshot()


@contextmanager
def traced(pid: int) -> Iterator[None]:
    """All threads of a process stopped by a tracer, as a debugger does it: this very thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    for tid in tids:
        assert libc.ptrace(PTRACE_SEIZE, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        assert libc.ptrace(PTRACE_INTERRUPT, tid, None, None) == 0
        os.waitpid(tid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        for tid in tids:
            libc.ptrace(PTRACE_DETACH, tid, None, None)


def assert_all_halted(snapshot: Snapshot, words: str) -> None:
    """No finding, nothing but halted time, and the first line says why."""
    assert snapshot.findings == ()
    assert set(snapshot.metrics.states_ns) == {ThreadState.HALTED}
    assert words in answer(snapshot).sentence


def test_of_a_stopped_program_no_finding_is_made(program: Program, tmp_path: Path) -> None:
    # GIVEN a program in a deadlock, which is stopped by a signal
    pid = program(DEADLOCKED).pid
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: thread_state(pid, pid) == "T")
    # WHEN it is recorded for longer than a deadlock has to stand
    with recorded(pid, tmp_path / "a", 4.0) as recording:
        # THEN it is told as stopped, with the command, and nothing else
        assert_all_halted(snapshot_of(recording), f"stopped by a signal (T; kill -CONT {pid})")
        # AND all threads have the stacks at which they stand
        stacks = {thread.info.name: thread.latest_stack for thread in snapshot_of(recording).threads}
        assert all(stack for name, stack in stacks.items() if name != "MainThread")
    # AND its state is as it was
    assert thread_state(pid, pid) == "T"


def test_a_program_that_is_stopped_while_it_is_looked_at_and_goes_on(
    program: Program, tmp_path: Path
) -> None:
    # GIVEN a program that is looked at
    pid = program(DEADLOCKED).pid
    with SamplerRun(pid=pid, path=str(tmp_path / "a")) as run:
        run.written(2)
        # WHEN it is stopped for a while
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: thread_state(pid, pid) == "T")
        run.written(len_of(run) + 3)
        with Recording.open(run.path) as recording:
            states = {thread.latest_state for thread in snapshot_of(recording).threads}
        os.kill(pid, signal.SIGCONT)
        run.written(len_of(run) + 3)
        said = run.stop()
    # THEN that time is halted, it is said once, and then threads are what they were before
    assert states == {ThreadState.HALTED}
    notes = [event["text"] for event in said.events if event["event"] == "note"]
    assert notes == [f"process {pid} does not run: stopped by a signal (T)\n  kill -CONT {pid}"]
    with Recording.open(run.path) as recording:
        snapshot = snapshot_of(recording)
        assert snapshot.metrics.states_ns[ThreadState.HALTED] > 0
        latest = [thread.latest_state for thread in snapshot.threads]
        assert ThreadState.HALTED not in latest
        assert latest.count(ThreadState.LOCK) == 2
        gaps = [gap.why for gap in snapshot.quality.gaps if gap.what == "windows"]
        assert gaps == [f"stopped by a signal (T; kill -CONT {pid}); no finding is made of them"]


def len_of(run: SamplerRun) -> int:
    with Recording.open(run.path) as recording:
        return len(recording)


def test_a_traced_program_names_its_tracer(program: Program, tmp_path: Path) -> None:
    # GIVEN a program whose threads are all stopped by a tracer
    pid = program(DEADLOCKED).pid
    until_asleep(pid, *(tid for tid in map(int, os.listdir(f"/proc/{pid}/task")) if tid != pid))
    with traced(pid):
        assert thread_state(pid, pid) == "t"
        # WHEN it is recorded, THEN that is what is told, with the pid of the tracer
        with recorded(pid, tmp_path / "a", 2.0) as recording:
            assert_all_halted(snapshot_of(recording), f"traced by {os.getpid()} (")


@contextmanager
def frozen(pid: int) -> Iterator[str]:
    """A process in a frozen cgroup of its own, v2 or v1, until it is left; gives the path of the cgroup."""
    for root, control, freeze, thaw in (
        ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
        ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
        ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
    ):
        folder = Path(root) / f"ftdiag-test-{pid}"
        if not Path(root, "cgroup.procs").exists():
            continue
        folder.mkdir()
        try:
            (folder / "cgroup.procs").write_text(str(pid))
            (folder / control).write_text(freeze)
            try:
                yield f"/{folder.name}"
            finally:
                (folder / control).write_text(thaw)
                (Path(root) / "cgroup.procs").write_text(str(pid))
        finally:
            folder.rmdir()
        return
    pytest.fail("root has no cgroup to freeze here")


def test_a_frozen_program_names_its_cgroup(program: Program, tmp_path: Path) -> None:
    if not is_root():
        return  # only root may freeze; what is read of cgroups is tested without
    # GIVEN a program in a frozen cgroup
    pid = program(DEADLOCKED).pid
    with frozen(pid) as cgroup:
        eventually(lambda: halt_of(pid))
        # WHEN it is recorded, THEN the cgroup is named
        with recorded(pid, tmp_path / "a", 2.0) as recording:
            assert_all_halted(snapshot_of(recording), f"frozen by its cgroup {cgroup}")


def test_list_and_doctor_say_that_a_program_is_stopped(program: Program) -> None:
    pid = program(DEADLOCKED).pid
    assert [check.name for check in check_target(pid) if check.name == "running"] == []
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: thread_state(pid, pid) == "T")
    process = identify(pid)
    assert process is not None
    assert process.attachable
    assert process.remark == f"stopped by a signal (T; kill -CONT {pid})"
    (check,) = [check for check in check_target(pid) if check.name == "running"]
    assert (check.verdict, check.remedy) == (Verdict.LIMITED, f"kill -CONT {pid}")


def test_a_program_whose_main_thread_has_ended_is_shown_fully(program: Program, tmp_path: Path) -> None:
    # GIVEN a program whose main thread has ended by pthread_exit
    pid = program(MAIN_ENDS).pid
    end_main_thread(pid)
    # WHEN it is listed and checked
    process, checks = identify(pid), check_target(pid)
    # THEN it is what it is, and can be attached to
    assert process is not None
    assert process.attachable
    assert process.free_threaded
    assert process.remark == "its main thread has ended, others live on"
    assert all(check.verdict is not Verdict.MISSING for check in checks)
    # AND a recording shows the thread that lives, and no other; that a state was left behind is counted
    with recorded(pid, tmp_path / "a", 2.5) as recording:
        assert set(named(recording)) == {"stays"}
        assert any("work" in frame.function for stack in named(recording)["stays"].stacks for frame in stack)
        gaps = {gap.why: gap.count for gap in snapshot_of(recording).quality.gaps if gap.what == "threads"}
        assert [(count, "pthread_exit" in why) for why, count in gaps.items()] == [(1, True)]
        reading = recording.memory(0, len(recording))
        assert reading


def test_a_main_thread_that_ends_while_it_is_looked_at(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that is looked at
    pid = program(MAIN_ENDS).pid
    with SamplerRun(pid=pid, path=str(tmp_path / "a")) as run:
        run.written(2)
        # WHEN its main thread ends
        end_main_thread(pid)
        run.written(len_of(run) + 3)
        said = run.stop()
    # THEN the look goes on without it
    assert said.events[-1]["reason"] == "stopped"
    with Recording.open(run.path) as recording:
        threads = {thread.info.name: thread for thread in snapshot_of(recording).threads}
        assert threads["MainThread"].info.ended_ns is not None
        assert threads["stays"].latest_state is not None
        assert threads["stays"].latest_stack


@pytest.mark.parametrize("compiled", [True, False])
def test_it_does_not_matter_who_reads_first_after_the_main_thread(program: Program, compiled: bool) -> None:
    # GIVEN a reader that has walked the stacks of a program
    pid = program(MAIN_ENDS).pid
    memory = RemoteMemory(pid)
    runtime = find_runtime(pid, memory)
    reader = InterpreterReader(memory, runtime, Sink(), compiled=compiled)
    threads = reader.threads()
    assert TORN_STACK not in reader.walk(threads)

    # WHEN its main thread ends, and something else than a stack is what is read first
    end_main_thread(pid)
    memory.read_word(runtime.address)

    # THEN stacks are read through the same thread as that was
    stays = [thread for thread in threads if thread.native_id != pid]
    assert stays
    eventually(lambda: TORN_STACK not in reader.walk(stays))


def test_a_thread_that_gave_up_its_memory_is_not_tried_again(program: Program) -> None:
    # GIVEN a program of two threads, and reads that fail as after the end of the one that is read through,
    # which is not told as ended yet
    pid = program(MAIN_ENDS).pid
    eventually(lambda: len(os.listdir(f"/proc/{pid}/task")) >= 2)
    memory = RemoteMemory(pid)

    # WHEN another one is asked for THEN each is given once
    assert memory.take_another_task()
    assert memory.task != pid
    assert not all(memory.take_another_task() for _ in os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize(
    "how", ["fork()", "threading.Thread(target=fork).start()"], ids=["main thread", "worker"]
)
def test_after_a_fork_in_c_the_thread_that_forked_is_pythons(
    how: str, program: Program, tmp_path: Path
) -> None:
    # GIVEN a child that was forked without Python's knowledge, by the main thread or by another one
    source = FORKED_IN_C.replace("{how}", how)
    parent = program(source).pid
    (child,) = children_of(parent)
    # WHEN it is recorded
    with recorded(child, tmp_path / "a", 2.5) as recording:
        # THEN its one thread has Python stacks, and the states of the parent's other threads are counted
        (thread,) = named(recording).values()
        assert thread.info.python
        assert any(frame.function == "burn" for stack in thread.stacks for frame in stack)
        left = [gap.count for gap in snapshot_of(recording).quality.gaps if "fork in C" in gap.why]
        assert left == [1 if how == "fork()" else 2]


def end_main_thread(pid: int) -> None:
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: has_ended(pid, pid))


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in os.listdir(f"/proc/{pid}/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]
