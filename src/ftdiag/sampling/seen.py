"""What was seen of one thread: runs of equal observations.

In: what a tick says of it. Out: the runs of a window. There are two of them: that of `tick/seen.c` is used;
`PlainSeen` is the same in Python where it could not be built, and what the tests hold the other against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftdiag.sources.compiled import COMPILED, tick
from ftdiag.sources.python.walking import PythonThread

Observation = tuple[int, int, int, int, int]
"""State, stack id, wait id, holder, confidence: all that a tick says of a thread."""


class PlainSeen:
    """The state of a thread as of the last tick, and the runs before it."""

    __slots__ = (
        "calm",
        "changed_ns",
        "entry",
        "looked",
        "observation",
        "python",
        "ran",
        "run_start",
        "runs",
        "schedstat",
        "syscall_fd",
        "unsettled",
    )

    def __init__(self) -> None:
        self.python: list[PythonThread] = []
        """Its thread states."""
        self.observation: Observation | None = None
        self.run_start = 0
        self.runs: list[tuple[int, int, Observation]] = []
        """First tick, number of ticks, what was observed."""
        self.entry = 0
        """Where its last wait entry lies; the next one will likely lie there, too."""
        self.syscall_fd = -1
        """Its `syscall` file, if that stays open."""
        self.schedstat = b""
        """Its line, as it was last read."""
        self.ran = True
        """Whether it was looked at in this window."""
        self.looked = False
        """Whether it was seen to run, or to want to, since its line changed; nothing is left to find out."""
        self.changed_ns = 0
        """When its line was last seen to be another one."""
        self.unsettled: dict[Any, None] = {}
        """Where it puts itself while it is not known to be off its core."""
        self.calm = False
        """Whether `note` was called since something else was last concluded of it."""

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

    def begin_run(self, observation: Observation, tick: int) -> None:
        """As `observe`, but as a run of its own, also if what is seen equals what was seen before."""
        if tick > self.run_start:
            if self.observation is not None:
                self.runs.append((self.run_start, tick - self.run_start, self.observation))
            self.run_start = tick
        self.observation = observation

    def close_run(self, tick: int) -> None:
        """Its run ends before this tick of the window."""
        if self.observation is not None and tick > self.run_start:
            self.runs.append((self.run_start, tick - self.run_start, self.observation))
        self.run_start = tick

    def note(self, thread: PythonThread, generation: int, inside: bool) -> None:
        """What was concluded of it holds while its only thread state runs, with what its slots have now.

        `inside`: it is known to be in critical sections, or on its way out of them. Only the compiled walker
        concludes from that (`stackwalk.CompiledWalker.look`).
        """
        self.calm = True

    def remember_wait(self, line: bytes, stack: int, observation: Observation) -> None:
        """With this syscall line and this stack it is to be observed so; else as `note` says."""


if TYPE_CHECKING or not COMPILED:
    Seen = PlainSeen
else:
    Seen = tick.Seen
