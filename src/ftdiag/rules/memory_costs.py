"""What free threading itself costs in memory, as measured, and how much of a process that explains.

In: the memory of the facts; memory.tsv beside this module, which bench/memory_costs.py writes: resident bytes
on each version, and on a build with the GIL, x86-64, glibc. Out: `Explained`, and figures for prose.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import MemoryKind, Remedy
from ftdiag.rules.base import Facts
from ftdiag.rules.measured import GAIN, times

TABLE: Final = "memory.tsv"
GIL: Final = "gil"
"""The rows of the build with the GIL."""
OBJECT: Final = "object-"
"""How the names of rows about one object begin."""


@functools.cache
def table() -> Mapping[tuple[str, str], tuple[str, float]]:
    """(what, series) -> (version, bytes), in the order of the file."""
    text = resources.files(__package__ or "").joinpath(TABLE).read_text(encoding="utf-8")
    _, *lines = (line.split("\t") for line in text.splitlines())
    return {(what, series): (version, float(size)) for what, series, version, size in lines}


def series_of(version: tuple[int, int]) -> str:
    """The series whose rows a version is judged by: the nearest that was measured."""
    known = sorted(tuple(map(int, series.split("."))) for _, series in table() if series != GIL)
    nearest = max((one for one in known if one <= version), default=known[0])
    return f"{nearest[0]}.{nearest[1]}"


def measured_bytes(what: str, series: str) -> float:
    """Bytes of a row; 0 where there is none."""
    return table().get((what, series), ("", 0.0))[1]


def objects_ratio(series: str) -> float:
    """The size of objects over that with the GIL, the mean over all kinds."""
    kinds = [what for what, of in table() if of == GIL and what.startswith(OBJECT)]
    ratios = [measured_bytes(what, series) / measured_bytes(what, GIL) for what in kinds]
    return sum(ratios) / len(ratios) if ratios else 1.0


def against_gil(what: str, version: tuple[int, int]) -> str:
    """ "1.5 MB on 3.15.1t, 0.1 MB with the GIL"."""
    series = series_of(version)
    known, size = table()[what, series]
    return f"{size_words(size)} on {known}t, {size_words(measured_bytes(what, GIL))} with the GIL"


def purge_remedy(what: str, version: tuple[int, int], text: str) -> tuple[Remedy, ...]:
    """MIMALLOC_PURGE_DELAY=0 with what it was measured to give back; none where it gives back nothing."""
    series = series_of(version)
    kept, purged = measured_bytes(what, series), measured_bytes(f"{what} purge-at-once", series)
    if kept <= 0 or purged <= 0 or kept / purged < GAIN:
        return ()
    known, _ = table()[what, series]
    told = f"{size_words(kept)} became {size_words(purged)}, {times(kept / purged)} times less"
    return (Remedy(f"{text}: {told} (measured on {known}t)", "MIMALLOC_PURGE_DELAY=0 python app.py"),)


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


def size_words(value_bytes: float) -> str:
    """A size in MB: "61 MB", "1.1 MB"."""
    value = value_bytes / 1e6
    return f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"
