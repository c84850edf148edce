"""What is known of libraries on stacks: event loops, executors, tracers, locks of the whole process.

In: stacks, hot lines. Out: which it is, shares of CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ftdiag.model import Frame, HotLine, LockMetrics, SharedObject, Stack, StateGroup, ThreadState
from ftdiag.rules.attribution.frames import LIBRARY_FRAMES, is_file, is_library
from ftdiag.rules.attribution.own import stacks_of
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


def process_wide_lock(lock: LockMetrics, facts: Facts) -> str | None:
    """The file of `PROCESS_WIDE` that most of the wait for a lock is in; of one that is only spun for, that
    most of these threads are in.

    C code that calls into such a file takes locks on its way, at the line of the program that called it: a
    lock without a name there counts if most of that line's time is in the file.
    """
    waited = sum(finite(waiter.wait_ns) for waiter in lock.waiters)
    named = lock.lock.label is not None or (lock.of_object is not None and _path(lock.of_object) is not None)
    within: dict[str | None, float] = {}
    for waiter in lock.waiters:
        file = process_wide(waiter.stack)
        if file is None and not named and waiter.stack and not is_library(waiter.stack[0]):
            file = process_wide_below(waiter.stack[0], facts)
        within[file] = within.get(file, 0.0) + (finite(waiter.wait_ns) if waited > 0 else 1.0)
    return _most(within)


def process_wide_below(frame: Frame, facts: Facts) -> str | None:
    """The file of `PROCESS_WIDE` that most of the time at a line of the program is in, with what it calls."""
    within: dict[str | None, float] = {}
    for stack, time in stacks_of(facts):
        if frame in stack:
            file = process_wide(stack)
            within[file] = within.get(file, 0.0) + time
    return _most(within)


def _most(within: Mapping[str | None, float]) -> str | None:
    """What has more than half of all."""
    most = max(within, key=lambda file: within[file], default=None)
    return most if most is not None and within[most] > 0.5 * sum(within.values()) else None


def _path(one: SharedObject) -> str | None:
    return None if one.facts is None else one.facts.path


def is_process_wide(lock: LockMetrics, facts: Facts) -> bool:
    """Whether most of the wait is in a file of the standard library that has one lock for the process."""
    return process_wide_lock(lock, facts) is not None


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
