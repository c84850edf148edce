"""What is known of libraries on stacks: event loops, executors, tracers, locks of the whole process.

In: stacks, hot lines. Out: which it is, shares of CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ftdiag.model import Frame, HotLine, LockMetrics, Stack, StateGroup, ThreadState
from ftdiag.rules.attribution.frames import LIBRARY_FRAMES, is_file, is_library
from ftdiag.rules.base import Facts, finite

PROCESS_WIDE: Final[Mapping[str, str]] = {
    "_strptime.py": "strptime's cache of formats",
    "warnings.py": "the filters of warnings",
    "_py_warnings.py": "the filters of warnings",
}
"""Files of the standard library with one lock for the whole process, and what it guards; 3.14 moved one."""
_LOOP_FILES: Final = ("asyncio/base_events.py", "asyncio/runners.py")
_TRACERS: Final = ("trace.py", "bdb.py", "pdb.py", "cProfile.py", "profile.py", "tracemalloc.py")
_TRACER_PACKAGE: Final = re.compile(r"/(?:site|dist)-packages/(?:coverage|pydevd|_pydevd_bundle|debugpy)/")


def process_wide(stack: Stack) -> str | None:
    """The file of `PROCESS_WIDE` that a stack waits in, below the program's own innermost line."""
    for frame in stack[:LIBRARY_FRAMES]:
        if not is_library(frame):
            return None
        found = next((end for end in PROCESS_WIDE if is_file(frame, end)), None)
        if found is not None:
            return found
    return None


def is_process_wide(lock: LockMetrics, facts: Facts) -> bool:
    """Whether most of the wait is in a file of the standard library that has one lock for the process."""
    waits = [(finite(waiter.wait_ns), process_wide(waiter.stack)) for waiter in lock.waiters]
    return sum(wait for wait, file in waits if file is not None) > 0.5 * sum(wait for wait, _ in waits)


def is_tracer(frame: Frame) -> bool:
    """Whether a frame is a debugger's, tracer's or profiler's."""
    return any(is_file(frame, name) for name in _TRACERS) or bool(_TRACER_PACKAGE.search(frame.filename))


def is_loop(frame: Frame) -> bool:
    """Whether a frame is an event loop's own."""
    return any(is_file(frame, name) for name in _LOOP_FILES) or "/site-packages/uvloop/" in frame.filename


def has_executor(facts: Facts) -> bool:
    """Whether a thread of an executor was seen: without one, nobody hands tasks to it."""
    return any(
        is_file(frame, "concurrent/futures/thread.py")
        for thread in facts.threads
        for stack in (thread.latest_stack, *(stack for line in thread.hot for stack, _ in line.stacks))
        for frame in stack
    )


def lines_of(facts: Facts, rule_id: str) -> list[HotLine]:
    """The hot lines inside of a rule's library, the hottest first."""
    return [
        line for line in facts.hot if line.stacks and facts.attribution.library(line.stacks[0][0]) == rule_id
    ]


def on_cpu_cores(facts: Facts, lines: Iterable[HotLine]) -> float:
    """Cores on which these lines ran."""
    if facts.metrics.duration_ns <= 0:
        return 0.0
    spinning = facts.spinning_on_core
    spent = sum(
        finite(time) * (spinning if state is ThreadState.SPIN else 1.0)
        for line in lines
        for state, time in line.states_ns.items()
        if state.group is StateGroup.ON_CPU
    )
    return spent / facts.metrics.duration_ns
