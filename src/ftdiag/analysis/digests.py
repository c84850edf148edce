"""What a stretch of windows adds to a snapshot, and what several stretches in a row add together.

In: what analyses made of windows. Out: `Digest`s. A joined one stands for its parts: whatever is made of
several digests comes out the same, but for halves of a nanosecond: its times are whole ones, so that it does
not matter which were added first, nor whether it was stored meanwhile.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

from ftdiag.analysis import (
    accounting,
    chains,
    collector,
    efficiency,
    locks,
    memory,
    oncpu,
    pauses,
    timeline,
    updates,
)
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.grouping import Ints, group_by, whole
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import Gap, ProcessCounters, SamplerCost


class Total(enum.IntEnum):
    """The columns of `Digest.totals`."""

    ALIVE_NS = 0
    CPU_NS = 1
    RUN_QUEUE_NS = 2
    VOLUNTARY_SWITCHES = 3
    INVOLUNTARY_SWITCHES = 4
    MINOR_FAULTS = 5
    MAJOR_FAULTS = 6
    MIGRATIONS = 7
    MIGRATIONS_COUNTED = 8
    """Windows in which they were."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What one chunk of windows adds to a snapshot."""

    thread: Ints
    totals: Ints
    """A row for each thread, with the columns of `Total`."""
    states_ns: Ints
    time: ThreadTime
    shares: efficiency.TickShares
    locks: locks.LockShares
    costs: tuple[SamplerCost, ...]
    process: tuple[ProcessCounters, ...]
    gaps: tuple[Gap, ...]
    length_ns: int
    ticks: int
    torn_ticks: int
    estimated: int
    series: timeline.Series
    on_cpu: oncpu.OnCpuShares
    pauses: pauses.PauseShares
    collector: collector.CollectorShares
    memory: memory.MemoryShares
    bottlenecks: chains.BottleneckShares
    updates: updates.UpdateShares

    @property
    def rows(self) -> int:
        """What the digest takes of the memory for digests."""
        return (
            len(self.time)
            + 4 * len(self.thread)
            + len(self.series.thread) // 4
            + len(self.on_cpu)
            + len(self.memory)
            + len(self.bottlenecks)
            + len(self.updates)
        )


def threads_of(parts: Sequence[Digest]) -> tuple[Ints, Ints, Ints]:
    """Thread index, totals and states of all threads of at least one digest, ascending by index."""
    thread = np.concatenate([part.thread for part in parts])
    groups = group_by(thread)
    totals = np.concatenate([part.totals for part in parts])[groups.order]
    states = np.concatenate([part.states_ns for part in parts])[groups.order]
    if not len(groups):
        return groups.key(thread), totals, states
    return (
        groups.key(thread),
        np.asarray(np.add.reduceat(totals, groups.starts, axis=0), dtype=np.int64),
        np.asarray(np.add.reduceat(states, groups.starts, axis=0), dtype=np.int64),
    )


def joined_series(series: Sequence[timeline.Series]) -> timeline.Series:
    """What consecutive ranges add to a timeline together, in whole nanoseconds."""
    thread, window = timeline.joined_cells(series)
    lost = [each.lost_ns for each in series if each.lost_ns is not None]
    return timeline.Series(
        cpu_ns=np.concatenate([each.cpu_ns for each in series]),
        process_cpu_ns=np.concatenate([each.process_cpu_ns for each in series]),
        states_ns=whole(np.concatenate([each.states_ns for each in series])),
        lost_ns=whole(np.concatenate(lost)) if len(lost) == len(series) else None,
        spun_ns=whole(np.concatenate([each.spun_ns for each in series])),
        thread=thread.astype(np.int32),
        window=window.astype(np.int32),
        state=np.concatenate([each.state for each in series]),
        running=np.concatenate([each.running for each in series]),
    )


def joined(parts: Sequence[Digest]) -> Digest:
    """One digest that stands for several in a row, at least one."""
    thread, totals, states = threads_of(parts)
    time = accounting.merge_time([part.time for part in parts])
    shares = efficiency.merge_shares([part.shares for part in parts])
    counts: dict[tuple[str, str], int] = {}
    for part in parts:
        for gap in part.gaps:
            counts[gap.what, gap.why] = counts.get((gap.what, gap.why), 0) + gap.count
    return Digest(
        thread=thread,
        totals=totals,
        states_ns=states,
        time=replace(time, time_ns=whole(time.time_ns)),
        shares=replace(shares, lost_ns=None if shares.lost_ns is None else whole(shares.lost_ns)),
        locks=locks.joined_locks([part.locks for part in parts]),
        costs=tuple(cost for part in parts for cost in part.costs),
        process=tuple(reading for part in parts for reading in part.process),
        gaps=tuple(Gap(what, why, count) for (what, why), count in counts.items()),
        length_ns=sum(part.length_ns for part in parts),
        ticks=sum(part.ticks for part in parts),
        torn_ticks=sum(part.torn_ticks for part in parts),
        estimated=sum(part.estimated for part in parts),
        series=joined_series([part.series for part in parts]),
        on_cpu=oncpu.joined_on_cpu([part.on_cpu for part in parts]),
        pauses=pauses.joined_pauses([part.pauses for part in parts]),
        collector=collector.joined_collector([part.collector for part in parts]),
        memory=memory.joined_memory([part.memory for part in parts]),
        bottlenecks=chains.joined_bottlenecks([part.bottlenecks for part in parts]),
        updates=updates.joined_updates([part.updates for part in parts]),
    )
