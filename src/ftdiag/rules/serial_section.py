"""serial-section: most of the time one thread works and the others wait for it."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.base import (
    WORTH_SAYING,
    Facts,
    Found,
    Need,
    Rule,
    Verdict,
    evidence,
    subject_of,
)
from ftdiag.rules.program import busiest_line
from ftdiag.rules.shape import ALONE, ROOM, SERIAL, charged_shape
from ftdiag.rules.wording import of_cores, place, place_in, report_again, share, short


def _judge(facts: Facts) -> Verdict:
    charged = charged_shape(facts, RULE.id)
    if not isinstance(charged, tuple):
        return charged
    shape, thread = charged
    frame = busiest_line(thread)
    serial = facts.metrics.serial_share_ratio or 0.0
    bound = 1.0 / serial if serial > 0 else 1.0
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=shape.lost_cores,
                confidence="likely",
                subject=subject_of(frame, thread=thread.info.name),
                summary=(
                    f"For {share(serial, 1.0)} of the time at most one thread works, mostly"
                    f" {short(thread.info.name)} at {place_in(frame)}: that leaves up to"
                    f" {of_cores(shape.lost_cores, facts.capacity)} empty."
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
                        f"# {place(frame)}\nnext_part = pool.submit(prepare, part + 1)   # meanwhile the"
                        " workers compute\n"
                        "results = list(pool.map(compute, current))",
                    ),
                ),
                verify=f"{report_again(facts.pid)}: the ticks with 0 and 1 threads under Cores fall",
                evidence=(
                    evidence("serial_share", serial, "ratio", SERIAL),
                    evidence("share_of_ticks_with_one_thread", shape.share, "ratio", ALONE),
                    evidence("room_share_of_capacity", shape.room_cores / facts.capacity, "ratio", ROOM),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="serial-section",
    title="One thread works and the others wait for it",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(SERIAL, ALONE, ROOM, WORTH_SAYING),
    judge=_judge,
)
