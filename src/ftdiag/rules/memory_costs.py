"""What free threading itself costs in memory, as measured, and how much of a process that explains.

In: the memory of the facts. Out: `Explained`. The measurements are those of docs/rules/memory-overhead.md:
resident bytes on 3.13.5t and 3.14.0t against 3.13.0 with the GIL, x86-64, glibc.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import MemoryKind
from ftdiag.rules.base import Facts

USED_THREAD_BYTES: Final[Mapping[tuple[int, int], int]] = {(3, 13): 1_017_000, (3, 14): 1_054_000}
"""A thread that ran a mix of the standard library (json, re, decimal, csv ...), with a heap of its own."""
USED_THREAD_WITH_GIL_BYTES: Final = 74_000
OBJECTS_RATIO: Final[Mapping[tuple[int, int], float]] = {(3, 13): 1.16, (3, 14): 1.18}
"""Mean over eleven kinds of objects: numbers 1.5, strings 1.24, lists 1.1-1.17, dictionaries 1.0-1.03."""
START_BYTES: Final[Mapping[tuple[int, int], int]] = {(3, 13): 2_300_000, (3, 14): 3_000_000}
"""An interpreter that has done nothing yet."""
LATEST: Final = (3, 14)
"""The version whose figures stand for later ones."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Bytes that free threading adds, by cause: `threads` have heaps of their own, `ended` ones left theirs.

    `kept_bytes` is all that threads besides the main one own, `count` how many of them are known.
    """

    threads_bytes: float
    ended_bytes: float
    objects_bytes: float
    start_bytes: float
    kept_bytes: int
    count: int

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.threads_bytes + self.ended_bytes + self.objects_bytes + self.start_bytes

    @property
    def mean_bytes(self) -> float:
        """What one thread owns."""
        return self.kept_bytes / self.count if self.count else 0.0


def why_not(facts: Facts) -> str | None:
    """Why nothing can be said of the memory, or None."""
    reading = facts.memory.reading
    if reading is None:
        return facts.memory.not_measured.get("memory", "no reading of the memory in this range")
    if MemoryKind.PYTHON_HEAPS not in reading.kinds or not reading.rss_bytes:
        reasons = (f"memory.{MemoryKind.PYTHON_HEAPS.label}", "memory.kinds")
        told = [facts.memory.not_measured[name] for name in reasons if name in facts.memory.not_measured]
        return told[0] if told else "Python's heaps could not be told from other memory"
    return None


def explained(facts: Facts) -> Explained:
    """What free threading adds to a process whose memory was read (`why_not` is None)."""
    reading = facts.memory.reading
    assert reading is not None
    version = min(max(facts.version, (3, 13)), LATEST)
    owned = [
        thread.total_bytes
        for thread in facts.memory.threads
        if thread.info.python and not thread.info.main and thread.total_bytes is not None
    ]
    most = USED_THREAD_BYTES[version]
    threads = sum(max(0, min(own, most) - USED_THREAD_WITH_GIL_BYTES) for own in owned)
    ended = reading.ended_heap_bytes or 0
    objects = max(0, reading.kinds[MemoryKind.PYTHON_HEAPS] - threads - ended)
    return Explained(
        threads_bytes=threads,
        ended_bytes=ended,
        objects_bytes=objects * (1 - 1 / OBJECTS_RATIO[version]),
        start_bytes=START_BYTES[version],
        kept_bytes=sum(owned),
        count=len(owned),
    )


def resident_bytes(facts: Facts, parts: Explained) -> int:
    """The resident size that parts of it are compared with (at least 1).

    It is read a moment before its parts, between which the process may grow: it is never below them.
    """
    reading = facts.memory.reading
    assert reading is not None
    told = max(sum(reading.kinds.values()), parts.kept_bytes + parts.ended_bytes)
    return max(1, reading.rss_bytes or 0, int(told))


def size_words(value_bytes: float) -> str:
    """A size in MB: "61 MB", "1.1 MB"."""
    value = value_bytes / 1e6
    return f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"
