"""retained-memory: allocators keep what the program has freed, and the process stays as large as it was."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Finding, MemoryKind, MemoryReading, Remedy
from ftdiag.rules.base import (
    Clear,
    Facts,
    Judgement,
    Need,
    NotApplicable,
    Rule,
    Threshold,
    evidence,
)
from ftdiag.rules.base.scoring import WARNING_SCORE
from ftdiag.rules.figures.memory import measured_bytes, purge_remedy, series_of, size_words, table
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import share

PART: Final = Threshold(
    "free_in_heaps",
    0.3,
    "ratio",
    "of the resident memory: programs that allocate and free all the time keep a fifth for the next time",
)
LEAST_BYTES: Final = Threshold(
    "free_in_heaps_in_all", 64 << 20, "bytes", "less than 64 MiB in all is seldom worth a change of a program"
)
GRAVE_PART: Final = 0.5
GRAVE_BYTES: Final = 128 << 20
"""From this part of the process and this much on, it is a warning."""
LIBC_KEPT: Final = "libc-kept"
"""The row of what malloc keeps, until malloc_trim is called."""


def _judge(facts: Facts) -> Judgement:
    reading = facts.memory.reading
    if reading is None or (reading.libc_free_bytes is None and reading.heaps_free_bytes is None):
        reasons = (reading.not_measured if reading is not None else facts.memory.not_measured).values()
        return NotApplicable(next(iter(reasons), "no reading of what is free in the heaps in this range"))
    kept = _kept(reading)
    rss = max(1, reading.rss_bytes or 0, kept)
    if facts.over(PART, kept / rss, RULE.id) and facts.over(LEAST_BYTES, kept, RULE.id):
        return _finding(facts, reading, kept, rss)
    return Clear()


def _kept(reading: MemoryReading) -> int:
    """What is free, never more than what the heaps have."""
    libc = reading.kinds.get(MemoryKind.LIBC_HEAP, 0) + reading.kinds.get(MemoryKind.LIBC_ARENAS, 0)
    heaps = reading.kinds.get(MemoryKind.PYTHON_HEAPS, 0)
    return min(reading.libc_free_bytes or 0, libc) + min(reading.heaps_free_bytes or 0, heaps)


def _finding(facts: Facts, reading: MemoryReading, kept: int, rss: int) -> Finding:
    libc, heaps = reading.libc_free_bytes or 0, reading.heaps_free_bytes or 0
    parts = [
        f"{size_words(size)} in {where}"
        for size, where in ((libc, "libc's heaps"), (heaps, "Python's heaps"))
        if size >= 0.1 * kept
    ]
    remedies = []
    if libc >= 0.1 * kept:
        remedies.append(_trim(facts))
    if heaps >= 0.1 * kept:
        remedies += purge_remedy(
            "kept-by-live-thread",
            facts.version,
            "let mimalloc give back at once what is free, which costs speed where much is allocated",
        )
    remedies.append(
        Remedy("do what needs much memory once in a process of its own, which gives back all of it")
    )
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="known",
        least_score=WARNING_SCORE if kept >= max(GRAVE_BYTES, GRAVE_PART * rss) else 0.0,
        summary=(
            f"{size_words(kept)}, {share(kept, rss)} of the process, are free and were not given back to the"
            f" system: {' and '.join(parts)}."
        ),
        explanation=(
            "An allocator keeps what is freed for the next time. malloc gives back what lies at the end of a"
            " heap only: one block behind it holds all of it. So the process stays as large as it was at its"
            " largest, and nothing leaks. What is free was read from the allocators' own lists."
        ),
        could_also_be=("a program that will need it again soon: then leave it",),
        remedy=tuple(remedies),
        verify=f"{report_again(facts.pid)}: JSON memory.rss_bytes and memory.libc_free_bytes fall",
        evidence=(
            evidence("free_in_heaps", kept / rss, "ratio", PART),
            evidence("free_in_heaps_in_all", kept, "bytes", LEAST_BYTES),
            evidence("free_in_libc", libc, "bytes"),
            evidence("free_in_python_heaps", heaps, "bytes"),
        ),
    )


def _trim(facts: Facts) -> Remedy:
    series = series_of(facts.version)
    kept, after = (measured_bytes(what, series) for what in (LIBC_KEPT, f"{LIBC_KEPT}-after-trim"))
    told = f": {size_words(kept)} became {size_words(after)} (measured on {table()[LIBC_KEPT, series][0]}t)"
    return Remedy(
        f"call malloc_trim(0) when much was freed{told if kept > 0 else ''}",
        "import ctypes\nctypes.CDLL(None).malloc_trim(0)      # after the peak",
    )


RULE: Final = Rule(
    id="retained-memory",
    title="Memory that allocators keep",
    needs=(Need.TICKS,),
    thresholds=(PART, LEAST_BYTES),
    judge=_judge,
)
