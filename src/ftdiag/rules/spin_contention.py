"""spin-contention: threads spin for locks that could not be identified."""

from __future__ import annotations

from typing import Final

from ftdiag.model import ThreadState
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    LineClaim,
    Need,
    Priority,
    Rule,
    Verdict,
    Wasted,
    evidence,
)
from ftdiag.rules.frames import is_wait_for_others
from ftdiag.rules.library import caller, together
from ftdiag.wording.places import place, place_in, places

SPIN_SHARE: Final = 0.25
"""From this share of spinning in what a line wasted on, a lock is behind it and not reference counts alone:
measured, shared containers spin 30-40 % of their CPU time, shared reference counts next to nothing."""


def _mostly_spun(wasted: Wasted, facts: Facts) -> bool:
    return wasted.spin_cores >= SPIN_SHARE * (wasted.spin_cores + wasted.atomic_cores)


def _judge(facts: Facts) -> Verdict:
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    first = found.lines[0].line
    frame = caller(first)
    return found.finding(
        RULE,
        facts,
        confidence="possible",
        frame=frame,
        summary=(
            f"{found.losing(facts)} spinning for a lock that was never seen parked on, most at"
            f" {place_in(frame)}."
        ),
        explanation=(
            "Before it parks, a thread yields its core some tens of times (sched_yield): a lock that is held"
            " for a moment shows as CPU time in the kernel. The lines are"
            f" {places(each.line for each in found.lines)}: what all threads have in common there is behind"
            " it."
        ),
        could_also_be=(
            "object-lock: a shared container or file at this line",
            "hot-lock: a lock of the program that is held very shortly",
            "class-mutation: a lock of the interpreter",
        ),
        remedy=(
            *facts.remedy(
                *("list-append", "own"),
                f"give each thread its own of what is shared at {place(frame)}, and merge at the end",
            ),
        ),
        verify="'spinning' falls; with more threads for a moment the lock parks and is named",
        after=(evidence("spin_of_all", facts.cores_in(ThreadState.SPIN) * facts.spinning_on_core, "cores"),),
    )


RULE: Final = Rule(
    id="spin-contention",
    title="Threads spin for a lock that is not known",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    claims=Claims(
        lines=(
            LineClaim(
                Priority.SIGNS,
                when=_mostly_spun,
                near_lock=lambda _: True,
                # Who waits for an event yields a few times, too, before it parks.
                nobodys=lambda line: is_wait_for_others(line.frame),
            ),
        )
    ),
    advice=Advice.LINE,
    cases=("list-append",),
)
