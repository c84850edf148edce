"""Snapshots built by hand, and a source that hands them out: what the cockpit is tested with.

In: what a test wants to see. Out: model values without a recording.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ftdiag.analysis.cores import Use, account_of, on_cpu_states
from ftdiag.analysis.waitgraph import deadlocks
from ftdiag.model import (
    AllocatorLine,
    AllocatorPart,
    Bottleneck,
    BottleneckKind,
    BottleneckPlace,
    Bottlenecks,
    Change,
    ChangeKind,
    Confidence,
    CorePart,
    End,
    EndOfWait,
    EndReason,
    Evidence,
    Finding,
    Frame,
    HotLine,
    LockHolder,
    LockKind,
    LockMetrics,
    LockRef,
    LockWaiter,
    MemoryKind,
    MemoryMetrics,
    MemoryOfThread,
    MemoryReading,
    Metrics,
    Prediction,
    ProcessCounters,
    Quality,
    RecordingSettings,
    Remedy,
    Severity,
    Snapshot,
    Stack,
    StateGroup,
    Target,
    ThreadInfo,
    ThreadMetrics,
    ThreadState,
    Wait,
    WaitsFor,
)
from ftdiag.session import CallNode, History, Lanes, NoCurve, ScalingCurve, Session, Timeline, WaitEdge
from ftdiag.tui.sourcetext import SourceLines

SECOND = 1_000_000_000
START = 1_000 * SECOND

CRUNCH = Frame("/srv/app/worker.py", "Worker.crunch", 31)
PUT = Frame("/srv/app/cache.py", "Cache.put", 88)
LOOP = Frame("/srv/app/worker.py", "Worker.run", 12)
BOOTSTRAP = Frame("/usr/lib/python3.14/threading.py", "Thread._bootstrap_inner", 1081)
GET = Frame("/usr/lib/python3.14/queue.py", "Queue.get", 199)
MAIN = Frame("/srv/app/main.py", "main", 140)

CACHE_LOCK = LockRef(address=0x7F00_0010, kind=LockKind.USER, type_name="_thread.lock", label="self._lock")


def hot_line(stack: Stack, states: Mapping[ThreadState, float], threads: int = 1) -> HotLine:
    """A line with one stack that holds all its time; times in seconds."""
    total = sum(states.values()) * SECOND
    return HotLine(
        frame=stack[0],
        total_ns=total,
        states_ns={state: time * SECOND for state, time in states.items()},
        threads=threads,
        stacks=((stack, total * 0.75), ((stack[0], *stack[2:]), total * 0.25)),
    )


def thread(
    index: int,
    name: str,
    states: Mapping[ThreadState, float],
    *,
    role: str = "worker",
    hot: tuple[HotLine, ...] = (),
    waits: tuple[tuple[Wait, float], ...] = (),
    python: bool = True,
) -> ThreadMetrics:
    """A thread by what it did with its time, in seconds."""
    states_ns = {state: time * SECOND for state, time in states.items()}
    on_cpu = sum(time for state, time in states_ns.items() if state.group is StateGroup.ON_CPU)
    return ThreadMetrics(
        info=ThreadInfo(index=index, tid=4200 + index, name=name, python=python, main=index == 0),
        role=role,
        alive_ns=int(sum(states_ns.values())),
        cpu_ns=int(on_cpu),
        run_queue_ns=int(states_ns.get(ThreadState.RUNNABLE, 0.0)),
        states_ns=states_ns,
        voluntary_switches=100,
        involuntary_switches=10,
        minor_faults=0,
        major_faults=0,
        hot=hot,
        waits=waits,
    )


def snapshot(
    threads: Sequence[ThreadMetrics],
    *,
    hot: Sequence[HotLine] | None = None,
    locks: Sequence[LockMetrics] = (),
    findings: Sequence[Finding] = (),
    end: End | None = None,
    seconds: float = 60.0,
    useful_cores: float | None = None,
) -> Snapshot:
    """A snapshot of these threads; totals follow from them."""
    duration_ns = int(seconds * SECOND)
    totals = {
        state: sum(one.states_ns.get(state, 0.0) for one in threads)
        for state in ThreadState
        if any(one.states_ns.get(state) for one in threads)
    }
    on_cpu = sum(one.cpu_ns for one in threads) / duration_ns
    return Snapshot(
        target=Target(
            pid=4200,
            start_ticks=1,
            executable="/usr/bin/python3.14t",
            command="python3.14t -m app.serve --workers 8 --cache /var/cache/app",
            python_version="3.14.0",
            free_threaded=True,
            gil_enabled=False,
        ),
        settings=RecordingSettings(
            rate_hz=100.0, started_ns=START, started_unix_ns=0, ftdiag_version="0.1", host="box"
        ),
        end=end,
        t0_ns=START,
        t1_ns=START + duration_ns,
        metrics=Metrics(
            duration_ns=duration_ns,
            ticks=int(seconds * 100),
            capacity_cores=2.0,
            capacity_reason="CPU affinity",
            threads=len(threads),
            threads_with_work=len(threads),
            on_cpu_cores=on_cpu,
            run_queue_cores=sum(one.run_queue_ns for one in threads) / duration_ns,
            useful_cores=useful_cores,
            ideal_speedup=None,
            efficiency_ratio=None,
            lost_cores={},
            states_ns=totals,
            load_balance_ratio=None,
            serial_share_ratio=None,
            concurrency=(),
            work_per_wakeup_ns=None,
            account=account_of(
                2.0,
                Use(),
                running={state: time / duration_ns for state, time in on_cpu_states(totals).items()},
                waiting={ThreadState.IO: totals.get(ThreadState.IO, 0.0) / duration_ns},
                wanted_cores=on_cpu,
            ),
        ),
        threads=tuple(threads),
        hot=tuple(hot if hot is not None else [line for one in threads for line in one.hot]),
        locks=tuple(locks),
        findings=tuple(findings),
        not_applicable=(),
        quality=Quality(
            torn_ratio=0.004,
            missed_tick_ratio=0.0,
            unknown_ratio=0.01,
            classified_cpu_ratio=None,
            sampler_cpu_ratio=0.021,
            not_measured={"useful_cores": "no native samples"},
            gaps=(),
        ),
    )


def contended(workers: int = 6, idle: int = 1, *, locks: bool = True, end: End | None = None) -> Snapshot:
    """The usual sight: workers that run and wait for one lock, a main thread that joins them, idle ones."""
    run_stack: Stack = (CRUNCH, LOOP, BOOTSTRAP)
    put_stack: Stack = (PUT, CRUNCH, LOOP, BOOTSTRAP)
    idle_stack: Stack = (GET, LOOP, BOOTSTRAP)
    on_lock = Wait(syscall="futex", detail=None, lock=CACHE_LOCK)
    in_get = Wait(syscall="futex", detail="queue.Queue.get")
    threads = [
        thread(
            0,
            "MainThread",
            {ThreadState.ON_CPU: 0.3, ThreadState.IDLE: 59.7},
            role="main",
            hot=(hot_line((MAIN,), {ThreadState.IDLE: 59.7}),),
            waits=((Wait("futex", "Thread.join"), 59.7e9),),
        )
    ]
    for number in range(workers):
        run = 24.0 - (2 * number) % 17
        queue = 2.5 + number % 3
        threads.append(
            thread(
                1 + number,
                f"worker-{number}",
                {
                    ThreadState.ON_CPU: run,
                    ThreadState.RUNNABLE: queue,
                    ThreadState.LOCK: 57.0 - run - queue,
                    ThreadState.IO: 2.0,
                    ThreadState.UNKNOWN: 1.0,
                },
                hot=(
                    hot_line(put_stack, {ThreadState.LOCK: 57.0 - run - queue, ThreadState.ON_CPU: 1.0}),
                    hot_line(run_stack, {ThreadState.ON_CPU: run - 1.0, ThreadState.RUNNABLE: queue}),
                ),
                waits=((on_lock, (57.0 - run - queue) * SECOND),),
            )
        )
    threads += [
        thread(
            1 + workers + number,
            f"pool-idle-{number}",
            {ThreadState.IDLE: 60.0},
            hot=(hot_line(idle_stack, {ThreadState.IDLE: 60.0}),),
            waits=((in_get, 60e9),),
        )
        for number in range(idle)
    ]
    busy = threads[1 : 1 + workers]
    waited = sum(one.states_ns[ThreadState.LOCK] for one in busy)
    hot = [
        hot_line(put_stack, {ThreadState.LOCK: waited / SECOND, ThreadState.ON_CPU: 6.0}, workers),
        hot_line(run_stack, {ThreadState.ON_CPU: 95.0, ThreadState.RUNNABLE: 18.0}, workers),
        hot_line(idle_stack, {ThreadState.IDLE: 60.0 * max(1, idle)}, max(1, idle)),
        hot_line((MAIN,), {ThreadState.IDLE: 59.7}),
    ]
    lock = LockMetrics(
        number=1,
        lock=CACHE_LOCK,
        wait_ns=waited,
        critical_wait_ns=waited * 0.6,
        mean_queue=waited / (60 * SECOND),
        waiters_max=max(1, workers - 1),
        longest_wait_ns=1.4 * SECOND,
        waiters=tuple(LockWaiter(one.info, one.states_ns[ThreadState.LOCK], put_stack) for one in busy),
        holders=(
            LockHolder(threads[1].info, Confidence.KNOWN, waited * 0.7, put_stack),
            LockHolder(threads[2].info, Confidence.INFERRED, waited * 0.3, put_stack),
        )
        if workers > 1
        else (),
    )
    other = replace(
        lock,
        number=2,
        lock=LockRef(0x7F00_0020, LockKind.OBJECT, "dict", None),
        wait_ns=0.8 * SECOND,
        critical_wait_ns=0.1 * SECOND,
        mean_queue=0.01,
        waiters_max=2,
        longest_wait_ns=0.004 * SECOND,
        holders=(),
    )
    return snapshot(threads, hot=hot, locks=(lock, other) if locks else (), end=end)


def finding(
    summary: str = "self._lock at cache.py:88 costs 0.9 of 2 cores: 6 threads queue for it",
) -> Finding:
    """A finding with the usual parts."""
    return Finding(
        rule_id="hot-lock",
        severity=Severity.CRITICAL,
        score=82.0,
        confidence="known",
        lost_cores=0.9,
        subject={"lock": "self._lock", "line": 88},
        summary=summary,
        explanation="",
        could_also_be=(),
        remedy=(),
        verify="",
        evidence=(Evidence("wait", 40.0, "s"),),
    )


def ended(reason: EndReason = EndReason.EXITED) -> End:
    """An end of the recording."""
    return End(reason=reason, detail="exit status 0", at_ns=START + 60 * SECOND)


def findings() -> tuple[Finding, ...]:
    """What rules say of the usual sight: a lock that costs much, a line, a note."""
    lock = replace(
        finding(
            "self._lock (cache.py:88) costs 0.9 of 2 cores: worker-0 to worker-5 (6 threads) wait for it;"
            " in 70 % of the waits the holder, worker-0, was in Cache.put (cache.py:88)"
        ),
        subject={
            "lock": f"self._lock {CACHE_LOCK.address:#x}",
            "file": PUT.filename,
            "line": 88,
            "thread": "worker-0",
        },
        explanation="Only one thread at a time has the lock; the others wait in a queue. " * 3,
        could_also_be=("a slow call under the lock", "one thread that holds it all the time"),
        remedy=(
            Remedy("do less while the lock is held", "with self._lock:\n    value = self._items.get(key)"),
            Remedy("give each thread a cache of its own"),
        ),
        verify="ftdiag attach 4200: the wait for self._lock under Locks falls",
        evidence=(
            Evidence("lost_share_of_capacity", 0.45, "ratio", 0.02),
            Evidence("wait", 190.5, "s"),
            Evidence("waiters_max", 5.0, "threads"),
        ),
    )
    line = replace(
        lock,
        rule_id="refcount-contention",
        severity=Severity.WARNING,
        lost_cores=0.2,
        confidence="likely",
        summary="Worker.crunch (worker.py:31) loses 0.2 of 2 cores to shared reference counts",
        subject={"file": CRUNCH.filename, "line": 31},
    )
    thread_of_all = replace(
        lock,
        rule_id="main-thread-serial",
        severity=Severity.INFO,
        lost_cores=0.05,
        summary="MainThread waits for the others",
        subject={"thread": "MainThread"},
    )
    return (lock, line, thread_of_all)


def bottlenecks(picture: Snapshot) -> Bottlenecks:
    """One lock, which waits also end at through another one, and a shortage of cores."""
    waiter, holder = picture.threads[2].info, picture.threads[1].info
    lock = Bottleneck(
        BottleneckKind.LOCK,
        wait_ns=190e9,
        lost_cores=0.9,
        gain_cores=0.9,
        direct_ns=150e9,
        wall_ratio=0.7,
        waiters_max=5,
        known_ratio=0.9,
        lock=CACHE_LOCK,
        number=1,
        places=(BottleneckPlace(EndOfWait.RUNS, (PUT, CRUNCH), 3, 170e9),),
    )
    cores = Bottleneck(BottleneckKind.CORES, 12e9, 0.05, 0.2)
    edges = (WaitsFor(waiter, CACHE_LOCK, 1, holder, 150e9),)
    return Bottlenecks((lock, cores), edges, 190e9)


def measured(picture: Snapshot) -> Snapshot:
    """The picture with all that native samples and rules add."""
    metrics = replace(
        picture.metrics,
        useful_cores=1.1,
        ideal_speedup=2.0,
        efficiency_ratio=0.55,
        lost_cores={ThreadState.LOCK: 0.62, ThreadState.RUNNABLE: 0.2, ThreadState.SPIN: 0.08},
        load_balance_ratio=0.84,
        serial_share_ratio=0.31,
        concurrency=(0.1, 0.21, 0.4, 0.2, 0.09),
        work_per_wakeup_ns=310_000.0,
        account={
            **dict.fromkeys(CorePart, 0.0),
            CorePart.USEFUL: 1.1,
            CorePart.LOCK: 0.62,
            CorePart.OTHER_PROGRAMS: 0.15,
            CorePart.OWN_THREADS: 0.05,
            CorePart.SPIN: 0.08,
        },
    )
    return replace(
        picture,
        metrics=metrics,
        findings=findings(),
        not_applicable=(("deadlock", "the range does not reach the end of the recording"),),
        hot=tuple(replace(line, wall_ns=line.total_ns / 8) for line in picture.hot),
        bottlenecks=bottlenecks(picture),
        process=ProcessCounters(rss_bytes=123_456_789, threads=9),
        memory=memory_of(picture.threads),
    )


def memory_of(threads: Sequence[ThreadMetrics]) -> MemoryMetrics:
    """A process that grew from 62 to 118 MB in a minute, with a thread's heap larger than the others'."""
    kinds = {
        MemoryKind.PYTHON_HEAPS: 78_000_000,
        MemoryKind.LIBC_HEAP: 1_200_000,
        MemoryKind.LIBC_ARENAS: 20_000_000,
        MemoryKind.THREAD_STACKS: 300_000,
        MemoryKind.ANONYMOUS: 9_956_789,
        MemoryKind.FILES: 14_000_000,
        MemoryKind.SHARED: 0,
    }
    before = {**kinds, MemoryKind.PYTHON_HEAPS: 22_000_000}
    reading = MemoryReading(
        START + 60 * SECOND,
        2_000_000,
        pss_bytes=120_000_000,
        uss_bytes=119_000_000,
        arenas=7,
        ended_heap_bytes=4_000_000,
        kinds=kinds,
    )
    parts = {AllocatorPart.MIMALLOC: 3.0, AllocatorPart.LIBC: 1.0, AllocatorPart.FAULTS: 4.5}
    return MemoryMetrics(
        rss_bytes=123_456_789,
        growth_bytes=56_000_000,
        growth_ns=60 * SECOND,
        reading=reading,
        since=replace(reading, at_ns=START, kinds=before),
        readings=12,
        threads=tuple(
            MemoryOfThread(one.info, 16_384, 40_000_000 if place == 0 else 2_000_000)
            for place, one in enumerate(threads)
        ),
        per_thread_bytes=2_016_384,
        series=tuple((START + second * SECOND, 67_456_789 + second * 933_333) for second in range(61)),
        allocator_ns={part: spent * SECOND for part, spent in parts.items()},
        allocator_lines=(
            AllocatorLine(
                Frame("/srv/app/render.py", "render_page", 31),
                6.0 * SECOND,
                {AllocatorPart.FAULTS: 4.5 * SECOND, AllocatorPart.LIBC: 1.5 * SECOND},
            ),
            AllocatorLine(
                Frame("/srv/app/cache.py", "Cache.put", 88),
                2.5 * SECOND,
                {AllocatorPart.MIMALLOC: 2.5 * SECOND},
            ),
        ),
        minor_faults=120_000,
    )


class FakeQueries:
    """Answers about time that follow from nothing but the question."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.picture = contended()
        self.edges: tuple[WaitEdge, ...] | None = None
        self.curve: ScalingCurve | NoCurve = NoCurve(
            "not enough different numbers of threads: it needs 4 that had work for 3 seconds each, and this"
            " range has 1",
            (6,),
        )

    def reading(self, t0_ns: int | None, t1_ns: int | None) -> Iterator[tuple[float, Callable[[], Snapshot]]]:
        """All of it at once."""
        yield 1.0, lambda: self.picture

    def timeline(self, t0_ns: int | None, t1_ns: int | None, slices: int) -> Timeline:
        """A wave."""
        self.asked.append("timeline")
        wave = tuple(1.0 + 0.8 * math.sin(number / 4) for number in range(60))
        useful = tuple(value * 0.6 for value in wave)
        rest = tuple(2.0 - value for value in wave)
        account = {
            CorePart.USEFUL: useful,
            CorePart.SPIN: tuple(value * 0.4 for value in wave),
            CorePart.LOCK: tuple(value * 0.7 for value in rest),
            CorePart.NO_DEMAND: tuple(value * 0.3 for value in rest),
        }
        return Timeline(START, START + 60 * SECOND, wave, useful, {}, 2.0, account)

    def lanes(self, t0_ns: int | None, t1_ns: int | None, slices: int) -> Lanes:
        """States in turn."""
        self.asked.append("lanes")
        states = [int(ThreadState.ON_CPU), int(ThreadState.LOCK), 0, int(ThreadState.IDLE)]
        lanes = {
            one.info.index: bytes(states[(cell // 7 + one.info.index) % 4] for cell in range(slices))
            for one in self.picture.threads
        }
        return Lanes(START, START + 60 * SECOND, slices, lanes)

    def history(self, thread: int, t0_ns: int | None, t1_ns: int | None, slices: int) -> History:
        """Two stacks that alternate."""
        self.asked.append(f"history {thread}")
        states = bytes(
            int(ThreadState.ON_CPU if cell % 9 < 5 else ThreadState.LOCK) for cell in range(slices)
        )
        one = tuple(1.0 if cell % 9 < 5 else 0.0 for cell in range(slices))
        other = tuple(1.0 - share for share in one)
        stacks = (((CRUNCH, LOOP, BOOTSTRAP), 0.56, one), ((PUT, CRUNCH, LOOP, BOOTSTRAP), 0.44, other))
        return History(thread, START, START + 60 * SECOND, states, stacks)

    def hot_functions(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[HotLine, ...]:
        """The lines, without their numbers."""
        self.asked.append("functions")
        return tuple(replace(line, frame=replace(line.frame, line=None)) for line in self.picture.hot)

    def call_tree(self, t0_ns: int | None = None, t1_ns: int | None = None) -> tuple[CallNode, ...]:
        """The thread's bootstrap, its loop, and what that calls."""
        self.asked.append("tree")
        put = CallNode(PUT, 190e9, 190e9, {ThreadState.LOCK: 184e9, ThreadState.ON_CPU: 6e9}, ())
        crunch = CallNode(CRUNCH, 300e9, 110e9, {ThreadState.LOCK: 184e9, ThreadState.ON_CPU: 116e9}, (put,))
        get = CallNode(GET, 60e9, 60e9, {ThreadState.IDLE: 60e9}, ())
        run = CallNode(LOOP, 360e9, 0.0, {**crunch.states_ns, ThreadState.IDLE: 60e9}, (crunch, get))
        boot = CallNode(BOOTSTRAP, 360e9, 0.0, run.states_ns, (run,))
        return (boot, CallNode(MAIN, 60e9, 60e9, {ThreadState.IDLE: 60e9}, ()))

    def wait_graph(self) -> tuple[WaitEdge, ...]:
        """Two threads that wait for a third, and one for nobody knows whom."""
        self.asked.append("waits")
        if self.edges is not None:
            return self.edges
        one, two, three = (self.picture.threads[number].info for number in (1, 2, 3))
        stack = (PUT, CRUNCH)
        return (
            WaitEdge(two, CACHE_LOCK, 1, one, Confidence.KNOWN, 1.2e9, stack, stack),
            WaitEdge(three, CACHE_LOCK, 1, None, Confidence.UNKNOWN, 0.3e9, stack, ()),
        )

    def predicted(self, finding: Finding, t0_ns: int | None = None, t1_ns: int | None = None) -> Prediction:
        """Twice as much, within bounds."""
        self.asked.append(f"predicted {finding.rule_id}")
        return Prediction(
            (Change(ChangeKind.LOCK, "self._lock 0x7f000010"),), gain=2.0, low=1.5, high=2.6, blocks=6
        )

    def standing_threads(self) -> dict[int, float]:
        """Nobody."""
        return {}

    def deadlocks_among(self, edges: Sequence[WaitEdge]) -> tuple[tuple[WaitEdge, ...], ...]:
        """Whatever the rule of the analysis says."""
        return deadlocks(edges)

    def scaling(self, t0_ns: int | None = None, t1_ns: int | None = None) -> ScalingCurve | NoCurve:
        """The curve that was put here."""
        self.asked.append("scaling")
        return self.curve


class FakeTexts:
    """Source text that is there for one file."""

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """A hundred lines of cache.py."""
        if filename != PUT.filename:
            return SourceLines(filename, why="source not available: there is no such file here")
        lines = ("def put(): ...", *(f"    line_{number} = self.work({number})" for number in range(2, 101)))
        return SourceLines(filename, lines, filename)


class FakeSource:
    """A source that hands out the pictures it is given, one a refresh, and then says there is no more."""

    def __init__(self, *pictures: Snapshot, live: bool = False) -> None:
        self._pictures = list(pictures)
        self._shown = -1
        self.live = live
        self.watches = True
        self.asked: list[tuple[int | None, int | None]] = []
        self.refreshes = 0
        self.closed = False
        self.error: Exception | None = None
        self.failure: str | None = None
        self.threads: set[int] = set()
        self.questions = FakeQueries()
        if pictures:
            self.questions.picture = pictures[-1]

    @property
    def session(self) -> Session:
        """What answers: as much of a session as panes ask."""
        return cast(Session, self.questions)

    def refresh(self) -> bool:
        """The next picture, if there is one."""
        self.refreshes += 1
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        if self._shown + 1 < len(self._pictures):
            self._shown += 1
            return True
        return False

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The latest picture, whatever the range; the range is noted."""
        self.asked.append((t0_ns, t1_ns))
        return self._pictures[self._shown]

    def span_ns(self) -> tuple[int, int] | None:
        """Ten minutes that end with the latest picture."""
        if self._shown < 0:
            return None
        end_ns = self._pictures[self._shown].t1_ns
        return end_ns - 600 * SECOND, end_ns

    def close(self) -> None:
        """Note that nothing more will be asked."""
        self.closed = True

    def add(self, picture: Snapshot) -> None:
        """Have one more to hand out."""
        self._pictures.append(picture)


class RangedSource(FakeSource):
    """A source whose picture is of the range that was asked for, with the same figures in all."""

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The latest picture, of this range."""
        picture = super().snapshot(t0_ns, t1_ns)
        span = self.span_ns()
        assert span is not None
        return replace(
            picture,
            t0_ns=span[0] if t0_ns is None else t0_ns,
            t1_ns=span[1] if t1_ns is None else t1_ns,
        )
