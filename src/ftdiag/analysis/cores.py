"""Where the cores went: an account of a range that closes to the capacity.

In: what threads did on a core, which cores their waits left unused (`efficiency.tick_shares`), and readings
of the whole process and the machine. Out: `Use` (cores in use, and who else used some) and `account_of`:
cores by `CorePart`. No part is negative, and together they are the capacity, whatever the figures that go in:
those of a kernel's counters disagree by their grain, those of a damaged recording by anything.

Cores in use come first: they are exact. What they leave is wanted by waiting threads, at most one core a
thread: first by those that wait for a lock, for the world or for a core, then by those that wait for I/O or
for what is not known, then by nobody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    MAX_OTHERS,
    ON_CPU_PARTS,
    RUNNABLE_PARTS,
    USEFUL_STATES,
    CorePart,
    OtherProcess,
    ProcessCounters,
    StateGroup,
    ThreadState,
)

GRAIN: Final = 0.05
"""Cores in use beyond the capacity by no more than this share are what clocks disagree by; beyond it the
capacity was another one than the recording says: it changed, or a quota lets save up."""
LATER_STATES: Final = (ThreadState.IO, ThreadState.UNKNOWN)
"""Waits that want only what others leave: who waits for data may have no use for a core."""
_ON_CPU_PART: Final[Mapping[ThreadState, CorePart]] = {
    **dict.fromkeys(USEFUL_STATES, CorePart.USEFUL),
    ThreadState.ATOMIC: CorePart.ATOMIC,
    ThreadState.SPIN: CorePart.SPIN,
    ThreadState.ON_CPU: CorePart.ON_CPU,
}


@dataclass(frozen=True, slots=True)
class Use:
    """Cores in use over a range: by the process, and by others; `None` where not read.

    `unseen_cores` are those of threads that began and ended between two samples, `sampler_cores` those of all
    of ftdiag's processes; `others` are the busiest of the rest with their time in the range, most first.
    """

    on_cpu_cores: float = 0.0
    unseen_cores: float | None = None
    other_cores: float | None = None
    throttled_cores: float | None = None
    sampler_cores: float = 0.0
    others: tuple[OtherProcess, ...] = ()


def use_of(
    process: Sequence[ProcessCounters], *, duration_ns: int, seen_ns: int, last_seen_ns: int, sampler_ns: int
) -> Use:
    """The cores in use, from the readings of every window and the CPU time of the threads that were seen.

    `last_seen_ns` is the part of `seen_ns` in the last window: the one in which a program ends has no
    reading, and there what was seen counts. `sampler_ns` is what looking at them took.
    """
    if duration_ns <= 0:
        return Use()
    sampler_ns += sum(reading.ftdiag_ns or 0 for reading in process)
    whole = [reading.cpu_ns for reading in process if reading.cpu_ns is not None]
    but_last = bool(process) and process[-1].cpu_ns is None
    known = bool(whole) and len(whole) == len(process) - but_last
    on_cpu_ns = max(seen_ns, sum(whole) + (last_seen_ns if but_last else 0)) if known else seen_ns
    # What others used is only known of windows with a reading.
    compared = process[:-1] if but_last and known else process
    uncompared_ns = last_seen_ns if len(compared) < len(process) else 0
    busy = [reading.machine_busy_ns for reading in compared if reading.machine_busy_ns is not None]
    throttled = [reading.throttled_ns for reading in process if reading.throttled_ns is not None]
    others_ns = max(0, sum(busy) - (on_cpu_ns - uncompared_ns) - sampler_ns)
    return Use(
        on_cpu_cores=on_cpu_ns / duration_ns,
        unseen_cores=(on_cpu_ns - seen_ns) / duration_ns if known else None,
        # Where some windows lack the reading the sum would be too small: then it is not known.
        other_cores=others_ns / duration_ns if busy and len(busy) == len(compared) else None,
        throttled_cores=sum(throttled) / duration_ns if throttled else None,
        sampler_cores=max(0, sampler_ns) / duration_ns,
        others=_busiest(process),
    )


def _busiest(process: Sequence[ProcessCounters]) -> tuple[OtherProcess, ...]:
    """The other processes that used most over all windows."""
    spent: dict[tuple[int, str], int] = {}
    for reading in process:
        for each in reading.others:
            spent[each.pid, each.name] = spent.get((each.pid, each.name), 0) + each.cpu_ns
    ranked = sorted(spent.items(), key=lambda item: (-item[1], item[0]))[:MAX_OTHERS]
    return tuple(OtherProcess(pid, name, cpu_ns) for (pid, name), cpu_ns in ranked)


def unseen_parts(use: Use, samples: Mapping[ThreadState, float]) -> dict[ThreadState, float]:
    """The cores of threads that no tick saw by state, as samples of their machine code say.

    ON_CPU is what could not be told apart: all of it without samples.
    """
    unseen, taken = _amount(use.unseen_cores or 0.0), sum(samples.values())
    if not unseen:
        return {}
    if not taken:
        return {ThreadState.ON_CPU: unseen}
    parts: dict[ThreadState, float] = {}
    for state, count in samples.items():
        part = state if state in _ON_CPU_PART else ThreadState.ON_CPU
        parts[part] = parts.get(part, 0.0) + unseen * count / taken
    return parts


def with_unseen(
    use: Use, running: Mapping[ThreadState, float], unseen: Mapping[ThreadState, float]
) -> tuple[Use, dict[ThreadState, float]]:
    """The cores in use and those of threads by state, with what was told apart of unseen threads among the
    latter (`unseen_parts`)."""
    told = {state: cores for state, cores in unseen.items() if state is not ThreadState.ON_CPU}
    together = dict(running)
    for state, cores in told.items():
        together[state] = together.get(state, 0.0) + cores
    left = use.unseen_cores
    if told:
        left = unseen.get(ThreadState.ON_CPU, 0.0)
    return replace(use, unseen_cores=left), together


def capacity_beside(capacity: float, on_cpu_cores: float) -> float:
    """The capacity; what was in use where that is more than clocks can disagree by."""
    return on_cpu_cores if on_cpu_cores > capacity * (1 + GRAIN) else capacity


def account_of(
    capacity: float,
    use: Use,
    *,
    running: Mapping[ThreadState, float],
    waiting: Mapping[ThreadState, float],
    wanted_cores: float,
) -> dict[CorePart, float]:
    """Cores by part; they add up to `capacity`.

    `running` has the cores of the threads that were seen by on-CPU state, `waiting` the cores that each wait
    left unused. `wanted_cores` is how many cores the program used or wanted on average.
    """
    parts = dict.fromkeys(CorePart, 0.0)
    for state, cores in running.items():
        parts[_ON_CPU_PART.get(state, CorePart.ON_CPU)] += _amount(cores)
    parts[CorePart.UNSEEN_THREADS] = _amount(use.unseen_cores or 0.0)
    room = capacity - _fit(parts, ON_CPU_PARTS, capacity)
    for states in (
        [state for state in waiting if state not in LATER_STATES],
        [state for state in waiting if state in LATER_STATES],
    ):
        filled: list[CorePart] = []
        for state in states:
            if state is ThreadState.RUNNABLE:
                by_whom = _runnable(_amount(waiting[state]), use, too_many=wanted_cores > capacity)
                parts.update(by_whom)
                filled += by_whom
            else:
                part = CorePart(state.label)
                parts[part] = _amount(waiting[state])
                filled.append(part)
        room -= _fit(parts, filled, room)
    parts[CorePart.NO_DEMAND] = room
    # What rounding left: the largest part takes it.
    largest = max(parts, key=lambda part: parts[part])
    parts[largest] += capacity - math.fsum(parts.values())
    return parts


def lost_of(account: Mapping[CorePart, float], states: Sequence[ThreadState]) -> dict[ThreadState, float]:
    """The cores that each of the states cost, as the account says."""
    return {
        state: sum(account[part] for part in RUNNABLE_PARTS)
        if state is ThreadState.RUNNABLE
        else account[CorePart(state.label)]
        for state in states
    }


def on_cpu_states(states: Mapping[ThreadState, float]) -> dict[ThreadState, float]:
    """Those of the states in which a thread is on a core."""
    return {state: spent for state, spent in states.items() if state.group is StateGroup.ON_CPU}


def _runnable(cores: float, use: Use, *, too_many: bool) -> dict[CorePart, float]:
    """Cores that threads wanted and others had, by who had them; nobody has more than is known of him."""
    parts = dict.fromkeys(RUNNABLE_PARTS, 0.0)
    parts[CorePart.CPU_QUOTA] = min(cores, _amount(use.throttled_cores or 0.0))
    left = cores - parts[CorePart.CPU_QUOTA]
    if use.other_cores is not None:
        others, sampler = _amount(use.other_cores), _amount(use.sampler_cores)
        share = min(1.0, left / (others + sampler)) if others + sampler > 0 else 0.0
        parts[CorePart.OTHER_PROGRAMS] = others * share
        parts[CorePart.FTDIAG] = sampler * share
        left = max(0.0, left - (others + sampler) * share)
    parts[CorePart.OWN_THREADS if too_many else CorePart.RUNNABLE] = left
    return parts


def _fit(parts: dict[CorePart, float], which: Sequence[CorePart], room: float) -> float:
    """Scales parts down to the room there is, if they need more; what they take then, at most the room."""
    taken = math.fsum(parts[part] for part in which)
    if taken > room:
        share = max(0.0, room) / taken
        for part in which:
            parts[part] *= share
        return max(0.0, room)
    return taken


def _amount(cores: float) -> float:
    """Cores, or 0 for what is no number or negative."""
    return cores if math.isfinite(cores) and cores > 0 else 0.0
