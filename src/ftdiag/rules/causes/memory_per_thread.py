"""memory-per-thread: each thread keeps much memory of its own."""

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
from ftdiag.rules.figures.memory import against_gil, purge_remedy, size_words
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import short
from ftdiag.wording.threads import thread_names
from ftdiag.wording.units import share

PART: Final = Threshold(
    "own_memory_of_threads",
    0.3,
    "ratio",
    "of the resident memory: below a third the threads are not what makes the process large",
)
LEAST_BYTES: Final = Threshold(
    "own_memory_of_threads_in_all",
    64 << 20,
    "bytes",
    "less than 64 MiB in all is seldom worth a change of a program",
)
GRAVE_PART: Final = 0.5
GRAVE_BYTES: Final = 128 << 20
"""From this part of the process and this much on, it is a warning."""
IDLE_SHARE: Final = 0.01
"""A thread that was on a core for less than this part of its life did nothing."""


def _judge(facts: Facts) -> Judgement:
    missing = why_not(facts)
    if missing is not None:
        return NotApplicable(missing)
    found = explained(facts)
    rss = resident_bytes(facts, found)
    part = found.kept_bytes / rss
    large = (
        facts.over(OWN_OF_A_THREAD, found.mean_bytes, RULE.id)
        and facts.over(PART, part, RULE.id)
        and facts.over(LEAST_BYTES, found.kept_bytes, RULE.id)
    )
    if found.count < 2 or not large:
        return Clear()
    return _finding(facts, found, rss)


def _finding(facts: Facts, found: Explained, rss: int) -> Finding:
    part = found.kept_bytes / rss
    own = [each for each in facts.memory.threads if each.info.python and not each.info.main]
    idle = sum(
        thread.info.python and not thread.info.main and thread.cpu_ns < IDLE_SHARE * thread.alive_ns
        for thread in facts.threads
    )
    names = thread_names([each.info for each in own])
    grave = part >= GRAVE_PART and found.kept_bytes >= GRAVE_BYTES
    most = own[0]
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="known",
        subject={"thread": most.info.name},
        least_score=WARNING_SCORE if grave else 0.0,
        summary=(
            f"{names} keep {size_words(found.kept_bytes)} of their own, {share(found.kept_bytes, rss)} of the"
            f" process: {size_words(found.mean_bytes)} each; {idle} of them hardly ran."
        ),
        explanation=(
            "Each thread of a free-threaded build has a heap of its own, and what it allocated stays there"
            " as long as the thread lives. A mix of the standard library alone accounts for"
            f" {against_gil('used-thread', facts.version)};"
            " the rest is what the program keeps once for each of them. The largest is"
            f" {short(most.info.name)} with {size_words(most.total_bytes or 0)}."
        ),
        could_also_be=("a thread that works on much data at a time: then it shrinks again",),
        remedy=(
            Remedy(
                "fewer threads: each that is not needed gives its heap back",
                "pool = ThreadPoolExecutor(max_workers=os.process_cpu_count())",
            ),
            *purge_remedy(
                "kept-by-live-thread",
                facts.version,
                "where they freed much of it after a peak, let mimalloc give that back at once",
            ),
            Remedy(
                "one cache for all threads, filled once and then only read, in place of one for each",
                "CACHE = load()        # module level\n\ndef handle(request):\n    return CACHE[request.key]",
            ),
        ),
        verify=f"{report_again(facts.pid)}: JSON memory.per_thread_bytes and memory.rss_bytes fall",
        evidence=(
            evidence("own_memory_of_a_thread", found.mean_bytes, "bytes", OWN_OF_A_THREAD),
            evidence("own_memory_of_threads", part, "ratio", PART),
            evidence("own_memory_of_threads_in_all", found.kept_bytes, "bytes", LEAST_BYTES),
            evidence("threads", found.count, "threads"),
            evidence("threads_that_hardly_ran", idle, "threads"),
        ),
    )


RULE: Final = Rule(
    id="memory-per-thread",
    title="Memory that each thread costs",
    needs=(Need.TICKS, Need.FREE_THREADED),
    thresholds=(OWN_OF_A_THREAD, PART, LEAST_BYTES),
    judge=_judge,
)
