"""Marks the threads that somebody keeps from running: as a state of their own, with who does.

In: the threads of a target, those of them that ran, at each tick. Out: their observation as `HALTED`, with
the stack that they stand at, for as long as they do not run; a sentence when the program is found to be
halted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from ftdiag.model import NO_HOLDER, NO_STACK, Confidence, ThreadState, Wait
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.threads import SampledThread, Tick
from ftdiag.sources.kernel.halts import Halt, HaltWatch

_ON_CPU: Final = int(ThreadState.ON_CPU)


class Halted:
    """The halted threads of one target. Told after the observer, whose word on them it replaces."""

    def __init__(self, pid: int, sink: RecordingSink, tell: Callable[[str], None]) -> None:
        self._pid = pid
        self._sink = sink
        self._tell = tell
        self._watch = HaltWatch(pid)
        self._told: Halt | None = None

    @property
    def due_ns(self) -> int:
        """When `mark` is to be called next, if nothing changes."""
        return self._watch.due_ns

    @property
    def quiet(self) -> bool:
        """Whether `mark` has nothing to do at ticks at which nobody ran."""
        return self._watch.quiet

    def mark(
        self, alive: Mapping[int, SampledThread], changed: Collection[SampledThread], tick: Tick
    ) -> None:
        """Observe those that are halted as of this tick; `changed` are those that the observer looked at."""
        ran = [thread.info.tid for thread in changed]
        if changed and self._watch.all_run(ran, tick.now_ns):
            self._told = None
            return
        running = {
            thread.info.tid for thread in changed if thread.observation and thread.observation[0] == _ON_CPU
        }
        new = self._watch.look(alive, ran, tick.now_ns, running)
        if not self._watch.halted:
            self._told = None
            return
        if new:
            self._say(alive)
        if not new and not changed:
            return  # nobody looked at them since
        for tid, halt in self._watch.halted.items():
            thread = alive.get(tid)
            if thread is not None:
                stack = NO_STACK if thread.observation is None else thread.observation[1]
                wait = self._sink.intern_wait(Wait(None, halt.detail))
                observation = (int(ThreadState.HALTED), stack, wait, NO_HOLDER, int(Confidence.UNKNOWN))
                thread.observe(observation, tick.number)

    def _say(self, alive: Collection[int]) -> None:
        """Tell once that the whole program does not run."""
        halts = set(self._watch.halted.values())
        if len(halts) == 1 and len(self._watch.halted) == len(alive):
            halt = halts.pop()
            if halt != self._told:
                self._told = halt
                self._tell(f"process {self._pid} does not run: {halt.words}\n  {halt.remedy}")
