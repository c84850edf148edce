"""A capture of allocations, by line and by thread.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.datatypes import dataclass, field
from ftdiag.model.target import Frame, Stack


@dataclass(frozen=True, slots=True)
class LineAllocations:
    """What one line allocated while memray was attached; `None`: this kind of capture does not say.

    `temporary` allocations were freed by the thread that made them before it had made two more.
    `peak_bytes` is the line's part of the largest heap, `left_*` was not freed by the end of the capture.
    `stack` is the call stack, innermost first, that allocated there most often.
    """

    frame: Frame
    threads: int
    count: int | None = None
    size_bytes: int | None = None
    temporary: int | None = None
    peak_bytes: int | None = None
    left_count: int | None = None
    left_bytes: int | None = None
    stack: Stack = ()


@dataclass(frozen=True, slots=True)
class ThreadAllocations:
    """The same for one thread. `number` is memray's own counter, `tid` the system's id if memray was told."""

    number: int
    name: str | None
    count: int | None = None
    size_bytes: int | None = None
    temporary: int | None = None
    peak_bytes: int | None = None
    left_bytes: int | None = None
    tid: int | None = None


@dataclass(frozen=True, slots=True)
class Allocations:
    """A capture of memray, by line and by thread; those with the most allocations first.

    `python_allocators`: Python's own objects are in it, not only what malloc and mmap gave.
    `cut_short`: the capture ends before its writer wanted it to. Totals cover also the lines that are left
    out (`lines_left_out`). `not_measured` says for a field why it is `None`.
    """

    pid: int
    command: str
    begin_unix_ns: int
    duration_ns: int
    python_allocators: bool
    aggregated: bool
    cut_short: bool
    count: int | None
    size_bytes: int | None
    temporary: int | None
    peak_bytes: int | None
    left_count: int | None
    left_bytes: int | None
    lines: tuple[LineAllocations, ...]
    threads: tuple[ThreadAllocations, ...]
    lines_left_out: int = 0
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def per_second(self, number: int | None) -> float | None:
        """A count or size of the capture as a rate; `None` where there is none."""
        return None if number is None or self.duration_ns <= 0 else number / (self.duration_ns / 1e9)
