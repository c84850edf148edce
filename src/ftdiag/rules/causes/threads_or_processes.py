"""threads-or-processes: what processes in place of threads would spare a program, and what they take."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy, ThreadState
from ftdiag.rules.base import (
    Clear,
    Facts,
    Judgement,
    Need,
    NotApplicable,
    Rule,
    Threshold,
    evidence,
    finite,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import of_cores, size

SHARING: Final = Threshold(
    "lost_to_sharing_share_of_capacity",
    0.15,
    "ratio",
    "threads that lose less to what they share are the simpler and smaller choice whatever processes take",
)
LARGE: Final = Threshold(
    "rss_bytes",
    100 << 20,
    "bytes",
    "a program that takes less is copied for little: its memory does not decide between the two",
)
_SHARED: Final = (
    ThreadState.LOCK,
    ThreadState.OBJECT_LOCK,
    ThreadState.RUNTIME_LOCK,
    ThreadState.STOPPED,
    ThreadState.ATOMIC,
    ThreadState.SPIN,
)


def _judge(facts: Facts) -> Judgement:
    rss = facts.memory.rss_bytes
    if rss is None:
        return NotApplicable("the resident size was not read")
    lost = sum(finite(facts.metrics.lost_cores.get(state, 0.0)) for state in _SHARED)
    part = lost / facts.capacity
    processes = round(min(facts.capacity, facts.metrics.threads_with_work))
    if processes < 2 or not facts.over(SHARING, part, RULE.id) or not facts.over(LARGE, rss, RULE.id):
        return Clear()
    per_thread = facts.memory.per_thread_bytes
    threads = facts.metrics.threads_with_work
    own = finite(per_thread or 0.0) * threads
    one = max(0.0, rss - own) + own / threads
    whole = one * processes
    of_thread = "" if per_thread is None else f", {size(per_thread)} of it each thread's own"
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="likely" if per_thread is not None else "possible",
        summary=(
            f"Threads lose {of_cores(lost, facts.capacity)} to what they share;"
            f" {processes} processes would not, and would take {size(whole)} in place of {size(rss)}."
        ),
        explanation=(
            f"The process takes {size(rss)}{of_thread}. Each of {processes} processes with a thread"
            f" has what all use together for itself: {size(one)}, {size(whole - rss)} more in all,"
            " if nothing of it is shared after a fork. What the other findings name costs less to"
            " mend where it can be; processes are the way out where it cannot."
        ),
        could_also_be=("shared after a fork, as long as nobody writes there: reference counts write",),
        remedy=(
            Remedy("mend the findings above first: threads then take no memory more"),
            Remedy(
                f"processes instead (multiprocessing, or workers of the server), {processes} of"
                f" them, if {size(whole)} are there and requests need nothing of each other"
            ),
        ),
        verify=f"{report_again(facts.pid)}: lost cores and the resident size, of both ways",
        evidence=(
            evidence("lost_to_sharing_share_of_capacity", part, "ratio", SHARING),
            evidence("lost_to_sharing", lost, "cores"),
            evidence("rss_bytes", rss, "bytes", LARGE),
            evidence("processes", processes, "processes"),
            evidence("processes_bytes", whole, "bytes"),
            *(() if per_thread is None else (evidence("per_thread_bytes", per_thread, "bytes"),)),
        ),
    )


RULE: Final = Rule(
    id="threads-or-processes",
    title="What processes would spare and take",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(SHARING, LARGE),
    judge=_judge,
)
