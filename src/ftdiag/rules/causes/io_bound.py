"""io-bound: threads wait for I/O; cores are not what is missing."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, Finding, Remedy, ThreadMetrics, ThreadState
from ftdiag.rules.attribution.shape import judge_of_shape
from ftdiag.rules.base import (
    Claims,
    Facts,
    Need,
    Room,
    Rule,
    Shape,
    ShapeClaim,
    Threshold,
    evidence,
    subject_of,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import short
from ftdiag.wording.units import share

IO_SHARE: Final = Threshold(
    "io_share_of_wanted_time",
    0.5,
    "ratio",
    "more than half of the time in which threads had something to do they waited for I/O",
)


def _tell(facts: Facts, shape: Shape, waiting_most: ThreadMetrics) -> Finding:
    details: dict[str, float] = {}
    for thread in facts.threads:
        for wait, spent in thread.waits:
            if (
                wait.detail is not None
                and wait.lock is None
                and thread.states_ns.get(ThreadState.IO, 0.0) > 0
            ):
                details[wait.detail] = details.get(wait.detail, 0.0) + spent
    most = max(sorted(details), key=lambda each: details[each]) if details else None
    what = f" (most: {short(most)})" if most is not None else ""
    waiting = facts.cores_in(ThreadState.IO)
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="known",
        subject=subject_of(None, thread=waiting_most.info.name),
        summary=(
            "Of the time in which threads have something to do, they wait for I/O for"
            f" {share(shape.share, 1.0)}{what}: this program is I/O-bound."
        ),
        explanation=(
            f"On average {waiting:.1f} threads were in a blocking I/O call and"
            f" {facts.metrics.on_cpu_cores:.1f} on a core. Threads or asyncio are both fine for"
            " that. Free threading will not make it faster: a thread in I/O did not hold the GIL"
            " either."
        ),
        could_also_be=("a slow disk or server behind it",),
        remedy=(
            Remedy(
                "wait for more at the same time (more threads, or asyncio), or make the other side faster",
                "pool = ThreadPoolExecutor(max_workers=64)   # more than cores: for I/O",
            ),
        ),
        verify=f"{report_again(facts.pid)}: more requests per second, the same CPU time for each",
        evidence=(
            evidence("io_share_of_wanted_time", shape.share, "ratio", IO_SHARE),
            evidence("in_io", waiting, "threads"),
            evidence("on_cpu", facts.metrics.on_cpu_cores, "cores"),
        ),
    )


def _shape(facts: Facts, room: Room) -> Shape | None:
    apart = (ThreadState.IDLE, ThreadState.SLEEP)
    wanted = io = 0.0
    for thread in room.python:
        wanted += thread.alive_ns - sum(thread.states_ns.get(state, 0.0) for state in apart)
        io += thread.states_ns.get(ThreadState.IO, 0.0)
    part = io / wanted if wanted > 0 else 0.0
    if not facts.over(IO_SHARE, part, RULE.id) or facts.metrics.on_cpu_cores >= facts.capacity * 0.9:
        return None
    most = max(room.python, key=lambda thread: thread.states_ns.get(ThreadState.IO, 0.0))
    return Shape(RULE.id, None, room.cores, 0.0, part, most, room.python)


RULE: Final = Rule(
    id="io-bound",
    title="Threads wait for I/O",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(IO_SHARE,),
    judge=judge_of_shape("io-bound", _tell),
    claims=Claims(shape=ShapeClaim(40, _shape)),
    about=frozenset({BottleneckKind.IO, BottleneckKind.UNKNOWN}),
)
