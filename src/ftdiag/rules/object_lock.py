"""object-lock: threads change one list, dict, set or other object, whose own lock is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import LockMetrics, Remedy
from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    Found,
    LockCharge,
    Need,
    NotApplicable,
    Rule,
    Verdict,
)
from ftdiag.rules.library import sees_nothing
from ftdiag.rules.locks import (
    Told,
    blame_of,
    cost_of,
    free_share,
    holding,
    lock_findings,
    where,
)
from ftdiag.rules.wording import lock_expression, place, short

MEASURED: Final = {
    "list": ("list-append", "list.append"),
    "dict": ("dict-setitem", "d[k] = v"),
    "set": ("set-add", "set.add"),
    "deque": ("deque-append", "append and popleft"),
    "Counter": ("counter-increment", "counter[key] += 1"),
    "Random": ("random", "random()"),
    "TextIOWrapper": ("text-file", "write"),
    "BufferedWriter": ("binary-file", "write"),
    "bytearray": ("bytearray-append", "bytearray.append"),
}
"""By type of the object: the measured case, and what its threads do."""
ANY: Final = MEASURED["list"]
FILES: Final = ("TextIOWrapper", "BufferedWriter", "BufferedReader", "BufferedRandom")
OWN: Final[Mapping[str, tuple[str, str]]] = {
    "list": ("[]", "{shared}.extend(mine)"),
    "dict": ("{}", "for key, value in mine.items(): ...   # add to {shared}[key]"),
    "set": ("set()", "{shared} |= mine"),
    "deque": ("deque()", "{shared}.extend(mine)"),
    "Counter": ("Counter()", "{shared}.update(mine)"),
    "bytearray": ("bytearray()", "{shared} += mine"),
}
"""How a thread makes one of its own, and how it is merged, by type."""


def _kind(lock: LockMetrics) -> str:
    """The name of the object's type without its module: "deque" for "collections.deque"."""
    return (lock.lock.type_name or "object").rpartition(".")[2]


def _remedies(facts: Facts, charge: LockCharge) -> tuple[Remedy, ...]:
    kind = _kind(charge.locks[0])
    at = place(where(charge))
    if kind == "Random":
        return (
            *facts.remedy(
                *("random", "own"),
                "a Random() for each thread",
                f"# {at}\ndef work():\n    rng = random.Random()    # of this thread\n"
                "    ... rng.random() ...     # not random.random()",
            ),
        )
    if kind in FILES:
        return (
            *facts.remedy(
                *(MEASURED.get(kind, MEASURED["TextIOWrapper"])[0], "own"),
                "a file for each thread, or collect lines per thread and write them at once",
                f"# {at}\nlines.append(line)              # a list of this thread\nif len(lines) > 1000:\n"
                "    file.write(''.join(lines)); lines.clear()",
            ),
        )
    shared = lock_expression(charge.locks[0]) if charge.locks[0].lock.label else "shared"
    if kind not in OWN:
        # How such an object is made and merged is not known: nothing is sketched.
        return facts.remedy(
            "list-append", "own", f"one {short(kind)} for each thread, where it can be made so"
        )
    make, merge = OWN[kind]
    merged = merge.replace("{shared}", shared)
    remedies = [
        *facts.remedy(
            *(MEASURED.get(kind, ANY)[0], "own"),
            f"one {short(kind)} for each thread, merged under one lock at the end",
            f"# {at}\nmine = {make}                 # of this thread\nfor item in items:\n    ..."
            f"                   # change mine, not {shared}\nwith merge_lock:\n    {merged}",
        )
    ]
    if kind == "dict":
        remedies += facts.remedy(
            *("dict-get-dynamic-key", "interned"),
            "where d.get(key) is given keys that are made at run time, intern them",
            "key = sys.intern(key)\nvalue = d.get(key)",
        )
    return tuple(remedies)


def _tell(facts: Facts, charge: LockCharge) -> Told:
    lock = charge.locks[0]
    kind = short(_kind(lock))
    case, done = MEASURED.get(kind, ANY)
    measured = f"{done} {facts.scaling(case)}, with one for each thread {facts.scaling(case, 'own')}"
    held = blame_of(charge) if holding(charge) is not None else "each holds it for a moment only"
    shared = f", a {kind} that they share" if lock.lock.label else " that they share"
    return Told(
        summary=f"{cost_of(facts, charge)}{shared}; {held}.",
        explanation=(
            f"Without the GIL every object has a lock of its own, which each change of a {kind} takes,"
            f" whatever locks the program has. {free_share(charge)} of the parked time was while cores were"
            f" free. Two threads that do nothing else: {measured}."
        ),
        remedy=_remedies(facts, charge),
        could_also_be=("refcount-contention: reading the shared object costs too, without any lock",),
    )


def _judge(facts: Facts) -> Verdict:
    findings = lock_findings(RULE, facts, _tell)
    if findings:
        return Found(findings)
    reason = sees_nothing(facts)
    return Clear() if reason is None else NotApplicable(reason)


RULE: Final = Rule(
    id="object-lock",
    title="Threads change one object at the same time",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
