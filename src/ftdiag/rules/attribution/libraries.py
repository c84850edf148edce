"""What is known of libraries on stacks: event loops, executors, tracers, locks of the whole process.

In: stacks, hot lines. Out: which it is, shares of CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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
    within: dict[str | None, float] = {}
    at_lines: dict[Frame, float] = {}
    for waiter in lock.waiters:
        file = process_wide(waiter.stack)
        time = finite(waiter.wait_ns) if waited > 0 else 1.0
        if file is None and waiter.stack and not is_library(waiter.stack[0]):
            at_lines[waiter.stack[0]] = at_lines.get(waiter.stack[0], 0.0) + time
        else:
            within[file] = within.get(file, 0.0) + time
    named = lock.lock.label is not None or (lock.of_object is not None and _path(lock.of_object) is not None)
    below = {} if named or not at_lines else process_wide_below(at_lines, facts)
    for frame, time in at_lines.items():
        within[below.get(frame)] = within.get(below.get(frame), 0.0) + time
    return _most(within)


def process_wide_below(frames: Collection[Frame], facts: Facts) -> dict[Frame, str]:
    """The file of `PROCESS_WIDE` that most of the time at lines of the program is in, with what they call."""
    stacks = [(stack, time, process_wide(stack)) for stack, time in stacks_of(facts)]
    if all(file is None for _, _, file in stacks):
        return {}  # nearly always
    wanted = frozenset(frames)
    within: dict[Frame, dict[str | None, float]] = {}
    for stack, time, file in stacks:
        for frame in wanted.intersection(stack):
            spent = within.setdefault(frame, {})
            spent[file] = spent.get(file, 0.0) + time
    files = {frame: _most(spent) for frame, spent in within.items()}
    return {frame: file for frame, file in files.items() if file is not None}


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
