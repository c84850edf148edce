"""queue-contention: the lock that is waited for is a queue's."""

from __future__ import annotations

from typing import Final

from ftdiag.model import LockKind
from ftdiag.rules.attribution.changes import without_lock
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LibraryClaim,
    LockClaim,
    Need,
    Priority,
    Rule,
)
from ftdiag.rules.prose.library import together
from ftdiag.wording.places import place, short


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    if not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    # "Pipeline._items (Queue.mutex)": the queue is called by its own name.
    label = found.locks[0].locks[0].lock.label if found.locks else None
    name = f"the queue {short(label.partition(' (')[0])}" if label else "a queue"
    at = place(found.frame)
    return found.finding(
        RULE,
        facts,
        summary=(f"{found.losing(facts)} waiting for the lock of {name}{found.at}."),
        explanation=(
            "The wait is inside queue.py (or a SimpleQueue): all threads put into and take from one queue,"
            " and its lock is taken for each item: the queue, and not the work, sets the pace. Two threads"
            f" with small items: {facts.scaling('queue')} of what one does; with a SimpleQueue, which is"
            f" faster for each operation, {facts.scaling('queue', 'SimpleQueue')}."
        ),
        could_also_be=("hot-lock: a lock of your own that is taken around the queue",),
        remedy=(
            *facts.remedy(
                *("queue", "batches-of-64"),
                "put fewer, bigger items, say batches of 64",
                f"# {at}\nfor batch in itertools.batched(items, 64):\n    queue.put(batch)",
            ),
            *facts.remedy(
                *("queue", "own"),
                "give each worker a queue of its own",
                "queues = [queue.SimpleQueue() for _ in workers]\nqueues[number % len(queues)].put(item)",
            ),
        ),
        verify=f"the wait for the lock of {name} under Locks falls",
    )


RULE: Final = Rule(
    id="queue-contention",
    title="All threads meet at one queue",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=without_lock,
    claims=Claims(
        locks=(LockClaim(Priority.NAMED + 2, kinds=(LockKind.RUNTIME,), types=("_queue.SimpleQueue",)),),
        libraries=(LibraryClaim(files=("queue.py",)),),
    ),
    advice=Advice.LINE,
    cases=("queue",),
)
