"""stuck-thread: a thread has not moved for long, in a wait that is none for work, while others progress.

Or a whole pool of threads, in tasks that wait for tasks: see `starved_pool`.
"""

from __future__ import annotations

from typing import Final

from ftdiag.analysis.locks import STUCK_NS
from ftdiag.model import Finding, LockMetrics, Remedy
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Found,
    LockClaim,
    Need,
    NotApplicable,
    Now,
    Priority,
    Rule,
    Threshold,
    Verdict,
    evidence,
    subject_of,
)
from ftdiag.rules.frames import program_frame
from ftdiag.rules.scoring import WARNING_SCORE
from ftdiag.rules.starved_pool import WAITED, starvation, starved_pool
from ftdiag.wording.places import place_in, short
from ftdiag.wording.threads import thread_names

STANDING: Final = Threshold(
    "standing",
    STUCK_NS / 1e9,
    "s",
    "the same stack and no CPU time for 10 s, while others worked: lock waits under load end within seconds",
)


def _judge(facts: Facts) -> Verdict:
    stuck = () if facts.now is None else _stuck(facts, facts.now)
    if stuck:
        return Found(stuck)
    pool = starved_pool(facts)
    if pool is not None:
        return Found((starvation(RULE, facts, pool),))
    if facts.now is None:
        return NotApplicable("the range does not reach the end of the recording")
    return Clear()


def _stuck(facts: Facts, now: Now) -> tuple[Finding, ...]:
    dead = {edge.lock_number for cycle in now.deadlocks for edge in cycle}
    lock_of = {edge.waiter.index: edge for edge in now.edges}
    told_elsewhere = {
        lock.number for charge in facts.charges.locks if charge.rule_id != RULE.id for lock in charge.locks
    } | dead
    stuck = [
        each
        for each in now.stuck
        if each.thread.index not in lock_of or lock_of[each.thread.index].lock_number not in told_elsewhere
    ]
    if not stuck:
        return ()
    longest = max(stuck, key=lambda each: (each.since_ns, -each.thread.index))
    frame = program_frame(longest.stack)
    edge = lock_of.get(longest.thread.index)
    waits = f"waiting at {place_in(frame)}"
    if edge is not None:
        waits += f" for {short(edge.lock.label or edge.lock.type_name or 'a lock')}"
        if edge.holder is not None:
            held_at = place_in(program_frame(edge.holder_stack))
            waits += f", which {short(edge.holder.name)} holds while it is at {held_at}"
    lost = sum(charge.lost_cores for charge in facts.lock_charges(RULE.id))
    seconds = longest.since_ns / 1e9
    names = thread_names(each.thread for each in stuck)
    have = "has" if len(stuck) == 1 else "have"
    return (
        RULE.finding(
            facts,
            lost_cores=lost,
            confidence="likely",
            least_score=WARNING_SCORE,
            subject=subject_of(frame, thread=longest.thread.name),
            summary=f"{names} {have} not moved for {seconds:.0f} s: {waits}.",
            explanation=(
                "Same stack, no CPU time, and no wait for work, time or I/O, while other threads of the"
                " program worked. Whoever should wake it may have ended, may be waiting too, or holds"
                " the lock for very long."
            ),
            could_also_be=(
                "a deadlock whose holders cannot be proven (acquire() and release() without `with`)",
                "a wait inside a C library that is meant to be long",
            ),
            remedy=(
                Remedy(
                    "wait with a timeout and say what was waited for",
                    "if not lock.acquire(timeout=10):\n    raise TimeoutError('who holds it?')",
                ),
                Remedy(
                    "release in `finally`, or use `with`: an exception between acquire() and release()"
                    " keeps the lock for ever",
                    "with lock: ...",
                ),
            ),
            verify=f"ftdiag attach {facts.pid} --format text: its stack changes",
            evidence=(
                evidence("standing", seconds, "s", STANDING),
                evidence("threads", float(len(stuck)), "threads"),
            ),
        ),
    )


def _all_waiters_are_stuck(lock: LockMetrics, facts: Facts) -> bool:
    if facts.now is None:
        return False
    waiting = {edge.waiter.index for edge in facts.now.edges if edge.lock_number == lock.number}
    stuck = {each.thread.index for each in facts.now.stuck}
    listed = {waiter.thread.index for waiter in lock.waiters}
    return bool(waiting) and waiting <= stuck and listed <= waiting


RULE: Final = Rule(
    id="stuck-thread",
    title="A thread does not move any more",
    needs=(Need.TICKS,),
    thresholds=(STANDING, WAITED),
    judge=_judge,
    claims=Claims(locks=(LockClaim(Priority.PROVEN + 1, when=_all_waiters_are_stuck),)),
)
