"""The threads of a range: what each did, what it was doing last, and its part in the program.

In: totals per thread, accounted time, the recording. Out: `ThreadMetrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import efficiency, hotspots, locks, tasks
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.digests import Digest, Total, threads_of
from ftdiag.analysis.grouping import Ints, largest_first
from ftdiag.analysis.ticks import STATES
from ftdiag.datatypes import dataclass
from ftdiag.model import Gap, Stack, ThreadInfo, ThreadMetrics, ThreadState
from ftdiag.recording.reader import Recording

MAX_THREADS: Final = 1000
"""Threads listed one by one in a snapshot, those with the most active time; totals cover all."""
IDLE_SHARE: Final = 0.5
"""A thread that spent more than this of its life idle, asleep or in I/O without work has the role "idle"."""


@dataclass(frozen=True, slots=True)
class ThreadTotals:
    """Totals per thread over the whole range, ascending by index."""

    index: Ints
    totals: Ints
    states_ns: Ints

    def sum_of(self, column: Total) -> int:
        """A column's total over all threads."""
        return int(self.totals[:, column].sum())


def merged_threads(digests: Sequence[Digest]) -> ThreadTotals:
    """Totals of the threads of several digests."""
    if not digests:
        none = np.zeros(0, dtype=np.int64)
        return ThreadTotals(
            none, np.zeros((0, len(Total)), dtype=np.int64), np.zeros((0, STATES), dtype=np.int64)
        )
    return ThreadTotals(*threads_of(digests))


def thread_metrics(
    recording: Recording, last: int, threads: ThreadTotals, time: ThreadTime, placed: hotspots.Placed
) -> tuple[tuple[ThreadMetrics, ...], tuple[Gap, ...]]:
    """The threads of a snapshot by index, and a gap where some are left out; `placed` is of the same time."""
    active = threads.states_ns[:, [int(state) for state in hotspots.ACTIVE_STATES]].sum(axis=1)
    kept = np.sort(largest_first(active.astype(np.float64), MAX_THREADS))
    if len(kept) < len(threads.index):
        time = _only_threads(time, threads.index[kept])
        placed = hotspots.placed_time(recording, time)
    hot = hotspots.hot_lines_by_thread(recording, placed)
    waits = hotspots.waits_by_thread(recording, time)
    running = tasks.tasks_by_thread(recording, time)
    latest = _latest(recording, last)
    worked = efficiency.had_work(threads.totals[:, Total.ALIVE_NS], threads.states_ns)
    apart = threads.states_ns[:, [int(state) for state in efficiency.APART_STATES]].sum(axis=1)
    listed: list[ThreadMetrics] = []
    counted = recording.settings.imported is None
    split = hotspots.states_by_row(threads.states_ns[kept])
    rows = zip(
        threads.index[kept].tolist(),
        threads.totals[kept].tolist(),
        split,
        worked[kept].tolist(),
        apart[kept].tolist(),
        strict=True,
    )
    for index, totals, states, has_worked, apart_ns in rows:
        info = locks.thread_of(recording, index)
        state, stack = latest.get(index, (None, ()))
        listed.append(
            ThreadMetrics(
                info=info,
                role=_role(info, has_worked, totals[Total.ALIVE_NS], apart_ns)
                if counted or info.main
                else "python",
                alive_ns=totals[Total.ALIVE_NS],
                cpu_ns=totals[Total.CPU_NS],
                run_queue_ns=totals[Total.RUN_QUEUE_NS],
                states_ns=states,
                voluntary_switches=totals[Total.VOLUNTARY_SWITCHES],
                involuntary_switches=totals[Total.INVOLUNTARY_SWITCHES],
                minor_faults=totals[Total.MINOR_FAULTS],
                major_faults=totals[Total.MAJOR_FAULTS],
                migrations=totals[Total.MIGRATIONS] if totals[Total.MIGRATIONS_COUNTED] else None,
                hot=hot.get(index, ()),
                waits=waits.get(index, ()),
                latest_state=state,
                latest_stack=stack,
                tasks=running.get(index, ()),
            )
        )
    left_out = len(threads.index) - len(kept)
    why = f"only the {MAX_THREADS} with the most active time are listed"
    return tuple(listed), (Gap("thread", why, left_out),) if left_out else ()


def _latest(recording: Recording, last: int) -> dict[int, tuple[ThreadState, Stack]]:
    """State and stack of the threads that were there at the last tick before position `last`."""
    if last <= 0 or last > len(recording.window_ids):
        return {}
    columns = recording.samples(last - 1)
    ticks = len(columns.tick_ns)
    if not ticks:
        return {}
    rows = np.flatnonzero(columns.first_tick.astype(np.int64) + columns.ticks == ticks)
    seen = (getattr(columns, name)[rows].tolist() for name in ("thread", "state", "stack"))
    return {
        thread: (hotspots.STATE_OF[state], recording.stack(stack))
        for thread, state, stack in zip(*seen, strict=True)
    }


def _only_threads(time: ThreadTime, threads: Ints) -> ThreadTime:
    rows = np.isin(time.thread, threads)
    return ThreadTime(
        time.window[rows],
        time.thread[rows],
        time.state[rows],
        time.stack[rows],
        time.wait[rows],
        time.time_ns[rows],
    )


def _role(info: ThreadInfo, worked: bool, alive_ns: int, apart_ns: int) -> str:
    if info.main:
        return "main"
    if not info.python:
        return "native"
    if worked:
        return "worker"
    return "idle" if apart_ns > IDLE_SHARE * alive_ns else "waiting"
