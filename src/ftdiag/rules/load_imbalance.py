"""load-imbalance: threads that do the same get unequal shares of the work."""

from __future__ import annotations

from typing import Final

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
from ftdiag.rules.shape import BALANCE, charged_shape
from ftdiag.rules.wording import of_cores, place, place_in, report_again, share, short, thread_names


def _judge(facts: Facts) -> Verdict:
    charged = charged_shape(facts, RULE.id)
    if not isinstance(charged, tuple):
        return charged
    shape, thread = charged
    frame = busiest_line(thread)
    others = shape.group[1:]
    alike = thread_names(thread.info for thread in others)
    busiest = thread.cpu_ns / facts.metrics.duration_ns
    mean = sum(thread.cpu_ns for thread in others) / len(others) / facts.metrics.duration_ns
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=shape.lost_cores,
                confidence="likely",
                subject=subject_of(frame, thread=thread.info.name),
                summary=(
                    f"{short(thread.info.name)} works for {share(busiest, 1.0)} of the time, mostly at"
                    f" {place_in(frame)}, {alike} only for {share(mean, 1.0)}: unequal shares leave up to"
                    f" {of_cores(shape.lost_cores, facts.capacity)} empty."
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
            ),
        )
    )


RULE: Final = Rule(
    id="load-imbalance",
    title="Unequal shares of the work",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(BALANCE, WORTH_SAYING),
    judge=_judge,
)
