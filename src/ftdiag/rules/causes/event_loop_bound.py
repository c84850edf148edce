"""event-loop-bound: one event loop works all the time and is the whole program."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind, Change, ChangeKind, Finding, Snapshot, ThreadMetrics, ThreadState
from ftdiag.rules.attribution.libraries import is_loop
from ftdiag.rules.attribution.lines import own_busiest_line
from ftdiag.rules.attribution.shape import judge_of_shape
from ftdiag.rules.base import (
    Claims,
    Facts,
    Need,
    Room,
    Rule,
    Shape,
    ShapeClaim,
    Threshold,
    evidence,
    finite,
    subject_of,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place, place_in, short
from ftdiag.wording.units import of_cores, share

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
LOOP_FULL: Final = Threshold(
    "full_event_loop_cpu_share",
    0.9,
    "ratio",
    "a loop that is hardly ever idle limits the program, however much others do that have time to wait: they"
    " do what it gives them, and cores stay empty all the same",
)


def _tell(facts: Facts, shape: Shape, thread: ThreadMetrics) -> Finding:
    frame = own_busiest_line(facts, thread)
    others = sum(_at_work_ns(each) for each in facts.threads if each is not thread) / max(1, thread.cpu_ns)
    rest = "do little" if others <= OTHERS_BUSY.value else "have what it gives them"
    return RULE.finding(
        facts,
        lost_cores=shape.lost_cores,
        confidence="known",
        subject=subject_of(frame, thread=thread.info.name),
        summary=(
            f"The event loop in {short(thread.info.name)} leaves up to"
            f" {of_cores(shape.lost_cores, facts.capacity)} empty: it is on a core, or wants one, for"
            f" {share(shape.share, 1.0)} of the time, mostly at {place_in(frame)}, and the other threads"
            f" {rest}."
        ),
        explanation=(
            "An event loop runs its callbacks one after the other in one thread: CPU work inside"
            " them keeps all other tasks waiting. On 2 cores, one loop per"
            f" thread: {facts.scaling('event-loop', 'loop-per-thread')} of what one loop does."
        ),
        could_also_be=("a loop that polls: look at its hot line",),
        remedy=(
            *facts.remedy(
                *("event-loop", "pieces-in-threads"),
                "move the work off the loop, in pieces that are worth a task",
                f"# {place(frame)}\nresult = await asyncio.to_thread(compute, chunk)",
            ),
            *facts.remedy(
                *("event-loop", "loop-per-thread"),
                "or run one event loop per thread",
                "threads = [threading.Thread(target=asyncio.run, args=(serve(n),)) for n in range(workers)]",
            ),
        ),
        verify=f"{report_again(facts.pid)}: the loop's thread is idle part of the time, workers are"
        " on a core",
        evidence=(
            evidence("event_loop_cpu_share", shape.share, "ratio", LOOP_BUSY),
            evidence("other_threads_cpu_share", others, "ratio", OTHERS_BUSY),
            evidence("room", shape.room_cores, "cores"),
        ),
    )


def _at_work_ns(thread: ThreadMetrics) -> float:
    """CPU time of a thread without what it spun or wasted on contended atomics: a worker that yields its core
    a few times before each wait has done nothing in that time."""
    wasted = (ThreadState.SPIN, ThreadState.ATOMIC)
    return max(0.0, thread.cpu_ns - sum(finite(thread.states_ns.get(state, 0.0)) for state in wasted))


def _busy_part(thread: ThreadMetrics) -> float:
    """The part of its life in which a thread was on a core, or wanted one."""
    return (thread.cpu_ns + thread.run_queue_ns) / max(1, thread.alive_ns)


def _runs_event_loop(thread: ThreadMetrics) -> bool:
    """Whether an event loop is on the stacks of a thread."""
    stacks = [stack for line in thread.hot for stack, _ in line.stacks]
    return any(is_loop(frame) for stack in (*stacks, thread.latest_stack) for frame in stack)


def _shape(facts: Facts, room: Room) -> Shape | None:
    duration = facts.metrics.duration_ns
    busy = max(room.python, key=lambda thread: (thread.cpu_ns, -thread.info.index))
    # A loop that wants a core all the time is as busy as one that has it.
    part = min(1.0, (busy.cpu_ns + busy.run_queue_ns) / duration)
    others = sum(_at_work_ns(thread) for thread in facts.threads if thread is not busy)
    if not facts.over(LOOP_BUSY, part, RULE.id):
        return None
    if others > OTHERS_BUSY.value * busy.cpu_ns:
        fullest = max(_busy_part(thread) for thread in facts.threads if thread is not busy)
        if not facts.over(LOOP_FULL, part, RULE.id) or fullest >= LOOP_BUSY.value:
            return None
    # Work that is moved off the loop can use every core that is left, whoever is there to do it now.
    unused = max(0.0, facts.capacity - facts.metrics.on_cpu_cores)
    if room.own_cores > max(unused - room.own_cores, 1e-9) or not _runs_event_loop(busy):
        return None
    # Of those that others have while its threads want them, it gets none: they are told as that.
    left = max(0.0, unused - room.lost_cores)
    return Shape(RULE.id, None, left, left, part, busy, room.python)


def _without(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """A loop for each thread: they do not hand work to each other either."""
    if snapshot.metrics.threads_with_work < 2:
        return "what one loop would gain in several threads is not in the recording of one"
    return (Change(ChangeKind.BALANCE), Change(ChangeKind.CONTENTION))


RULE: Final = Rule(
    id="event-loop-bound",
    title="One event loop does all the work",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(LOOP_BUSY, OTHERS_BUSY, LOOP_FULL),
    judge=judge_of_shape("event-loop-bound", _tell),
    without=_without,
    claims=Claims(shape=ShapeClaim(30, _shape)),
    cases=("event-loop",),
    about=frozenset({BottleneckKind.SERIAL}),
)
