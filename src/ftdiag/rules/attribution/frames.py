"""What kind of frame one is: of the standard library, of a file of it, of the program itself.

In: frames and stacks. Out: answers, frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.model import Frame, LockMetrics, Stack, is_standard_library

LIBRARY_FRAMES: Final = 12
"""Frames from the innermost on in which a library is looked for; calls between libraries are not deeper."""


def is_library(frame: Frame) -> bool:
    """Whether a frame is of the standard library."""
    return is_standard_library(frame.filename)


def is_file(frame: Frame, end: str) -> bool:
    """Whether a frame is of this file of the standard library ("concurrent/futures/thread.py")."""
    return frame.filename.endswith("/" + end) and is_library(frame)


def is_wait_for_others(frame: Frame) -> bool:
    """Whether a frame is where threading waits for something to happen, not for its turn."""
    return is_file(frame, "threading.py") and frame.function in (
        "Condition.wait",
        "Condition.wait_for",
        "Event.wait",
        "Barrier.wait",
        "Barrier._wait",
        "Thread.join",
        "Thread._wait_for_tstate_lock",
        "Thread.start",
    )


def program_frame(stack: Stack) -> Frame | None:
    """The innermost frame of the program's own code, else the innermost."""
    for frame in stack:
        if not is_library(frame):
            return frame
    return stack[0] if stack else None


def leaves(lock: LockMetrics) -> Sequence[Frame]:
    """The innermost frames of those that wait for a lock, longest waits first."""
    return tuple(dict.fromkeys(waiter.stack[0] for waiter in lock.waiters if waiter.stack))
