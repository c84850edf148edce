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
from typing import Any

from fake_process import Sink
from ftdiag.model import FIRST_STACK_ID, End, Stack, ThreadInfo
from ftdiag.recording.reader import Recording
from ftdiag.sources.interpreter import InterpreterReader, PythonThread
from ftdiag.sources.memory import RemoteMemory
from ftdiag.sources.runtime import find_runtime


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

    command: Sequence[str] = (sys.executable, "-m", "ftdiag.sampler")

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

    def wait(self, timeout_s: float = 30) -> Said:
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
        said = run.wait(seconds + 30)
    assert said.status == 0, (said.events, said.stderr)
    assert said.stderr == ""
    with Recording.open(path) as recording:
        assert recording.damaged == ()
        yield recording


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
    counters, profile = recording.counters(0, len(recording)), recording.profile(0, len(recording))
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


def eventually(condition: Any, timeout_s: float = 10.0, every_s: float = 0.02) -> Any:
    """The first true value of `condition()`; fails after a while."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every_s)
    raise AssertionError(f"not within {timeout_s} s")


def thread_state(pid: int, tid: int) -> str:
    """The kernel's letter for it."""
    data = Path(f"/proc/{pid}/task/{tid}/stat").read_bytes()
    return chr(data[data.rindex(b")") + 2])


def is_root() -> bool:
    """Whether the privileged halves of tests can run."""
    return os.geteuid() == 0
