"""nested-parallelism: threads of BLAS or OpenMP compete with Python's threads for the same cores."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, Remedy, ThreadState
from ftdiag.rules.attribution.cores import NATIVE_SHARE, QUEUE, demand, shortage_of
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Judgement,
    Need,
    Rule,
    Shortage,
    evidence,
    finite,
)
from ftdiag.rules.base.scoring import WARNING_SCORE
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import of_cores, plural


def _judge(facts: Facts) -> Judgement:
    found = demand(facts)
    if shortage_of(facts, found) is not Shortage.LIBRARY:
        return Clear()
    waits = finite(facts.metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0))
    lost = waits + found.native_spin_cores
    native = plural(
        found.native_threads, "thread that is not Python's uses", "threads that are not Python's use"
    )
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely",
        least_score=WARNING_SCORE,
        at_least=True,
        summary=(
            f"Two levels of threads cost at least {of_cores(lost, facts.capacity)}: {native}"
            f" {found.native_cores:.1f} cores beside {plural(found.python_busy, 'busy Python thread')}, and"
            f" {found.queued:.1f} threads wait for a core."
        ),
        explanation=(
            "A library (BLAS, OpenMP) starts threads of its own for each call, and so does the"
            " program. They compete for the same cores, and library threads spin while they wait"
            " for each other. The loss given is what threads were seen to wait for a core, and what"
            " threads of the library were seen to spin; what they wait in loops of the library's own"
            " shows as work."
        ),
        could_also_be=("oversubscription: too many Python threads alone",),
        remedy=(
            Remedy(
                "let the library use one thread where Python threads are many",
                "OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python app.py",
            ),
            Remedy(
                "or limit it for a part of the program",
                "from threadpoolctl import threadpool_limits\nwith threadpool_limits(limits=1): ...",
            ),
        ),
        verify=f"{report_again(facts.pid)}: threads of the role 'native' are idle, throughput rises",
        evidence=(
            evidence(
                "native_share_of_cpu",
                found.native_cores / found.running if found.running else 0.0,
                "ratio",
                NATIVE_SHARE,
            ),
            evidence("waiting_for_a_core", found.queued / facts.capacity, "threads per core", QUEUE),
            evidence("native_threads", float(found.native_threads), "threads"),
            evidence("native_spin", found.native_spin_cores, "cores"),
        ),
    )


RULE: Final = Rule(
    id="nested-parallelism",
    title="Two levels of threads on the same cores",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(QUEUE, NATIVE_SHARE),
    judge=_judge,
    claims=Claims(shortage=Shortage.LIBRARY),
    without="what the library would take with fewer threads is not in the recording",
    about=frozenset({BottleneckKind.CORES}),
)
