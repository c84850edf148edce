"""load-imbalance: threads that do the same get unequal shares of the work."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, ChangeKind, Finding, ThreadMetrics, ThreadState
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.lines import busiest_line
from ftdiag.rules.attribution.shape import ROOM, judge_of_shape, worked
from ftdiag.rules.base import (
    WORTH_SAYING,
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
from ftdiag.wording.places import place, place_in, short
from ftdiag.wording.threads import stem, thread_names
from ftdiag.wording.units import of_cores, share

BALANCE: Final = Threshold(
    "load_balance",
    0.7,
    "ratio",
    "mean by maximum of the CPU time of threads that do the same; a 90/10 split of two has 0.55, dynamic"
    " chunks are above 0.9",
)
BUSY_THREAD: Final = 0.5
"""The busiest of a group is on a core this long, or a small load in one thread looks like imbalance."""
IDLE_OF_REST: Final = 0.5
"""The others of a group idle, sleep or are gone for this share of what they lack."""


def _tell(facts: Facts, shape: Shape, thread: ThreadMetrics) -> Finding:
    frame = busiest_line(thread)
    others = shape.group[1:]
    alike = thread_names(thread.info for thread in others)
    busiest = thread.cpu_ns / facts.metrics.duration_ns
    mean = sum(thread.cpu_ns for thread in others) / len(others) / facts.metrics.duration_ns
    return RULE.finding(
        facts,
        lost_cores=shape.lost_cores,
        confidence="likely",
        subject=subject_of(frame, thread=thread.info.name),
        summary=(
            f"Unequal shares of work leave up to {of_cores(shape.lost_cores, facts.capacity)} empty:"
            f" {short(thread.info.name)} works for {share(busiest, 1.0)} of the time, mostly at"
            f" {place_in(frame)}, {alike} only for {share(mean, 1.0)}."
        ),
        explanation=(
            f"Threads of the same kind have CPU times with a mean of {100 * shape.share:.0f} % of"
            " the largest, and those with less were idle or gone. The program waits for the"
            " slowest. Two threads with a fixed split, of which one has nine tenths:"
            f" {facts.scaling('uneven-parts', 'fixed-split-90-10')} of what one does; with chunks"
            " that are handed out as threads get free"
            f" {facts.scaling('uneven-parts', 'chunks-of-8')}."
        ),
        could_also_be=(
            "a pool with few long tasks: then there is not enough work, see idle-workers",
            "serial-section: one of the threads does a step for all",
        ),
        remedy=(
            *facts.remedy(
                *("uneven-parts", "chunks-of-8"),
                "hand out small chunks dynamically, several per thread",
                f"# {place(frame)}\nchunks = itertools.batched(items, max(1, len(items) // (8 *"
                " workers)))\n"
                "results = list(pool.map(work, chunks))",
            ),
        ),
        verify=f"{report_again(facts.pid)}: load balance under Cores goes towards one",
        evidence=(
            evidence("load_balance", shape.share, "ratio", BALANCE),
            evidence("threads", float(len(shape.group)), "threads"),
            evidence("room", shape.room_cores, "cores"),
        ),
    )


def _shape(facts: Facts, room: Room) -> Shape | None:
    groups: dict[str, list[ThreadMetrics]] = {}
    for thread in room.python:
        if not thread.info.main and worked(thread):
            groups.setdefault(stem(thread.info.name), []).append(thread)
    best: Shape | None = None
    for members in groups.values():
        members.sort(key=lambda thread: (-thread.cpu_ns, thread.info.index))
        largest = members[0].cpu_ns
        if len(members) < 2 or largest < BUSY_THREAD * facts.metrics.duration_ns:
            continue
        balance = sum(thread.cpu_ns for thread in members) / len(members) / largest
        limit = 1 - (1 - BALANCE.value) * (0.8 if RULE.id in facts.standing else 1.0)
        missing = float(sum(largest - thread.cpu_ns for thread in members))
        idle = sum(_unused(facts, thread) for thread in members[1:])
        if balance > limit or missing <= 0 or idle < IDLE_OF_REST * missing:
            continue
        cores = min(room.cores, min(idle, missing) / facts.metrics.duration_ns)
        if not facts.loses(cores, RULE.id) or cores < ROOM.value * facts.capacity * 0.5:
            continue
        if best is None or cores > best.lost_cores:
            best = Shape(RULE.id, None, room.cores, cores, balance, members[0], tuple(members))
    return best


def _unused(facts: Facts, thread: ThreadMetrics) -> float:
    """Time in which a thread had nothing to do: idle, asleep, or not there any more."""
    apart = thread.states_ns.get(ThreadState.IDLE, 0.0) + thread.states_ns.get(ThreadState.SLEEP, 0.0)
    return apart + max(0.0, float(facts.metrics.duration_ns - thread.alive_ns))


RULE: Final = Rule(
    id="load-imbalance",
    title="Unequal shares of the work",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(BALANCE, WORTH_SAYING),
    judge=judge_of_shape("load-imbalance", _tell),
    without=everywhere(ChangeKind.BALANCE),
    claims=Claims(shape=ShapeClaim(50, _shape)),
    cases=("uneven-parts",),
    about=frozenset({BottleneckKind.SERIAL}),
)
