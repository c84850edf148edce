"""Memory in words: its kinds, the parts of the time in allocators, how it grows.

In: the memory of a snapshot. Out: plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import AllocatorPart, MemoryKind, MemoryMetrics
from ftdiag.wording import units

SAID_SHARE: Final = 0.01
"""Kinds and parts below this share are left to the JSON report."""
KIND_WORDS: Final[Mapping[MemoryKind, str]] = {
    MemoryKind.PYTHON_HEAPS: "Python's heaps",
    MemoryKind.LIBC_HEAP: "libc's main heap",
    MemoryKind.LIBC_ARENAS: "libc's arenas",
    MemoryKind.THREAD_STACKS: "thread stacks",
    MemoryKind.ANONYMOUS: "other anonymous",
    MemoryKind.FILES: "mapped files",
    MemoryKind.SHARED: "shared",
}
PART_WORDS: Final[Mapping[AllocatorPart, str]] = {
    AllocatorPart.MIMALLOC: "mimalloc (Python's objects)",
    AllocatorPart.LIBC: "libc's malloc and free",
    AllocatorPart.OTHER: "jemalloc, tcmalloc or another",
    AllocatorPart.FAULTS: "page faults",
    AllocatorPart.MAPPING: "mapping memory",
    AllocatorPart.UNMAPPING: "unmapping memory",
    AllocatorPart.UNKNOWN: "not known",
}


def kind_words(kind: MemoryKind, memory: MemoryMetrics) -> str:
    """The name of a kind; anonymous memory says so where Python's heaps are in it."""
    reading = memory.reading
    if kind is MemoryKind.ANONYMOUS and reading and MemoryKind.PYTHON_HEAPS not in reading.kinds:
        return "Python's heaps and other anonymous"
    return KIND_WORDS[kind]


def growth_words(memory: MemoryMetrics) -> str:
    """How fast the resident size grows."""
    rate = memory.growth_per_minute_bytes
    if memory.growth_bytes is None:
        return "how it grows is not known: the range is too short"
    grown = f"{units.size(abs(memory.growth_bytes))} in {units.seconds(memory.growth_ns)}"
    if memory.growth_bytes == 0:
        return f"unchanged for {units.seconds(memory.growth_ns)}"
    word = "gained" if memory.growth_bytes > 0 else "gave back"
    return f"{word} {grown}" + ("" if rate is None else f" ({units.size(abs(rate))} a minute)")


def parts_words(parts_ns: Mapping[AllocatorPart, float]) -> str:
    """The parts of time in the allocator with their shares, the largest first."""
    whole = sum(parts_ns.values())
    return ", ".join(
        f"{PART_WORDS[part]} {units.percent(spent / whole)}"
        for part, spent in sorted(parts_ns.items(), key=lambda item: -item[1])
        if whole > 0 and spent >= SAID_SHARE * whole
    )
