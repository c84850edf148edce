"""executor-tiny-tasks: tasks are so small that handing them out costs more than doing them."""

from __future__ import annotations

from typing import Final

from ftdiag.model import (
    PROGRAM,
    BottleneckKind,
    Change,
    ChangeKind,
    Finding,
    Frame,
    HotLine,
    Remedy,
    Snapshot,
    ThreadState,
)
from ftdiag.rules.attribution.frames import is_file
from ftdiag.rules.attribution.libraries import has_executor, lines_of, on_cpu_cores
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.base import (
    WORTH_SAYING,
    Claims,
    Clear,
    Facts,
    Judgement,
    LibraryClaim,
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
from ftdiag.rules.prose.library import together, together_evidence
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place, place_in
from ftdiag.wording.units import of_cores

OVERHEAD_SHARE: Final = Threshold(
    "executor_share_of_cpu",
    0.15,
    "ratio",
    "services that do 1.3 to 1.5 times as much for a second of CPU time without the executor show 18 to 23 %,"
    " programs that it costs nothing at most 8 %; lines at which workers wait are left out",
)
LARGE_WORK: Final = Threshold(
    "work_per_wakeup_at_most",
    1500.0,
    "us",
    "tasks of 500 us and more scale; three times that per wait leaves room for tasks that are taken without"
    " a wait. Measured: 100-600 us with tasks of 2 us, 4,300 us and more with tasks of milliseconds",
)
WAKEUP_US: Final = Threshold(
    "work_per_wakeup",
    50.0,
    "us",
    "submit() costs about 15 us and run_in_executor 30 us; above 500 us a task everything scales",
)
EXECUTOR_FILES: Final = "concurrent/futures/|threading.py|queue.py"
"""Where an executor's own code is, and what it is made of."""


_FILES: Final = (
    *("concurrent/futures/thread.py", "concurrent/futures/_base.py"),
    *("asyncio/base_events.py", "asyncio/futures.py"),
)


def _from_loop(facts: Facts, frame: Frame | None) -> tuple[Remedy, ...]:
    """What helps where an event loop hands the tasks out."""
    return facts.remedy(
        *("run-in-executor", "chunks-of-16"),
        "give one call of run_in_executor() or to_thread() more work, many items instead of one, and compute"
        " in the loop what takes less than such a call",
        f"# {place(frame)}\nresults = await asyncio.to_thread(work_on, chunk)   # many items, one call",
    )


def _judge(facts: Facts) -> Judgement:
    lines = _handing_lines(facts)
    cores = on_cpu_cores(facts, lines)
    on_cpu = facts.metrics.on_cpu_cores
    part = cores / on_cpu if on_cpu > 0 else 0.0
    wakeup = facts.metrics.work_per_wakeup_ns
    found = together(facts, RULE.id)
    tiny = wakeup is not None and wakeup / 1e3 <= WAKEUP_US.value * (
        1.25 if RULE.id in facts.standing else 1.0
    )
    hot = facts.over(OVERHEAD_SHARE, part, RULE.id)
    if _works_long(facts):
        return Clear()
    if not facts.loses(found.lost_cores, RULE.id) and not (hot and facts.loses(cores, RULE.id)):
        return Clear()
    lost = max(found.lost_cores, sum(charge.parked_cores for charge in found.locks) + cores)
    frame = found.frame if found.frame is not None else (caller(lines[0]) if lines else None)
    if frame is not None and facts.target.whose(frame.filename) != PROGRAM:
        # The program's own line that hands tasks out, by way of a library or of the standard one.
        stacks = [line.stacks[0][0] for line in lines]
        own = (one for stack in stacks for one in stack if facts.target.whose(one.filename) == PROGRAM)
        frame = next(own, frame)
    # Between two waits a worker may do many tasks; only where it does not, the figure is one of a task.
    per_wakeup = f"; {wakeup / 1e3:.0f} us of work between waits" if wakeup is not None and tiny else ""
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely" if tiny else "possible",
        subject=subject_of(frame),
        summary=(
            f"Handing out tasks takes {100 * part:.0f} % of the CPU time and costs up to"
            f" {of_cores(lost, facts.capacity)}, at {place_in(frame)}{per_wakeup}: tasks are too"
            " small."
        ),
        explanation=(
            "Code and locks of the executor and its futures are hot. Each task costs a future, a"
            " queue operation, a lock and often a wake-up. Two threads with small tasks: submit()"
            f" {facts.scaling('tiny-tasks', 'submit-each')}, run_in_executor()"
            f" {facts.scaling('run-in-executor', 'each')} of what one does."
        ),
        could_also_be=("queue-contention: a queue of your own between the threads",),
        remedy=_from_loop(facts, frame)
        if any(is_file(one, "asyncio/base_events.py") for line in lines for one in line.stacks[0][0])
        else (
            *facts.remedy(
                *("tiny-tasks", "chunks-of-64"),
                "hand out chunks of many items, so that a task is much work",
                f"# {place(frame)}\ndef work_on(chunk):\n    return [work(item) for item in chunk]\n"
                "results = pool.map(work_on, itertools.batched(items, 64))",
            ),
        ),
        verify=f"{report_again(facts.pid)}: concurrent/futures is no hot line, throughput rises",
        evidence=(
            evidence("executor_share_of_cpu", part, "ratio", OVERHEAD_SHARE),
            *((evidence("work_per_wakeup", wakeup / 1e3, "us", WAKEUP_US),) if wakeup is not None else ()),
            *together_evidence(facts, found),
        ),
    )


def _handing_lines(facts: Facts) -> list[HotLine]:
    """The lines at which an executor hands out tasks: those at which threads rather work than wait for one.

    A worker that has just been woken is still at the line that it waited at, and may want a core for long.
    """
    if not has_executor(facts):
        return []
    return [
        line
        for line in lines_of(facts, RULE.id)
        if on_cpu_cores(facts, [line]) * facts.metrics.duration_ns
        >= finite(line.states_ns.get(ThreadState.IDLE, 0.0))
    ]


def _works_long(facts: Facts) -> bool:
    """Whether threads work so long between waits that what they are given cannot be too small."""
    wakeup = facts.metrics.work_per_wakeup_ns
    limit = LARGE_WORK.value * (1.25 if RULE.id in facts.standing else 1.0)
    return wakeup is not None and finite(wakeup) / 1e3 > limit


def _shape(facts: Facts, room: Room) -> Shape | None:
    """Who hands out tasks that are too small is alone at work, and it is no serial section."""
    handing = on_cpu_cores(facts, _handing_lines(facts))
    handed = handing / max(facts.metrics.on_cpu_cores, 1e-9)
    if facts.over(OVERHEAD_SHARE, handed, RULE.id) and not _works_long(facts):
        return Shape(RULE.id, None, room.cores)
    return None


def _without(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    """The executor's own code, of which the first remedy leaves what it left where it was measured alone."""
    gain = next((remedy.gain for remedy in finding.remedy if remedy.gain is not None), None)
    left = 0.0 if gain is None else min(1.0, 1.0 / gain)
    return (Change(ChangeKind.OVERHEAD, EXECUTOR_FILES, factor=left),)


RULE: Final = Rule(
    id="executor-tiny-tasks",
    title="Tasks too small for an executor",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(OVERHEAD_SHARE, WAKEUP_US, LARGE_WORK, WORTH_SAYING),
    judge=_judge,
    without=_without,
    claims=Claims(
        # Without an executor, what runs in these files is an event loop's own code.
        libraries=(LibraryClaim(files=_FILES, when=has_executor),),
        shape=ShapeClaim(20, _shape),
    ),
    cases=("tiny-tasks", "run-in-executor", "thread-storm"),
    about=frozenset({BottleneckKind.SERIAL}),
)
