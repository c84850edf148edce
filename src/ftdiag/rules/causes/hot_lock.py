"""hot-lock: threads wait for one lock that the program made."""

from __future__ import annotations

from typing import Final

from ftdiag.model import LockKind, Remedy
from ftdiag.rules.attribution.changes import without_lock_and_its_memory
from ftdiag.rules.attribution.libraries import is_process_wide
from ftdiag.rules.attribution.locks import held_elsewhere, holding, where
from ftdiag.rules.base import (
    SHORT_HOLD,
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Found,
    LockCharge,
    LockClaim,
    Need,
    Priority,
    Rule,
    Verdict,
)
from ftdiag.rules.figures.measured import measurement, times
from ftdiag.rules.prose.inside import INSIDE, UNNAMED_LOCKS, Inside
from ftdiag.rules.prose.locks import Told, blame_of, cost_of, lock_findings, parked_words
from ftdiag.wording.locks import lock_expression, lock_in_sentence
from ftdiag.wording.places import place, short

MOST_BLAME: Final = 0.5
"""A lock is held for calls where its holder is in another function in this share of the waits."""


def _remedies(facts: Facts, charge: LockCharge) -> tuple[Remedy, ...]:
    if charge.locks[0].lock.kind is LockKind.OBJECT:
        # Of an object inside the standard library: nobody takes its lock in a `with` block.
        return (Remedy("call what uses it less often: once for many items, or before the threads start"),)
    name = lock_expression(charge.locks[0])
    line = where(charge)
    held = holding(charge)
    at = place(line)
    merge = facts.remedy(
        *("lock-counter", "merged-at-the-end"),
        f"count or collect per thread and merge once at the end, instead of taking {name} for each step",
        f"# {at}\nmine = 0\nfor item in items:\n    mine += weight(item)   # no lock\n"
        f"with {name}:\n    self.total += mine",
    )
    batch = facts.remedy(
        *("lock-counter", "once-per-256"),
        "take the lock once for many steps, say 256",
        f"# {at}\nfor batch in itertools.batched(items, 256):\n    with {name}:\n"
        "        for item in batch: ...",
    )
    called = held is not None and line is not None and held.frame.function != line.function
    if held is not None and called:
        owner, _, call = short(held.frame.function).rpartition(".")
        call = f"self.{call}" if owner[:1].isupper() else call
        hold = Remedy(
            f"do less while {name} is held: call {call} ({place(held.frame)}) outside of the `with` block;"
            " a lock held for a share s of the work bounds the speed-up at 1/s",
            f"# {at}\nresult = {call}(...)      # outside\n"
            f"with {name}:\n    ...                   # only keep the result",
        )
    else:
        hold = Remedy(
            f"do less while {name} is held: what needs no lock goes before or after the `with` block; a"
            " lock held for a share s of the work bounds the speed-up at 1/s",
            f"# {at}\nvalue = ...           # prepare, format, compute: outside\n"
            f"with {name}:\n    ...               # only the change itself",
        )
    if _long_calls(charge):
        return (hold,)
    if called:
        return (hold, *batch, *merge)
    return (*merge, *batch, hold) if charge.mostly_spun else (hold, *batch, *merge)


def _of_counters(facts: Facts) -> str:
    """What was measured where a lock is held for a step at a time."""
    return (
        f" Two threads that only count under one lock: {facts.scaling('lock-counter')} of what one"
        f" does{_sharding(facts)}."
    )


def _long_calls(charge: LockCharge) -> bool:
    """Whether it is held for calls: what helps where it is held for one update at a time does not then."""
    line = where(charge)
    return line is not None and not charge.mostly_spun and held_elsewhere(charge, line) >= MOST_BLAME


def _sharding(facts: Facts) -> str:
    found = measurement("lock-dict", "sharded-16", facts.version)
    if found is None or found.gain is None or found.helps:
        return ""
    return (
        "; sharding the data over 16 locks looks like the answer and was not when measured"
        f" ({times(found.gain)} times as much)"
    )


def _tell_inside(facts: Facts, charge: LockCharge, inside: Inside) -> Told:
    return Told(
        summary=f"{cost_of(facts, charge)}, inside the interpreter: {inside.taken_by}.",
        explanation=(
            "What is known of it is its place in the state of the interpreter. It is one for the"
            " whole process, whatever locks the program has."
        ),
        remedy=tuple(
            remedy
            for variant, text, code in inside.measured
            for remedy in facts.remedy(inside.case, variant, text, code)
        )
        or (inside.remedy,),
        could_also_be=(),
    )


def _tell(facts: Facts, charge: LockCharge) -> Told:
    inside = INSIDE.get(charge.locks[0].lock.label or "")
    if inside is not None and charge.locks[0].lock.kind is LockKind.RUNTIME:
        return _tell_inside(facts, charge, inside)
    return Told(
        summary=f"{cost_of(facts, charge)}; {blame_of(charge)}.",
        explanation=f"{_seen(charge)}.{'' if _long_calls(charge) else _of_counters(facts)}",
        remedy=_remedies(facts, charge),
        could_also_be=(
            "a holder that is itself kept from its core: see oversubscription, starved-by-others and"
            " cpu-quota",
            "a holder that does I/O under the lock: its line says so",
        ),
    )


def _seen(charge: LockCharge) -> str:
    """How threads were seen to wait."""
    name = lock_in_sentence(charge.locks[0].lock)
    most = max(lock.waiters_max for lock in charge.locks)
    if not most:
        return f"Threads were seen spinning for {name}. {parked_words(charge)}"
    return (
        f"Threads were seen parked on {name}, at most {most} at once, or spinning at its line;"
        f" {parked_words(charge)}"
    )


def _judge(facts: Facts) -> Verdict:
    findings = lock_findings(RULE, facts, _tell)
    return Found(findings) if findings else Clear()


_NAMED_INSIDE: Final = tuple(label for label in INSIDE if label not in UNNAMED_LOCKS)
"""Locks of the interpreter that are known by name and have no rule of their own."""


RULE: Final = Rule(
    id="hot-lock",
    title="One lock of the program is waited for",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING, SHORT_HOLD),
    judge=_judge,
    without=without_lock_and_its_memory,
    claims=Claims(
        locks=(
            LockClaim(Priority.PROCESS, when=is_process_wide),
            LockClaim(Priority.NAMED, kinds=(LockKind.RUNTIME,), labels=_NAMED_INSIDE),
            LockClaim(Priority.REST),
        )
    ),
    advice=Advice.LINE | Advice.LOCK,
    cases=("lock-counter", "lock-dict", "strptime", "warnings", "handed-objects"),
)
