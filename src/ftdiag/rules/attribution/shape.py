"""How a program's threads share its work: why cores stay empty although nobody waits for a lock.

In: facts and what is charged to locks. Out: a `Shape`: at most one rule is charged with the room that is
left, the first that finds its shape, by the priority of its claim: a loop or I/O explains what would else
look serial or unbalanced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ftdiag.model import Finding, ThreadMetrics, ThreadState
from ftdiag.rules.base import (
    Charges,
    Clear,
    Facts,
    Judgement,
    NotApplicable,
    Room,
    Shape,
    Threshold,
    finite,
)
from ftdiag.wording.threads import stem
from ftdiag.wording.units import share

ROOM: Final = Threshold(
    "room_share_of_capacity",
    0.1,
    "ratio",
    "less than a tenth of the cores empty is what start, end and hand-over of work cost",
)
IDLE_SHARE: Final = Threshold(
    "idle_share_of_thread_time",
    0.5,
    "ratio",
    "Python threads that wait for work most of their time",
)
UNNAMED: Final = Threshold(
    "unnamed_share_of_thread_time",
    0.2,
    "ratio",
    "with a fifth of all time in waits of unknown kind, what is idle and what is a lock cannot be told",
)


def shape_of(facts: Facts, charges: Charges) -> Shape:
    """The shape of the program in this range."""
    duration = facts.metrics.duration_ns
    python = [thread for thread in facts.threads if thread.info.python and thread.alive_ns > 0]
    if duration <= 0 or facts.metrics.ticks <= 0 or not python or not facts.capacity:
        return Shape()
    lost = sum(
        finite(cores)
        for state, cores in facts.metrics.lost_cores.items()
        if state not in (ThreadState.ATOMIC, ThreadState.SPIN)
    )
    unnamed = sum(thread.states_ns.get(ThreadState.UNKNOWN, 0.0) for thread in python)
    alive = sum(thread.alive_ns for thread in python)
    if unnamed > UNNAMED.value * alive:
        part = share(unnamed, alive)
        return Shape(unnamed=f"{part} of thread-time is in waits that could not be named: they may be locks")
    # Cores that other processes took hide no shape: threads that want one count as busy.
    taken = finite(facts.metrics.other_programs_cores or 0.0)
    own = lost - min(finite(facts.metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0)), taken)
    wanted = potential_workers(python)
    room = max(0.0, min(facts.capacity, float(wanted)) - facts.metrics.on_cpu_cores - lost)
    known = Room(tuple(python), room, lost, own)
    return facts.attribution.shape(facts, known) or Shape(room_cores=room)


def judge_of_shape(
    rule_id: str, tell: Callable[[Facts, Shape, ThreadMetrics], Finding]
) -> Callable[[Facts], Judgement]:
    """How a rule judges that claims a shape: what it tells of that, and of the thread that it is about."""

    def judge(facts: Facts) -> Judgement:
        shape = facts.charges.shape
        if shape.unnamed is not None:
            return NotApplicable(shape.unnamed)
        if shape.rule_id != rule_id or shape.thread is None:
            return Clear()
        return tell(facts, shape, shape.thread)

    return judge


# --- threads ---------------------------------------------------------------------------------------------


def worked(thread: ThreadMetrics) -> bool:
    """Whether a thread had work in this range."""
    return thread.role in ("worker", "main")


def waits_for_work(thread: ThreadMetrics) -> bool:
    """Whether a thread waits for work to be given, and not for what others do for it."""
    if thread.states_ns.get(ThreadState.IDLE, 0.0) < IDLE_SHARE.value * thread.alive_ns:
        return False
    for wait, _ in thread.waits:
        if wait.detail is not None:
            return wait.library is None or not wait.library.for_others
    return not thread.info.main


def potential_workers(python: Sequence[ThreadMetrics]) -> int:
    """Threads that worked, and those of a pool (two or more alike) that wait for work."""
    workers = [thread for thread in python if worked(thread) and not _coordinates(thread)]
    waiting = [thread for thread in python if thread.role == "idle" and waits_for_work(thread)]
    names = [stem(thread.info.name) for thread in (*waiting, *workers)]
    pool = [thread for thread in waiting if names.count(stem(thread.info.name)) >= 2]
    return len(workers) + len(pool)


def _coordinates(thread: ThreadMetrics) -> bool:
    """A main thread that only waits for the others."""
    busy = thread.cpu_ns + thread.run_queue_ns
    return thread.info.main and busy < 0.05 * thread.alive_ns
