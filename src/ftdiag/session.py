"""A recording and a range of time in, a `Snapshot` out: the one thing that views and reports look at.

In: an open `Recording`, which may still grow. Out: `Snapshot`, and what a live view asks about now.
Pure: reads no clock and no /proc; the same recording gives the same snapshot. What ranges have in common is
kept by `analysis.ranges`, snapshots are put together by `analysis.assembly`, and judged by `judging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from ftdiag.analysis import (
    accounting,
    allocations,
    cores,
    efficiency,
    flame,
    hotspots,
    oncpu,
    pauses,
    scaling,
    timeline,
)
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.assembly import assembled
from ftdiag.analysis.digests import Digest
from ftdiag.analysis.flame import Box
from ftdiag.analysis.ranges import CHUNK_WINDOWS, Ranges
from ftdiag.analysis.scaling import Between, NoCurve, ScalingCurve
from ftdiag.analysis.threads import merged_threads
from ftdiag.analysis.ticks import tick_runs
from ftdiag.analysis.timeline import CallNode, History, Lanes, Series, Timeline
from ftdiag.analysis.waitgraph import WaitEdge, deadlocks
from ftdiag.judging import Judge
from ftdiag.model import Allocations, Change, Finding, HotLine, Pauses, Prediction, Snapshot
from ftdiag.predicting import Predictor
from ftdiag.recording.reader import Recording

__all__ = [
    "Between",
    "Box",
    "CallNode",
    "History",
    "Lanes",
    "NoCurve",
    "ScalingCurve",
    "Session",
    "Timeline",
    "WaitEdge",
]


class Session:
    """Snapshots of a recording; `capture` is a capture of memray to join, instead of the recording's own."""

    def __init__(self, recording: Recording, capture: Allocations | None = None) -> None:
        self._recording = recording
        self._capture = capture
        self._ranges = Ranges(recording)
        self._judge = Judge(self._ranges)

    @property
    def recording(self) -> Recording:
        """The recording that is looked at."""
        return self._recording

    @property
    def allocations(self) -> Allocations | None:
        """The capture of memray that is joined to the lines."""
        return self._recording.allocations if self._capture is None else self._capture

    def refresh(self) -> bool:
        """Takes in what the recording gained; True if there is anything new."""
        return self._recording.refresh()

    def snapshot(self, t0_ns: int | None = None, t1_ns: int | None = None) -> Snapshot:
        """The windows that overlap [t0_ns, t1_ns); without bounds the whole recording."""
        first, last = self._ranges.positions(t0_ns, t1_ns)
        self._ranges.begin_look()
        digests = self._ranges.usable(first, last)
        snapshot = assembled(self._ranges, first, last, digests, self.allocations)
        return self._judge.diagnosed(snapshot, first, last, digests)

    def reading(
        self, t0_ns: int | None = None, t1_ns: int | None = None
    ) -> Iterator[tuple[float, Callable[[], Snapshot]]]:
        """Reads a range piece by piece: the share that is read, and what makes a picture of that much.

        Whatever is asked of the range afterwards is answered from it. A long recording without summaries
        takes its time; pictures of a part of it do not change what will be said of all of it.
        """
        first, last = self._ranges.positions(t0_ns, t1_ns)
        digests: list[Digest] = []
        for begin, end in self._ranges.quiet(first, last) or [(first, last)]:
            for reached, digest in self._ranges.pieces(begin, end):
                digests.append(digest)
                yield (reached - first) / (last - first), partial(self._glimpse, first, reached, digests)

    def _glimpse(self, first: int, last: int, digests: Sequence[Digest]) -> Snapshot:
        snapshot = assembled(self._ranges, first, last, digests, self.allocations)
        # What stands from look to look is not for what is seen in passing.
        return Judge(self._ranges).diagnosed(snapshot, first, last, digests)

    def last(self, length_ns: int) -> Snapshot:
        """The last `length_ns` of the recording."""
        span = self._recording.span_ns()
        return self.snapshot() if span is None else self.snapshot(span[1] - length_ns)

    def accounted_time(self, t0_ns: int | None = None, t1_ns: int | None = None) -> ThreadTime:
        """Thread-time of a range by thread, state, stack and wait."""
        return self._ranges.merged_time(self._ranges.usable(*self._ranges.positions(t0_ns, t1_ns)))

    def pauses(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[Pauses, ...]:
        """Stop-the-world pauses of a range by who asked for them; those with most time first."""
        digests = self._ranges.digests(*self._ranges.positions(t0_ns, t1_ns))
        return pauses.merge_pauses(self._recording, [digest.pauses for digest in digests])

    def hot_functions(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[HotLine, ...]:
        """The hottest functions of a range; lines of one function are summed."""
        functions = hotspots.hot_functions(self._recording, self.accounted_time(t0_ns, t1_ns)).lines
        return allocations.joined_functions(functions, self.allocations)

    def timeline(self, t0_ns: int | None, t1_ns: int | None, slices: int) -> Timeline | None:
        """Cores by state over a range, in at most `slices` slices."""
        first, last = self._ranges.positions(t0_ns, t1_ns)
        digests = self._ranges.digests(first, last)
        series = [digest.series for digest in digests]
        recording = self._recording
        return timeline.timeline(
            recording.t0_ns[first:last],
            recording.t1_ns[first:last],
            series,
            slices,
            accounting.NATIVE_STATES,
            self._ranges.lengths(first, last),
            self._capacity(series, first, last),
            oncpu.unseen_states([digest.on_cpu for digest in digests]),
        )

    def _capacity(self, series: Sequence[Series], first: int, last: int) -> float | None:
        """The capacity of a range, as its snapshot has it: what was in use where that was more."""
        capacity = efficiency.capacity_of(self._recording.target)
        length = int(self._ranges.lengths(first, last).sum())
        if capacity is None or length <= 0 or self._recording.settings.imported is not None:
            return None
        used = sum(int(np.maximum(each.cpu_ns, each.process_cpu_ns).sum()) for each in series)
        return cores.capacity_beside(capacity, used / length)

    def scaling(self, t0_ns: int | None = None, t1_ns: int | None = None) -> ScalingCurve | NoCurve:
        """Cores against the number of threads that had work, fitted to the windows of a range."""
        first, last = self._ranges.positions(t0_ns, t1_ns)
        series = [digest.series for digest in self._ranges.digests(first, last)]
        if not series:
            return NoCurve("nothing was recorded in this range")
        return scaling.curve(
            self._ranges.lengths(first, last),
            np.concatenate([each.states_ns for each in series]),
            np.concatenate([np.maximum(each.cpu_ns, each.process_cpu_ns) for each in series]),
        )

    def lanes(self, t0_ns: int | None, t1_ns: int | None, slices: int) -> Lanes | None:
        """What every thread did over a range, in at most `slices` slices."""
        first, last = self._ranges.positions(t0_ns, t1_ns)
        recording = self._recording
        if first >= last:
            return None
        digests = self._ranges.digests(first, last)
        series = [digest.series for digest in digests]
        threads = merged_threads(digests)
        spent = timeline.ThreadStates(threads.index, threads.states_ns)
        if last - first >= slices or last - first > CHUNK_WINDOWS:
            return timeline.lanes_by_window(
                recording.t0_ns[first:last], recording.t1_ns[first:last], series, slices, spent
            )
        runs = tick_runs(recording, first, last, self._ranges.periods(first, last))
        ticks = [columns.tick_ns for columns in recording.all_samples(first, last)]
        bounds = int(recording.t0_ns[first]), int(recording.t1_ns[last - 1])
        return timeline.lanes_by_tick(*bounds, runs, np.concatenate(ticks), series, slices, spent)

    def history(self, thread: int, t0_ns: int | None, t1_ns: int | None, slices: int) -> History | None:
        """The states and stacks of one thread over a range."""
        first, last = self._ranges.positions(t0_ns, t1_ns)
        if first >= last:
            return None
        series = [digest.series for digest in self._ranges.digests(first, last)]
        return timeline.history(self._recording, thread, first, last, series, slices)

    def predict(
        self, changes: Sequence[Change], t0_ns: int | None = None, t1_ns: int | None = None
    ) -> Prediction:
        """What changes would bring, from a range. Raises ValueError for a name that fits nothing there."""
        return Predictor(self._ranges, self.snapshot(t0_ns, t1_ns)).predict(changes)

    def predicted(self, finding: Finding, t0_ns: int | None = None, t1_ns: int | None = None) -> Prediction:
        """What a range would be without the cause of one of its findings."""
        return Predictor(self._ranges, self.snapshot(t0_ns, t1_ns)).predicted(finding)

    def with_predictions(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot of this session whose first findings say what a replay without their cause does."""
        return Predictor(self._ranges, snapshot).with_predictions()

    def call_tree(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[CallNode, ...]:
        """Who calls whom in a range, with the thread-time of every function and what it called."""
        return timeline.call_tree(self._recording, self.accounted_time(t0_ns, t1_ns))

    def flame_graph(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[Box, ...]:
        """The call tree as boxes, without the functions that only lead to others."""
        return flame.boxes(self.call_tree(t0_ns, t1_ns))

    def wait_graph(self) -> tuple[WaitEdge, ...]:
        """Who waits for whom at the last tick of the recording, and for how long (at most GRAPH_NS)."""
        return self._judge.now().edges

    def standing_threads(self) -> dict[int, float]:
        """Threads of deadlocks, and stuck ones, by index: for how long they have not moved, in ns."""
        now = self._judge.now()
        since = {each.thread.index: each.since_ns for each in now.stuck}
        for circle in now.deadlocks:
            stood = min(edge.since_ns for edge in circle)
            since.update({edge.waiter.index: stood for edge in circle})
        return since

    def deadlocks_among(self, edges: Sequence[WaitEdge]) -> tuple[tuple[WaitEdge, ...], ...]:
        """Cycles of known holders among waits that were asked for already."""
        return deadlocks(edges)
