"""Reads and samples real processes in tests: what the sampler does, in a few lines.

In: a pid. Out: stacks, or a finished recording.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fake_process import Sink
from ftdiag.errors import FtdiagError
from ftdiag.model import FIRST_STACK_ID, End, Stack, ThreadInfo
from ftdiag.recording.reader import Recording
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import find_runtime
from ftdiag.sources.python.walking import PythonThread
from profiles import profile_of

PATIENCE_S: Final = 90.0
"""How long something may take that takes a moment on a machine with nothing else to do."""
LONGEST_S: Final = 12.0
"""The longest recording that is made in order to see enough."""


class Look:
    """One look at all Python threads of a process."""

    def __init__(self, pid: int, memory: RemoteMemory | None = None) -> None:
        self.memory = memory or RemoteMemory(pid)
        self.sink = Sink()
        self.interpreter = InterpreterReader(self.memory, find_runtime(pid, self.memory), self.sink)
        self.threads: list[PythonThread] = []

    def stacks(self) -> dict[int, Stack]:
        """Thread id -> its frames, root first. () where nothing runs or the read was torn."""
        known = {(thread.address, thread.native_id): thread for thread in self.threads}
        self.threads = [
            known.get((thread.address, thread.native_id), thread) for thread in self.interpreter.threads()
        ]
        ids = self.interpreter.walk(self.threads)
        return {
            thread.native_id: self.sink.stacks.get(stack, ())
            for thread, stack in zip(self.threads, ids, strict=True)
        }

    def named_stacks(self) -> dict[str, Stack]:
        """Python name of the thread -> its frames, root first."""
        stacks = self.stacks()
        names = self.interpreter.thread_names()
        return {names.get(thread.ident, "?"): stacks[thread.native_id] for thread in self.threads}


@dataclass
class Said:
    """What a sampler's process said, and how it ended."""

    status: int = -1
    events: list[dict[str, Any]] = field(default_factory=list)
    stderr: str = ""


class SamplerRun:
    """A sampler's process at work, spoken to by its protocol."""

    command: Sequence[str] = (sys.executable, "-m", "ftdiag.sampling.process")

    def __init__(self, **options: object) -> None:
        self.path = Path(str(options["path"]))
        self.process = subprocess.Popen(
            [*self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        self.said = Said()
        line = self.process.stdout.readline()
        if line:
            self.said.events.append(json.loads(line))

    def written(self, windows: int = 1) -> None:
        """Wait until so many windows are in the file: the first comes after a quarter of a second."""
        eventually(lambda: windows_in(self.path) >= windows)

    def wait(self, timeout_s: float = PATIENCE_S) -> Said:
        """Wait for the end without asking for it."""
        # Not `communicate`: it would close standard input, which is the request to end.
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.said.status = self.process.wait(timeout_s)
        self.said.events += [json.loads(line) for line in self.process.stdout]
        self.said.stderr = self.process.stderr.read()
        self._close()
        return self.said

    def stop(self, how: signal.Signals | None = signal.SIGTERM) -> Said:
        """Ask for the end by a signal, or (`None`) by closing standard input."""
        if how is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
        else:
            self.process.send_signal(how)
        return self.wait()

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> SamplerRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._close()


@contextlib.contextmanager
def recorded(pid: int, path: Path, seconds: float, **options: object) -> Iterator[Recording]:
    """Sample for so long; gives the finished recording."""
    with SamplerRun(pid=pid, path=str(path), duration_s=seconds, **options) as run:
        said = run.wait(seconds + PATIENCE_S)
    assert said.status == 0, (said.events, said.stderr)
    assert said.stderr == ""
    with Recording.open(path) as recording:
        assert recording.damaged == ()
        yield recording


def recordings(
    pid: int, directory: Path, seconds: float, times: int = 6, **options: object
) -> Iterator[Recording]:
    """Finished recordings of a process, each longer than the one before; leave off at the first that will do.

    How much of anything is seen in a second depends on what else the machine has to do, and on luck. So what
    must never be seen is asserted of each of them, and what must be seen at last ends the loop:

        for recording in recordings(pid, tmp_path, 0.8):
            assert nobody is blamed who cannot have the lock
            if waits are seen:
                break
        else:
            pytest.fail("no waits were seen")
    """
    for attempt in range(times):
        path = directory / f"recording-{attempt}"
        with recorded(pid, path, min(seconds * 2**attempt, max(seconds, LONGEST_S)), **options) as recording:
            yield recording


def windows_in(path: Path) -> int:
    """How many windows a recording has by now; 0 if there is none yet."""
    try:
        with Recording.open(path) as recording:
            return len(recording)
    except FtdiagError:
        return 0


@dataclass(frozen=True)
class ThreadTotals:
    """A thread's counters over a whole recording."""

    info: ThreadInfo
    alive_ns: int
    cpu_ns: int
    run_queue_ns: int
    ticks: int
    stacks: Counter[Stack]
    states: Counter[int]


def totals(recording: Recording) -> dict[int, ThreadTotals]:
    """By thread index."""
    counters, profile = recording.counters(0, len(recording)), profile_of(recording)
    result = {}
    for index in sorted({*counters.thread.tolist(), *profile.thread.tolist()}):
        mine, seen = counters.thread == index, profile.thread == index
        stacks: Counter[Stack] = Counter()
        states: Counter[int] = Counter()
        for stack, state, ticks in zip(
            profile.stack[seen].tolist(),
            profile.state[seen].tolist(),
            profile.ticks[seen].tolist(),
            strict=True,
        ):
            states[state] += ticks
            if stack >= FIRST_STACK_ID:
                stacks[recording.stack(stack)] += ticks
        result[index] = ThreadTotals(
            recording.thread(index),
            int(counters.alive_ns[mine].sum()),
            int(counters.cpu_ns[mine].sum()),
            int(counters.run_queue_ns[mine].sum()),
            int(profile.ticks[seen].sum()),
            stacks,
            states,
        )
    return result


def named(recording: Recording) -> dict[str, ThreadTotals]:
    """By thread name (of several, the last)."""
    return {each.info.name: each for each in totals(recording).values()}


def end_of(recording: Recording) -> End:
    """How it ended; it did."""
    assert recording.end is not None
    return recording.end


def eventually(condition: Any, timeout_s: float = PATIENCE_S, every_s: float = 0.02) -> Any:
    """The first true value of `condition()`; fails after a while, but not before it was asked twice."""
    deadline = time.monotonic() + timeout_s
    while True:
        over = time.monotonic() > deadline
        value = condition()
        if value:
            return value
        if over:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(every_s)


def until_asleep(pid: int, *busy: int) -> None:
    """Wait until all threads of a process are blocked, but for those that never are.

    A thread that was started and has not got to where it shall wait is running, or waits for a core.
    """

    def asleep() -> dict[str, list[str]] | None:
        switches = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            if int(task.name) in busy:
                continue
            lines = (task / "status").read_text().splitlines()
            if "State:\tS (sleeping)" not in lines:
                return None
            switches[task.name] = [line for line in lines if "ctxt_switches" in line]
        return switches

    def still() -> bool:
        try:
            before = asleep()
            time.sleep(0.03)
            return before is not None and before == asleep()
        except (FileNotFoundError, ProcessLookupError):
            return False  # a thread ended meanwhile

    eventually(still)


def thread_state(pid: int, tid: int) -> str:
    """The kernel's letter for it."""
    data = Path(f"/proc/{pid}/task/{tid}/stat").read_bytes()
    return chr(data[data.rindex(b")") + 2])


def yardstick_s() -> float:
    """CPU time of some work that takes 10 ms on a machine of 2023: what other CPU times are compared with."""
    costs = []
    for _ in range(5):
        before = time.process_time()
        words: dict[int, list[str]] = {}
        for number in range(60_000):
            words[number % 1000] = f"{number} words".split()
        costs.append(time.process_time() - before)
    return min(costs)


def cores() -> int:
    """How many threads can run at once here: only then do they contend for what they share."""
    return len(os.sched_getaffinity(0))


def prefer(pid: int) -> None:
    """Have the kernel prefer a program if we may, so that its threads run at once on a busy machine."""
    with contextlib.suppress(PermissionError):
        for task in os.listdir(f"/proc/{pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(task), -5)


def is_root() -> bool:
    """Whether the privileged halves of tests can run."""
    return os.geteuid() == 0
