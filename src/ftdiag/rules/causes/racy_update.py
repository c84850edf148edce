"""racy-update: threads change the same thing at the same time, and one's change is lost."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Finding, Remedy, SharedUpdate, Updater
from ftdiag.rules.attribution.frames import program_frame
from ftdiag.rules.base import (
    Clear,
    Facts,
    Found,
    Need,
    NotApplicable,
    Rule,
    Threshold,
    Verdict,
    evidence,
    subject_of,
)
from ftdiag.rules.base.scoring import WARNING_SCORE
from ftdiag.wording.places import place, short
from ftdiag.wording.units import percent, plural

SEEN: Final = Threshold(
    "times_together",
    1.0,
    "ticks",
    "two threads in the middle of the same update, without a lock in common, is a race each time it is seen;"
    " what is seen once or twice is told as a note",
)
SURE: Final = Threshold(
    "times_together_sure",
    3.0,
    "ticks",
    "two stacks of one tick are read some microseconds after each other: a lock that cannot be seen could"
    " change hands in between, hardly three times",
)
MIXED: Final = Threshold(
    "seconds_updated_both_ways",
    3.0,
    "s",
    "one thread under a lock, another without, within the same second: a beginning or an end of a program, in"
    " which one thread is alone, is in none or one of them",
)
MAX_FINDINGS: Final = 5
MAX_CONTEXT: Final = 60.0
"""Highest score: a wrong result may matter more than any loss of time, or not at all."""


def _races(facts: Facts) -> list[SharedUpdate]:
    return [one for one in facts.updates or () if one.together >= SEEN.value or (one.mixed >= MIXED.value)]


def _judge(facts: Facts) -> Verdict:
    if facts.updates is None:
        return NotApplicable(
            "nobody looked for updates: the recording is of an earlier ftdiag, or its stacks are another"
            " program's"
        )
    found = tuple(_finding(facts, one) for one in _races(facts)[:MAX_FINDINGS])
    return Found(found) if found else Clear()


def _finding(facts: Facts, one: SharedUpdate) -> Finding:
    first, second = one.pair or (one.updaters[0], one.updaters[-1])
    frame = program_frame(first.stack)
    sure = one.together >= SURE.value
    name = short(one.place.name)
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="known" if sure else "possible",
        least_score=min(MAX_CONTEXT, WARNING_SCORE + one.together) if sure else WARNING_SCORE / 2,
        subject=subject_of(frame, lock=f"{one.place.name} {one.place.owner:#x}", kind=one.place.kind),
        summary=_summary(one, name, first, second),
        explanation=_explanation(one),
        remedy=_remedies(one, name, place(frame)),
        could_also_be=_could_also_be(one),
        verify=f"ftdiag attach {facts.pid}: nobody is seen in the middle of it without the lock, and the"
        " program's own totals agree",
        evidence=(
            evidence("times_together", float(one.together), "ticks", SEEN),
            evidence("ticks_without_lock", float(one.unguarded), "ticks"),
            evidence("ticks_under_lock", float(one.guarded), "ticks"),
            evidence("seconds_updated_both_ways", float(one.mixed), "s", MIXED),
            *(
                ()
                if one.overlap_ratio is None
                else (evidence("overlapping_share", one.overlap_ratio, "ratio"),)
            ),
        ),
    )


def _at(one: Updater) -> str:
    return place(program_frame(one.stack))


def _summary(one: SharedUpdate, name: str, first: Updater, second: Updater) -> str:
    does = "checked, and then set" if one.check else "read, changed and stored"
    if one.together:
        where = _at(first)
        if _at(second) != where:
            where = f"{where} and {_at(second)}"
        times = plural(one.together, "time")
        return (
            f"{short(first.thread.name)} and {short(second.thread.name)} were both in the middle of updating"
            f" {name} {times}, without a lock in common, at {where}: it is {does}, and"
            f" {'both may act' if one.check else 'one change is lost'}."
        )
    if not one.unguarded:
        return (
            f"{name} is updated under different locks, {_guards(one)}, by several threads, at"
            f" {_at(first)}: none of them keeps the others out."
        )
    return (
        f"{name} is updated under {_guards(one)} at some times and without at others ({one.guarded} and"
        f" {one.unguarded} sights), by several threads, at {_at(first)}."
    )


def _guards(one: SharedUpdate) -> str:
    return " and ".join(map(short, one.guards[:2])) or "a lock"


def _explanation(one: SharedUpdate) -> str:
    kind = {
        "attribute": "An attribute",
        "global": "A global variable",
        "cell": "A variable of an enclosing function",
        "item": "An item of a container",
    }.get(one.place.kind, "A shared name")
    step = "looked at, and stored because of what was there" if one.check else "loaded, and stored changed"
    text = (
        f"{kind} is {step} in more than one instruction: another thread can come in between. Each time was"
        " one look at all stacks, with both threads between load and store."
    )
    if not one.together:
        text = (
            f"{kind} is {step} in more than one instruction. A lock protects it only if all who change it"
            " take the lock."
        )
    ratio = one.overlap_ratio
    if one.together and ratio is not None:
        what = "may be done twice" if one.check else "may be lost"
        text += f" Up to {percent(ratio)} of the updates {what}."
    return text


def _remedies(one: SharedUpdate, name: str, at: str) -> tuple[Remedy, ...]:
    lock = short(one.guards[0]) if one.guards else "lock"
    if one.check:
        return (
            Remedy(
                f"check and store {name} under one lock",
                f"# {at}\nwith {lock}:\n    if ...:        # look, now that nobody else can\n        ...",
            ),
        )
    return (
        Remedy(
            f"hold {'a lock' if not one.guards else lock} from the load of {name} to its store, everywhere",
            f"# {at}\nwith {lock}:\n    ...            # read, change and store",
        ),
        Remedy("or let each thread have its own, and put them together at the end"),
    )


def _could_also_be(one: SharedUpdate) -> tuple[str, ...]:
    if one.together >= SURE.value:
        return ()
    if one.together:
        return ("chance: a lock that ftdiag cannot see changed hands between the reads of the two stacks",)
    return ("no race: something else keeps the threads apart while they update it without the lock",)


RULE: Final = Rule(
    id="racy-update",
    title="Threads update the same thing without a lock",
    needs=(Need.TICKS, Need.FREE_THREADED),
    thresholds=(SEEN, SURE, MIXED),
    judge=_judge,
)
