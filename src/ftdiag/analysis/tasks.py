"""Which asyncio tasks an event loop's thread spends its time in.

In: accounted thread-time. Out: per thread the coroutines that its loop ran, with their time.
A loop runs every step of a task from `Handle._run` (asyncio/events.py); the Python frame called from there
is the task's coroutine, or a plain callback. That holds on every version, with and without the C
accelerator, and needs nothing but stacks.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.grouping import group_by
from ftdiag.model import Frame, Stack
from ftdiag.recording.reader import Recording

TASKS_OF_THREAD: Final = 5
"""Coroutines listed of a thread."""
_STEP: Final = ("asyncio/events.py", "Handle._run")


def running_task(stack: Stack) -> Frame | None:
    """The frame of the coroutine (or callback) that the event loop of this stack runs, `None` without one.

    With loops inside loops the innermost counts. The frame's line is where the coroutine is by now.
    """
    for position, frame in enumerate(stack):
        if frame.function == _STEP[1] and frame.filename.endswith("/" + _STEP[0]):
            return stack[position - 1] if position else None
    return None


def tasks_by_thread(recording: Recording, time: ThreadTime) -> dict[int, tuple[tuple[str, float], ...]]:
    """Thread index -> (coroutine's name, ns on its steps), longest first, for threads with an event loop."""
    running = {
        stack: frame.function
        for stack in np.flatnonzero(np.bincount(time.stack)).tolist()
        if (frame := running_task(recording.stack(stack))) is not None
    }
    if not running:
        return {}
    rows = np.isin(time.stack, list(running))
    groups = group_by(time.thread[rows], time.stack[rows])
    threads, stacks = groups.key(time.thread[rows]).tolist(), groups.key(time.stack[rows]).tolist()
    spent: dict[int, dict[str, float]] = {}
    for thread, stack, total in zip(threads, stacks, groups.total(time.time_ns[rows]).tolist(), strict=True):
        of_thread, name = spent.setdefault(thread, {}), running[stack]
        of_thread[name] = of_thread.get(name, 0.0) + total
    return {
        thread: tuple(sorted(tasks.items(), key=lambda task: (-task[1], task[0]))[:TASKS_OF_THREAD])
        for thread, tasks in spent.items()
    }
