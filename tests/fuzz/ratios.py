"""What must hold of the figures of every snapshot, whatever the recording: shares in 0..1, sums that close.

In: a snapshot, a timeline, a history, a tree of calls. Out: what is wrong, in words without numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ftdiag.analysis.timeline import CallNode, History, Timeline
from ftdiag.model import CorePart, Metrics, Snapshot, ThreadMetrics

ROUNDED: Final = 1e-6
CORES_ROUNDED: Final = 0.01
"""To which the account of cores closes."""
_NOT_SHARES: Final = ("sampler_cpu_ratio",)
"""Called a ratio, of one core: a program with several threads may have more."""


def wrong_figures(snapshot: Snapshot) -> Iterator[str]:
    """What cannot be in the figures of a snapshot."""
    yield from _ratios(snapshot, "snapshot")
    yield from _of_the_whole(snapshot.metrics, _seconds(snapshot))
    for thread in snapshot.threads:
        yield from _of_a_thread(thread)
    for line in (*snapshot.hot, *(hot for thread in snapshot.threads for hot in thread.hot)):
        yield from _parts("the states of a line", line.states_ns.values(), line.total_ns, closes=True)
        yield from _parts("the stacks of a line", (each for _, each in line.stacks), line.total_ns)
        yield from _parts("the machine code of a line", (each for _, each in line.native), 1.0)
    if snapshot.workload is not None and snapshot.workload.shares:
        yield from _parts("the workload", snapshot.workload.shares.values(), 1.0, closes=True)
    for lock in snapshot.locks:
        yield from _parts("the critical wait of a lock", [lock.critical_wait_ns], lock.wait_ns)
        yield from _parts("the waiters of a lock", (each.wait_ns for each in lock.waiters), lock.wait_ns)
        yield from _parts("the holders of a lock", (each.blame_ns for each in lock.holders), lock.wait_ns)
        if lock.mean_queue > lock.waiters_max + ROUNDED:
            yield "more wait for a lock in the mean than at most"
    for finding in snapshot.findings:
        if not 0 <= finding.score <= 100:
            yield f"the score of {finding.rule_id} is not in 0..100"
        capacity = snapshot.metrics.capacity_cores
        if capacity is not None and not -ROUNDED <= finding.lost_cores <= capacity + CORES_ROUNDED:
            yield f"{finding.rule_id} lost more cores than there are"
        for figure in finding.evidence:
            if figure.unit == "ratio" and not -ROUNDED <= figure.value <= 1 + ROUNDED:
                yield f"{figure.metric} of {finding.rule_id} is not in 0..1"
    for part in snapshot.memory.allocator_lines:
        yield from _parts("the allocator of a line", part.parts_ns.values(), part.total_ns, closes=True)


def _of_the_whole(metrics: Metrics, seconds: float) -> Iterator[str]:
    yield from _parts("the concurrency", metrics.concurrency, 1.0)
    capacity = metrics.capacity_cores
    if metrics.account and capacity is not None:
        yield from _parts("the account", metrics.account.values(), capacity, CORES_ROUNDED, closes=True)
        used = metrics.account.get(CorePart.USEFUL, 0.0)
        if metrics.useful_cores is not None and abs(used - metrics.useful_cores) > CORES_ROUNDED:
            yield "the account has other useful cores than the metrics"
        lost = [*metrics.lost_cores.values(), metrics.useful_cores or 0.0]
        yield from _parts("useful and lost cores", lost, capacity, CORES_ROUNDED)
    if metrics.useful_cores is not None and metrics.useful_parts_cores:
        parts = metrics.useful_parts_cores.values()
        yield from _parts("the useful parts", parts, metrics.useful_cores, CORES_ROUNDED, closes=True)
    lived_ns = seconds * 1e9 * max(1, metrics.threads)
    yield from _parts("the states of all threads", metrics.states_ns.values(), lived_ns)
    for least, most in (
        (metrics.useful_cores, metrics.useful_most_cores),
        (metrics.efficiency_ratio, metrics.efficiency_most_ratio),
    ):
        if least is not None and most is not None and least > most + ROUNDED:
            yield "what is useful at least is more than at most"


def _of_a_thread(thread: ThreadMetrics) -> Iterator[str]:
    states = thread.states_ns.values()
    yield from _parts("the states of a thread", states, thread.alive_ns, closes=True)
    yield from _parts(
        "a thread's time on and for cores", [thread.cpu_ns, thread.run_queue_ns], thread.alive_ns
    )
    yield from _parts("the lines of a thread", (line.total_ns for line in thread.hot), thread.alive_ns)
    yield from _parts("the waits of a thread", (wait for _, wait in thread.waits), thread.alive_ns)
    yield from _parts("the tasks of a thread", (task for _, task in thread.tasks), thread.alive_ns)


def wrong_timeline(timeline: Timeline | None) -> Iterator[str]:
    """What cannot be in a timeline."""
    if timeline is None:
        return
    for name, values in (
        ("on_cpu", timeline.on_cpu_cores),
        ("useful", timeline.useful_cores or ()),
        *((state.label, cores) for state, cores in timeline.cores.items()),
    ):
        known = [value for value in values if value is not None]
        if not all(math.isfinite(value) and value >= -ROUNDED for value in known):
            yield f"the timeline has less than nothing, or no number, for {name}"
    for used, useful in zip(timeline.on_cpu_cores, timeline.useful_cores or (), strict=False):
        if used is not None and useful is not None and useful > used + CORES_ROUNDED:
            yield "more of a slice of the timeline is useful than was on a core"
            return


def wrong_history(history: History | None) -> Iterator[str]:
    """What cannot be in the history of a thread."""
    if history is None:
        return
    yield from _parts("the stacks of a history", (share for _, share, _ in history.stacks), 1.0)
    for shares in zip(*(slices for _, _, slices in history.stacks), strict=True):
        yield from _parts("the stacks of a slice", shares, 1.0)


def wrong_tree(nodes: Iterable[CallNode]) -> Iterator[str]:
    """What cannot be in a tree of calls."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        waiting += node.children
        below = [node.self_ns, *(child.total_ns for child in node.children)]
        yield from _parts("what a function calls", below, node.total_ns)
        yield from _parts("the states of a call", node.states_ns.values(), node.total_ns)


def _seconds(snapshot: Snapshot) -> float:
    return snapshot.metrics.duration_ns / 1e9


def _parts(
    what: str, values: Iterable[float], whole: float, rounded: float = 0.0, *, closes: bool = False
) -> Iterator[str]:
    """Parts of a whole: none is negative, together they are not more; or, if it `closes`, just as much."""
    parts = list(values)
    rounded = rounded or ROUNDED * max(1.0, abs(whole)) + (2.0 * len(parts) if whole > 1e4 else 0.0)
    if not all(math.isfinite(part) for part in (*parts, whole)):
        yield f"{what}: no number"
        return
    if any(part < -rounded for part in parts):
        yield f"{what}: a part is negative"
    total = math.fsum(parts)
    if total > whole + rounded:
        yield f"{what}: the parts are more than the whole"
    if closes and total < whole - rounded:
        yield f"{what}: the parts are less than the whole"


def _ratios(value: Any, name: str) -> Iterator[str]:
    """Whatever is called a ratio, in everything below."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            if field.name.endswith("_ratio") and part is not None and field.name not in _NOT_SHARES:
                if not 0 <= part <= 1 + ROUNDED:
                    yield f"{name}.{field.name} is not in 0..1"
            else:
                yield from _ratios(part, f"{name}.{field.name}")
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _ratios(part, f"{name}[]")
