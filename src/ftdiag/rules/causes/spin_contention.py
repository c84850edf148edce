"""spin-contention: threads spin for locks that could not be identified."""

from __future__ import annotations

from typing import Final

from ftdiag.model import ChangeKind, Finding, Remedy, ThreadState
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.frames import is_wait_for_others
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.base import (
    SPIN_SHARE,
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineClaim,
    Need,
    Priority,
    Rule,
    Wasted,
    evidence,
)
from ftdiag.rules.prose.library import Together, together
from ftdiag.wording.places import an, place, place_in, places, short

OWN_SHARE: Final = 0.5
"""Share of the loss at lines that wait for locks of a thread's own from which on these are the cause."""


def _mostly_spun(wasted: Wasted, facts: Facts) -> bool:
    return wasted.spin_share >= SPIN_SHARE


def _of_itself(facts: Facts, found: Together) -> Finding:
    """Threads that wait for locks which they hold themselves: on 3.13 where C code locks an object twice."""
    lines = [each.line for each in found.lines if each.line.own_locks]
    frame = caller(lines[0])
    kind = short(lines[0].own_locks[0])
    return found.finding(
        RULE,
        facts,
        confidence="known",
        frame=frame,
        summary=(
            f"{found.losing(facts)} because each waits for locks that it holds itself, of objects that only"
            f" it has ({kind}), most at {place_in(frame)}."
        ),
        explanation=(
            "C code locks an object and, before it has let go, locks it again (a critical section in"
            " another). CPython 3.13 takes the lock for another thread's: it yields its core some tens of"
            " times, parks, lets go of all it holds, and goes on. That costs as much with one thread. The"
            f" objects were looked at: no other thread has references to them. Lines: {places(lines)}."
        ),
        remedy=(
            *(
                (Remedy("CPython 3.14 or later: it sees that a lock is the thread's own", "python3.14t"),)
                if facts.version < (3, 14)
                else ()
            ),
            Remedy(f"call what locks {an(kind)} less often: once for many items"),
        ),
        verify="'spinning' falls",
        after=(evidence("spin_of_all", facts.cores_in(ThreadState.SPIN) * facts.spinning_on_core, "cores"),),
    )


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    first = found.lines[0].line
    frame = caller(first)
    own = sum(each.lost_cores for each in found.lines if each.line.own_locks)
    if own >= OWN_SHARE * found.lost_cores:
        return _of_itself(facts, found)
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
    without=everywhere(ChangeKind.CONTENTION),
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
