"""shared-iterator: threads take from one iterator, which each next() changes."""

from __future__ import annotations

from typing import Final

from ftdiag.model import ChangeKind, LockKind, Remedy
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.base import (
    WORTH_SAYING,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineClaim,
    LockClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
)
from ftdiag.rules.prose.library import Together, sees_nothing, together
from ftdiag.wording.places import an, place, place_in, short

ITERATORS: Final = (
    *("itertools.count", "itertools.cycle", "itertools.islice", "itertools.chain", "itertools.accumulate"),
    *("itertools.batched", "itertools.pairwise", "itertools.zip_longest", "itertools.starmap"),
    *("zip", "map", "filter", "enumerate", "reversed", "generator", "list_iterator", "tuple_iterator"),
    *("dict_keyiterator", "dict_valueiterator", "dict_itemiterator", "set_iterator", "range_iterator"),
    *("iterator", "callable_iterator", "str_iterator", "longrange_iterator", "re.SRE_Scanner"),
)
"""Types of iterators, as CPython calls them: each next() changes them."""
CASES: Final = {"count": "count-next", "zip": "zip-next", "generator": "generator"}
"""By type of the iterator: the measured case; the counter's stands for those that were not measured."""


def _kind(found: Together) -> tuple[str, str | None]:
    """The iterator's type, and what the program calls it where that is known."""
    if found.locks:
        lock = found.locks[0].locks[0].lock
        return lock.type_name or "iterator", lock.label
    for charge in found.lines:
        for one in charge.line.shared:
            if one.type_name in ITERATORS:
                return one.type_name, one.name if one.name != one.type_name else None
    return "iterator", None


def _remedies(facts: Facts, kind: str, at: str) -> tuple[Remedy, ...]:
    if kind == "count":
        return (
            *facts.remedy(
                *("count-next", "block-of-256"),
                "take a block of numbers at once",
                f"# {at}\nfirst = next(blocks) * 256     # blocks: one itertools.count for all\n"
                "for number in range(first, first + 256): ...",
            ),
            *facts.remedy(
                *("count-next", "own"),
                "or a counter for each thread, in steps of the number of threads",
                f"# {at}\nnumbers = itertools.count(number, threads)   # of this thread",
            ),
        )
    case = CASES.get(kind, "zip-next")
    return (
        *facts.remedy(
            *("generator", "block-of-256"),
            f"take a block of items from the {short(kind)} at once, under a lock",
            f"# {at}\nwhile True:\n    with lock:\n        block = list(itertools.islice(shared, 256))\n"
            "    if not block: break\n    for item in block: ...",
        ),
        *facts.remedy(
            *(case, "own"),
            f"or {an(short(kind))} for each thread, over a part of its own",
            f"# {at}\nfor item in items[number::threads]: ...   # of this thread",
        ),
    )


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    if not facts.loses(found.lost_cores, RULE.id):
        reason = None if found.locks or found.lines else sees_nothing(facts)
        return Clear() if reason is None else NotApplicable(reason)
    full, name = _kind(found)
    kind = full.rpartition(".")[2]
    case = CASES.get(kind, "count-next")
    variant = "shared-behind-a-lock" if case == "generator" else "shared"
    called = f"{short(name)}, {an(short(kind))}" if name else an(short(kind))
    return found.finding(
        RULE,
        facts,
        summary=f"{found.losing(facts)} taking from {called} that they share, at {place_in(found.frame)}.",
        explanation=(
            "Each next() changes the iterator: its place, and the references to what it gives. Threads that"
            " take from one at the same time lock it, or count on the same cache line. Two threads that do"
            f" nothing else: {facts.scaling(case, variant)} of what one does, with an iterator for each"
            f" {facts.scaling(case, 'own')}. threading.serialize_iterator (3.15) makes that safe, and no"
            " faster."
        ),
        remedy=_remedies(facts, kind, place(found.frame)),
        could_also_be=("refcount-contention: the items, and not the iterator, are what threads share",),
        verify="the wait for it under Locks, and 'spinning' and 'contended atomics' at its line, fall",
    )


RULE: Final = Rule(
    id="shared-iterator",
    title="Threads take from one iterator",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=everywhere(ChangeKind.CONTENTION),
    claims=Claims(
        locks=(LockClaim(Priority.NAMED, kinds=(LockKind.OBJECT,), types=ITERATORS),),
        lines=(
            LineClaim(
                Priority.PROCESS,
                when=lambda wasted, _: any(one.type_name in ITERATORS for one in wasted.line.shared),
            ),
        ),
    ),
    cases=("count-next", "zip-next", "generator"),
)
