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
    "list": "list.append 0.90x / 0.92x",
    "dict": "d[k] = v 0.96x / 0.95x, a histogram 0.11x / 0.81x",
    "set": "set.add 1.19x / 1.10x",
    "deque": "deque 0.95x / 0.94x",
    "Counter": "Counter 0.95x / 0.87x",
    "Random": "random.random() 0.92x / 0.99x",
    "count": "next(count) 0.82x / 0.94x",
    "TextIOWrapper": "a text file 0.97x / 0.69x",
    "BufferedWriter": "a buffered file 0.87x / 0.96x",
    "bytearray": "bytearray.append 0.94x on 3.14",
}
"""Throughput of 2 threads over 1 on the shared object, 3.13 / 3.14."""
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
            Remedy(
                "a Random() for each thread: 1.96x / 2.03x",
                f"# {at}\ndef work():\n    rng = random.Random()    # of this thread\n"
                "    ... rng.random() ...     # not random.random()",
            ),
        )
    if kind in FILES:
        return (
            Remedy(
                "a file for each thread, or collect lines per thread and write them at once",
                f"# {at}\nlines.append(line)              # a list of this thread\nif len(lines) > 1000:\n"
                "    file.write(''.join(lines)); lines.clear()",
            ),
        )
    shared = lock_expression(charge.locks[0]) if charge.locks[0].lock.label else "shared"
    if kind not in OWN:
        # How such an object is made and merged is not known: nothing is sketched.
        return (Remedy(f"one {short(kind)} for each thread: 1.7-2.0x on 2 threads, where it can be made so"),)
    make, merge = OWN[kind]
    merged = merge.replace("{shared}", shared)
    remedies = [
        Remedy(
            f"one {short(kind)} for each thread, merged under one lock at the end: 1.7-2.0x on 2 threads",
            f"# {at}\nmine = {make}                 # of this thread\nfor item in items:\n    ..."
            f"                   # change mine, not {shared}\nwith merge_lock:\n    {merged}",
        )
    ]
    if kind == "dict" and facts.version == (3, 13):
        remedies.append(
            Remedy(
                "on 3.13, d.get(key) with a key made at run time spins even in one thread (300 times"
                " slower): intern the keys or use d[key]",
                "key = sys.intern(key)\nvalue = d[key]",
            )
        )
    return tuple(remedies)


def _tell(facts: Facts, charge: LockCharge) -> Told:
    lock = charge.locks[0]
    kind = short(_kind(lock))
    measured = MEASURED.get(kind, "shared containers 0.8-1.2x")
    held = blame_of(charge) if holding(charge) is not None else "each holds it for a moment only"
    shared = f", a {kind} that they share" if lock.lock.label else " that they share"
    return Told(
        summary=f"{cost_of(facts, charge)}{shared}; {held}.",
        explanation=(
            f"Without the GIL every object has a lock of its own, which each change of a {kind} takes,"
            f" whatever locks the program has. {free_share(charge)} of the parked time was while cores were"
            f" free. Measured on 2 threads: {measured} (3.13 / 3.14); with an object for each thread"
            " 1.7-2.0x."
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
