"""serial-section: most of the time one thread works and the others wait for it."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, ChangeKind, Finding, Remedy, ThreadMetrics
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.lines import busiest_line
from ftdiag.rules.attribution.shape import ROOM, judge_of_shape, potential_workers
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
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
from ftdiag.wording.units import of_cores, share

SERIAL: Final = Threshold(
    "serial_share",
    0.5,
    "ratio",
    "share of ticks with one thread on a core or none; Amdahl's law then bounds the speed-up at 2",
)
ALONE: Final = Threshold(
    "share_of_ticks_with_one_thread",
    0.3,
    "ratio",
    "one thread must really be at work alone; ticks with none are idleness, not a serial section",
)


def _tell(facts: Facts, shape: Shape, thread: ThreadMetrics) -> Finding:
    frame = busiest_line(thread)
    serial = facts.metrics.serial_share_ratio or 0.0
    bound = 1.0 / serial if serial > 0 else 1.0
    return RULE.finding(
        facts,
        lost_cores=shape.lost_cores,
        confidence="likely",
        subject=subject_of(frame, thread=thread.info.name),
        summary=(
            f"Serial work leaves up to {of_cores(shape.lost_cores, facts.capacity)} empty: for"
            f" {share(serial, 1.0)} of the time at most one thread works, mostly"
            f" {short(thread.info.name)} at {place_in(frame)}."
        ),
        explanation=(
            "Cores were empty, and no lock, core or I/O was waited for: the others had nothing to"
            " do until this thread had finished. While that share stays, more threads or cores gain"
            f" at most {bound:.1f}x (Amdahl's law)."
        ),
        could_also_be=("idle-workers: there is no more work than this thread hands out",),
        remedy=(
            Remedy(
                "split the work at this line among the threads, or prepare the next piece while the"
                " others work on this",
                f"# {place(frame)}\nnext_part = pool.submit(prepare, part + 1)   # while workers compute\n"
                "results = list(pool.map(compute, current))",
            ),
        ),
        verify=f"{report_again(facts.pid)}: the ticks with 0 and 1 threads under Cores fall",
        evidence=(
            evidence("serial_share", serial, "ratio", SERIAL),
            evidence("share_of_ticks_with_one_thread", shape.share, "ratio", ALONE),
            evidence("room_share_of_capacity", shape.room_cores / facts.capacity, "ratio", ROOM),
        ),
    )


def _shape(facts: Facts, room: Room) -> Shape | None:
    part = facts.metrics.serial_share_ratio
    if part is None or len(facts.metrics.concurrency) < 2 or not facts.over(SERIAL, part, RULE.id):
        return None
    alone = facts.metrics.concurrency[1]
    if not facts.over(ALONE, alone, RULE.id) or not facts.over(ROOM, room.cores / facts.capacity, RULE.id):
        return None
    busy = max(room.python, key=lambda thread: (thread.cpu_ns, -thread.info.index))
    # Many threads that each want a core for a moment are at work one after the other, and none is serial.
    if busy.cpu_ns + busy.run_queue_ns < ALONE.value * facts.metrics.duration_ns:
        return None
    workers = min(facts.capacity, float(potential_workers(room.python)))
    cores = min(room.cores, alone * max(0.0, workers - 1.0))
    if room.own_cores > cores or not facts.loses(cores, RULE.id):
        return None
    return Shape(RULE.id, None, room.cores, cores, alone, busy, room.python)


RULE: Final = Rule(
    id="serial-section",
    title="One thread works and the others wait for it",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(SERIAL, ALONE, ROOM, WORTH_SAYING),
    judge=judge_of_shape("serial-section", _tell),
    without=everywhere(ChangeKind.BALANCE),
    claims=Claims(shape=ShapeClaim(60, _shape)),
    advice=Advice.LINE,
    about=frozenset({BottleneckKind.SERIAL}),
)
