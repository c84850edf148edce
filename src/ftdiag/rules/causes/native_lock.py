"""native-lock: threads wait for a mutex inside a C library, which has it around what they all call."""

from __future__ import annotations

from typing import Final

from ftdiag.model import LockKind
from ftdiag.rules.attribution.changes import without_lock
from ftdiag.rules.attribution.locks import NATIVE_MUTEX, where
from ftdiag.rules.base import (
    WORTH_SAYING,
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
from ftdiag.rules.prose.locks import Told, blame_of, cost_of, lock_findings
from ftdiag.wording.locks import lock_in_sentence
from ftdiag.wording.places import place

UNNAMED: Final = "a mutex of "
"""How the label of a mutex begins whose variable has no name (a stripped file, memory of malloc)."""


def _tell(facts: Facts, charge: LockCharge) -> Told:
    name = lock_in_sentence(charge.locks[0].lock)
    at = place(where(charge))
    library = name.rpartition(" of ")[2]
    return Told(
        summary=f"{cost_of(facts, charge)}, a mutex in C; {blame_of(charge)}.",
        explanation=(
            "The wait is for a pthread_mutex_t (a std::mutex is one) inside a library: neither a lock of the"
            " program nor one of the interpreter, and no Python code takes it. The GIL used to keep threads"
            " from meeting there. Who has it is what the mutex itself records."
            + (
                ""
                if name.startswith(UNNAMED)
                else " Its name is the variable's in the library's symbol table: search for it in its source."
            )
            + f" Two threads that meet at such a mutex for a moment: {facts.scaling('native-mutex')} of what"
            f" one does; with a state of its own for each {facts.scaling('native-mutex', 'own')}."
        ),
        remedy=facts.remedy(
            *("native-mutex", "own"),
            f"give each thread an object, handle or cache of its own of {library}, where it offers that",
            f"# {at}\nlocal = threading.local()\n"
            "if not hasattr(local, 'handle'):\n    local.handle = library.open()   # of this thread\n"
            "local.handle.call(...)",
        ),
        could_also_be=("allocator-contention: a malloc that has a mutex of its own",),
    )


def _judge(facts: Facts) -> Verdict:
    findings = lock_findings(RULE, facts, _tell)
    return Found(findings) if findings else Clear()


RULE: Final = Rule(
    id="native-lock",
    title="Threads wait for a mutex of a C library",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=without_lock,
    claims=Claims(
        locks=(LockClaim(Priority.NAMED, kinds=(LockKind.NATIVE,), types=(NATIVE_MUTEX,)),),
    ),
    cases=("native-mutex",),
)
