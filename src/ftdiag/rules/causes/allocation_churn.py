"""allocation-churn: hot lines that make objects which die at once, as a capture of memray counts them."""

from __future__ import annotations

from typing import Final

from ftdiag.model import HotLine, LineAllocations, Remedy, StateGroup, ThreadState
from ftdiag.rules.attribution.changes import OTHER_CODE
from ftdiag.rules.base import (
    Clear,
    Facts,
    Judgement,
    NotApplicable,
    Rule,
    Threshold,
    evidence,
    finite,
    subject_of,
)
from ftdiag.wording.places import place, place_in
from ftdiag.wording.units import of_cores, plural

TEMPORARY: Final = Threshold(
    "temporary_allocations",
    100_000.0,
    "per second",
    "an object that is made and freed at once costs 40 ns and more: fewer are not half a percent of a core."
    " memray lets a program make one or two million a second at most, so the true rate may be far higher",
)
SHARE: Final = Threshold(
    "temporary_share",
    0.3,
    "ratio",
    "where most of what a line makes lives on for a while, it builds something and does not churn",
)
HOT: Final = Threshold(
    "line_share_of_capacity",
    0.02,
    "ratio",
    "a line on which less than 2 % of the cores are spent is not worth a change, however much it allocates",
)
ALLOCATOR: Final = Threshold(
    "allocator_share",
    0.02,
    "ratio",
    "memray itself makes an object for every call of a Python function, charged to the line that calls: only"
    " where samples without memray saw the allocator at work, too, it is the program's own",
)
ALLOCATION_NS: Final = 40.0
"""CPU time of making and freeing a small object: 40 ns measured on 3.14t, 115 ns on 3.13t. The least loss."""


def _judge(facts: Facts) -> Judgement:
    capture = facts.allocations
    if capture is None:
        return NotApplicable(_how_to_know(facts))
    if not facts.native:
        return NotApplicable(
            "memray alone does not tell the program's objects from those it makes itself for every call:"
            " needs native samples of the allocator, too"
        )
    if capture.temporary is None:
        return NotApplicable(
            "the capture of memray is an aggregated one, which does not tell temporary objects"
        )
    churning = [
        (line, own, capture.per_second(own.temporary) or 0.0)
        for line in facts.hot
        if (own := line.allocations) is not None
        and _is_churn(facts, line, own, capture.per_second(own.temporary))
    ]
    if not churning:
        return Clear()
    churning.sort(key=lambda row: -row[2])
    worst, own, rate = churning[0]
    lost = sum(_lost_cores(facts, line, each) for line, _, each in churning)
    where = place_in(worst.frame)
    more = "" if len(churning) == 1 else f" (with {plural(len(churning) - 1, 'more line')} like it)"
    share = (own.temporary or 0) / (own.count or 1)
    size = (own.size_bytes or 0) / own.count if own.count else 0.0
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely",
        subject=subject_of(worst.frame),
        summary=(
            f"{where}{more} costs up to {of_cores(lost, facts.capacity)} for making and freeing"
            f" {rate / 1e3:,.0f},000 objects a second that die at once."
        ),
        explanation=(
            f"memray counted them: {100 * share:.0f} % of what the line allocates"
            f" ({size:.0f} bytes on average) is freed before its thread has made two more. The rate"
            " is that of a program that memray slows down; without it there are more. Threads do not"
            " hinder each other by this, as each has its own heap, but each does work that need not"
            " be done. Two threads that make a vector for each of millions of steps:"
            f" {facts.scaling('temporary-objects', 'new')} of what one does."
        ),
        could_also_be=(
            "small numbers and strings that the line computes: they are objects, too, and only"
            " another way to compute avoids them",
        ),
        remedy=(
            *facts.remedy(
                *("temporary-objects", "in-place"),
                "keep one object for each thread and change it in place, or compute without one",
                f"# {place(worst.frame)}\ntotal = Vector(0.0, 0.0)      # before the loop\n"
                "for step in steps:\n    total.add(step)           # not: total = total + step",
            ),
            Remedy("work on arrays as a whole (NumPy, with out=) where the objects are numbers"),
        ),
        verify="ftdiag attach PID --memory --format json: hot[].allocations.temporary_per_s of the"
        " line falls, and so does its time",
        evidence=(
            evidence("temporary_allocations", rate, "per second", TEMPORARY),
            evidence("temporary_share", share, "ratio", SHARE),
            evidence("line_share_of_capacity", _share(facts, worst), "ratio", HOT),
            evidence("allocator_share", _allocator_share(worst), "ratio", ALLOCATOR),
            evidence("lines", len(churning), "count"),
        ),
    )


def _how_to_know(facts: Facts) -> str:
    if facts.target.free_threaded and facts.version == (3, 13):
        return "needs a capture of memray, which has no release for free-threaded 3.13"
    return "needs a capture of memray: ftdiag attach PID --memory, or --memory CAPTURE with a recording"


def _is_churn(facts: Facts, line: HotLine, own: LineAllocations, rate: float | None) -> bool:
    if rate is None or not own.count or own.temporary is None:
        return False
    return (
        facts.over(TEMPORARY, rate, RULE.id)
        and own.temporary >= SHARE.value * own.count
        and facts.over(HOT, _share(facts, line), RULE.id)
        and facts.over(ALLOCATOR, _allocator_share(line), RULE.id)
    )


def _on_cpu_ns(line: HotLine) -> float:
    return sum(finite(time) for state, time in line.states_ns.items() if state.group is StateGroup.ON_CPU)


def _share(facts: Facts, line: HotLine) -> float:
    """The part of the capacity that the line takes; 0 where nothing was sampled."""
    if facts.metrics.duration_ns <= 0 or facts.capacity <= 0:
        return 0.0
    return _on_cpu_ns(line) / facts.metrics.duration_ns / facts.capacity


def _allocator_share(line: HotLine) -> float:
    """The part of the line's time on a core in which samples saw an allocator."""
    spent = _on_cpu_ns(line)
    return finite(line.states_ns.get(ThreadState.ALLOC, 0.0)) / spent if spent > 0 else 0.0


def _lost_cores(facts: Facts, line: HotLine, rate: float) -> float:
    """What making and freeing takes: the samples in the allocator there, at least what the rate costs."""
    seconds = facts.metrics.duration_ns / 1e9
    least = rate * ALLOCATION_NS / 1e9
    seen = finite(line.states_ns.get(ThreadState.ALLOC, 0.0)) / 1e9 / seconds
    return min(max(least, seen), _on_cpu_ns(line) / 1e9 / seconds)


RULE: Final = Rule(
    id="allocation-churn",
    title="Objects that are made to die at once",
    needs=(),
    thresholds=(TEMPORARY, SHARE, HOT, ALLOCATOR),
    judge=_judge,
    without=OTHER_CODE,
    cases=("temporary-objects",),
    of_allocations=True,
)
