"""allocator-contention: threads meet in libc's malloc (extensions and raw memory, not Python's objects)."""

from __future__ import annotations

from typing import Final

from ftdiag.model import LockKind, ThreadState
from ftdiag.rules.attribution.libraries import on_cpu_cores
from ftdiag.rules.attribution.machine_code import pattern_of, symbol_share
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineClaim,
    LockClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    Threshold,
    evidence,
    subject_of,
)
from ftdiag.rules.prose.library import together, together_evidence
from ftdiag.rules.prose.preload import preload_jemalloc
from ftdiag.wording.findings import report_again
from ftdiag.wording.threads import lose
from ftdiag.wording.units import of_cores

LIBC_SHARE: Final = Threshold(
    "libc_malloc_share_of_samples",
    0.2,
    "ratio",
    "libc's allocator in a fifth of the native samples; Python's objects come from mimalloc and do not count",
)
LIBC: Final = (
    *("_int_malloc", "_int_free*", "_int_realloc", "_int_memalign", "malloc_consolidate", "unlink_chunk"),
    *("sysmalloc*", "arena_get*", "malloc", "free", "calloc", "realloc", "__malloc", "__free", "__calloc"),
    *("__realloc", "__libc_malloc", "__libc_free", "__libc_calloc", "__libc_realloc", "tcache_?*"),
    "__lll_lock_wait*",
)
"""Functions of libc's allocator."""
MAIN_SYMBOLS: Final = 5
"""It counts only where it is among so many first functions of a line: a little of it is everywhere."""

RAW_IS_MIMALLOC: Final = (3, 15)
"""From this version on PyMem_RawMalloc takes memory of mimalloc, too (Objects/obmalloc.c: `PYRAW_ALLOC` is
`MIMALLOC_RAWALLOC` in free-threaded builds; measured: raw-malloc in the table)."""


def _whose(facts: Facts) -> str:
    """Who takes memory of libc on the target's version."""
    if facts.version >= RAW_IS_MIMALLOC:
        return "C libraries and extensions that call malloc themselves use it"
    return "C libraries, extensions and the interpreter's raw buffers use it"


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    arenas = facts.environment("MALLOC_ARENA_MAX")
    named = [line for line in facts.hot if line.native]
    cores = on_cpu_cores(facts, named)
    inside = sum(on_cpu_cores(facts, [line]) * symbol_share(line, pattern_of(LIBC)) for line in named)
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
    remedies = (
        *(
            facts.remedy("arenas", "all", "remove MALLOC_ARENA_MAX", "env -u MALLOC_ARENA_MAX python app.py")
            if setting
            else ()
        ),
        *facts.remedy(
            *("malloc", "jemalloc"),
            "preload jemalloc, which frees other threads' memory without their lock (oversize_threshold:0,"
            " because without it big buffers become far slower)",
            preload_jemalloc(facts.target),
        ),
        *facts.remedy(
            *("malloc", "freed-by-its-owner"),
            "free memory in the thread that allocated it, or reuse buffers",
            "pool = [Buffer() for _ in range(n)]",
        ),
    )
    return RULE.finding(
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
            f"The contended memory is libc's: {_whose(facts)}. Freeing what another thread"
            " allocated takes that thread's arena: two threads of a C library that free each other's"
            f" buffers do {facts.scaling('malloc', 'freed-by-another')} of what one does. Python's"
            " own objects come from mimalloc heaps of each thread and scale"
            f" ({facts.scaling('python-objects', 'mimalloc')}); jemalloc changes nothing for them,"
            " and PYTHONMALLOC is no way out: free-threaded builds refuse malloc and pymalloc and do"
            " not start."
        ),
        could_also_be=("page-fault-storm: big buffers that come fresh from the kernel each time",),
        remedy=remedies,
        verify=f"{report_again(facts.pid)}: no wait for 'malloc arena' under Locks",
        evidence=(
            *together_evidence(facts, found),
            evidence("libc_malloc_share_of_samples", part, "ratio", LIBC_SHARE),
            evidence("allocation", facts.cores_in(ThreadState.ALLOC), "cores"),
        ),
    )


RULE: Final = Rule(
    id="allocator-contention",
    title="Threads meet in libc's malloc",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING, LIBC_SHARE),
    judge=_judge,
    without="what another allocator would take is not in the recording",
    claims=Claims(
        locks=(LockClaim(Priority.KIND, kinds=(LockKind.NATIVE,)),),
        lines=(LineClaim(Priority.NAMED + 3, symbols=LIBC, among_first=MAIN_SYMBOLS),),
    ),
    advice=Advice.LINE,
    cases=("malloc", "raw-malloc", "arenas", "python-objects"),
)
