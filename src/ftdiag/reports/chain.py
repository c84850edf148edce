"""The multiplicative view of efficiency: one factor for each cause.

In: the model's `Metrics`. Out: (factor, value) in the order of the definition; None where not measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.model import Metrics, ThreadState


def chain(metrics: Metrics) -> tuple[tuple[str, float | None], ...]:
    """The multiplicative view: factors whose product is the share of the capacity that was useful.

    On-CPU time that native samples did not classify counts with the work.
    Factors that need native samples are None without them; the product of the others is then the share of
    the capacity that was on a core. Waits enter as lost cores (capped by the capacity), `io` with what room
    is left, and `idle_absent` closes to the capacity. Empty without capacity.
    """
    capacity = metrics.capacity_cores
    if capacity is None or metrics.duration_ns <= 0:
        return ()

    def cores(*states: ThreadState) -> float:
        return sum(metrics.states_ns.get(state, 0.0) for state in states) / metrics.duration_ns

    native = metrics.useful_cores is not None
    steps: list[tuple[str, float | None]] = []
    level = cores(ThreadState.WORK, ThreadState.ON_CPU)
    on_cpu: Mapping[str, float] = {
        "alloc_gc": cores(ThreadState.ALLOC, ThreadState.GC),
        "atomic": cores(ThreadState.ATOMIC),
        "spin": cores(ThreadState.SPIN),
    }
    for factor, added in on_cpu.items():
        steps.append((factor, _factor(level, level + added) if native else None))
        level += added
    level += metrics.unseen_threads_cores or 0.0
    off_cpu: Mapping[str, float] = {
        "runnable": metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0),
        "lock": metrics.lost_cores.get(ThreadState.LOCK, 0.0)
        + metrics.lost_cores.get(ThreadState.NATIVE_LOCK, 0.0),
        "object_runtime_lock": metrics.lost_cores.get(ThreadState.OBJECT_LOCK, 0.0)
        + metrics.lost_cores.get(ThreadState.RUNTIME_LOCK, 0.0),
        "stopped": metrics.lost_cores.get(ThreadState.STOPPED, 0.0),
        "gil": metrics.lost_cores.get(ThreadState.GIL, 0.0),
    }
    for factor, added in off_cpu.items():
        steps.append((factor, _factor(level, level + added)))
        level += added
    io = min(cores(ThreadState.IO), max(capacity - level, 0.0))
    steps.append(("io", _factor(level, level + io)))
    level += io
    steps.append(("idle_absent", min(1.0, level / capacity)))
    return tuple(steps)


def _factor(before: float, after: float) -> float:
    return before / after if after > 0 else 1.0
