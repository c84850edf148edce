"""oversubscription: more threads want a core than there are, or other programs take the cores."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Change, ChangeKind, CorePart, Evidence, Finding, Remedy, Snapshot, ThreadState
from ftdiag.rules.attribution.cores import ALL_BUSY, QUEUE, Demand, demand, rule_of_shortage
from ftdiag.rules.base import Clear, Facts, Found, Need, Rule, Verdict, evidence, finite
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


def _judge(facts: Facts) -> Verdict:
    found = demand(facts)
    if rule_of_shortage(facts, found) != RULE.id:
        return Clear()
    if facts.over(ALL_BUSY, found.running / facts.capacity, RULE.id):
        return Found((_own(facts, found),))
    lost = finite(facts.metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0))
    if found.other_cores is not None:
        # Others cannot cost more than they use; the rest are threads that are woken at the same moment.
        had = facts.metrics.account.get(CorePart.OTHER_PROGRAMS, lost)
        lost = min(lost, finite(had), finite(found.other_cores))
        if not facts.loses(lost, RULE.id):
            return Clear()
    return Found((_others(facts, found, lost),))


def _own(facts: Facts, found: Demand) -> Finding:
    loss = 1.0 - 1.0 / max(1.0, facts.gain(*CASE))
    lost = found.running * loss * min(1.0, max(0.0, found.ratio - 1.0) / (MEASURED_RATIO - 1.0))
    threads = facts.metrics.threads_with_work
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="known",
        summary=(
            f"{threads} threads want {found.running + found.queued:.1f} cores, and there are"
            f" {facts.capacity:g} ({facts.metrics.capacity_reason or 'capacity'}): {found.queued:.1f}"
            f" threads wait for a core at any time, which costs about {of_cores(lost, facts.capacity)} in"
            " changes of threads."
        ),
        explanation=(
            "The kernel's run-queue times say that threads were ready and had no core while the program"
            " itself kept all cores busy. More threads than cores bring no more work done, but longer waits"
            " for locks whose holder is off its core. Sixteen threads for each core that compute and take a"
            f" lock now and then do {facts.scaling(CASE[0], '16-per-core')} of what one does, one for each"
            f" core {facts.scaling(*CASE)}. The loss given is the difference, scaled to the threads here."
        ),
        could_also_be=("nested-parallelism: BLAS or OpenMP threads that were not busy enough to be named",),
        remedy=facts.remedy(*CASE, *_as_many_as_cores(facts))
        or (
            Remedy(f"use no more CPU-bound threads than cores: {facts.capacity:g} do as much in less memory"),
        ),
        verify=f"{report_again(facts.pid)}: 'waiting for a core' under Cores goes to 0, and throughput does"
        " not fall",
        evidence=_figures(facts, found),
    )


def _others(facts: Facts, found: Demand, lost: float) -> Finding:
    others = found.other_cores
    who = (
        f"other programs use {others:.1f}"
        if others is not None
        else "other programs (or a limit) use the rest"
    )
    return RULE.finding(
        facts,
        context=True,
        lost_cores=lost,
        confidence="likely" if others is None else "known",
        summary=(
            f"Threads wait for a core while this program uses only {found.running:.1f} of"
            f" {facts.capacity:g} cores: {who}, which costs it {of_cores(lost, facts.capacity)}."
        ),
        explanation=(
            "The kernel's run-queue times say that threads were ready and had no core, although the program"
            " did not fill its cores itself: somebody else has them. "
            + (
                "Fewer threads would not help."
                if found.ratio <= 1.0
                else "The program also wants more cores than there are; but while others use them, fewer"
                " threads bring little."
            )
        ),
        could_also_be=(
            "cpu-quota: a quota of a parent group that could not be read",
            "child processes that this program starts: they count as other programs",
            "a virtual machine whose host is busy (steal time)",
        ),
        remedy=(
            Remedy(
                "see who uses the cores, and move it elsewhere or lower its priority",
                "top -o %CPU                      # who it is\nrenice -n 10 -p PID_OF_THE_OTHER"
                "  # let it stand back",
            ),
        ),
        verify=f"{report_again(facts.pid)} while the others are stopped: 'waiting for a core' goes to 0",
        evidence=_figures(facts, found),
    )


def _figures(facts: Facts, found: Demand) -> tuple[Evidence, ...]:
    return (
        evidence("waiting_for_a_core", found.queued / facts.capacity, "threads per core", QUEUE),
        evidence("on_cpu_share_of_capacity", found.running / facts.capacity, "ratio", ALL_BUSY),
        evidence("wanted_by_capacity", found.ratio, "times"),
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
    thresholds=(QUEUE, ALL_BUSY),
    judge=_judge,
    without=_without,
    cases=("many-threads", "many-threads-and-a-lock"),
)
