"""oversubscription: more threads of the program want a core than it could have."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, Change, ChangeKind, Evidence, Finding, Remedy, Snapshot
from ftdiag.rules.attribution.cores import ALL_BUSY, QUEUE, TOO_MANY, Demand, demand, shortage_of
from ftdiag.rules.base import Claims, Clear, Facts, Judgement, Need, Rule, Shortage, evidence
from ftdiag.rules.figures.measured import times
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import of_cores

CASE: Final = ("many-threads-and-a-lock", "1-per-core")
"""What was measured: threads that compute and take a lock now and then, 16 for each core against one."""
MEASURED_RATIO: Final = 16.0
"""Threads per core of that measurement; between 1 and this the loss is taken as linear."""


def _as_many_as_cores(facts: Facts) -> tuple[str, str]:
    return (
        f"use as many CPU-bound threads as cores: {facts.capacity:g} here",
        "workers = os.process_cpu_count()   # 3.13 and later; heeds affinity\n"
        "pool = ThreadPoolExecutor(max_workers=workers)",
    )


def _judge(facts: Facts) -> Judgement:
    found = demand(facts)
    if shortage_of(facts, found) is not Shortage.TOO_MANY:
        return Clear()
    finding = _own(facts, found)
    # Where others have cores, too, what the many threads cost by themselves must be worth saying.
    alone = facts.over(ALL_BUSY, found.running / facts.capacity, RULE.id)
    if not alone and not facts.loses(finding.lost_cores, RULE.id):
        return Clear()
    return finding


def _own(facts: Facts, found: Demand) -> Finding:
    loss = 1.0 - 1.0 / max(1.0, facts.gain(*CASE))
    lost = found.running * loss * min(1.0, max(0.0, found.ratio - 1.0) / (MEASURED_RATIO - 1.0))
    threads = facts.metrics.threads_with_work
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="known",
        summary=(
            f"{threads} threads cost about {of_cores(lost, facts.capacity)} in changes of threads: they want"
            f" {found.running + found.queued:.1f} cores and there are {facts.capacity:g}"
            f" ({facts.metrics.capacity_reason or 'capacity'}), so that {found.queued:.1f} of them wait for a"
            " core at any time."
        ),
        explanation=(
            "The kernel's run-queue times say that more threads of the program were ready at the same moment"
            " than it could have cores. More threads than cores bring no more work done, but longer waits"
            " for locks whose holder is off its core. Two cores did"
            f" {times(facts.gain(*CASE))} times as much with one thread each as with sixteen, which computed"
            " and took a lock now and then. The loss given is that difference, scaled to the threads here."
        ),
        could_also_be=(
            "nested-parallelism: BLAS or OpenMP threads that were not busy enough to be named",
            "starved-by-others: other processes had cores, too",
        ),
        remedy=facts.remedy(*CASE, *_as_many_as_cores(facts))
        or (
            Remedy(f"use no more CPU-bound threads than cores: {facts.capacity:g} do as much in less memory"),
        ),
        verify=f"{report_again(facts.pid)}: 'waiting for a core' under Cores goes to 0, and throughput does"
        " not fall",
        evidence=_figures(facts, found),
    )


def _figures(facts: Facts, found: Demand) -> tuple[Evidence, ...]:
    return (
        evidence("waiting_for_a_core", found.queued / facts.capacity, "threads per core", QUEUE),
        evidence("wanted_by_capacity", found.ratio, "times", TOO_MANY),
        evidence("on_cpu_share_of_capacity", found.running / facts.capacity, "ratio", ALL_BUSY),
    )


def _without(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    capacity = snapshot.metrics.capacity_cores
    if capacity is None:
        return "the number of cores is not known"
    return (Change(ChangeKind.THREADS, number=max(1, round(capacity))),)


RULE: Final = Rule(
    id="oversubscription",
    title="More threads want a core than there are cores",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(QUEUE, TOO_MANY, ALL_BUSY),
    judge=_judge,
    claims=Claims(shortage=Shortage.TOO_MANY),
    without=_without,
    cases=("many-threads", "many-threads-and-a-lock"),
    about=frozenset({BottleneckKind.CORES}),
)
