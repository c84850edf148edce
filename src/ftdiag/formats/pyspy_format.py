"""What py-spy writes: labels of threads, processes and frames, and the events of its Chrome traces.

In: labels such as `thread (4711): worker`, `Thread 4711 "worker"`, `run (app.py:12)`; decoded events. Out:
their parts; the stacks of threads over time.
Source: py-spy 0.4, src/main.rs (record_samples), src/speedscope.rs, src/flamegraph.rs, src/chrometrace.rs,
src/stack_trace.rs (format_threadid).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ftdiag.datatypes import dataclass, field
from ftdiag.model import Frame, Stack

MAX_NUMBER_CHARACTERS: Final = 20
MAX_DEPTH: Final = 4096
MAX_THREADS: Final = 20_000
MAX_FRAMES: Final = 1 << 19
"""Different frames of one trace."""
MAX_TEXT: Final = 4096
"""Longest name of a function, file or thread that is kept; longer ones are cut."""
MAX_TIME_US: Final = 2e12
"""Times of events are below this: 23 days."""


class UnknownOutput(ValueError):
    """What was written is not what py-spy writes; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ThreadLabel:
    """A thread: its name, and its number, which is the kernel's or (written in hexadecimal) Python's."""

    number: int
    name: str
    kernel: bool


def thread_label(text: str) -> ThreadLabel | None:
    """Of `thread (4711): worker` or `thread (0x7F...): worker`; `None` for anything else."""
    if not text.startswith("thread ("):
        return None
    number, closed, rest = text[8:].partition(")")
    value = _number(number)
    if not closed or value is None:
        return None
    return ThreadLabel(value, rest.removeprefix(":").strip()[:MAX_TEXT], number.isdigit())


def profile_label(text: str) -> ThreadLabel | None:
    """Of speedscope's `Thread 4711 "worker"`, also behind `Process 4700 `; `None` for anything else."""
    before, found, rest = text.partition("Thread ")
    if not found or (before and process_number(before) is None):
        return None
    number, _, name = rest.partition(" ")
    value = _number(number)
    if value is None:
        return None
    return ThreadLabel(value, name.strip().strip('"')[:MAX_TEXT], number.isdigit())


def process_number(text: str) -> int | None:
    """Of `process 4700:"python app.py"` or `Process 4700 ...`; `None` for anything else."""
    if text[:8].lower() != "process ":
        return None
    digits = text[8:].partition(":")[0].split(" ", 1)[0]
    return _number(digits)


def frame_label(text: str) -> tuple[str, str, int | None]:
    """(file, function, line) of `run (app.py:12)`; the file is empty and the line `None` where not said."""
    function, opened, rest = text.partition(" (")
    if not opened or not rest.endswith(")"):
        return "", text, None
    rest = rest[:-1]
    filename, colon, digits = rest.rpartition(":")
    line = _number(digits) if colon and digits.isdigit() else None
    if line is None or line >= 1 << 31:
        return rest, function, None
    return filename, function, line


def _number(text: str) -> int | None:
    if not text or len(text) > MAX_NUMBER_CHARACTERS or not text.isascii():
        return None
    try:
        value = int(text, 16) if text[:2] in ("0x", "0X") else int(text) if text.isdigit() else -1
    except ValueError:
        return None
    return value if 0 <= value < 1 << 63 else None


# --- Chrome traces ------------------------------------------------------------------------------------


@dataclass(slots=True)
class TracedThread:
    """A thread of a trace: the functions it is in since `since_us`, root first.

    `None` among them stands for the thread or its process. `ident` is the number that py-spy writes with
    every event, which is Python's (`threading.get_ident`).
    """

    pid: int
    ident: int
    label: ThreadLabel | None = None
    since_us: float = 0.0
    open: list[Frame | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the thread is called."""
        return (self.label.name if self.label else "") or f"thread {self.number}"

    @property
    def number(self) -> int:
        """The kernel's number where it is known, else Python's."""
        return self.label.number if self.label else self.ident


@dataclass(frozen=True, slots=True)
class Stay:
    """A thread was in one stack (leaf first) from one moment to another; times in microseconds."""

    thread: TracedThread
    begin_us: float
    end_us: float
    stack: Stack


def stays(events: Iterable[Any]) -> Iterator[Stay]:
    """The stacks that the events of a trace amount to, each when it ends.

    py-spy notes changes only, so what stands between two events of a thread is the stack of the first.
    Raises UnknownOutput for what is no such event.
    """
    threads: dict[tuple[int, int], TracedThread] = {}
    frames: dict[tuple[str, str, int | None], Frame] = {}
    for event in events:
        if not isinstance(event, dict):
            raise UnknownOutput("an event is no object")
        phase = event.get("ph")
        if phase not in ("B", "E"):
            continue
        pid, ident, at_us = event.get("pid"), event.get("tid"), event.get("ts")
        if (
            type(pid) is not int
            or type(ident) is not int
            or not 0 <= ident < 1 << 64
            or not 0 <= pid < 1 << 31
        ):
            raise UnknownOutput("an event lacks its thread")
        if isinstance(at_us, bool) or not isinstance(at_us, int | float) or not 0 <= at_us < MAX_TIME_US:
            raise UnknownOutput("an event lacks its time")
        thread = threads.get((pid, ident))
        if thread is None:
            if len(threads) >= MAX_THREADS:
                raise UnknownOutput(f"there are more than {MAX_THREADS:,} threads")
            thread = threads[pid, ident] = TracedThread(pid, ident, since_us=float(at_us))
        if at_us > thread.since_us:
            if thread.open:
                yield Stay(thread, thread.since_us, float(at_us), _stack(thread))
            thread.since_us = float(at_us)
        if phase == "E":
            if thread.open:
                thread.open.pop()
        elif len(thread.open) >= MAX_DEPTH:
            raise UnknownOutput(f"a stack is deeper than {MAX_DEPTH:,} functions")
        else:
            thread.open.append(_entered(event, thread, frames))


def _stack(thread: TracedThread) -> Stack:
    return tuple(frame for frame in reversed(thread.open) if frame is not None)


def _entered(
    event: dict[str, Any], thread: TracedThread, frames: dict[tuple[str, str, int | None], Frame]
) -> Frame | None:
    """The frame of a function that begins; `None` for what stands for the thread or its process."""
    name = event.get("name")
    name = name[:MAX_TEXT] if isinstance(name, str) and name else "?"
    if not any(thread.open):
        label = thread_label(name)
        if label is not None:
            thread.label = label
            return None
        if process_number(name) is not None:
            return None
    arguments = event.get("args")
    arguments = arguments if isinstance(arguments, dict) else {}
    filename, line = arguments.get("filename"), arguments.get("line")
    key = (
        filename[:MAX_TEXT] if isinstance(filename, str) else "",
        name,
        line if type(line) is int and 0 < line < 1 << 31 else None,
    )
    known = frames.get(key)
    if known is None:
        if len(frames) >= MAX_FRAMES:
            raise UnknownOutput(f"there are more than {MAX_FRAMES:,} different frames")
        known = frames[key] = Frame(*key)
    return known
