"""The sampler's process on real targets: exact counters, clean ends, nothing guessed."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from ftdiag.model import EndReason, ThreadState
from ftdiag.recording.reader import Recording
from reading import (
    SamplerRun,
    end_of,
    eventually,
    named,
    recorded,
    recordings,
    thread_state,
    totals,
    until_asleep,
    windows_in,
)
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

    # WHEN they are sampled: again if the sampler itself had to wait for a core between two of its clocks
    wrong: list[str] = []
    for recording in recordings(running.pid, tmp_path, 2.0):
        threads = named(recording)
        span = recording.span_ns()
        assert span is not None
        wrong = []
        for name, log in own_clocks(clocks, span[1]).items():
            least, most = used_between(log, span)
            if not 0.98 * least - 5_000_000 <= threads[name].cpu_ns <= 1.02 * most + 5_000_000:
                wrong.append(f"{name} used {least} to {most} ns, said to be {threads[name].cpu_ns}")
            if threads[name].alive_ns != pytest.approx(span[1] - span[0], rel=0.01):
                wrong.append(f"{name} lived {threads[name].alive_ns} of {span[1] - span[0]} ns")
        burning = threads["share 1.0"]
        if burning.states[ThreadState.ON_CPU] <= 0.9 * burning.ticks:
            wrong.append(f"seen asleep: {burning.states}")
        # THEN each used as much CPU time in the recording's time as its own clock says
        # AND the one that never sleeps was never seen asleep
        if not wrong:
            break
    else:
        pytest.fail("; ".join(wrong))


def used_between(log: Sequence[tuple[int, int]], span: tuple[int, int]) -> tuple[int, int]:
    """The least and the most that a counter can have gained in a span, as it was read now and then.

    `log` is (time, counter), in order; whoever reads it may be kept from its core for long.
    """
    times = [at for at, _ in log]
    before, after = bisect_right(times, span[0]), bisect_left(times, span[0])
    first_least, first_most = log[max(0, before - 1)][1], log[min(after, len(log) - 1)][1]
    before, after = bisect_right(times, span[1]), bisect_left(times, span[1])
    last_least, last_most = log[max(0, before - 1)][1], log[min(after, len(log) - 1)][1]
    return max(0, last_least - first_most), last_most - first_least


def test_totals_add_up(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN more busy threads than cores, and idle ones
    running = workload_process("independent_cpu", "--threads", "5")

    # WHEN they are sampled: again if the sampler itself had to wait for a core between two of its clocks
    wrong: list[str] = []
    for attempt in range(5):
        path, seconds = tmp_path / f"r{attempt}", 2.0 * 2**attempt
        used = []
        with SamplerRun(pid=running.pid, path=str(path), duration_s=seconds) as run:
            while run.process.poll() is None:
                used.append((time.monotonic_ns(), process_cpu_ns(running.pid)))
                time.sleep(0.02)
            assert run.wait().status == 0
        with Recording.open(path) as recording:
            wrong = list(what_does_not_add_up(recording, used))
        # THEN all adds up
        if not wrong:
            break
    else:
        pytest.fail("; ".join(wrong))


def what_does_not_add_up(recording: Recording, used: Sequence[tuple[int, int]]) -> Iterator[str]:
    """In a recording of a main thread and five busy ones; `used`: (time, CPU time of all), now and then."""
    threads, span, ticks = totals(recording), recording.span_ns(), int(recording.tick_counts.sum())
    assert span is not None
    length = span[1] - span[0]
    assert len(threads) == 6
    for thread in threads.values():
        assert thread.cpu_ns >= 0
        assert sum(thread.states.values()) == thread.ticks <= ticks
        # CPU time and run-queue time fit into the life of each thread, which is the recording's length.
        if thread.alive_ns != pytest.approx(length, rel=0.02):
            yield f"{thread.info.name} lived {thread.alive_ns} of {length} ns"
        # The kernel counts a wait for a core when it is over, so part of it may be from before.
        if thread.cpu_ns + thread.run_queue_ns > 1.1 * thread.alive_ns + 10_000_000:
            yield f"{thread.cpu_ns} + {thread.run_queue_ns} ns are more than {thread.alive_ns}"
        if thread.ticks < 0.98 * ticks:
            yield f"{thread.info.name} was seen at {thread.ticks} of {ticks} ticks"
    # All threads together have used what the process has.
    least, most = used_between(used, span)
    of_threads = sum(thread.cpu_ns for thread in threads.values())
    if not 0.97 * least - 3e7 <= of_threads <= 1.03 * most + 3e7:
        yield f"threads used {of_threads} ns, the process {least} to {most}"
    # The process's own clock is read beside theirs: where no thread ended it has nothing that they have not.
    readings = recording.costs(0, len(recording.t0_ns)).process
    whole = sum(reading.cpu_ns or 0 for reading in readings)
    if abs(whole - of_threads) > 0.01 * of_threads + 3e7:
        yield f"threads used {of_threads} ns, the process {whole} by its own clock"
    # Many busy threads on few cores waited for one.
    busy = [thread for thread in threads.values() if thread.cpu_ns > length // 20]
    if len(busy) > len(os.sched_getaffinity(0)):
        waited_ns = sum(thread.run_queue_ns for thread in busy)
        if waited_ns <= 0.2 * length:
            yield f"{len(busy)} threads waited for a core for {waited_ns} of {length} ns"


def process_cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, by its own clock (clock_getcpuclockid)."""
    return time.clock_gettime_ns((~pid << 3) | 2)


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
    lives: list[int] = []
    for recording in recordings(running.pid, tmp_path, 2.5):
        guests = [thread for thread in totals(recording).values() if not thread.info.main]

        # THEN each guest has its own beginning and end
        whole = [guest for guest in guests if guest.info.started_ns and guest.info.ended_ns]
        # At most one was there before, one stays.
        assert len(guests) - len(whole) <= 2
        for guest in whole:
            assert guest.info.started_ns is not None
            assert guest.info.ended_ns is not None
            lived_ns = guest.info.ended_ns - guest.info.started_ns
            assert lived_ns <= guest.alive_ns <= 1.1 * lived_ns + 50_000_000
            assert 1 <= guest.ticks <= guest.alive_ns / 1e7 + 2
        # AND most lived as long as they did: a busy machine may keep one from waking up
        lives = [guest.alive_ns for guest in whole if guest.info.python]
        if len(lives) >= 3 and 0.2e9 < statistics.median(lives) < 0.45e9:
            break
    else:
        pytest.fail(f"the guests lived {lives} ns")


def test_thread_storm(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN a thousand threads made and joined a second
    running = workload_process("thread_storm")

    # WHEN it is sampled: again if the sampler itself had to wait for a core between two of its clocks
    seen = None
    for recording in recordings(running.pid, tmp_path, 2.0):
        threads = totals(recording).values()
        ticks = sum(cost.ticks for cost in recording.costs(0, len(recording)).sampler)

        # THEN those that lived across a tick are there, and no time is invented
        assert all(thread.alive_ns >= 0 for thread in threads)
        invented = [thread for thread in threads if thread.cpu_ns > thread.alive_ns + 10_000_000]
        seen = len(threads), ticks, invented
        if len(threads) > 1 and not invented and ticks > 100:
            break
    else:
        pytest.fail(f"threads, ticks, and threads with more CPU time than life: {seen}")


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
    begin = time.monotonic_ns()
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        run.written()
        time.sleep(0.4)
        (tmp_path / "enough").touch()
        said = run.wait()
    taken_ns = time.monotonic_ns() - begin

    # THEN the end and its reason are said, and the recording has them
    assert said.status == 0, said
    assert said.events[-1]["event"] == "ended"
    with Recording.open(tmp_path / "r") as recording:
        assert end_of(recording).reason in (EndReason.EXITED, EndReason.VANISHED)
        if end_of(recording).reason is EndReason.EXITED:
            assert "7" in end_of(recording).detail
        # AND the time after the last window that was full is not lost
        assert len(recording) >= 2
        assert 0.25e9 < recording.t1_ns[-1] - recording.t0_ns[0] < taken_ns


def test_process_that_is_killed(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN a sampler at work
    running = workload_process("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        run.written()

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
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        # WHEN it is stopped for a second by a signal and continued
        run.written()
        running.process.send_signal(signal.SIGSTOP)
        eventually(lambda: stopped(running.pid))
        begin = time.monotonic_ns()
        time.sleep(1)
        end = time.monotonic_ns()
        running.process.send_signal(signal.SIGCONT)
        run.written(windows_in(run.path) + 1)
        said = run.stop()

    # THEN sampling goes on until it is asked to end, and the stop is no CPU time
    assert said.status == 0, said
    assert said.events[-1]["reason"] == "stopped"
    with Recording.open(tmp_path / "r") as recording:
        span = recording.span_ns()
        assert span is not None
        assert span[0] < begin
        assert span[1] > end
        for thread in totals(recording).values():
            assert thread.cpu_ns <= thread.alive_ns - 0.95 * (end - begin)
            assert thread.alive_ns == pytest.approx(span[1] - span[0], rel=0.05)


def stopped(pid: int) -> bool:
    """Whether no thread of a process can run."""
    try:
        return {thread_state(pid, int(task)) for task in os.listdir(f"/proc/{pid}/task")} == {"T"}
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread ended meanwhile


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

    # WHEN it is sampled for so long: again if the machine did not let the sampler run when the time was over
    seen = None
    for attempt in range(5):
        start = time.monotonic()
        with recorded(running.pid, tmp_path / f"r{attempt}", seconds) as recording:
            taken = time.monotonic() - start
            span = recording.span_ns()
            assert span is not None
            length = (span[1] - span[0]) / 1e9

            # THEN the recording is so long, and the sampler is gone soon after
            assert end_of(recording).reason is EndReason.DURATION
            assert seconds <= length < taken
        seen = length, taken
        if length < seconds + 0.1 and taken < seconds + 3:
            break
    else:
        pytest.fail(f"length, and how long it took: {seen}")


def test_rate(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a process, WHEN it is sampled at other rates, THEN so many ticks are taken
    running = one_workload("io_wait")
    for rate in (10, 250):
        with recorded(running.pid, tmp_path / f"r{rate}", 1.0, rate_hz=rate) as recording:
            assert recording.settings.rate_hz == rate
            costs = recording.costs(0, len(recording)).sampler
            span = recording.span_ns()
        done = sum(cost.ticks + cost.missed_ticks for cost in costs)
        # A tick that is late makes the recording longer.
        assert span is not None
        assert done == pytest.approx(rate * (span[1] - span[0]) / 1e9, abs=2 + 0.02 * rate)


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
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        # WHEN it is stopped itself for a second
        run.written()
        os.kill(run.process.pid, signal.SIGSTOP)
        eventually(lambda: stopped(run.process.pid))
        begin = time.monotonic_ns()
        time.sleep(1)
        end = time.monotonic_ns()
        os.kill(run.process.pid, signal.SIGCONT)
        run.written(windows_in(run.path) + 1)
        assert run.stop().status == 0

    # THEN the ticks of that second are missed, and counters have none of it lost
    with Recording.open(tmp_path / "r") as recording:
        span = recording.span_ns()
        assert span is not None
        length = span[1] - span[0]
        costs = recording.costs(0, len(recording)).sampler
        missed, ticks = sum(cost.missed_ticks for cost in costs), sum(cost.ticks for cost in costs)
        assert missed >= (end - begin) / 1e7 - 3
        assert ticks > 0
        assert any(cost.late_ticks for cost in costs)
        assert missed + ticks == pytest.approx(length / 1e7, abs=8)
        for thread in totals(recording).values():
            assert thread.alive_ns == pytest.approx(length, rel=0.05)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None], ids=["term", "int", "stdin closed"])
def test_asked_to_end(one_workload: Start, tmp_path: Path, how: signal.Signals | None) -> None:
    # GIVEN a sampler in the middle of a window
    running = one_workload("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        run.written()
        time.sleep(0.4)

        # WHEN it is asked to end
        said = run.stop(how)

    # THEN it ends in order, and all it saw is in one file
    assert said.status == 0
    assert said.stderr == ""
    assert said.events[-1]["reason"] == "stopped"
    assert os.listdir(tmp_path) == ["r"] or sorted(os.listdir(tmp_path)) == ["program.py", "r"]
    with Recording.open(tmp_path / "r") as recording:
        assert recording.verify() == ()
        assert end_of(recording).reason is EndReason.STOPPED
        # Also what came after the last window that was full.
        assert len(recording) >= 2


def test_sampler_that_is_killed_loses_the_open_window_only(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a sampler that has worked for a while
    running = one_workload("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "r")) as run:
        run.written(3)

        # WHEN it is killed
        run.process.kill()
        run.process.wait()

    # THEN the file opens, and all that was written is there: all but the last second
    with Recording.open(tmp_path / "r") as recording:
        assert recording.end is None
        assert recording.verify() == ()
        assert len(recording) >= 3
        assert (recording.t1_ns[-1] - recording.t0_ns[0]) / 1e9 > 1.9


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

    # WHEN the process is sampled once they wait
    until_asleep(running.pid)
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

    # WHEN they are sampled: again if the sampler itself had to wait for a core while it read stacks
    seen = None
    for recording in recordings(running.pid, tmp_path, 1.5):
        workers = [thread for thread in totals(recording).values() if not thread.info.main]
        costs = recording.costs(0, len(recording)).sampler
        walked, torn = sum(cost.walked_stacks for cost in costs), sum(cost.torn_stacks for cost in costs)

        # THEN each stack begins where threads begin and ends in the program
        for worker in workers:
            for stack in worker.stacks:
                assert stack[-1].function == "Thread._bootstrap"
                assert re.search(r"(independent_cpu|throughput|random|threading)\.py", stack[0].filename)
        assert all("code" not in gap.what for gap in recording.gaps(0, len(recording)))
        # AND nearly all samples have one
        with_stack = [sum(worker.stacks.values()) / max(1, worker.ticks) for worker in workers]
        seen = with_stack, walked, torn
        if len(workers) == 2 and min(with_stack) > 0.95 and walked and torn <= 0.01 * walked + 1:
            break
    else:
        pytest.fail(f"shares with a stack, walked and torn ones: {seen}")


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
    names: list[str] = []
    for recording in recordings(running.pid, tmp_path, 2.6):
        names = list(named(recording))
        if "named läter" in names:
            break
    else:
        pytest.fail(f"only {names}")


def test_two_samplers_at_once(one_workload: Start, tmp_path: Path) -> None:
    # GIVEN a process that is sampled already
    running = one_workload("hot_lock")
    with SamplerRun(pid=running.pid, path=str(tmp_path / "a"), duration_s=1.5) as first:
        # WHEN another one attaches
        with recorded(running.pid, tmp_path / "b", 0.8) as recording:
            assert len(totals(recording)) >= 3

        # THEN both work
        assert first.wait().status == 0
