"""How a program's threads share its work: why cores stay empty although nobody waits for a lock.

In: facts and what is charged to locks. Out: a `Shape`: at most one rule is charged with the room that is
left, in this order: an event loop that is always busy, waits for I/O, unequal shares, serial sections,
nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.model import HotLine, Stack, ThreadMetrics, ThreadState
from ftdiag.rules.base import (
    Charges,
    Clear,
    Facts,
    NotApplicable,
    Shape,
    Threshold,
    Verdict,
    finite,
)
from ftdiag.rules.libraries import has_executor, is_loop, lines_of, on_cpu_cores
from ftdiag.rules.short_lived_threads import short_lived
from ftdiag.rules.wording import share, stem

LOOP_BUSY: Final = Threshold(
    "event_loop_cpu_share",
    0.7,
    "ratio",
    "a loop that is on a core, or wants one, for 70 % of the time answers late: requests queue from there on",
)
OTHERS_BUSY: Final = Threshold(
    "other_threads_cpu_share",
    0.5,
    "ratio",
    "if the other threads together do half as much as the loop, the loop is not all there is",
)
IO_SHARE: Final = Threshold(
    "io_share_of_wanted_time",
    0.5,
    "ratio",
    "more than half of the time in which threads had something to do they waited for I/O",
)
BALANCE: Final = Threshold(
    "load_balance",
    0.7,
    "ratio",
    "mean by maximum of the CPU time of threads that do the same; a 90/10 split of two has 0.55, dynamic"
    " chunks are above 0.9",
)
SERIAL: Final = Threshold(
    "serial_share",
    0.5,
    "ratio",
    "share of ticks with one thread on a core or none; Amdahl's law then bounds the speed-up at 2",
)
ALONE: Final = Threshold(
    "share_of_ticks_with_one_thread",
    0.3,
    "ratio",
    "one thread must really be at work alone; ticks with none are idleness, not a serial section",
)
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
BUSY_LIMIT: Final = Threshold(
    "on_cpu_share_of_capacity",
    0.5,
    "ratio",
    "a program that uses more than half of its cores is not idle",
)
UNNAMED: Final = Threshold(
    "unnamed_share_of_thread_time",
    0.2,
    "ratio",
    "with a fifth of all time in waits of unknown kind, what is idle and what is a lock cannot be told",
)
OVERHEAD_SHARE: Final = Threshold(
    "executor_share_of_cpu",
    0.2,
    "ratio",
    "a fifth of the CPU time is in the executor's own code: tasks are then below about 60 us (15 us"
    " overhead each)",
)
LARGE_WORK: Final = Threshold(
    "work_per_wakeup_at_most",
    1500.0,
    "us",
    "tasks of 500 us and more scale; three times that per wait leaves room for tasks that are taken without"
    " a wait. Measured: 100-600 us with tasks of 2 us, 4,300 us and more with tasks of milliseconds",
)
BUSY_THREAD: Final = 0.5
"""The busiest of a group is on a core this long, or a small load in one thread looks like imbalance."""
IDLE_OF_REST: Final = 0.5
"""The others of a group idle, sleep or are gone for this share of what they lack."""
COORDINATION_WAITS: Final = (
    "Thread.join",
    "Future.result",
    "futures.",
    "Executor.map",
    "the thread pool to end",
    "threads to end",
    "a thread to start",
    "a child process",
)
"""Waits of a thread that handed its work to others: not a worker without work."""


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
    # Cores that other programs took hide no shape: threads that want one count as busy.
    taken = finite(facts.metrics.other_programs_cores or 0.0)
    own = lost - min(finite(facts.metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0)), taken)
    wanted = _potential_workers(python)
    room = max(0.0, min(facts.capacity, float(wanted)) - facts.metrics.on_cpu_cores - lost)
    # Who makes a thread for each job is alone at work, and it is no serial section.
    if short_lived(facts) is not None:
        return Shape("short-lived-threads", None, room)
    # Who hands out tasks that are too small is alone at work, and it is no serial section.
    handing = on_cpu_cores(facts, handing_lines(facts))
    handed = handing / max(facts.metrics.on_cpu_cores, 1e-9)
    if facts.over(OVERHEAD_SHARE, handed, "executor-tiny-tasks") and not works_long(facts):
        return Shape("executor-tiny-tasks", None, room)
    # In this order: a loop or I/O explains what would else look serial or unbalanced.
    for find in (_event_loop, _io, _imbalance, _serial, _idle):
        shape = find(facts, python, room, lost if find is _idle else own)
        if shape is not None:
            return shape
    return Shape(room_cores=room)


def handing_lines(facts: Facts) -> list[HotLine]:
    """The lines at which an executor hands out tasks: those at which threads rather work than wait for one.

    A worker that has just been woken is still at the line that it waited at, and may want a core for long.
    """
    if not has_executor(facts):
        return []
    return [
        line
        for line in lines_of(facts, "executor-tiny-tasks")
        if on_cpu_cores(facts, [line]) * facts.metrics.duration_ns
        >= finite(line.states_ns.get(ThreadState.IDLE, 0.0))
    ]


def works_long(facts: Facts) -> bool:
    """Whether threads work so long between waits that what they are given cannot be too small."""
    wakeup = facts.metrics.work_per_wakeup_ns
    limit = LARGE_WORK.value * (1.25 if "executor-tiny-tasks" in facts.standing else 1.0)
    return wakeup is not None and finite(wakeup) / 1e3 > limit


def charged_shape(facts: Facts, rule_id: str) -> tuple[Shape, ThreadMetrics] | Verdict:
    """The shape that a rule is charged with, and the thread it is about; else what the rule has to answer."""
    shape = facts.charges.shape
    if shape.unnamed is not None:
        return NotApplicable(shape.unnamed)
    if shape.rule_id != rule_id or shape.thread is None:
        return Clear()
    return shape, shape.thread


def at_work_ns(thread: ThreadMetrics) -> float:
    """CPU time of a thread without what it spun or wasted on contended atomics: a worker that yields its core
    a few times before each wait has done nothing in that time."""
    wasted = (ThreadState.SPIN, ThreadState.ATOMIC)
    return max(0.0, thread.cpu_ns - sum(finite(thread.states_ns.get(state, 0.0)) for state in wasted))


def runs_event_loop(thread: ThreadMetrics) -> bool:
    """Whether an event loop is on the stacks of a thread."""
    stacks = [stack for line in thread.hot for stack, _ in line.stacks]
    return any(_is_loop(stack) for stack in (*stacks, thread.latest_stack))


def _is_loop(stack: Stack) -> bool:
    return any(is_loop(frame) for frame in stack)


def _event_loop(facts: Facts, python: Sequence[ThreadMetrics], room: float, lost: float) -> Shape | None:
    duration = facts.metrics.duration_ns
    busy = max(python, key=lambda thread: (thread.cpu_ns, -thread.info.index))
    # A loop that wants a core all the time is as busy as one that has it.
    part = min(1.0, (busy.cpu_ns + busy.run_queue_ns) / duration)
    others = sum(at_work_ns(thread) for thread in facts.threads if thread is not busy)
    key = "event-loop-bound"
    if not facts.over(LOOP_BUSY, part, key) or others > OTHERS_BUSY.value * busy.cpu_ns:
        return None
    # Work that is moved off the loop can use every core that is left, whoever is there to do it now.
    left = max(0.0, facts.capacity - facts.metrics.on_cpu_cores - lost)
    if lost > max(left, 1e-9) or not runs_event_loop(busy):
        return None
    return Shape(key, None, left, left, part, busy, tuple(python))


def _io(facts: Facts, python: Sequence[ThreadMetrics], room: float, lost: float) -> Shape | None:
    apart = (ThreadState.IDLE, ThreadState.SLEEP)
    wanted = io = 0.0
    for thread in python:
        wanted += thread.alive_ns - sum(thread.states_ns.get(state, 0.0) for state in apart)
        io += thread.states_ns.get(ThreadState.IO, 0.0)
    part = io / wanted if wanted > 0 else 0.0
    if not facts.over(IO_SHARE, part, "io-bound") or facts.metrics.on_cpu_cores >= facts.capacity * 0.9:
        return None
    most = max(python, key=lambda thread: thread.states_ns.get(ThreadState.IO, 0.0))
    return Shape("io-bound", None, room, 0.0, part, most, tuple(python))


def _imbalance(facts: Facts, python: Sequence[ThreadMetrics], room: float, lost: float) -> Shape | None:
    key = "load-imbalance"
    groups: dict[str, list[ThreadMetrics]] = {}
    for thread in python:
        if not thread.info.main and _worked(thread):
            groups.setdefault(stem(thread.info.name), []).append(thread)
    best: Shape | None = None
    for members in groups.values():
        members.sort(key=lambda thread: (-thread.cpu_ns, thread.info.index))
        largest = members[0].cpu_ns
        if len(members) < 2 or largest < BUSY_THREAD * facts.metrics.duration_ns:
            continue
        balance = sum(thread.cpu_ns for thread in members) / len(members) / largest
        limit = 1 - (1 - BALANCE.value) * (0.8 if key in facts.standing else 1.0)
        missing = float(sum(largest - thread.cpu_ns for thread in members))
        idle = sum(_unused(facts, thread) for thread in members[1:])
        if balance > limit or missing <= 0 or idle < IDLE_OF_REST * missing:
            continue
        cores = min(room, min(idle, missing) / facts.metrics.duration_ns)
        if not facts.loses(cores, key) or cores < ROOM.value * facts.capacity * 0.5:
            continue
        if best is None or cores > best.lost_cores:
            best = Shape(key, None, room, cores, balance, members[0], tuple(members))
    return best


def _serial(facts: Facts, python: Sequence[ThreadMetrics], room: float, lost: float) -> Shape | None:
    key = "serial-section"
    part = facts.metrics.serial_share_ratio
    if part is None or len(facts.metrics.concurrency) < 2 or not facts.over(SERIAL, part, key):
        return None
    alone = facts.metrics.concurrency[1]
    if not facts.over(ALONE, alone, key) or not facts.over(ROOM, room / facts.capacity, key):
        return None
    busy = max(python, key=lambda thread: (thread.cpu_ns, -thread.info.index))
    # Many threads that each want a core for a moment are at work one after the other, and none is serial.
    if busy.cpu_ns + busy.run_queue_ns < ALONE.value * facts.metrics.duration_ns:
        return None
    workers = min(facts.capacity, float(_potential_workers(python)))
    cores = min(room, alone * max(0.0, workers - 1.0))
    if lost > cores or not facts.loses(cores, key):
        return None
    return Shape(key, None, room, cores, alone, busy, tuple(python))


def _idle(facts: Facts, python: Sequence[ThreadMetrics], room: float, lost: float) -> Shape | None:
    key = "idle-workers"
    waiting = [thread for thread in python if _waits_for_work(thread)]
    if not waiting:
        return None
    alive = sum(thread.alive_ns for thread in waiting)
    idle = sum(thread.states_ns.get(ThreadState.IDLE, 0.0) for thread in waiting)
    part = idle / alive if alive else 0.0
    if not facts.over(IDLE_SHARE, part, key) or facts.loses(lost, key):
        return None
    limit = BUSY_LIMIT.value * (1.25 if key in facts.standing else 1.0)
    if facts.metrics.on_cpu_cores > limit * facts.capacity:
        return None
    return Shape(key, None, room, 0.0, part, waiting[0], tuple(waiting))


# --- threads ---------------------------------------------------------------------------------------------


def _worked(thread: ThreadMetrics) -> bool:
    return thread.role in ("worker", "main")


def _unused(facts: Facts, thread: ThreadMetrics) -> float:
    """Time in which a thread had nothing to do: idle, asleep, or not there any more."""
    apart = thread.states_ns.get(ThreadState.IDLE, 0.0) + thread.states_ns.get(ThreadState.SLEEP, 0.0)
    return apart + max(0.0, float(facts.metrics.duration_ns - thread.alive_ns))


def _waits_for_work(thread: ThreadMetrics) -> bool:
    """Whether a thread waits for work to be given, and not for what others do for it."""
    if thread.states_ns.get(ThreadState.IDLE, 0.0) < IDLE_SHARE.value * thread.alive_ns:
        return False
    for wait, _ in thread.waits:
        if wait.detail is not None:
            return not any(wait.detail.startswith(words) for words in COORDINATION_WAITS)
    return not thread.info.main


def _potential_workers(python: Sequence[ThreadMetrics]) -> int:
    """Threads that worked, and those of a pool (two or more alike) that wait for work."""
    workers = [thread for thread in python if _worked(thread) and not _coordinates(thread)]
    waiting = [thread for thread in python if thread.role == "idle" and _waits_for_work(thread)]
    names = [stem(thread.info.name) for thread in (*waiting, *workers)]
    pool = [thread for thread in waiting if names.count(stem(thread.info.name)) >= 2]
    return len(workers) + len(pool)


def _coordinates(thread: ThreadMetrics) -> bool:
    """A main thread that only waits for the others."""
    busy = thread.cpu_ns + thread.run_queue_ns
    return thread.info.main and busy < 0.05 * thread.alive_ns
