"""memory-overhead: memory that the free-threaded build costs, and what of it can be had back."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Finding, Remedy
from ftdiag.rules.attribution.memory import OWN_OF_A_THREAD, Explained, explained, resident_bytes, why_not
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
from ftdiag.rules.figures.measured import times
from ftdiag.rules.figures.memory import against_gil, objects_ratio, purge_remedy, series_of, size_words
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import plural

PART: Final = Threshold(
    "heaps_of_threads",
    0.2,
    "ratio",
    "of the resident memory, in heaps of threads now and of those that ended: 15 to 20 % more is usual"
    " anyway",
)
LEAST_BYTES: Final = Threshold(
    "heaps_of_threads_in_all",
    32 << 20,
    "bytes",
    "less than 32 MiB in all is seldom worth changing a program",
)
GRAVE_PART: Final = 0.3
GRAVE_BYTES: Final = 128 << 20
"""From this part of the process and this much on, what ended threads left behind is a warning."""


def _judge(facts: Facts) -> Judgement:
    missing = why_not(facts)
    if missing is not None:
        return NotApplicable(missing)
    found = explained(facts)
    rss = resident_bytes(facts, found)
    # Threads that keep more than free threading explains are memory-per-thread's.
    own = 0.0 if found.mean_bytes >= OWN_OF_A_THREAD.value else found.threads_bytes
    heaps = own + found.ended_bytes
    if not (facts.over(PART, heaps / rss, RULE.id) and facts.over(LEAST_BYTES, heaps, RULE.id)):
        return Clear()
    return _finding(facts, found, own, rss)


def _finding(facts: Facts, found: Explained, own: float, rss: int) -> Finding:
    heaps = own + found.ended_bytes
    grave = found.ended_bytes >= max(GRAVE_BYTES, GRAVE_PART * rss)
    parts = []
    if own:
        parts.append(f"{size_words(own)} in the heaps of {plural(found.count, 'thread')}")
    if found.ended_bytes >= 1 << 20:
        parts.append(f"{size_words(found.ended_bytes)} in heaps of threads that have ended")
    remedies = []
    if own >= found.ended_bytes:
        remedies.append(
            Remedy(
                "fewer threads: as many as cores for computing",
                "pool = ThreadPoolExecutor(max_workers=os.process_cpu_count())",
            )
        )
    if found.ended_bytes >= 1 << 20:
        remedies += [
            Remedy(
                "keep threads instead of starting new ones: a pool's workers use their heaps again",
                "pool = ThreadPoolExecutor(max_workers=os.process_cpu_count())",
            ),
            *purge_remedy(
                "kept-by-ended-thread",
                facts.version,
                "let mimalloc give back at once what is free, which costs speed where much is allocated",
            ),
        ]
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="likely",
        least_score=WARNING_SCORE if grave else 0.0,
        summary=(
            f"Free threading explains about {size_words(found.total_bytes)} of {size_words(rss)}:"
            f" {', '.join(parts)}, {size_words(found.objects_bytes)} in larger objects."
        ),
        explanation=(
            "A thread that used the standard library keeps"
            f" {against_gil('used-thread', facts.version)}, because each has a heap of its own; an object"
            " without a container's header is a head larger, which makes objects"
            f" {times(objects_ratio(series_of(facts.version)))}x as large over all kinds; a started"
            f" interpreter has {against_gil('start', facts.version)}. What a thread leaves behind when it"
            " ends stays resident until another thread takes it over. The rest of the memory, about"
            f" {size_words(max(0.0, rss - found.total_bytes))}, is the"
            " program's own: look there if it is what grew."
        ),
        could_also_be=(
            "memory-per-thread: threads that keep more than that",
            "strings made at run time and interned: they are never freed",
        ),
        remedy=tuple(remedies),
        verify=f"{report_again(facts.pid)}: JSON memory.kinds.python_heaps and ended_threads_heap_bytes fall",
        evidence=(
            evidence("heaps_of_threads", heaps / rss, "ratio", PART),
            evidence("heaps_of_threads_in_all", heaps, "bytes", LEAST_BYTES),
            evidence("heaps_of_ended_threads", found.ended_bytes, "bytes"),
            evidence("larger_objects", found.objects_bytes, "bytes"),
            evidence("explained", share_of(found, rss), "ratio"),
        ),
    )


def share_of(found: Explained, rss: int) -> float:
    """The part of the process that free threading explains."""
    return min(1.0, found.total_bytes / rss)


RULE: Final = Rule(
    id="memory-overhead",
    title="Memory that the free-threaded build costs",
    needs=(Need.TICKS, Need.FREE_THREADED),
    thresholds=(PART, LEAST_BYTES),
    judge=_judge,
)
