"""The sampler's process on real targets: exact counters, clean ends, nothing guessed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from ftdiag.model import EndReason, ThreadState
from ftdiag.recording.reader import Recording
from reading import SamplerRun, end_of, eventually, named, recorded, thread_state, totals
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload, running_workload

Start = Callable[..., RunningWorkload]
Program = Callable[..., RunningWorkload]


@pytest.fixture
def one_workload(free_threaded_pythons: tuple[Interpreter, ...]) -> Iterator[Start]:
    """Starts workloads under one interpreter, for what does not depend on its version."""
    with ExitStack() as running:
        python = free_threaded_pythons[0].path
        yield lambda *arguments: running.enter_context(running_workload(python, *arguments))


BUSY = """
    import json, os, sys, threading, time
    clocks = {}
    def burn(share):
        log = clocks[threading.current_thread().name] = []
        while True:
            end = time.perf_counter() + 0.01 * share
            while time.perf_counter() < end:
                pass
            if share < 1:
                time.sleep(0.01 * (1 - share))
            log.append((time.monotonic_ns(), time.thread_time_ns()))
    for share in (1.0, 0.3, 0.05):
        threading.Thread(target=burn, args=(share,), name=f"share {share}", daemon=True).start()
    print("ready", os.getpid(), flush=True)
    while True:
        time.sleep(0.2)
        now = time.monotonic_ns()
        with open(sys.argv[1] + ".new", "w") as out:
            json.dump([now, {name: list(log) for name, log in clocks.items()}], out)
        os.replace(sys.argv[1] + ".new", sys.argv[1])
    """


def own_clocks(path: Path, after_ns: int) -> dict[str, list[tuple[int, int]]]:
    """(time, CPU time so far) of each thread by the target's own clocks, up to a moment and beyond."""

    def written() -> dict[str, list[tuple[int, int]]] | None:
        if not path.exists():
            return None
        at, clocks = json.loads(path.read_text())
        return clocks if at > after_ns + 100_000_000 else None

    return eventually(written)  # type: ignore[no-any-return]


def test_cpu_time_is_that_of_the_target(program: Program, tmp_path: Path) -> None:
    # GIVEN threads that use a core wholly, by a third and hardly, and note how much they used
    clocks = tmp_path / "clocks"
    running = program(BUSY, str(clocks))

    # WHEN they are sampled
    with recorded(running.pid, tmp_path / "r", 2.0) as recording:
        threads = named(recording)
        span = recording.span_ns()

    # THEN each used as much CPU time in the recording's time as its own clock says
    assert span is not None
    for name, log in own_clocks(clocks, span[1]).items():
        times, used = zip(*log, strict=True)
        own_ns = np.interp(span[1], times, used) - np.interp(span[0], times, used)
        assert threads[name].cpu_ns == pytest.approx(own_ns, rel=0.03, abs=15_000_000), name
        assert threads[name].alive_ns == pytest.approx(span[1] - span[0], rel=0.01)
    # AND the one that never sleeps was never seen asleep
    burning = threads["share 1.0"]
    assert burning.states[ThreadState.ON_CPU] > 0.9 * burning.ticks


def test_totals_add_up(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN more busy threads than cores, and idle ones
    running = workload_process("independent_cpu", "--threads", "5")

    # WHEN they are sampled
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r"), duration_s=2.0) as run:
        cpu_before = process_cpu_ns(running.pid)
        assert run.wait().status == 0
        cpu_ns = process_cpu_ns(running.pid) - cpu_before
    with Recording.open(tmp_path / "r") as recording:
        threads = totals(recording)
        span = recording.span_ns()
        ticks = int(recording.tick_counts.sum())

    # THEN CPU time and run-queue time fit into the life of each thread, which is the recording's length
    assert span is not None
    length = span[1] - span[0]
    assert len(threads) == 6
    for thread in threads.values():
        assert thread.alive_ns == pytest.approx(length, rel=0.02)
        assert thread.cpu_ns >= 0
        # The kernel counts a wait for a core when it is over, so part of it may be from before.
        assert thread.cpu_ns + thread.run_queue_ns <= 1.1 * thread.alive_ns + 10_000_000
        assert sum(thread.states.values()) == thread.ticks <= ticks
        assert thread.ticks >= 0.98 * ticks
    # AND all threads together have used what the process has
    assert sum(thread.cpu_ns for thread in threads.values()) == pytest.approx(cpu_ns, rel=0.15, abs=2e8)
    # AND many busy threads on few cores waited for one
    busy = [thread for thread in threads.values() if thread.cpu_ns > length // 20]
    if len(busy) > len(os.sched_getaffinity(0)):
        assert sum(thread.run_queue_ns for thread in busy) > 0.2 * length


def process_cpu_ns(pid: int) -> int:
    """User and system time of a process in all, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def test_threads_come_and_go(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that starts a thread for a third of a second, again and again
    running = program(
        """
        import os, threading, time
        print("ready", os.getpid(), flush=True)
        n = 0
        while True:
            n += 1
            thread = threading.Thread(target=time.sleep, args=(0.3,), name=f"guest {n}")
            thread.start()
            thread.join()
            time.sleep(0.1)
        """
    )

    # WHEN it is sampled
    with recorded(running.pid, tmp_path / "r", 2.5) as recording:
        guests = [thread for thread in totals(recording).values() if not thread.info.main]

    # THEN each guest has its own beginning and end
    assert 4 <= len(guests) <= 8
    whole = [guest for guest in guests if guest.info.started_ns and guest.info.ended_ns]
    assert len(whole) >= 3
    for guest in whole:
        assert guest.info.python
        assert 0.2e9 < guest.alive_ns < 0.45e9
        assert 20 <= guest.ticks <= 45


def test_thread_storm(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN a thousand threads made and joined a second
    running = workload_process("thread_storm")

    # WHEN it is sampled
    with recorded(running.pid, tmp_path / "r", 2.0) as recording:
        threads = totals(recording)
        costs = recording.costs(0, len(recording)).sampler

    # THEN those that lived across a tick are there, and no time is invented
    assert len(threads) > 1
    assert all(thread.alive_ns >= 0 for thread in threads.values())
    assert all(thread.cpu_ns <= thread.alive_ns + 10_000_000 for thread in threads.values())
    assert sum(cost.ticks for cost in costs) > 100


def test_process_that_exits(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that ends by itself, with a status
    running = program(
        """
        import os, sys, time
        print("ready", os.getpid(), flush=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        sys.exit(7)
        """,
        str(tmp_path / "enough"),
    )

    # WHEN it is sampled without a limit
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        time.sleep(0.7)
        (tmp_path / "enough").touch()
        said = run.wait()

    # THEN the end and its reason are said, and the recording has them
    assert said.status == 0, said
    assert said.events[-1]["event"] == "ended"
    with Recording.open(tmp_path / "r") as recording:
        assert end_of(recording).reason in (EndReason.EXITED, EndReason.VANISHED)
        if end_of(recording).reason is EndReason.EXITED:
            assert "7" in end_of(recording).detail
        assert 0.5e9 < recording.t1_ns[-1] - recording.t0_ns[0] < 3e9


def test_process_that_is_killed(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN a sampler at work
    running = workload_process("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        time.sleep(0.6)

        # WHEN its target is killed
        running.process.kill()
        said = run.wait()

    # THEN the signal is said
    assert said.status == 0
    assert said.events[-1]["reason"] in ("killed", "vanished")
    if said.events[-1]["reason"] == "killed":
        assert "SIGKILL" in said.events[-1]["detail"]
    with Recording.open(tmp_path / "r") as recording:
        assert recording.verify() == ()
        assert len(recording) >= 1


def test_process_that_replaces_itself(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that soon becomes another one
    running = program(
        """
        import os, sys, time, threading
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        print("ready", os.getpid(), flush=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        os.execv("/bin/sleep", ["sleep", "30"])
        """,
        str(tmp_path / "enough"),
    )

    # WHEN it is sampled
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        time.sleep(0.5)
        (tmp_path / "enough").touch()
        said = run.wait()

    # THEN that is the end, and the new program is named
    assert said.events[-1]["reason"] == "execed", said
    assert "sleep 30" in said.events[-1]["detail"]


def test_python_that_becomes_another_python(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that restarts itself, as servers do
    running = program(
        """
        import os, sys, time
        if sys.argv[1] == "again":
            time.sleep(60)
        print("ready", os.getpid(), flush=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        os.execv(sys.executable, [sys.executable, __file__, "again"])
        """,
        str(tmp_path / "enough"),
    )

    # WHEN it is sampled
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        time.sleep(0.5)
        (tmp_path / "enough").touch()
        said = run.wait()

    # THEN it is not taken for the same program
    assert said.events[-1]["reason"] == "execed", said


def test_stopped_and_continued(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a sampled process
    running = one_workload("independent_cpu", "--threads", "2")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r"), duration_s=2.5) as run:
        # WHEN it is stopped for a second by a signal and continued
        time.sleep(0.6)
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        running.process.send_signal(signal.SIGCONT)
        said = run.wait()

    # THEN sampling goes on to its end, and the stop is no CPU time
    assert said.status == 0, said
    assert said.events[-1]["reason"] == "duration"
    with Recording.open(tmp_path / "r") as recording:
        for thread in totals(recording).values():
            assert thread.cpu_ns <= thread.alive_ns - 0.8e9
            assert thread.alive_ns > 2e9


def test_process_that_forks(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that forks children all the time
    running = program(
        """
        import os, subprocess, sys, time
        print("ready", os.getpid(), flush=True)
        while True:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            time.sleep(0.01)
        """
    )

    # WHEN it is sampled, THEN only its own thread is in the recording
    with recorded(running.pid, tmp_path / "r", 1.0) as recording:
        threads = totals(recording)
    assert [thread.info.tid for thread in threads.values()] == [running.pid]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.4])
def test_duration(one_workload: Start, tmp_path: Path, seconds: float) -> None:
    # GIVEN a process
    running = one_workload("io_wait")

    # WHEN it is sampled for so long
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r"), duration_s=seconds) as run:
        start = time.monotonic()
        assert run.wait().status == 0
        taken = time.monotonic() - start
    with Recording.open(tmp_path / "r") as recording:
        span = recording.span_ns()

    # THEN the recording is so long, and the sampler is gone soon after
    assert span is not None
    assert (span[1] - span[0]) / 1e9 == pytest.approx(seconds, abs=0.1)
    assert taken < seconds + 3
    assert end_of(recording).reason is EndReason.DURATION


def test_rate(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a process, WHEN it is sampled at other rates, THEN so many ticks are taken
    running = one_workload("io_wait")
    for rate, expected in ((10, 10), (250, 250)):
        with recorded(running.pid, tmp_path / f"r{rate}", 1.0, rate_hz=rate) as recording:
            assert recording.settings.rate_hz == rate
            costs = recording.costs(0, len(recording)).sampler
        done = sum(cost.ticks + cost.missed_ticks for cost in costs)
        assert done == pytest.approx(expected, abs=2 + 0.02 * expected)


@pytest.mark.parametrize("option", [{"rate_hz": 0}, {"rate_hz": -5}, {"rate_hz": 1e9}, {"duration_s": 0}])
def test_senseless_options_are_refused(tmp_path: Path, option: dict[str, float]) -> None:
    # GIVEN a rate or duration that makes no sense
    # WHEN a sampler is started with it
    with SamplerRun(pid=os.getpid(), path=str(tmp_path / "r"), **option) as run:
        said = run.wait()

    # THEN it says so, with the status of a usage error, and makes no file
    assert said.status == 2
    assert said.events[0]["kind"] == "UsageError"
    assert "not possible" in said.events[0]["what"]
    assert said.stderr == ""
    assert not (tmp_path / "r").exists()


def test_sampler_that_is_held_up_counts_what_it_missed(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a sampler at work
    running = one_workload("independent_cpu", "--threads", "2")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r"), duration_s=2.5) as run:
        # WHEN it is stopped itself for a second
        time.sleep(0.6)
        os.kill(run.process.pid, signal.SIGSTOP)
        eventually(lambda: thread_state(run.process.pid, run.process.pid) == "T")
        time.sleep(1)
        os.kill(run.process.pid, signal.SIGCONT)
        assert run.wait().status == 0

    # THEN the ticks of that second are missed, and counters have none of it lost
    with Recording.open(tmp_path / "r") as recording:
        costs = recording.costs(0, len(recording)).sampler
        missed = sum(cost.missed_ticks for cost in costs)
        assert 85 <= missed <= 130
        assert any(cost.late_ticks for cost in costs)
        assert missed + sum(cost.ticks for cost in costs) == pytest.approx(250, abs=8)
        for thread in totals(recording).values():
            assert thread.alive_ns == pytest.approx(2.5e9, rel=0.05)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None], ids=["term", "int", "stdin closed"])
def test_asked_to_end(one_workload: Start, tmp_path: Path, how: signal.Signals | None) -> None:
    # GIVEN a sampler in the middle of a window
    running = one_workload("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        time.sleep(0.7)

        # WHEN it is asked to end
        start = time.monotonic()
        said = run.stop(how)

    # THEN it ends at once, in order, and all it saw is in one file
    assert time.monotonic() - start < 5
    assert said.status == 0
    assert said.stderr == ""
    assert said.events[-1]["reason"] == "stopped"
    assert os.listdir(tmp_path) == ["r"] or sorted(os.listdir(tmp_path)) == ["program.py", "r"]
    with Recording.open(tmp_path / "r") as recording:
        assert recording.verify() == ()
        assert end_of(recording).reason is EndReason.STOPPED
        assert (recording.t1_ns[-1] - recording.t0_ns[0]) / 1e9 > 0.2


def test_sampler_that_is_killed_loses_the_open_window_only(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a sampler that has worked for a while
    running = one_workload("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        time.sleep(2.5)

        # WHEN it is killed
        run.process.kill()
        run.process.wait()

    # THEN the file opens, and all but the last second is there
    with Recording.open(tmp_path / "r") as recording:
        assert recording.end is None
        assert recording.verify() == ()
        assert (recording.t1_ns[-1] - recording.t0_ns[0]) / 1e9 > 1.0


def test_existing_file_is_not_overwritten(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a file that is there
    running = one_workload("io_wait")
    path = tmp_path / "precious"
    path.write_text("mine")

    # WHEN it is to be recorded to
    with SamplerRun(pid=running.pid, path=str(path), duration_s=0.3) as run:
        said = run.wait()

    # THEN that is refused
    assert said.status == 3
    assert said.events[0]["kind"] == "RecordingError"
    assert path.read_text() == "mine"


def test_threads_that_are_not_python(program: Program, tmp_path: Path) -> None:
    # GIVEN threads that C code made, and that never run Python
    running = program(
        """
        import ctypes, os, time
        libc = ctypes.CDLL(None)
        for name in (b"native-one", b"native-two"):
            thread = ctypes.c_ulong()
            libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)
            libc.pthread_setname_np(thread, name)
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )

    # WHEN the process is sampled
    with recorded(running.pid, tmp_path / "r", 1.0) as recording:
        threads = named(recording)

    # THEN they are there by their OS names, without a stack, waiting for a signal
    for name in ("native-one", "native-two"):
        assert not threads[name].info.python
        assert not threads[name].stacks
        assert set(threads[name].states) == {ThreadState.IDLE}
    # AND the main thread, which no `threading` module has given a name, is Python's
    (main,) = [thread for thread in threads.values() if thread.info.main]
    assert main.info.python
    assert main.stacks


def test_hot_lines(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN threads that compute
    running = workload_process("independent_cpu", "--threads", "2")

    # WHEN they are sampled
    with recorded(running.pid, tmp_path / "r", 1.5) as recording:
        workers = [thread for thread in totals(recording).values() if not thread.info.main]
        gaps = recording.gaps(0, len(recording))
        costs = recording.costs(0, len(recording)).sampler

    # THEN nearly all samples have a stack that begins where threads begin and ends in the program
    for worker in workers:
        assert sum(worker.stacks.values()) > 0.95 * worker.ticks
        for stack in worker.stacks:
            assert stack[-1].function == "Thread._bootstrap"
            assert re.search(r"(independent_cpu|throughput|random|threading)\.py", stack[0].filename)
    assert sum(cost.torn_stacks for cost in costs) <= 0.01 * sum(cost.walked_stacks for cost in costs) + 1
    assert all("code" not in gap.what for gap in gaps)


def test_names_given_later_are_seen(program: Program, tmp_path: Path) -> None:
    # GIVEN a thread that was started, and named a moment later
    running = program(
        """
        import os, threading, time
        print("ready", os.getpid(), flush=True)
        time.sleep(0.5)
        thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
        thread.start()
        thread.name = "named läter"
        time.sleep(1000)
        """
    )

    # WHEN it is sampled, THEN the name is there
    with recorded(running.pid, tmp_path / "r", 2.6) as recording:
        assert "named läter" in named(recording)


def test_two_samplers_at_once(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a process that is sampled already
    running = one_workload("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "a"), duration_s=1.5) as first:
        # WHEN another one attaches
        with recorded(running.pid, tmp_path / "b", 0.8) as recording:
            assert len(totals(recording)) >= 3

        # THEN both work
        assert first.wait().status == 0
