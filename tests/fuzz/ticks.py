"""Looks and stretches of ticks by the compiled walker, at a made-up process that lies.

In: a scene, whatever was damaged in it. Out: what is wrong with what was concluded: another stack than the
walker in Python finds in the same memory, a run that cannot be.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from fake_process import Sink
from ftdiag.errors import FtdiagError
from ftdiag.model import (
    FIRST_STACK_ID,
    NO_HOLDER,
    NO_WAIT,
    TORN_STACK,
    Confidence,
    ThreadState,
)
from ftdiag.sampling.seen import Seen
from ftdiag.sources.compiled import tick as compiled
from ftdiag.sources.kernel.memory import ReadAlong
from ftdiag.sources.kernel.threadlines import RUNNING_LINE
from ftdiag.sources.locks.moment import SECTION_BYTES
from ftdiag.sources.locks.parkinglot import REACH_BYTES
from ftdiag.sources.locks.waits import WaitReader
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import Runtime
from ftdiag.sources.python.walking import PythonThread

LOOKS: Final = 3
PERIOD_NS: Final = 20_000
STRETCH_NS: Final = 400_000
MOST_TICKS: Final = 50
PLAIN: Final = (int(ThreadState.ON_CPU), NO_WAIT, NO_HOLDER, int(Confidence.UNKNOWN))
LINES: Final = (
    RUNNING_LINE,
    b"230 0x0 0x0 0x0 0x0 0x0 0x0 0x7f00 0x7f0000001234\n",
    b"202 0x%x 0x0 0x0 0x0 0x0 0x0 0x%x 0x7f0000001234\n",
    b"-1 0x7f00 0x7f0000001234\n",
    b"",
)


class Watched(Seen):
    """A thread of the scene, with a line of `syscall` that never changes."""

    __slots__ = ("line",)

    def __init__(self, line: bytes, python: PythonThread, entry: int) -> None:
        super().__init__()
        self.line = line
        self.python = [python]
        self.entry = entry

    def syscall_line(self) -> bytes:
        """See SampledThread."""
        return self.line


def take_ticks(
    process: Any,
    runtime: Runtime,
    entries: Sequence[int],
    threads: Sequence[PythonThread],
    reader: Any,
    sink: Sink,
) -> list[str]:
    """Look at the threads a few times, then let ticks go by; `reader` is the compiled one of `sink`."""
    plain_sink = Sink()
    plain = InterpreterReader(process.memory, runtime, plain_sink, compiled=False)
    with suppress(FtdiagError):
        same = plain.threads()[: len(threads)]
        if [one.address for one in same] != [one.address for one in threads]:
            return ["another list of threads at the second time"]
        waits = WaitReader(0, process.memory)
        reader.prepare(waits.parse, set(), (REACH_BYTES, SECTION_BYTES), PLAIN)
        watched = []
        for number, python in enumerate(threads):
            entry = entries[number % len(entries)]
            line = LINES[number % len(LINES)]
            watched.append(Watched(line % (entry, entry) if b"%x" in line else line, python, entry))
        wrong: list[str] = []
        for number in range(LOOKS):
            along = ReadAlong()
            along.want(entries[0], 64)
            gone, _, left = reader.look(watched, along, (set(), 0), 1, number)
            expected = plain.walk(same)
            stacks = {id(thread): thread.observation[1] for thread in watched if thread.observation}
            for thread, pythons, _, found in left:
                stacks[id(thread)] = found[0]
                if found[0] != TORN_STACK:
                    thread.note(pythons[0], 1, False)
            stacks |= {id(thread): TORN_STACK for thread in gone}
            for thread, stack in zip(watched, expected, strict=True):
                seen = stacks.get(id(thread))
                if thread not in gone and _frames(sink, seen) != _frames(plain_sink, stack):
                    wrong.append("a look sees another stack than a walk")
        wrong += _let_go(reader, watched, bytearray(1))
        for thread in watched:
            thread.line = RUNNING_LINE
        return wrong + _let_go(reader, watched, None)
    return []


def _frames(sink: Sink, stack: int | None) -> object:
    if stack is None or stack < FIRST_STACK_ID:
        return stack
    return sink.stacks[stack]


def _let_go(reader: Any, watched: Sequence[Watched], quiet_stacks: bytearray | None) -> list[str]:
    """Ticks without anybody, while this thread's own line says that all of them run."""
    lines, unsettled = compiled.Lines(), dict.fromkeys(watched)
    own = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, thread in enumerate(watched):
            thread.unsettled = unsettled
            lines.follow(number, own, thread)
        now = time.monotonic_ns()
        waiting = tuple((thread, thread.entry, thread.entry) for thread in watched if thread.entry)
        times, ran, later, _, pending, last, other, *_ = reader.stretch(
            *(lines, unsettled, {}, {}, set(), 0, 1, {}, directory, os.fstat(directory).st_nlink, (), False),
            *(LOOKS, (now, PERIOD_NS, now + STRETCH_NS, 10**9, 1 << 62), quiet_stacks, FIRST_STACK_ID),
            *(os.getpid(), None, None if quiet_stacks is None else {0: None}, {}),
            *(None if quiet_stacks is None else waiting, None, None),
        )
    finally:
        os.close(own)
        os.close(directory)
    wrong = []
    if len(times) > MOST_TICKS or sorted(times) != times:
        wrong.append("ticks that go by themselves have no order, or no end")
    if not times and not other and watched:
        wrong.append("no tick was taken, and nobody else's is due")
    looked_at = [one[0] for tick in later or () for one in (*tick[2], *tick[3])]
    if any(tick[0] >= len(times) for tick in later or ()):
        wrong.append("something is left of a tick that was not taken")
    if any(thread not in ran for thread in (*looked_at, *(last or ()))):
        wrong.append("a thread that did not run was looked at")
    if pending is not None and not times:
        wrong.append("something is left of a tick that was not taken")
    for thread in watched:
        runs = [(first, first + ticks) for first, ticks, _ in thread.runs]
        if any(end <= first for first, end in runs) or any(
            end > first for (_, end), (first, _) in itertools.pairwise(runs)
        ):
            wrong.append("runs that are empty, or lie over one another")
    return wrong
