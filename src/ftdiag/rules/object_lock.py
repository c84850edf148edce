"""object-lock: threads change one list, dict, set or other object, whose own lock is waited for."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
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
    finite,
)
from ftdiag.rules.library import sees_nothing
from ftdiag.rules.locks import (
    blame_of,
    confidence_of,
    cost_of,
    holding,
    lock_evidence,
    lock_subject,
    verify_lock,
    where,
    worth_saying,
)
from ftdiag.rules.wording import place, share, short

MEASURED: Final = {
    "list": "list.append 0.90x / 0.92x",
    "dict": "d[k] = v 0.96x / 0.95x, a histogram 0.11x / 0.81x",
    "set": "set.add 1.19x / 1.10x",
    "collections.deque": "deque 0.95x / 0.94x",
    "collections.Counter": "Counter 0.95x / 0.87x",
    "random.Random": "random.random() 0.92x / 0.99x",
    "itertools.count": "next(count) 0.82x / 0.94x",
    "_io.TextIOWrapper": "a text file 0.97x / 0.69x",
    "_io.BufferedWriter": "a buffered file 0.87x / 0.96x",
    "bytearray": "bytearray.append 0.94x on 3.14",
}
"""Throughput of 2 threads over 1 on the shared object, 3.13 / 3.14."""
FILES: Final = ("_io.TextIOWrapper", "_io.BufferedWriter", "_io.BufferedReader", "_io.BufferedRandom")


def _remedies(facts: Facts, charge: LockCharge) -> tuple[Remedy, ...]:
    lock = charge.locks[0].lock
    type_name = lock.type_name or "object"
    at = place(where(charge))
    if "Random" in type_name:
        return (
            Remedy(
                "a Random() for each thread: 1.96x / 2.03x",
                "local = threading.local()\n"
                f"# {at}\nif not hasattr(local, 'random'):\n    local.random ="
                " random.Random()\nlocal.random.random()",
            ),
        )
    if type_name in FILES:
        return (
            Remedy(
                "a file for each thread, or collect lines per thread and write them at once",
                f"# {at}\nlines.append(line)              # a list of this thread\nif len(lines) > 1000:\n"
                "    file.write(''.join(lines)); lines.clear()",
            ),
        )
    make = {"dict": "{}", "set": "set()", "collections.deque": "deque()", "collections.Counter": "Counter()"}
    merge = {
        "dict": "shared.update(mine)",
        "set": "shared |= mine",
        "collections.Counter": "shared.update(mine)",
    }
    own = make.get(type_name, "[]")
    remedies = [
        Remedy(
            f"a {short(type_name)} for each thread, merged under one lock at the end: 1.7-2.0x on 2 threads",
            f"# {at}\nmine = {own}                 # of this thread\nfor item in items:\n    ...            "
            "  # change"
            f" mine, not {short(lock.label or 'the shared one')}\nwith merge_lock:\n"
            f"    {merge.get(type_name, 'shared.extend(mine)')}",
        )
    ]
    if type_name == "dict" and facts.version == (3, 13):
        remedies.append(
            Remedy(
                "on 3.13, d.get(key) with a key made at run time spins even in one thread (300 times"
                " slower): intern"
                " the keys or use d[key]",
                "key = sys.intern(key)\nvalue = d[key]",
            )
        )
    return tuple(remedies)


def _judge(facts: Facts) -> Verdict:
    charges = worth_saying(facts, RULE.id)
    if not charges:
        reason = sees_nothing(facts)
        return Clear() if reason is None else NotApplicable(reason)
    findings = []
    for charge in charges:
        lock = charge.locks[0]
        type_name = lock.lock.type_name or "object"
        measured = MEASURED.get(type_name, "shared containers 0.8-1.2x")
        wait = sum(finite(one.wait_ns) for one in charge.locks)
        critical = sum(finite(one.critical_wait_ns) for one in charge.locks)
        held = blame_of(charge) if holding(charge) is not None else "each holds it for a moment only"
        findings.append(
            RULE.finding(
                facts,
                lost_cores=charge.lost_cores,
                confidence=confidence_of(charge),
                subject=lock_subject(charge),
                summary=f"{cost_of(facts, charge)}, the own lock of a shared {short(type_name)}; {held}.",
                explanation=(
                    f"Without the GIL every {short(type_name)} has a lock of its own, which each change"
                    " takes, whatever"
                    f" locks the program has. {share(critical, wait)} of the wait was while cores were free."
                    " Measured on"
                    f" 2 threads: {measured} (3.13 / 3.14); with an object for each thread 1.7-2.0x."
                ),
                could_also_be=("refcount-contention: reading the shared object costs too, without any lock",),
                remedy=_remedies(facts, charge),
                verify=verify_lock(facts, charge),
                evidence=lock_evidence(facts, charge),
            )
        )
    return Found(tuple(findings))


RULE: Final = Rule(
    id="object-lock",
    title="Threads change one object at the same time",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
