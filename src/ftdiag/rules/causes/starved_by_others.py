"""starved-by-others: threads wait for cores that other processes have."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, CorePart, Evidence, Metrics, Remedy, ThreadState
from ftdiag.rules.attribution.cores import ALL_BUSY, QUEUE, Demand, demand, shortage_of
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
from ftdiag.wording.account import busiest_others, other_processes_words
from ftdiag.wording.findings import report_again
from ftdiag.wording.units import of_cores

NAMED: Final = 3
"""So many of the processes are named in a finding."""


def _judge(facts: Facts) -> Judgement:
    found = demand(facts)
    shortage = shortage_of(facts, found)
    # Too many threads do not keep others from having cores as well.
    if shortage not in (Shortage.OTHERS, Shortage.TOO_MANY):
        return Clear()
    lost = finite(facts.metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0))
    if found.other_cores is not None:
        # Others cannot cost more than they use; the rest are threads that are woken at the same moment.
        had = facts.metrics.account.get(CorePart.OTHER_PROGRAMS, lost)
        lost = min(lost, finite(had), finite(found.other_cores))
        if not facts.loses(lost, RULE.id):
            return Clear()
    elif shortage is not Shortage.OTHERS or facts.over(ALL_BUSY, found.running / facts.capacity, RULE.id):
        return Clear()
    return RULE.finding(
        facts,
        context=True,
        lost_cores=lost,
        confidence="likely" if found.other_cores is None else "known",
        summary=(
            f"{_who(facts, found)}, which costs it {of_cores(lost, facts.capacity)}: its threads want"
            f" {found.running + found.queued:.1f} and get {found.running:.1f}."
        ),
        explanation=(
            "The kernel's run-queue times say that threads were ready and had no core, although the"
            " program did not fill its cores itself: somebody else has them. "
            + (
                "Fewer threads would not help: the program wants no more cores than there are."
                if shortage is Shortage.OTHERS
                else "The program also wants more cores than there are; but while others use them,"
                " fewer threads bring little."
            )
        ),
        could_also_be=(
            "child processes that this program starts: they count as other processes",
            "cpu-quota: a quota of a parent group that could not be read",
            "a virtual machine whose host is busy (steal time)",
        ),
        remedy=(
            Remedy(
                "move the other processes elsewhere, or lower their priority",
                _commands(facts.metrics),
            ),
        ),
        verify=f"{report_again(facts.pid)} while the others are stopped: 'waiting for a core' goes to 0",
        evidence=_figures(facts, found),
    )


def _who(facts: Facts, found: Demand) -> str:
    if found.other_cores is None:
        return f"Other processes (or a limit) have cores of {facts.capacity:g} that the program wants"
    named = other_processes_words(facts.metrics, NAMED)
    text = f"Other processes use {found.other_cores:.1f} of {facts.capacity:g} cores"
    return f"{text} ({named})" if named else text


def _commands(metrics: Metrics) -> str:
    """What to type about them; who they are where that is not known."""
    others = busiest_others(metrics, NAMED)
    if not others:
        return "top -o %CPU                      # who it is\nrenice -n 10 -p PID_OF_THE_OTHER"
    pids = " ".join(str(each.pid) for each in others)
    return f"renice -n 10 -p {pids}   # let them stand back"


def _figures(facts: Facts, found: Demand) -> tuple[Evidence, ...]:
    others = () if found.other_cores is None else (evidence("other_processes", found.other_cores, "cores"),)
    return (
        evidence("waiting_for_a_core", found.queued / facts.capacity, "threads per core", QUEUE),
        *others,
        evidence("on_cpu_share_of_capacity", found.running / facts.capacity, "ratio", ALL_BUSY),
        evidence("wanted_by_capacity", found.ratio, "times"),
    )


RULE: Final = Rule(
    id="starved-by-others",
    title="Other processes have the cores that threads want",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(QUEUE, ALL_BUSY),
    judge=_judge,
    claims=Claims(shortage=Shortage.OTHERS),
    without="what others take is not the program's: ftdiag whatif FILE --cores N",
    about=frozenset({BottleneckKind.CORES}),
)
