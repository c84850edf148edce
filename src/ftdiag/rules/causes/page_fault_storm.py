"""page-fault-storm: memory comes fresh from the kernel, page by page, all the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import AllocatorPart, BottleneckKind, ChangeKind, ThreadState
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.base import (
    MOSTLY_SHARE,
    Advice,
    Clear,
    Facts,
    Judgement,
    Need,
    Rule,
    Threshold,
    evidence,
    finite,
    subject_of,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place, place_in, short
from ftdiag.wording.units import of_cores, size

FAULTS: Final = Threshold(
    "minor_faults",
    100_000.0,
    "per second",
    "100,000 faults of 4 KiB are 391 MiB of fresh memory a second; a growing list or a start is below 20,000",
)
FAULT_NS: Final = 700.0
"""CPU time of a minor fault with clearing its page, at most: bounds the loss where it is not measured."""


def _in_the_kernel(parts_ns: Mapping[AllocatorPart, float]) -> float:
    """Time that went to page faults, and to taking and giving back the memory that they are in."""
    parts = (AllocatorPart.FAULTS, AllocatorPart.MAPPING, AllocatorPart.UNMAPPING)
    return sum(finite(parts_ns.get(part, 0.0)) for part in parts)


def _judge(facts: Facts) -> Judgement:
    seconds = facts.metrics.duration_ns / 1e9
    faults = sum(thread.minor_faults for thread in facts.threads) / seconds
    if not facts.over(FAULTS, faults, RULE.id):
        return Clear()
    bound = faults * FAULT_NS / 1e9
    if facts.native:
        bound = min(max(bound, 0.0), facts.cores_in(ThreadState.ALLOC, ThreadState.WORK, ThreadState.ON_CPU))
    measured = _in_the_kernel(facts.memory.allocator_ns) / max(1, facts.metrics.duration_ns)
    if measured > 0:
        # Not more than the faults can cost: an allocator that takes memory and gives it back all the time has
        # a cause of its own.
        bound = min(bound, measured)
    lost = min(bound, finite(facts.metrics.on_cpu_cores))
    most = max(facts.threads, key=lambda thread: (thread.minor_faults, -thread.info.index))
    alone = most.minor_faults >= MOSTLY_SHARE * faults * seconds
    who = f" in {short(most.info.name)}" if alone else ""
    by_allocation = sorted(facts.hot, key=lambda line: -line.states_ns.get(ThreadState.ALLOC, 0.0))
    by_faults = sorted(facts.memory.allocator_lines, key=lambda line: -_in_the_kernel(line.parts_ns))
    frame = None
    if by_faults and _in_the_kernel(by_faults[0].parts_ns) > 0:
        frame = by_faults[0].frame
    elif by_allocation and by_allocation[0].states_ns.get(ThreadState.ALLOC, 0.0) > 0:
        frame = by_allocation[0].frame
    elif most.hot:
        frame = most.hot[0].frame
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely" if facts.native else "possible",
        subject=subject_of(frame, **({"thread": most.info.name} if alone else {})),
        summary=(
            f"Page faults cost up to {of_cores(lost, facts.capacity)}: {faults / 1e3:.0f},000 a second"
            f" ({size(faults * 4096)} of fresh memory), most{who} at {place_in(frame)}."
        ),
        explanation=(
            "The kernel counts each fault. Buffers beyond some MiB are mapped when they are made and"
            " given back when"
            " they die, so each use pays for clearing every page, under locks of the process's"
            " address space. Two threads with a fresh buffer in each step do"
            f" {facts.scaling('fresh-buffers', '16-MB-each-step')} of what one does."
        ),
        could_also_be=(
            "start-up: memory that is touched for the first time; it passes",
            "memory that really grows: see RSS",
        ),
        remedy=facts.remedy(
            *("fresh-buffers", "used-again"),
            "make big buffers once per thread and fill them again",
            f"# {place(frame)}\nbuffer = bytearray(1 << 20)        # before the loop\n"
            "for chunk in chunks:\n    buffer[: len(chunk)] = chunk    # NumPy: out=buffer",
        ),
        verify=f"{report_again(facts.pid)}: minor faults of the threads (JSON: threads[].faults.minor) fall",
        evidence=(
            evidence("minor_faults", faults, "per second", FAULTS),
            evidence("allocation", facts.cores_in(ThreadState.ALLOC), "cores"),
            *((evidence("page_faults_and_unmapping", measured, "cores"),) if measured > 0 else ()),
        ),
    )


RULE: Final = Rule(
    id="page-fault-storm",
    title="Memory comes fresh from the kernel all the time",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(FAULTS,),
    judge=_judge,
    without=everywhere(ChangeKind.ALLOCATION),
    advice=Advice.LINE,
    cases=("fresh-buffers",),
    about=frozenset({BottleneckKind.UNKNOWN}),
)
