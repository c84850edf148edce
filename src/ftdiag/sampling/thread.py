"""One thread of the target as the sampler's process knows it.

In: the thread's files, and what each tick sees. Out: the runs of equal observations of a window.
"""

from __future__ import annotations

from ftdiag.model import NO_STACK, ThreadInfo
from ftdiag.sources import procfs
from ftdiag.sources.interpreter import PythonThread
from ftdiag.sources.locks import LockWait

Observation = tuple[int, int, int, int, int]
"""State, stack id, wait id, holder, confidence: all that a tick says of a thread."""


class SampledThread:
    """One thread of the target: its files, what was seen last, and the window's runs so far."""

    __slots__ = (
        "attempts",
        "base_alive_ns",
        "base_cpu_ns",
        "base_faults",
        "base_run_queue_ns",
        "entry",
        "files",
        "held",
        "info",
        "innermost",
        "lock",
        "observation",
        "previous_stack",
        "python",
        "ran",
        "run_start",
        "runs",
        "schedstat",
        "schedstat_fd",
        "sections",
        "seen_ns",
        "settled",
    )

    def __init__(self, info: ThreadInfo, files: procfs.ThreadFiles, now_ns: int) -> None:
        self.info = info
        self.files = files
        self.schedstat_fd = files.schedstat_fd
        self.python: list[PythonThread] = []
        self.attempts = 0
        self.schedstat = b""
        self.settled = False
        self.ran = True
        self.observation: Observation | None = None
        self.run_start = 0
        self.runs: list[tuple[int, int, Observation]] = []
        self.base_alive_ns = now_ns
        self.seen_ns = now_ns
        self.base_cpu_ns = 0
        self.base_run_queue_ns = 0
        self.base_faults: procfs.SwitchesAndFaults | None = None
        self.held: tuple[int, ...] = ()
        self.lock: LockWait | None = None
        """What it waits for, while it is parked there."""
        self.entry = 0
        """Where its last wait entry lies; the next one will likely lie there, too."""
        self.sections: tuple[tuple[int, int], ...] | None = ()
        """Object mutexes it holds and the sections that name them; `None`: not read since it ran."""
        self.innermost: PythonThread | None = None
        self.previous_stack = NO_STACK

    def observe(self, observation: Observation, tick: int) -> None:
        """What is seen of it as of this tick of the window; an equal observation goes on with its run."""
        before = self.observation
        if observation == before:
            return
        start, runs = self.run_start, self.runs
        self.observation = observation
        if tick > start:
            if before is not None:
                runs.append((start, tick - start, before))
            self.run_start = tick
        elif runs:
            start, ticks, last = runs[-1]
            if last == observation and start + ticks == tick:
                # Seen otherwise for no whole tick: the same run goes on.
                runs.pop()
                self.run_start = start

    def close_run(self, tick: int) -> None:
        """Its run ends before this tick of the window."""
        if self.observation is not None and tick > self.run_start:
            self.runs.append((self.run_start, tick - self.run_start, self.observation))
        self.run_start = tick
