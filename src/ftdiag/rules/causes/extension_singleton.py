"""extension-singleton: threads count references of one object that an extension gives to everybody."""

from __future__ import annotations

import sys
from typing import Final

from ftdiag.model import ChangeKind, HotLine, Remedy, SharedObject
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.base import (
    WORTH_SAYING,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineClaim,
    Need,
    Priority,
    Rule,
)
from ftdiag.rules.prose.library import together
from ftdiag.wording.places import an, place_in, short

CALLED_ON_ARRAYS: Final = frozenset({"numpy.ufunc", "numpy._ArrayMethod"})
"""Types of functions that are called with whole arrays: one call is for as many items as these have."""


def from_extension(line: HotLine) -> SharedObject | None:
    """An object of an extension's type that threads count at a line which does not name it; None without.

    Types that are written in C have their module in their name, those of Python's classes have not.
    """
    if any(one.name != one.type_name for one in line.shared):
        return None
    for one in line.shared:
        module, dot, _ = one.type_name.partition(".")
        if dot and module not in sys.stdlib_module_names:
            return one
    return None


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    one = next(filter(None, (from_extension(charge.line) for charge in found.lines)), None)
    kind = short(one.type_name) if one is not None else "object of an extension"
    if one is not None and one.type_name in CALLED_ON_ARRAYS:
        remedy: tuple[Remedy, ...] = (
            Remedy(
                f"call it for many items at once: each call counts a reference of the {kind}, however large"
                " the arrays are that it is given"
            ),
        )
    else:
        # Nothing is sketched with an object that the line does not name.
        remedy = facts.remedy(
            *("extension-singleton", "asked-once"), "ask for the object once in each thread, before the loop"
        )
    return found.finding(
        RULE,
        facts,
        confidence="likely",
        summary=(
            f"{found.losing(facts)} counting references of {an(kind)} that an extension gives to all of them,"
            f" at {place_in(found.frame)}."
        ),
        explanation=(
            "Native samples stood at instructions that count an object of this type, or wait for that, which"
            " the line does not name: it is made by the extension and returned by its functions. Objects that"
            " the interpreter shares are immortal, and nobody counts them; those of extensions are only if"
            f" they are made so. Two threads that do only this: {facts.scaling('extension-singleton')} of"
            f" what one does, with an immortal object {facts.scaling('extension-singleton', 'immortal')}."
        ),
        remedy=(
            *remedy,
            *facts.remedy(
                *("extension-singleton", "immortal"),
                "in the extension: make the object immortal, static from the start or, from 3.15 on, by"
                " PyUnstable_SetImmortal before it is shared",
                "static Missing missing = {PyObject_HEAD_INIT(&MissingType)};   /* C */",
            ),
        ),
        could_also_be=("refcount-contention: an object of this type that the program itself shares",),
        verify="'contended atomics' at these lines falls",
    )


RULE: Final = Rule(
    id="extension-singleton",
    title="Threads count references of one object of an extension",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=everywhere(ChangeKind.CONTENTION),
    claims=Claims(
        lines=(LineClaim(Priority.SIGNS + 2, when=lambda wasted, _: from_extension(wasted.line) is not None),)
    ),
    cases=("extension-singleton",),
)
