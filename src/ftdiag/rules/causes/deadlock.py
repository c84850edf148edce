"""deadlock: threads wait for each other in a circle; none of them goes on."""

from __future__ import annotations

from typing import Final

from ftdiag.analysis.waitgraph import DEADLOCK_NS, WaitEdge
from ftdiag.model import BottleneckKind, LockMetrics, Remedy
from ftdiag.rules.attribution.frames import program_frame
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Found,
    LockClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    Threshold,
    Verdict,
    evidence,
    subject_of,
)
from ftdiag.rules.base.scoring import CRITICAL_SCORE
from ftdiag.wording.locks import lock_in_sentence, lock_key
from ftdiag.wording.places import place, short

STANDING: Final = Threshold(
    "standing",
    DEADLOCK_NS / 1e9,
    "s",
    "a circle of proven holders that has not changed for 3 s: a lock with a timeout has mostly given up by"
    " then",
)
MAX_CYCLES: Final = 5
MAX_THREADS_TOLD: Final = 4


def _told(edge: WaitEdge) -> str:
    name = lock_in_sentence(edge.lock)
    holder = short(edge.holder.name) if edge.holder is not None else "somebody"
    at = place(program_frame(edge.stack))
    return f"{short(edge.waiter.name)} waits at {at} for {name}, which {holder} holds"


def _judge(facts: Facts) -> Verdict:
    if facts.now is None:
        return NotApplicable("the range does not reach the end of the recording")
    findings = []
    for cycle in facts.now.deadlocks[:MAX_CYCLES]:
        members = {edge.waiter.index for edge in cycle}
        numbers = {edge.lock_number for edge in cycle}
        behind = sum(
            edge.lock_number in numbers and edge.waiter.index not in members for edge in facts.now.edges
        )
        lost = sum(
            charge.lost_cores
            for charge in facts.lock_charges(RULE.id)
            if any(lock.number in numbers for lock in charge.locks)
        )
        stood = min(edge.since_ns for edge in cycle) / 1e9
        told = "; ".join(_told(edge) for edge in cycle[:MAX_THREADS_TOLD])
        if len(cycle) > MAX_THREADS_TOLD:
            told += f"; and {len(cycle) - MAX_THREADS_TOLD} more"
        others = f" {behind} more threads wait behind them." if behind else ""
        names = [
            short(edge.lock.label or "lock_" + "abcdefgh"[number % 8]) for number, edge in enumerate(cycle)
        ]
        order = " and ".join(dict.fromkeys(names))
        # Two locks of one name, as of two accounts, need an order that does not depend on who asks.
        alike = len(set(names)) == 1 < len(names)
        owner = names[0].rpartition(".")[0] or "one"
        in_order = (
            Remedy(
                f"take locks called {names[0]} in one order that all threads agree on, as that of a number",
                f"first, second = sorted(({owner}, other), key=lambda each: each.number)\n"
                f"with first.{names[0].rpartition('.')[2]}, second.{names[0].rpartition('.')[2]}: ...",
            )
            if alike
            else Remedy(
                f"take {order} in the same order everywhere",
                f"with {names[0]}:\n    with {names[-1]}: ...   # this order in all functions",
            )
        )
        first = cycle[0]
        findings.append(
            RULE.finding(
                facts,
                lost_cores=lost,
                confidence="known",
                least_score=CRITICAL_SCORE,
                subject=subject_of(
                    program_frame(first.stack),
                    thread=first.waiter.name,
                    lock=lock_key(first.lock),
                ),
                summary=f"{len(cycle)} threads are in a deadlock: {told}.{others}",
                explanation=(
                    "Each holder is proven (a recorded owner, or a `with` block around its line), and the"
                    f" circle has stood for {stood:.0f} s at the last tick. Threads in it never go on; it"
                    " is critical whatever it costs now."
                )
                if len(cycle) > 1
                else (
                    f"The thread waits for a lock that it holds itself, for {stood:.0f} s at the last tick."
                    " It never goes on."
                ),
                remedy=(
                    in_order
                    if len(cycle) > 1
                    else Remedy("use an RLock, or do not call back into the function under the lock"),
                    Remedy(
                        "give up after a while, so that a mistake is an error and not silence",
                        f"if not {names[0]}.acquire(timeout=10):\n    raise TimeoutError('lock order')",
                    ),
                ),
                verify=f"ftdiag attach {facts.pid} --format text: the threads move (their stacks change)",
                evidence=(
                    evidence("standing", stood, "s", STANDING),
                    evidence("threads_in_cycle", float(len(cycle)), "threads"),
                    evidence("threads_behind", float(behind), "threads"),
                ),
            )
        )
    return Found(tuple(findings)) if findings else Clear()


def _is_in_cycle(lock: LockMetrics, facts: Facts) -> bool:
    cycles = facts.now.deadlocks if facts.now is not None else ()
    return any(edge.lock_number == lock.number for cycle in cycles for edge in cycle)


RULE: Final = Rule(
    id="deadlock",
    title="Threads wait for each other in a circle",
    needs=(Need.TICKS, Need.NOW),
    thresholds=(STANDING,),
    judge=_judge,
    without="nothing is done until it is gone",
    claims=Claims(locks=(LockClaim(Priority.PROVEN, when=_is_in_cycle),)),
    about=frozenset({BottleneckKind.KNOT}),
)
