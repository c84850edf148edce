"""stuck-thread: a thread has not moved for long, in a wait that is none for work, while others progress.

Or a whole pool of threads, in tasks that wait for tasks: see `starved_pool`.
"""

from __future__ import annotations

from typing import Final

from ftdiag.analysis.standing import STUCK_NS
from ftdiag.model import BottleneckKind, Finding, LockMetrics, Remedy
from ftdiag.rules.attribution.frames import program_frame
from ftdiag.rules.attribution.pools import LONG_S, WAITED, StarvedPool, starved_pool
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Found,
    Judgement,
    LockClaim,
    Need,
    NotApplicable,
    Now,
    Priority,
    Rule,
    Threshold,
    evidence,
    subject_of,
)
from ftdiag.rules.base.scoring import WARNING_SCORE
from ftdiag.wording.locks import lock_in_sentence
from ftdiag.wording.places import place_in, short
from ftdiag.wording.threads import thread_names

STANDING: Final = Threshold(
    "standing",
    STUCK_NS / 1e9,
    "s",
    "the same stack and no CPU time for 10 s, while others worked: lock waits under load end within seconds",
)


def _judge(facts: Facts) -> Judgement:
    stuck = () if facts.now is None else _stuck(facts, facts.now)
    if stuck:
        return Found(stuck)
    pool = starved_pool(facts)
    if pool is not None:
        return starvation(RULE, facts, pool)
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
        waits += f" for {lock_in_sentence(edge.lock)}"
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
    without="what the threads would do is not in the recording",
    claims=Claims(locks=(LockClaim(Priority.PROVEN + 1, when=_all_waiters_are_stuck),)),
    about=frozenset({BottleneckKind.IO, BottleneckKind.UNKNOWN, BottleneckKind.LOCK}),
)


def starvation(rule: Rule, facts: Facts, pool: StarvedPool) -> Finding:
    """The finding about one pool."""
    seconds = facts.metrics.duration_ns / 1e9
    names = thread_names(worker.info for worker in pool.workers)
    count = len(pool.workers)
    whole = f"{names}, the only worker of its pool, waits" if count == 1 else f"{names}, all of a pool, wait"
    return rule.finding(
        facts,
        lost_cores=0.0,
        confidence="possible",
        least_score=WARNING_SCORE if seconds >= LONG_S else 0.0,
        subject=subject_of(pool.frame),
        summary=(
            f"{whole} at {place_in(pool.frame)} for a future, inside a task, and did nothing else for"
            f" {seconds:.0f} s: if the future is of the same pool, nobody is left to run it."
        ),
        explanation=(
            "A worker without work waits in `_worker`; these wait for a result, called by a task that they"
            " run. Which pool the result is to come from cannot be read from outside. A pool whose tasks"
            " wait for tasks of the same pool stands still as soon as every worker waits, and CPU use falls"
            " to nothing."
        ),
        could_also_be=("tasks that wait for another pool or for processes, whose work takes this long",),
        remedy=(
            Remedy(
                "give the inner tasks a pool of their own",
                "inner = ThreadPoolExecutor()      # its tasks wait for nobody\n"
                "future = inner.submit(render_image, page)",
            ),
            Remedy("do not wait in a task: return, and go on in a callback or in who submits"),
        ),
        verify=f"ftdiag attach {facts.pid} --format text: the workers' stacks change",
        evidence=(
            evidence("waited_inside_a_task", seconds, "s", WAITED),
            evidence("threads", float(count), "threads"),
        ),
    )
