"""gil-bound: threads of a GIL build wait for the GIL; what free threading could gain at most."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, ChangeKind, LockKind, Remedy, ThreadState
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.base import (
    WORTH_SAYING,
    Claims,
    Clear,
    Facts,
    Judgement,
    LockClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    evidence,
    finite,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import of_cores

FIRST_FREE_THREADED: Final = (3, 13)
"""Versions before have no free-threaded build."""


def _judge(facts: Facts) -> Judgement:
    if facts.target.free_threaded:
        return NotApplicable("a free-threaded build: gil-enabled speaks of its GIL")
    lost = finite(facts.metrics.lost_cores.get(ThreadState.GIL, 0.0))
    if not facts.loses(lost, RULE.id):
        return Clear()
    working = facts.metrics.on_cpu_cores
    gain = (working + lost) / working if working > 0 else 1.0
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely",
        summary=(
            f"Threads lose {of_cores(lost, facts.capacity)} waiting for the GIL: a free-threaded"
            " build"
            f" could make this program at most {gain:.1f} times as fast."
        ),
        explanation=(
            "This is a GIL build, and threads were seen waiting for the GIL while cores were free."
            " The"
            " bound counts each such wait as work; locks, shared objects and what the"
            " free-threaded build costs a single thread come off it."
        ),
        remedy=(
            _try_it(facts),
            Remedy(
                "use processes where threads share little",
                "with concurrent.futures.ProcessPoolExecutor() as pool: ...",
            ),
        ),
        verify=f"{report_again(facts.pid)} on the free-threaded build: nobody waits for the GIL",
        evidence=(
            evidence("lost_share_of_capacity", lost / facts.capacity, "ratio", WORTH_SAYING),
            evidence("gil_wait", facts.cores_in(ThreadState.GIL), "threads"),
            evidence("gain_bound", gain, "times"),
        ),
    )


def _try_it(facts: Facts) -> Remedy:
    if facts.version < FIRST_FREE_THREADED:
        return Remedy(
            "move to Python 3.14 first, which has a supported free-threaded build, and try that",
            "python3.14t app.py",
        )
    return Remedy("try the free-threaded build of the same version", "python3.14t app.py")


RULE: Final = Rule(
    id="gil-bound",
    title="Threads wait for the GIL",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=everywhere(ChangeKind.GIL),
    claims=Claims(locks=(LockClaim(Priority.GIL + 1, kinds=(LockKind.GIL,)),)),
    about=frozenset({BottleneckKind.GIL}),
)
