"""What memory is there for: readings of the sampler, and what analysis makes of them.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.model.target import Frame, ThreadInfo


class MemoryKind(enum.IntEnum):
    """What resident memory is there for. The closed set; the values are stored in recordings."""

    PYTHON_HEAPS = 1
    """Heaps of mimalloc, one or more of each thread of a free-threaded build: Python's own objects."""
    LIBC_HEAP = 2
    """The heap that the C library grows with brk: its main arena."""
    LIBC_ARENAS = 3
    """The other arenas of glibc's malloc."""
    THREAD_STACKS = 4
    ANONYMOUS = 5
    """Anonymous memory of all other kinds; where Python's heaps cannot be told, these too."""
    FILES = 6
    """Mapped files: code and data of libraries, files that the program maps."""
    SHARED = 7
    """Memory shared with other processes: shared memory segments, memfd, tmpfs."""

    @property
    def label(self) -> str:
        """The name used in reports and JSON: `python_heaps`, ..."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ThreadMemory:
    """Resident bytes that belong to single threads, one element a thread; -1 where it is not known."""

    thread: array[int] = field(default_factory=lambda: array("I"))
    stack_bytes: array[int] = field(default_factory=lambda: array("q"))
    heap_bytes: array[int] = field(default_factory=lambda: array("q"))
    """Python heaps that the thread owns."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """The memory of the process at one moment; `None` and missing kinds are explained in `not_measured`.

    `cost_ns` is the CPU time that the reading took. `ended_heap_bytes` are Python heaps whose threads have
    ended, `arenas` the number of glibc's arenas besides the main one. `libc_free_bytes` are whole pages of
    free blocks in glibc's heaps, which malloc_trim gives back (at least); `heaps_free_bytes` what no
    block in use needs of Python's heaps. All bytes are resident but `virtual_bytes` and `swap_bytes`.
    """

    at_ns: int
    cost_ns: int
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    uss_bytes: int | None = None
    swap_bytes: int | None = None
    virtual_bytes: int | None = None
    threads: int | None = None
    arenas: int | None = None
    ended_heap_bytes: int | None = None
    libc_free_bytes: int | None = None
    heaps_free_bytes: int | None = None
    kinds: Mapping[MemoryKind, int] = field(default_factory=dict)
    by_thread: ThreadMemory = field(default_factory=ThreadMemory)
    not_measured: Mapping[str, str] = field(default_factory=dict)


class AllocatorPart(enum.Enum):
    """What time in the allocator goes to. The values are the names used in reports and JSON."""

    MIMALLOC = "mimalloc"
    """Python's objects: mimalloc's own code."""
    LIBC = "libc_malloc"
    """malloc and free of the C library: extensions, raw memory."""
    OTHER = "other_allocator"
    """jemalloc, tcmalloc and others that take malloc's place."""
    FAULTS = "page_faults"
    """The kernel finds and clears a page that is touched for the first time."""
    MAPPING = "mapping"
    """The kernel is asked for more address space."""
    UNMAPPING = "unmapping"
    """Memory goes back to the kernel."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AllocatorLine:
    """Thread-time in the allocator that one line caused, split; `parts_ns` adds up to `total_ns`."""

    frame: Frame
    total_ns: float
    parts_ns: Mapping[AllocatorPart, float]


@dataclass(frozen=True, slots=True)
class MemoryOfThread:
    """Resident memory that belongs to one thread; `None` where it is not known."""

    info: ThreadInfo
    stack_bytes: int | None
    heap_bytes: int | None
    """Python heaps that the thread owns."""

    @property
    def total_bytes(self) -> int | None:
        """Both together, where both are known."""
        if self.stack_bytes is None or self.heap_bytes is None:
            return None
        return self.stack_bytes + self.heap_bytes


LEAST_RATE_NS: Final = 10_000_000_000
"""A resident size that was followed for less than this says nothing about a minute."""


@dataclass(frozen=True, slots=True)
class MemoryMetrics:
    """The memory of the process over a range.

    `rss_bytes` is the last reading of the resident size, `growth_bytes` what it gained from the first to the
    last second of the range. `reading` is the latest detailed reading up to the range's end, `since` the
    earliest one in the range: what kinds gained lies between them. `series` has the resident size every
    second (or less often), `kinds_series` the readings' kinds. Threads with most memory come first.
    `per_thread_bytes` is the mean over all threads but the main one of what is known to be theirs alone.
    """

    rss_bytes: int | None = None
    growth_bytes: int | None = None
    growth_ns: int = 0
    """Over how long the resident size grew so."""
    reading: MemoryReading | None = None
    since: MemoryReading | None = None
    readings: int = 0
    threads: tuple[MemoryOfThread, ...] = ()
    per_thread_bytes: float | None = None
    series: tuple[tuple[int, int], ...] = ()
    """(time on the recording's clock, resident bytes)."""
    kinds_series: tuple[tuple[int, Mapping[MemoryKind, int]], ...] = ()
    allocator_ns: Mapping[AllocatorPart, float] = field(default_factory=dict)
    allocator_lines: tuple[AllocatorLine, ...] = ()
    minor_faults: int = 0
    major_faults: int = 0
    not_measured: Mapping[str, str] = field(default_factory=dict)

    @property
    def growth_per_minute_bytes(self) -> float | None:
        """What the resident size gains in a minute, where the range is long enough to say."""
        if self.growth_bytes is None or self.growth_ns < LEAST_RATE_NS:
            return None
        return self.growth_bytes * 60e9 / self.growth_ns
