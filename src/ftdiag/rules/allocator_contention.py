"""allocator-contention: threads meet in libc's malloc (extensions and raw memory, not Python's objects)."""

from __future__ import annotations

import re
from typing import Final

from ftdiag.model import Remedy, ThreadState
from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    Found,
    Need,
    NotApplicable,
    Rule,
    Threshold,
    Verdict,
    evidence,
    subject_of,
)
from ftdiag.rules.charges import symbol_share
from ftdiag.rules.libraries import on_cpu_cores
from ftdiag.rules.library import together, together_evidence
from ftdiag.rules.preload import preload_jemalloc
from ftdiag.rules.wording import lose, of_cores, report_again

LIBC_SHARE: Final = Threshold(
    "libc_malloc_share_of_samples",
    0.2,
    "ratio",
    "libc's allocator in a fifth of the native samples; Python's objects come from mimalloc and do not count",
)
_LIBC: Final = re.compile(
    r"_int_(?:malloc|free\w*|realloc|memalign)|malloc_consolidate|unlink_chunk|sysmalloc\w*|arena_get\w*"
    r"|(?:__libc_|__)?(?:malloc|free|calloc|realloc)|tcache_\w+|__lll_lock_wait\w*"
)


def _judge(facts: Facts) -> Verdict:
    found = together(facts, RULE.id)
    arenas = facts.environment("MALLOC_ARENA_MAX")
    named = [line for line in facts.hot if line.native]
    cores = on_cpu_cores(facts, named)
    inside = sum(on_cpu_cores(facts, [line]) * symbol_share(line, _LIBC) for line in named)
    part = inside / cores if cores > 0 else 0.0
    if not found.locks and not named:
        return NotApplicable(
            "no malloc arena was waited for, and libc's part of the CPU time needs native function names"
        )
    contended = facts.loses(found.lost_cores, RULE.id)
    one_arena = arenas == "1" and facts.over(LIBC_SHARE, part, RULE.id)
    if not contended and not one_arena:
        return Clear()
    setting = f" MALLOC_ARENA_MAX={arenas} leaves them few arenas." if arenas and arenas.isdigit() else ""
    remedies = [
        Remedy(
            "preload jemalloc, which frees other threads' memory without their lock: 0.09x -> 1.33x /"
            " 1.47x, and 6 times the buffers on two threads in a library whose threads free each other's;"
            " without oversize_threshold:0 buffers of 8 MB become far slower",
            preload_jemalloc(facts.target),
        ),
        Remedy(
            "free memory in the thread that allocated it, or reuse buffers",
            "pool = [Buffer() for _ in range(n)]",
        ),
    ]
    if setting:
        remedies.insert(
            0,
            Remedy(
                "remove MALLOC_ARENA_MAX: with 1 it measured 0.37x", "env -u MALLOC_ARENA_MAX python app.py"
            ),
        )
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=found.lost_cores,
                confidence="likely" if found.locks else "possible",
                subject=subject_of(found.frame),
                summary=(
                    f"{found.threads if found.locks or found.lines else 'Threads'}"
                    f" {lose(found.threads) if found.locks or found.lines else 'lose'}"
                    f" {of_cores(found.lost_cores, facts.capacity)} in libc's malloc and"
                    f" free{found.at}.{setting}"
                ),
                explanation=(
                    "The contended memory is libc's: C extensions and raw buffers use it. Freeing what"
                    " another thread allocated"
                    " takes that thread's arena: measured 0.09x on 2 threads. Python's own objects come from"
                    " mimalloc heaps of"
                    " each thread and scale (1.4-2.1x); jemalloc changes nothing for them (0.88-1.02x), and"
                    " PYTHONMALLOC is no"
                    " way out: free-threaded builds refuse malloc and pymalloc and do not start."
                ),
                could_also_be=("page-fault-storm: big buffers that come fresh from the kernel each time",),
                remedy=tuple(remedies),
                verify=f"{report_again(facts.pid)}: no wait for 'malloc arena' under Locks",
                evidence=(
                    *together_evidence(facts, found),
                    evidence("libc_malloc_share_of_samples", part, "ratio", LIBC_SHARE),
                    evidence("allocation", facts.cores_in(ThreadState.ALLOC), "cores"),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="allocator-contention",
    title="Threads meet in libc's malloc",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING, LIBC_SHARE),
    judge=_judge,
)
