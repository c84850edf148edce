"""What kind of program it is: CPU-bound, bound by locks, by I/O or by an event loop, mixed or idle.

In: facts. Out: the model's `Workload` with its shares and what they mean for the choice between threads,
processes, asyncio and executors; None where no Python thread was seen.
"""

from __future__ import annotations

from typing import Final

from ftdiag.model import StateGroup, ThreadState, Workload
from ftdiag.rules.base import Facts, finite
from ftdiag.rules.causes import event_loop_bound
from ftdiag.wording.units import share

BUSY_SHARE: Final = 0.05
"""A program whose Python threads are on a core, or want one, for less of their time than this, and use less
of the capacity, is idle: housekeeping takes a few percent."""
LITTLE_CORES: Final = 0.5
"""A program that uses and wants less than half a core, while its threads rest for most of their time, has no
kind of work that would matter."""
RESTING: Final = 0.5
"""Threads that idle or sleep for less than this share of their time are not called idle."""
MOST: Final = 0.7
"""One kind of wanted time with this share decides; below, the program is mixed."""

_LOCKS: Final = (
    ThreadState.LOCK,
    ThreadState.OBJECT_LOCK,
    ThreadState.RUNTIME_LOCK,
    ThreadState.NATIVE_LOCK,
    ThreadState.STOPPED,
)
"""The GIL is none of them: it is how cores are shared where there is one."""


def workload_of(facts: Facts) -> Workload | None:
    """The verdict on the workload of a range."""
    spent = dict.fromkeys(("cpu", "waiting", "io", "idle", "unknown"), 0.0)
    for thread in facts.threads:
        if thread.info.python:
            for state, time in thread.states_ns.items():
                spent[_KIND[state]] += finite(time)
    spent["cpu"] += finite(facts.metrics.unseen_threads_cores or 0.0) * facts.metrics.duration_ns
    total = sum(spent.values())
    if total <= 0 or facts.metrics.duration_ns <= 0:
        return None
    shares = {kind: time / total for kind, time in spent.items()}
    locks = sum(
        finite(thread.states_ns.get(state, 0.0))
        for thread in facts.threads
        if thread.info.python
        for state in _LOCKS
    )
    kind = _verdict(facts, spent, locks)
    return Workload(kind, shares, _advice(facts, kind, spent, locks))


def _kind(state: ThreadState) -> str:
    if state.group is StateGroup.ON_CPU:
        return "cpu"
    if state in (ThreadState.RUNNABLE, ThreadState.GIL) or state in _LOCKS:
        return "waiting"
    if state is ThreadState.IO:
        return "io"
    return "idle" if state in (ThreadState.IDLE, ThreadState.SLEEP, ThreadState.HALTED) else "unknown"


_KIND: Final = {state: _kind(state) for state in ThreadState}


def _verdict(facts: Facts, spent: dict[str, float], locks: float) -> str:
    if facts.charges.shape.rule_id == event_loop_bound.RULE.id:
        return "event-loop-bound"
    busy = spent["cpu"] + spent["waiting"]
    wanted = busy + spent["io"]
    cores = busy / facts.metrics.duration_ns
    least = BUSY_SHARE * max(facts.capacity, 1.0)
    # One busy thread on many cores uses a small part of them, and is not idle.
    rests = spent["idle"] >= RESTING * sum(spent.values())
    if wanted <= 0 or (rests and cores < least and spent["io"] < BUSY_SHARE * sum(spent.values())):
        return "idle"
    if cores < LITTLE_CORES and wanted < (1 - MOST) * sum(spent.values()):
        return "idle"
    if locks >= MOST * wanted:
        return "lock-bound"
    if busy >= MOST * wanted:
        return "cpu-bound"
    return "io-bound" if spent["io"] >= MOST * wanted else "mixed"


def _advice(facts: Facts, kind: str, spent: dict[str, float], locks: float) -> str:
    busy = spent["cpu"] + spent["waiting"]
    gil = facts.metrics.states_ns.get(ThreadState.GIL, 0.0)
    if kind == "cpu-bound":
        if not facts.target.free_threaded:
            gained = finite(facts.metrics.lost_cores.get(ThreadState.GIL, 0.0))
            running = finite(facts.metrics.on_cpu_cores)
            bound = (running + gained) / running if running > 0 else 1.0
            return (
                f"a GIL build: threads wait {share(gil, busy)} of their busy time for the GIL; free"
                f" threading could make it at most {bound:.1f} times as fast, processes too where they"
                " share little"
            )
        return (
            "threads are the right choice on a free-threaded build, one for each core; asyncio gains"
            " nothing, processes only where threads share too much"
        )
    if kind == "lock-bound":
        return (
            f"threads wait for locks {share(locks, busy + spent['io'])} of the time in which they have work:"
            " neither cores nor threads make it faster before these locks do"
        )
    if kind == "io-bound":
        return "threads or asyncio are fine; free threading and more cores will not make it faster"
    if kind == "event-loop-bound":
        return "one event loop uses one core: move CPU work off the loop, or run one loop per thread"
    if kind == "mixed":
        return (
            f"{share(busy, busy + spent['io'])} of the wanted time is for CPU and the rest for I/O: threads"
            " do both; with asyncio give the CPU part to an executor"
        )
    resting = share(spent["idle"], sum(spent.values()))
    return (
        f"work for {busy / facts.metrics.duration_ns:.1f} cores, and threads that are idle or asleep"
        f" {resting} of their time: whatever runs it will do"
    )
