"""What of a process's memory free threading itself explains.

In: the memory of the facts, and what was measured (`figures.memory`). Out: `Explained`.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import MemoryKind
from ftdiag.rules.base import Facts, Threshold
from ftdiag.rules.figures.memory import GIL, measured_bytes, objects_ratio, series_of

OWN_OF_A_THREAD: Final = Threshold(
    "own_memory_of_a_thread",
    2 << 20,
    "bytes",
    "more than a thread keeps that used much of the standard library: the program's own",
)


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
    series = series_of(facts.version)
    owned = [
        thread.total_bytes
        for thread in facts.memory.threads
        if thread.info.python and not thread.info.main and thread.total_bytes is not None
    ]
    most, with_gil = measured_bytes("used-thread", series), measured_bytes("used-thread", GIL)
    threads = sum(max(0.0, min(own, most) - with_gil) for own in owned)
    ended = reading.ended_heap_bytes or 0
    objects = max(0.0, reading.kinds[MemoryKind.PYTHON_HEAPS] - threads - ended)
    return Explained(
        threads_bytes=threads,
        ended_bytes=ended,
        objects_bytes=objects * (1 - 1 / max(1.0, objects_ratio(series))),
        start_bytes=max(0.0, measured_bytes("start", series) - measured_bytes("start", GIL)),
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
