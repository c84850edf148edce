"""A recording and a range of time in, a `Snapshot` out: the one thing that views and reports look at.

In: an open `Recording`, which may still grow. Out: `Snapshot`, and what a live view asks about now.
Pure: reads no clock and no /proc; the same recording gives the same snapshot.

Work is done in chunks of `CHUNK_WINDOWS` windows whose results ("digests") are kept, so that a view that
refreshes every second pays for the new windows only, and a look at the last minute and at the whole
recording share what they can. Chunks are cut at window ids, which do not move when a ring drops windows.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import (
    accounting,
    allocations,
    bottlenecks,
    collector,
    cores,
    efficiency,
    halts,
    hotspots,
    locks,
    memory,
    oncpu,
    pauses,
    scaling,
    tasks,
    timeline,
)
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.grouping import Bools, Floats, Ints, group_by, largest_first
from ftdiag.analysis.locks import WaitEdge
from ftdiag.analysis.scaling import Between, NoCurve, ScalingCurve
from ftdiag.analysis.standing import StandingLook
from ftdiag.analysis.ticks import STATES, tick_runs
from ftdiag.analysis.timeline import CallNode, History, Lanes, Timeline
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    Allocations,
    Gap,
    HotLine,
    Intrusion,
    Metrics,
    Pauses,
    ProcessCounters,
    Quality,
    SamplerCost,
    Severity,
    Snapshot,
    Stack,
    ThreadInfo,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.recording.reader import Recording
from ftdiag.rules import RULES, Diagnosis, diagnose
from ftdiag.rules.base import Now
from ftdiag.rules.charges import facts_of
from ftdiag.rules.workload import workload_of

__all__ = [
    "Between",
    "CallNode",
    "History",
    "Lanes",
    "NoCurve",
    "ScalingCurve",
    "Session",
    "Timeline",
    "WaitEdge",
]

CHUNK_WINDOWS: Final = 32
"""Windows digested together: enough for numpy to be busy."""
END_WINDOWS: Final = 4
"""Windows digested together at the ends of a longer range: few enough to be redone every second."""
MAX_DIGESTS: Final = 1024
"""Digests kept: nine hours of one-second windows."""
MAX_CACHED_ROWS: Final = 2_000_000
"""Rows of accounted thread-time in kept digests together (48 bytes each; a thread's totals count as four)."""
LEAST_TO_KEEP: Final = 4
"""From so many digests of a range on, the merged times of all but the outermost two are kept."""
LOOKS_KEPT: Final = 60
"""Looks after which a digest that none of them used is let go: a view that follows takes one a second."""
MAX_CHUNK_ROWS: Final = 1 << 19
"""Rows of runs and counters of the windows digested together (some 200 bytes each while it is done)."""
MAX_THREADS: Final = 1000
"""Threads listed one by one in a snapshot, those with the most active time; totals cover all."""
GRAPH_NS: Final = 30_000_000_000
"""How far back the questions about now (deadlocks, stuck threads) look."""
IDLE_SHARE: Final = 0.5
"""A thread that spent more than this of its life idle, asleep or in I/O without work has the role "idle"."""


@dataclass(frozen=True, slots=True)
class _Digest:
    """What one chunk of windows adds to a snapshot."""

    thread: Ints
    totals: Ints
    """Columns: alive, CPU, run queue, voluntary and involuntary switches, minor and major faults."""
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
    course: timeline.Course
    on_cpu: oncpu.OnCpuShares
    pauses: pauses.PauseShares
    collector: collector.CollectorShares
    memory: memory.MemoryShares
    bottlenecks: bottlenecks.BottleneckShares

    @property
    def rows(self) -> int:
        """What the digest takes of the memory for digests."""
        return (
            len(self.time)
            + 4 * len(self.thread)
            + len(self.course.thread) // 4
            + len(self.on_cpu)
            + len(self.memory)
            + len(self.bottlenecks)
        )


@dataclass(frozen=True, slots=True)
class _Threads:
    """Totals per thread over the whole range, ascending by index."""

    index: Ints
    totals: Ints
    states_ns: Ints


@dataclass(frozen=True, slots=True)
class _Found:
    """What the last look at a range found, for findings that do not flicker."""

    t0_ns: int
    t1_ns: int
    standing: dict[str, Severity]


class Session:
    """Snapshots of a recording; `capture` is a capture of memray to join, instead of the recording's own."""

    def __init__(self, recording: Recording, capture: Allocations | None = None) -> None:
        self._recording = recording
        self._capture = capture
        self._numbers = locks.LockNumbers()
        self._lock_of_wait: Ints = np.zeros(1, dtype=np.int64)
        self._digests: OrderedDict[tuple[int, int, float | None], _Digest] = OrderedDict()
        self._cached_rows = 0
        self._looks = 0
        self._used: dict[tuple[int, int, float | None], int] = {}
        self._now: tuple[int, Now] | None = None
        self._standing = StandingLook(recording, self._numbers)
        self._found = _Found(0, 0, {})
        self._between: tuple[tuple[_Digest, ...], ThreadTime] = ((), accounting.merge_time([]))

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
        first, last = self._positions(t0_ns, t1_ns)
        self._looks += 1
        self._forget_unused()
        digests = self._usable_digests(first, last)
        return self._diagnosed(self._assembled(first, last, digests), first, last, digests)

    def last(self, length_ns: int) -> Snapshot:
        """The last `length_ns` of the recording."""
        span = self._recording.span_ns()
        return self.snapshot() if span is None else self.snapshot(span[1] - length_ns)

    def accounted_time(self, t0_ns: int | None = None, t1_ns: int | None = None) -> ThreadTime:
        """Thread-time of a range by thread, state, stack and wait."""
        return self._merged_time(self._usable_digests(*self._positions(t0_ns, t1_ns)))

    def pauses(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[Pauses, ...]:
        """Stop-the-world pauses of a range by who asked for them; those with most time first."""
        digests = self._digests_of(*self._positions(t0_ns, t1_ns))
        return pauses.merge_pauses(self._recording, [digest.pauses for digest in digests])

    def hot_functions(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[HotLine, ...]:
        """The hottest functions of a range; lines of one function are summed."""
        functions = hotspots.hot_functions(self._recording, self.accounted_time(t0_ns, t1_ns)).lines
        return allocations.joined_functions(functions, self.allocations)

    def timeline(self, t0_ns: int | None, t1_ns: int | None, slices: int) -> Timeline | None:
        """Cores by state over a range, in at most `slices` slices."""
        first, last = self._positions(t0_ns, t1_ns)
        courses = [digest.course for digest in self._digests_of(first, last)]
        recording = self._recording
        return timeline.timeline(
            recording.t0_ns[first:last],
            recording.t1_ns[first:last],
            courses,
            slices,
            accounting.NATIVE_STATES,
            self._lengths(first, last),
        )

    def scaling(self, t0_ns: int | None = None, t1_ns: int | None = None) -> ScalingCurve | NoCurve:
        """Cores against the number of threads that had work, fitted to the windows of a range."""
        first, last = self._positions(t0_ns, t1_ns)
        courses = [digest.course for digest in self._digests_of(first, last)]
        if not courses:
            return NoCurve("nothing was recorded in this range")
        return scaling.curve(
            self._lengths(first, last),
            np.concatenate([course.states_ns for course in courses]),
            np.concatenate([np.maximum(course.cpu_ns, course.process_cpu_ns) for course in courses]),
        )

    def lanes(self, t0_ns: int | None, t1_ns: int | None, slices: int) -> Lanes | None:
        """What every thread did over a range, in at most `slices` slices."""
        first, last = self._positions(t0_ns, t1_ns)
        recording = self._recording
        if first >= last:
            return None
        courses = [digest.course for digest in self._digests_of(first, last)]
        if last - first >= slices or last - first > CHUNK_WINDOWS:
            return timeline.lanes_by_window(
                recording.t0_ns[first:last], recording.t1_ns[first:last], courses, slices
            )
        runs = tick_runs(recording, first, last, self._periods(first, last))
        ticks = [columns.tick_ns for columns in recording.all_samples(first, last)]
        bounds = int(recording.t0_ns[first]), int(recording.t1_ns[last - 1])
        return timeline.lanes_by_tick(*bounds, runs, np.concatenate(ticks), courses, slices)

    def history(self, thread: int, t0_ns: int | None, t1_ns: int | None, slices: int) -> History | None:
        """The states and stacks of one thread over a range."""
        first, last = self._positions(t0_ns, t1_ns)
        if first >= last:
            return None
        courses = [digest.course for digest in self._digests_of(first, last)]
        return timeline.history(self._recording, thread, first, last, courses, slices)

    def call_tree(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[CallNode, ...]:
        """Who calls whom in a range, with the thread-time of every function and what it called."""
        return timeline.call_tree(self._recording, self.accounted_time(t0_ns, t1_ns))

    def wait_graph(self) -> tuple[WaitEdge, ...]:
        """Who waits for whom at the last tick of the recording."""
        first, last = self._recent()
        if first >= last:
            return ()
        periods = self._periods(first, last)
        runs = tick_runs(self._recording, first, last, periods)
        return locks.wait_graph(self._recording, runs, self._locks_known(), self._numbers, periods)

    def deadlocks(self, standing_ns: float = locks.DEADLOCK_NS) -> tuple[tuple[locks.WaitEdge, ...], ...]:
        """Cycles of known holders at the last tick that have stood for `standing_ns` (at most GRAPH_NS)."""
        return locks.deadlocks(self.wait_graph(), standing_ns)

    def deadlocks_among(self, edges: Sequence[WaitEdge]) -> tuple[tuple[WaitEdge, ...], ...]:
        """Cycles of known holders among waits that were asked for already."""
        return locks.deadlocks(edges)

    def stuck_threads(self, standing_ns: float = locks.STUCK_NS) -> tuple[locks.StuckThread, ...]:
        """Threads that have not moved for `standing_ns` (at most GRAPH_NS) while others worked."""
        first, last = self._recent()
        if first >= last:
            return ()
        periods = self._periods(first, last)
        runs = tick_runs(self._recording, first, last, periods)
        accounts = accounting.account(self._recording, first, last, runs, periods)
        return locks.stuck_threads(self._recording, runs, accounts, periods, standing_ns)

    # --- ranges ------------------------------------------------------------------------------------

    def _positions(self, t0_ns: int | None, t1_ns: int | None) -> tuple[int, int]:
        recording = self._recording
        first = 0 if t0_ns is None else int(np.searchsorted(recording.t1_ns, t0_ns, side="right"))
        last = len(recording.t0_ns)
        if t1_ns is not None:
            last = int(np.searchsorted(recording.t0_ns, t1_ns, side="left"))
        return first, max(first, last)

    def _recent(self) -> tuple[int, int]:
        span = self._recording.span_ns()
        return (0, 0) if span is None else self._positions(span[1] - GRAPH_NS, None)

    def _periods(self, first: int, last: int) -> Floats:
        """Mean time between the ticks of every window."""
        recording = self._recording
        ticks = recording.tick_counts[first:last]
        length = np.clip(
            recording.t1_ns[first:last] - recording.t0_ns[first:last], 0, accounting.LONGEST_WINDOW_NS
        )
        rate = recording.settings.rate_hz
        nominal = 1e9 / rate if np.isfinite(rate) and rate > 0 else 0.0
        periods: Floats = np.full(len(ticks), nominal, dtype=np.float64)
        np.divide(length, ticks, out=periods, where=ticks > 0)
        return periods

    def _lengths(self, first: int, last: int) -> Ints:
        """How much time of every window counts: none of one that is left out, or it would dilute the rest."""
        recording = self._recording
        length: Ints = recording.t1_ns[first:last] - recording.t0_ns[first:last]
        return np.where(recording.left_out(first, last), 0, length)

    def _locks_known(self) -> Ints:
        waits = self._recording.wait_count
        if len(self._lock_of_wait) < waits:
            self._lock_of_wait = self._numbers.update(self._recording, waits)
        return self._lock_of_wait

    # --- digests -----------------------------------------------------------------------------------

    def _usable_digests(self, first: int, last: int) -> list[_Digest]:
        """What figures are made of: windows in which no instrument changed the target, if there are any."""
        quiet = self._quiet_ranges(first, last)
        if not quiet:
            return self._digests_of(first, last)
        return [digest for begin, end in quiet for digest in self._digests_of(begin, end)]

    def _has_quiet(self, snapshot: Snapshot) -> bool:
        return bool(self._quiet_ranges(*self._positions(snapshot.t0_ns, snapshot.t1_ns)))

    def _quiet_ranges(self, first: int, last: int) -> list[tuple[int, int]]:
        recording = self._recording
        if not recording.intrusions:
            return [(first, last)] if first < last else []
        return allocations.quiet_ranges(recording.t0_ns, recording.t1_ns, first, last, recording.intrusions)

    def _digests_of(self, first: int, last: int) -> list[_Digest]:
        digests: list[_Digest] = []
        sizes = (CHUNK_WINDOWS, END_WINDOWS) if last - first > CHUNK_WINDOWS else (CHUNK_WINDOWS,)
        while first < last:
            end = self._chunk_end(first, last, sizes)
            digests.append(self._digest(first, end))
            first = end
        return digests

    def _chunk_end(self, first: int, last: int, sizes: tuple[int, ...]) -> int:
        """Where the largest chunk ends that begins at `first` and is whole; the smallest may be cut.

        A range that moves with the recording is cut at both ends: there small chunks are redone, not all.
        Within a chunk the grain of the kernel's clocks is evened out, so that none is smaller than it must.
        """
        ids = self._recording.window_ids
        begin = int(ids[first])
        end = last
        for size in sizes:
            edge = (begin // size + 1) * size
            end = min(last, int(np.searchsorted(ids, edge, side="left")))
            whole = end < last or int(ids[end - 1]) == edge - 1
            if whole and (first == 0 or begin % size == 0):
                break
        rows = np.cumsum(self._recording.row_counts(first, end))
        return first + max(1, int(np.searchsorted(rows, MAX_CHUNK_ROWS, side="right")))

    def _digest(self, first: int, last: int) -> _Digest:
        capacity = efficiency.capacity_of(self._recording.target)
        key = (int(self._recording.window_ids[first]), int(self._recording.window_ids[last - 1]), capacity)
        self._used[key] = self._looks
        known = self._digests.get(key)
        if known is not None:
            self._digests.move_to_end(key)
            return known
        digest = self._digested(first, last, capacity)
        self._digests[key] = digest
        self._cached_rows += digest.rows
        while len(self._digests) > MAX_DIGESTS or (
            self._cached_rows > MAX_CACHED_ROWS and len(self._digests) > 1
        ):
            self._forget_oldest()
        return digest

    def _forget_unused(self) -> None:
        """Let go of digests that no look has used for a while: what a moving range has left behind."""
        while self._digests and self._used[next(iter(self._digests))] < self._looks - LOOKS_KEPT:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        key, dropped = self._digests.popitem(last=False)
        self._cached_rows -= dropped.rows
        del self._used[key]

    def _digested(self, first: int, last: int, capacity: float | None) -> _Digest:
        """What the windows at positions [first, last) add, of all of them or of those that are whole."""
        while True:
            known_damage = self._recording.left_out_count
            digest = self._digested_as_known(first, last, capacity)
            # Damage is found while it is read. What was read of the same window before must not count then.
            if self._recording.left_out_count == known_damage:
                return digest

    def _digested_as_known(self, first: int, last: int, capacity: float | None) -> _Digest:
        recording = self._recording
        periods = self._periods(first, last)
        length = self._lengths(first, last)
        runs = tick_runs(recording, first, last, periods)
        accounts = accounting.account(recording, first, last, runs, periods)
        joined = first > 0 and bool(recording.t0_ns[first] - recording.t1_ns[first - 1] < 2 * periods[0])
        costs = recording.costs(first, last)
        totals = np.column_stack([accounts.alive_ns, accounts.cpu_ns, accounts.run_queue_ns, accounts.counts])
        return _Digest(
            thread=accounts.thread,
            totals=totals,
            states_ns=accounts.states_ns,
            time=accounting.merge_time([accounts.time]),
            shares=efficiency.tick_shares(runs, accounts, length, capacity),
            locks=locks.lock_shares(runs, accounts, self._locks_known(), periods, capacity, joined=joined),
            costs=costs.sampler,
            process=costs.process,
            gaps=recording.gaps(first, last),
            length_ns=int(length.sum()),
            ticks=accounts.ticks,
            torn_ticks=accounts.torn_ticks,
            estimated=accounts.estimated,
            course=timeline.course_of(accounts, last - first, costs.process),
            on_cpu=oncpu.on_cpu_shares(recording, first, last),
            pauses=pauses.pause_shares(recording, first, last, runs, periods),
            collector=collector.collector_shares(recording, first, last),
            memory=memory.memory_shares(recording, first, last),
            bottlenecks=bottlenecks.bottleneck_shares(runs, accounts, self._locks_known(), periods, capacity),
        )

    def _merged_time(self, digests: Sequence[_Digest]) -> ThreadTime:
        """Thread-time of a range by thread, state, stack and wait.

        A range that moves with the recording changes at its ends only: what lies between is merged once.
        """
        if len(digests) < LEAST_TO_KEEP:
            return accounting.merge_time([digest.time for digest in digests])
        between = tuple(digests[1:-1])
        known, merged = self._between
        if len(known) != len(between) or any(map(operator.is_not, known, between)):
            merged = accounting.merge_time([digest.time for digest in between])
            self._between = between, merged
        return accounting.merge_time([digests[0].time, merged, digests[-1].time])

    # --- the snapshot ------------------------------------------------------------------------------

    def _assembled(self, first: int, last: int, digests: list[_Digest]) -> Snapshot:
        recording = self._recording
        duration = sum(digest.length_ns for digest in digests)
        threads = _merged_threads(digests)
        details = oncpu.merge_on_cpu([digest.on_cpu for digest in digests])
        time = self._merged_time(digests)
        process = [reading for digest in digests for reading in digest.process]
        use = cores.use_of(
            process,
            duration_ns=duration,
            seen_ns=int(threads.totals[:, 1].sum()),
            last_seen_ns=int(digests[-1].course.cpu_ns[-1]) if digests else 0,
            sampler_ns=sum(cost.cpu_ns for digest in digests for cost in digest.costs),
        )
        metrics, missing = efficiency.metrics_of(
            recording.target,
            duration_ns=duration,
            alive_ns=threads.totals[:, 0],
            cpu_ns=threads.totals[:, 1],
            run_queue_ns=threads.totals[:, 2],
            states_ns=threads.states_ns,
            voluntary_switches=threads.totals[:, 3],
            shares=efficiency.merge_shares([digest.shares for digest in digests]),
            use=use,
            native_missing=efficiency.why_no_native(recording.settings),
        )
        if recording.settings.imported is not None:
            metrics, missing = efficiency.samples_only(metrics, recording.settings.imported)
        start = int(recording.t0_ns[first]) if first < last else recording.settings.started_ns
        listed, left_out = self._thread_metrics(last, threads, time)
        gaps = _merged_gaps(
            [*(gap for digest in digests for gap in digest.gaps), *recording.damaged], digests
        )
        if left_out:
            gaps = (
                *gaps,
                Gap("thread", f"only the {MAX_THREADS} with the most active time are listed", left_out),
            )
        intrusions = self._intrusions(first, last)
        if intrusions:
            quiet = sum(end - begin for begin, end in self._quiet_ranges(first, last))
            why = f"{_attached(intrusions)}; they are left out of every figure"
            if quiet:
                gaps = (*gaps, Gap("windows", why, last - first - quiet))
            else:
                metrics = _without_efficiency(metrics)
                missing.update(dict.fromkeys(_OF_EFFICIENCY, f"{_attached(intrusions)} all the time"))
        held = memory.memory_metrics(
            recording,
            last,
            [digest.memory for digest in digests],
            time,
            minor_faults=int(threads.totals[:, 5].sum()),
            major_faults=int(threads.totals[:, 6].sum()),
        )
        missing.update(held.not_measured)
        collected = collector.merge_collector([digest.collector for digest in digests], duration)
        if collected is None:
            missing["collections"] = collector.why_no_collector(recording.target, recording.settings)
        if first < last and not duration and recording.left_out(first, last).all():
            missing.update(dict.fromkeys(_OF_TIME, "every window of this range is damaged"))
        shares = [digest.locks for digest in digests]
        graph = [digest.bottlenecks for digest in digests]
        return Snapshot(
            target=recording.target,
            settings=recording.settings,
            end=recording.end,
            t0_ns=start,
            t1_ns=int(recording.t1_ns[last - 1]) if first < last else start,
            metrics=metrics,
            threads=listed,
            hot=bottlenecks.with_wall_time(
                allocations.joined(
                    hotspots.hot_lines(recording, time, details=details).lines, self.allocations
                ),
                bottlenecks.wall_lines(recording, graph),
            ),
            locks=locks.merge_locks(recording, self._numbers, shares, duration),
            findings=(),
            not_applicable=(),
            quality=replace(
                _quality(recording, digests, threads, time, missing, gaps),
                native_lost=details.lost,
                native_sampled_ratio=details.sampled_ratio,
                unnamed_cpu_ratio=details.unnamed_ratio,
            ),
            process=process[-1] if process else None,
            pauses=pauses.merge_pauses(recording, [digest.pauses for digest in digests]),
            collector=collected,
            memory=held,
            allocations=self.allocations,
            intrusions=intrusions,
            bottlenecks=bottlenecks.merge_bottlenecks(
                recording, self._numbers, graph, time, locks.waiting_stacks(shares), metrics
            ),
        )

    def _intrusions(self, first: int, last: int) -> tuple[Intrusion, ...]:
        """Those that touch the windows at [first, last)."""
        if first >= last:
            return ()
        begin, end = int(self._recording.t0_ns[first]), int(self._recording.t1_ns[last - 1])
        return tuple(
            each for each in self._recording.intrusions if each.begin_ns < end and each.end_ns > begin
        )

    def _diagnosed(self, snapshot: Snapshot, first: int, last: int, digests: list[_Digest]) -> Snapshot:
        """The snapshot with what the rules say of it; they see the windows in which the program could run."""
        halted = self._halted(first, last)
        if halted.any():
            running = self._running_digests(halted, first, last)
            why = halts.halted_words(self._recording, self._merged_time(digests))
            snapshot = _with_gap(snapshot, f"{why}; no finding is made of them", int(halted.sum()))
            if not running:
                self._found = _Found(snapshot.t0_ns, snapshot.t1_ns, {})
                return replace(snapshot, not_applicable=_silent(f"the program was {why} all the time"))
            judged = self._judged(self._assembled(first, last, running), last)
            return replace(
                snapshot,
                findings=judged.findings,
                not_applicable=judged.not_applicable,
                workload=judged.workload,
            )
        return self._judged(snapshot, last)

    def _halted(self, first: int, last: int) -> Bools:
        """Of the windows at [first, last), those in which somebody kept the program from running."""
        if first >= last:
            return np.zeros(0, dtype=np.bool_)
        return np.concatenate(
            [halts.halted_windows(digest.course.states_ns) for digest in self._digests_of(first, last)]
        )

    def _running_digests(self, halted: Bools, first: int, last: int) -> list[_Digest]:
        """The usable digests of a range without its halted windows."""
        return [
            digest
            for begin, end in halts.ranges_without(halted.tolist(), first)
            for digest in self._usable_digests(begin, end)
        ]

    def _judged(self, snapshot: Snapshot, last: int) -> Snapshot:
        """The snapshot with what the rules say of all of it."""
        before = self._found
        # What was found a moment ago stays a little below its threshold; a look at another time does not.
        follows = before.t0_ns <= snapshot.t1_ns and snapshot.t0_ns < before.t1_ns <= snapshot.t1_ns
        facts = facts_of(
            snapshot,
            now=self._now_at(last) if last == len(self._recording.window_ids) else None,
            standing=before.standing if follows else {},
        )
        diagnosis = diagnose(facts)
        if snapshot.intrusions and snapshot.metrics.useful_cores is None and not self._has_quiet(snapshot):
            diagnosis = _only_of_allocations(diagnosis, _attached(snapshot.intrusions))
        self._found = _Found(snapshot.t0_ns, snapshot.t1_ns, diagnosis.standing)
        return replace(
            snapshot,
            findings=diagnosis.findings,
            not_applicable=diagnosis.not_applicable,
            workload=None if snapshot.imported is not None else workload_of(facts),
        )

    def _now_at(self, last: int) -> Now:
        """What stands at the last tick; computed once for each new window."""
        if last <= 0:
            return Now()
        window = int(self._recording.window_ids[last - 1])
        if self._now is None or self._now[0] != window:
            self._now = (window, self._standing_now())
        return self._now[1]

    def _standing_now(self) -> Now:
        first, last = self._recent()
        stands = self._standing.at(first, last, self._locks_known(), self._periods(first, last))
        return Now(stands.edges, stands.deadlocks, stands.stuck)

    def _thread_metrics(
        self, last: int, threads: _Threads, time: ThreadTime
    ) -> tuple[tuple[ThreadMetrics, ...], int]:
        """The threads of a snapshot by index, and how many are left out."""
        recording = self._recording
        active = threads.states_ns[:, [int(state) for state in hotspots.ACTIVE_STATES]].sum(axis=1)
        kept = np.sort(largest_first(active.astype(np.float64), MAX_THREADS))
        if len(kept) < len(threads.index):
            time = _only_threads(time, threads.index[kept])
        hot = hotspots.hot_lines_by_thread(recording, time)
        waits = hotspots.waits_by_thread(recording, time)
        running = tasks.tasks_by_thread(recording, time)
        latest = self._latest(last)
        worked = efficiency.had_work(threads.totals[:, 0], threads.states_ns)
        listed: list[ThreadMetrics] = []
        counted = recording.settings.imported is None
        split = hotspots.states_by_row(threads.states_ns[kept])
        rows = zip(
            threads.index[kept].tolist(),
            threads.totals[kept].tolist(),
            split,
            worked[kept].tolist(),
            strict=True,
        )
        for index, totals, states, has_worked in rows:
            info = locks.thread_of(recording, index)
            state, stack = latest.get(index, (None, ()))
            listed.append(
                ThreadMetrics(
                    info=info,
                    role=_role(info, has_worked, totals[0], states) if counted or info.main else "python",
                    alive_ns=totals[0],
                    cpu_ns=totals[1],
                    run_queue_ns=totals[2],
                    states_ns=states,
                    voluntary_switches=totals[3],
                    involuntary_switches=totals[4],
                    minor_faults=totals[5],
                    major_faults=totals[6],
                    migrations=totals[7] if totals[8] else None,
                    hot=hot.get(index, ()),
                    waits=waits.get(index, ()),
                    latest_state=state,
                    latest_stack=stack,
                    tasks=running.get(index, ()),
                )
            )
        return tuple(listed), len(threads.index) - len(kept)

    def _latest(self, last: int) -> dict[int, tuple[ThreadState, Stack]]:
        """State and stack of the threads that were there at the last tick before position `last`."""
        if last <= 0 or last > len(self._recording.window_ids):
            return {}
        columns = self._recording.samples(last - 1)
        ticks = len(columns.tick_ns)
        if not ticks:
            return {}
        rows = np.flatnonzero(columns.first_tick.astype(np.int64) + columns.ticks == ticks)
        seen = (getattr(columns, name)[rows].tolist() for name in ("thread", "state", "stack"))
        return {
            thread: (ThreadState(state), self._recording.stack(stack))
            for thread, state, stack in zip(*seen, strict=True)
        }


_OF_TIME: Final = ("useful_cores", "speedup_now", "efficiency", "lost_cores", "torn_ratio", "unknown_ratio")
_OF_EFFICIENCY: Final = (
    "useful_cores",
    "ideal_speedup",
    "efficiency_ratio",
    "lost_cores",
    "account",
    "load_balance_ratio",
    "serial_share_ratio",
)
"""Figures that a range with an instrument attached all the time does not have."""


def _with_gap(snapshot: Snapshot, why: str, windows: int) -> Snapshot:
    gaps = (*snapshot.quality.gaps, Gap("windows", why, windows))
    return replace(snapshot, quality=replace(snapshot.quality, gaps=gaps))


def _silent(why: str) -> tuple[tuple[str, str], ...]:
    """Every rule with the reason why none has anything to say."""
    return tuple((rule.id, why) for rule in RULES)


def _attached(intrusions: tuple[Intrusion, ...]) -> str:
    """What changed how the program runs, in words."""
    return f"{' and '.join(sorted({each.what for each in intrusions}))} was attached"


def _without_efficiency(metrics: Metrics) -> Metrics:
    return replace(
        metrics,
        useful_cores=None,
        ideal_speedup=None,
        efficiency_ratio=None,
        useful_most_cores=None,
        efficiency_most_ratio=None,
        useful_parts_cores={},
        lost_cores={},
        account={},
        load_balance_ratio=None,
        serial_share_ratio=None,
    )


def _only_of_allocations(diagnosis: Diagnosis, why: str) -> Diagnosis:
    """Without findings about time: a program that an instrument slows down has other ones."""
    known = {rule for rule, _ in diagnosis.not_applicable}
    looks = {rule.id for rule in RULES if rule.of_allocations}
    silenced = [rule.id for rule in RULES if rule.id not in known | looks]
    return Diagnosis(
        tuple(finding for finding in diagnosis.findings if finding.rule_id in looks),
        (*diagnosis.not_applicable, *((rule, f"{why} all the time") for rule in silenced)),
    )


def _merged_threads(digests: list[_Digest]) -> _Threads:
    if not digests:
        none = np.zeros(0, dtype=np.int64)
        return _Threads(none, np.zeros((0, 7), dtype=np.int64), np.zeros((0, STATES), dtype=np.int64))
    thread = np.concatenate([digest.thread for digest in digests])
    groups = group_by(thread)
    totals = np.concatenate([digest.totals for digest in digests])[groups.order]
    states = np.concatenate([digest.states_ns for digest in digests])[groups.order]
    if not len(groups):
        return _Threads(groups.key(thread), totals, states)
    return _Threads(
        groups.key(thread),
        np.asarray(np.add.reduceat(totals, groups.starts, axis=0), dtype=np.int64),
        np.asarray(np.add.reduceat(states, groups.starts, axis=0), dtype=np.int64),
    )


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


def _role(info: ThreadInfo, worked: bool, alive_ns: int, states: dict[ThreadState, int]) -> str:
    if info.main:
        return "main"
    if not info.python:
        return "native"
    if worked:
        return "worker"
    apart = sum(states.get(state, 0) for state in efficiency.APART_STATES)
    return "idle" if apart > IDLE_SHARE * alive_ns else "waiting"


def _merged_gaps(gaps: list[Gap], digests: list[_Digest]) -> tuple[Gap, ...]:
    counts: dict[tuple[str, str], int] = {}
    for gap in gaps:
        counts[gap.what, gap.why] = counts.get((gap.what, gap.why), 0) + gap.count
    estimated = sum(digest.estimated for digest in digests)
    if estimated:
        counts["thread counters", "not read in the window; the thread's time is estimated from its ticks"] = (
            estimated
        )
    return tuple(Gap(what, why, count) for (what, why), count in sorted(counts.items()))


def _quality(
    recording: Recording,
    digests: list[_Digest],
    threads: _Threads,
    time: ThreadTime,
    missing: dict[str, str],
    gaps: tuple[Gap, ...],
) -> Quality:
    not_measured = dict(missing)
    states = threads.states_ns.sum(axis=0)
    alive, cpu = int(threads.totals[:, 0].sum()), int(threads.totals[:, 1].sum())
    duration = sum(digest.length_ns for digest in digests)
    costs = [cost for digest in digests for cost in digest.costs]
    taken, missed = sum(cost.ticks for cost in costs), sum(cost.missed_ticks for cost in costs)
    samples = sum(digest.ticks for digest in digests)
    spun = max(0, int(threads.totals[:, 2].sum()) - int(states[ThreadState.RUNNABLE]))
    native = int(states[[int(state) for state in accounting.NATIVE_STATES]].sum()) - spun
    if samples == 0:
        not_measured["torn_ratio"] = "no thread was sampled in this range"
    if taken + missed == 0:
        not_measured["missed_tick_ratio"] = "no tick was taken in this range"
    if alive == 0:
        not_measured["unknown_ratio"] = "no thread-time in this range"
    if duration == 0 or not costs:
        not_measured["sampler_cpu_ratio"] = "no cost of the sampler is recorded in this range"
    if native == 0:
        not_measured["classified_cpu_ratio"] = efficiency.why_no_native(recording.settings)
    imported = recording.settings.imported is not None
    not_measured.update(efficiency.what_source_lacks(recording.settings))
    unnamed = _unnamed_wait_ns(recording, time)
    if alive and unnamed > 0:
        not_measured["locks"] = (
            f"{100 * unnamed / alive:.0f} % of thread-time waited in futex for what could not be named"
        )
    return Quality(
        torn_ratio=sum(digest.torn_ticks for digest in digests) / samples if samples else None,
        missed_tick_ratio=missed / (taken + missed) if taken + missed and not imported else None,
        unknown_ratio=int(states[ThreadState.UNKNOWN]) / alive if alive and not imported else None,
        classified_cpu_ratio=min(1.0, native / cpu) if native and cpu else None,
        sampler_cpu_ratio=(
            # One thread of the sampler runs at a time: more than a core is the grain of clocks, or made up.
            min(1.0, sum(cost.cpu_ns for cost in costs) / duration)
            if duration and costs and not imported
            else None
        ),
        not_measured=not_measured,
        gaps=gaps,
    )


def _unnamed_wait_ns(recording: Recording, time: ThreadTime) -> float:
    """Thread-time in a futex that is neither a known lock nor a known wait."""
    rows = time.state == ThreadState.UNKNOWN
    groups = group_by(time.wait[rows])
    total = groups.total(time.time_ns[rows])
    unnamed = 0.0
    for wait_id, spent in zip(groups.key(time.wait[rows]).tolist(), total.tolist(), strict=True):
        wait = recording.wait(wait_id)
        if wait is not None and wait.syscall == "futex" and wait.lock is None:
            unnamed += spent
    return unnamed
