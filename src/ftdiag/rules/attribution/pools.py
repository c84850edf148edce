"""A pool of which every worker waits for a task, inside a task: nobody may be left to run it.

Part of stuck-thread. In: facts. Out: `StarvedPool`. A worker of `concurrent.futures.thread` that has nothing
to do waits in `_worker`; one that waits for a future stands in `Future.result`, `wait` or `as_completed`,
called by its task. Whether the future is one of the same pool cannot be read from outside: it is a warning
only when it has lasted for long.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Frame, ThreadMetrics
from ftdiag.rules.attribution.frames import is_file, program_frame
from ftdiag.rules.base import Facts, Threshold
from ftdiag.wording.threads import stem

WAITED: Final = Threshold(
    "waited_inside_a_task",
    3.0,
    "s",
    "every worker of a pool waits for a future for all of the range, without any CPU time to speak of",
)
LONG_S: Final = 10.0
"""From here on it is a warning; a task that other pools or processes work for is mostly done by then."""
ALL: Final = 0.98
"""Share of the range that counts as all of it: the rest is ticks at its ends."""


@dataclass(frozen=True, slots=True)
class StarvedPool:
    """A pool, and the line of the program at which its workers wait."""

    workers: tuple[ThreadMetrics, ...]
    frame: Frame | None


def starved_pool(facts: Facts) -> StarvedPool | None:
    """The largest pool of which no worker is left; `None` without one, or for too short a range."""
    duration = facts.metrics.duration_ns
    if duration < WAITED.value * 1e9:
        return None
    pools: dict[str, list[ThreadMetrics]] = {}
    # Most threads of a pool stand at the very same stack.
    is_worker: dict[int, bool] = {}
    for thread in facts.threads:
        stack = thread.latest_stack
        if id(stack) not in is_worker:
            is_worker[id(stack)] = any(
                frame.function == "_worker" and is_file(frame, "concurrent/futures/thread.py")
                for frame in stack
            )
        if is_worker[id(stack)]:
            pools.setdefault(stem(thread.info.name), []).append(thread)
    starved = [
        workers
        for _, workers in sorted(pools.items())
        if all(_waits_in_a_task(worker, duration) for worker in workers)
    ]
    if not starved:
        return None
    workers = max(starved, key=len)
    return StarvedPool(tuple(workers), program_frame(workers[0].latest_stack))


def _waits_in_a_task(worker: ThreadMetrics, duration: int) -> bool:
    waited = sum(spent for wait, spent in worker.waits if wait.library and wait.library.for_a_task)
    return waited >= ALL * duration
