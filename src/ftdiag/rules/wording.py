"""The pieces that sentences of findings are made of: threads, places, locks, figures.

In: parts of facts. Out: plain text. What the target chose (names, paths) is put in as it is: views escape it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ftdiag.model import Frame, HotLine, LockMetrics, Stack, ThreadInfo, is_standard_library
from ftdiag.units import percent

MAX_NAME: Final = 120
"""Longest name put into a sentence; longer ones are cut."""
LIBRARY_FRAMES: Final = 12
"""Frames from the innermost on in which a library is looked for; calls between libraries are not deeper."""
NAMED_ONE_BY_ONE: Final = 2
"""More threads than this are named by their first and last."""

_NUMBER: Final = re.compile(r"[0-9]+")
_EXPRESSION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def short(text: str) -> str:
    """`text`, cut where it is too long for a sentence."""
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."


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


def place(frame: Frame | None) -> str:
    """ "cache.py:88"."""
    if frame is None:
        return "an unknown place"
    name = short(frame.filename.rsplit("/", 1)[-1] or frame.filename)
    return name if frame.line is None else f"{name}:{frame.line}"


def place_in(frame: Frame | None) -> str:
    """ "Cache.put (cache.py:88)"."""
    if frame is None:
        return "an unknown place"
    function = frame.function
    return place(frame) if not function or function == "<module>" else f"{short(function)} ({place(frame)})"


def places(lines: Iterable[HotLine], limit: int = 3) -> str:
    """The first lines by name."""
    named = [place_in(line.frame) for line in lines]
    more = len(named) - limit
    text = ", ".join(named[:limit])
    return f"{text} and {more} more" if more > 0 else text


def lock_name(lock: LockMetrics) -> str:
    """What people call a lock: its name in the program, else its type."""
    reference = lock.lock
    if reference.label:
        return short(reference.label)
    return f"a {short(reference.type_name)}" if reference.type_name else "a lock"


def lock_expression(lock: LockMetrics) -> str:
    """A lock as the program may write it in a `with`: "self._lock" for "cache (PriceCache._lock)"."""
    label = lock.lock.label
    if not label:
        return "lock"
    _, _, inner = label.partition(" (")
    name = inner.rstrip(")") or label
    owner, dot, attribute = name.partition(".")
    name = f"self.{attribute}" if dot and owner[:1].isupper() else name
    return short(name) if _EXPRESSION.fullmatch(name) else "lock"


def thread_names(threads: Iterable[ThreadInfo], at_least: int = 0) -> str:
    """ "worker-1", "worker-1 and worker-2", "worker-0 to worker-7 (8 threads)", "8 threads".

    `at_least` is a number of threads known from elsewhere, where not all are listed.
    """
    unique = {thread.index: thread for thread in threads}
    infos = [unique[index] for index in sorted(unique)]
    names = [short(info.name) for info in infos]
    number = max(len(names), at_least)
    if number == 0:
        return "threads"
    if number == len(names) <= NAMED_ONE_BY_ONE and len(set(names)) == len(names):
        return " and ".join(names)
    if number == len(names) and len({stem(name) for name in names}) == 1 and len(set(names)) == len(names):
        ordered = sorted(names, key=_number)
        return f"{ordered[0]} to {ordered[-1]} ({number} threads)"
    return f"{number} threads" if number != 1 else "1 thread"


def stem(name: str) -> str:
    """A thread's name without numbers: what threads of one pool have in common."""
    return _NUMBER.sub("", name)


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(digits[:12]) for digits in _NUMBER.findall(name))


def lose(threads: str) -> str:
    """ "loses" after the name of one thread, else "lose"."""
    one = " and " not in threads and not threads.endswith("threads)") and not threads.endswith("threads")
    return "loses" if one else "lose"


def of_cores(lost: float, capacity: float) -> str:
    """ "2.1 of 4 cores"."""
    return f"{lost:.1f} of {capacity:g} cores" if lost >= 0.1 else f"{lost:.2f} of {capacity:g} cores"


def share(part: float, whole: float) -> str:
    """A percentage; "0 %" of nothing."""
    return percent(part / whole if whole > 0 else 0.0)


def leaves(lock: LockMetrics) -> Sequence[Frame]:
    """The innermost frames of those that wait for a lock, longest waits first."""
    return tuple(dict.fromkeys(waiter.stack[0] for waiter in lock.waiters if waiter.stack))


def report_again(pid: int) -> str:
    """The command that looks once more, in text."""
    return f"ftdiag attach {pid} --duration 10 --format text"
