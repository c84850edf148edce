"""cpu-quota: the control group's CPU quota holds threads back."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, Remedy
from ftdiag.rules.attribution.cores import QUEUE, demand, shortage_of
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
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import of_cores, plural


def _judge(facts: Facts) -> Judgement:
    found = demand(facts)
    if shortage_of(facts, found) is not Shortage.QUOTA:
        return Clear()
    measured = found.throttled_cores
    lost = min(found.queued if measured is None else finite(measured), facts.capacity)
    seen = (
        "the kernel's run-queue times say that threads were ready and not let on a core"
        if measured is None
        else f"the control group's own count says that it took {measured:.2f} cores away from ready threads"
    )
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely" if measured is None else "known",
        summary=(
            f"Threads want {found.running + found.queued:.1f} cores and get {found.running:.1f}: a"
            f" CPU quota of {facts.capacity:g} cores holds them back, which costs up to"
            f" {of_cores(lost, facts.capacity)}."
        ),
        explanation=(
            f"The limit: {facts.metrics.capacity_reason or 'a CPU quota'}; {seen}. When a group has"
            " used up its share of a period, all its threads stand still until the next"
            " one, also those that hold locks. What more cores would bring is bounded by the waits,"
            " and by the capacity."
        ),
        could_also_be=("oversubscription: with fewer threads nobody would wait",),
        remedy=(
            Remedy(
                "raise the quota",
                "docker update --cpus 8 CONTAINER   # Kubernetes: resources.limits.cpu",
            ),
            Remedy(
                f"or use {plural(max(1, int(facts.capacity)), 'thread')}: os.process_cpu_count()"
                " does not know the quota",
                f"pool = ThreadPoolExecutor(max_workers={max(1, int(facts.capacity))})",
            ),
        ),
        verify="nr_throttled in cpu.stat of the control group stands still; "
        f"{report_again(facts.pid)} shows no threads wanting a core",
        evidence=(
            evidence("waiting_for_a_core", found.queued / facts.capacity, "threads per core", QUEUE),
            evidence("quota", facts.capacity, "cores"),
            *((evidence("throttled", measured, "cores"),) if measured is not None else ()),
            evidence("wanted", found.running + found.queued, "cores"),
        ),
    )


RULE: Final = Rule(
    id="cpu-quota",
    title="A CPU quota holds threads back",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(QUEUE,),
    judge=_judge,
    claims=Claims(shortage=Shortage.QUOTA),
    without="how many cores there would be is not known: ftdiag whatif FILE --cores N",
    about=frozenset({BottleneckKind.CORES}),
)
