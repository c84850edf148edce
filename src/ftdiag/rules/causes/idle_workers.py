"""idle-workers: threads wait for work; nothing else is wrong."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy, ThreadState
from ftdiag.rules.attribution.shape import IDLE_SHARE, waits_for_work
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Judgement,
    Need,
    NotApplicable,
    Room,
    Rule,
    Shape,
    ShapeClaim,
    Threshold,
    evidence,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import short
from ftdiag.wording.threads import thread_names

BUSY_LIMIT: Final = Threshold(
    "on_cpu_share_of_capacity",
    0.5,
    "ratio",
    "a program that uses more than half of its cores is not idle",
)


def _judge(facts: Facts) -> Judgement:
    shape = facts.charges.shape
    if shape.unnamed is not None:
        return NotApplicable(shape.unnamed)
    if shape.rule_id != RULE.id:
        return Clear()
    waits: dict[str, float] = {}
    for thread in shape.group:
        for wait, spent in thread.waits[:1]:
            if wait.detail is not None:
                waits[wait.detail] = waits.get(wait.detail, 0.0) + spent
    most = max(sorted(waits), key=lambda each: waits[each]) if waits else None
    where = f" (in {short(most)})" if most is not None else ""
    names = thread_names(thread.info for thread in shape.group)
    wait_words = "waits" if len(shape.group) == 1 else "wait"
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="known",
        summary=(
            f"{names} {wait_words} for work {100 * shape.share:.0f} % of the time{where}, and"
            " nothing else is lost: there is not enough work."
        ),
        explanation=(
            "Idle workers are no fault: a pool that is ready costs nothing while it waits. If"
            " throughput is too low, look at who gives them work: the source, the network, or the"
            " program in front."
        ),
        could_also_be=("a producer in another process, which ftdiag does not see",),
        remedy=(Remedy("nothing, or give them more work at the same time"),),
        verify=f"{report_again(facts.pid)} under load: workers are on a core",
        evidence=(
            evidence("idle_share_of_thread_time", shape.share, "ratio", IDLE_SHARE),
            evidence(
                "on_cpu_share_of_capacity",
                facts.metrics.on_cpu_cores / facts.capacity,
                "ratio",
                BUSY_LIMIT,
            ),
        ),
    )


def _shape(facts: Facts, room: Room) -> Shape | None:
    waiting = [thread for thread in room.python if waits_for_work(thread)]
    if not waiting:
        return None
    alive = sum(thread.alive_ns for thread in waiting)
    idle = sum(thread.states_ns.get(ThreadState.IDLE, 0.0) for thread in waiting)
    part = idle / alive if alive else 0.0
    if not facts.over(IDLE_SHARE, part, RULE.id) or facts.loses(room.lost_cores, RULE.id):
        return None
    limit = BUSY_LIMIT.value * (1.25 if RULE.id in facts.standing else 1.0)
    if facts.metrics.on_cpu_cores > limit * facts.capacity:
        return None
    return Shape(RULE.id, None, room.cores, 0.0, part, waiting[0], tuple(waiting))


RULE: Final = Rule(
    id="idle-workers",
    title="Workers wait for work",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(IDLE_SHARE, BUSY_LIMIT),
    judge=_judge,
    claims=Claims(shape=ShapeClaim(70, _shape)),
)
