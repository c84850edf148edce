"""How py-spy writes threads, processes and frames as text.

In: labels such as `thread (4711): worker`, `Thread 4711 "worker"`, `run (app.py:12)`. Out: their parts.
Source: py-spy 0.4, src/main.rs (record_samples), src/speedscope.rs, src/flamegraph.rs, src/stack_trace.rs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_NUMBER_CHARACTERS: Final = 20


@dataclass(frozen=True, slots=True)
class ThreadLabel:
    """A thread: its number (the kernel's, or Python's where py-spy did not know it) and its name."""

    number: int
    name: str


def thread_label(text: str) -> ThreadLabel | None:
    """Of `thread (4711): worker` or `thread (0x7F...): worker`; `None` for anything else."""
    if not text.startswith("thread ("):
        return None
    number, closed, rest = text[8:].partition(")")
    value = _number(number)
    if not closed or value is None:
        return None
    return ThreadLabel(value, rest.removeprefix(":").strip())


def profile_label(text: str) -> ThreadLabel | None:
    """Of speedscope's `Thread 4711 "worker"`, also behind `Process 4700 `; `None` for anything else."""
    before, found, rest = text.partition("Thread ")
    if not found or (before and process_number(before) is None):
        return None
    number, _, name = rest.partition(" ")
    value = _number(number)
    return None if value is None else ThreadLabel(value, name.strip().strip('"'))


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
