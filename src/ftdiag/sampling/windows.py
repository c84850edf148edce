"""Windows of a recording as far as the kernel knows them: runs, counters, what sampling cost.

In: the threads at the end of a window, its ticks, counters of the process. Out: a `Window` without what an
observer adds to it: samples of machine code, shared objects, stacks that could not be read.
"""

from __future__ import annotations

import os
import time
from array import array

from ftdiag.model import Gap, MemoryReading, ProcessCounters, Runs, SamplerCost, ThreadCounters, Window
from ftdiag.sampling.threads import Gaps, SampledThread, Threads
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.others import Others


class Windows:
    """Puts the windows of one target together, one after the other."""

    def __init__(self, pid: int, others_cores: float) -> None:
        """`others_cores` is what reading the clocks of all other processes may take."""
        self._pid = pid
        self._throttle = procfs.Throttle(pid)
        self._others = Others(pid, others_cores)
        self.count = 0
        """Windows that were put together so far."""
        self.ticks_ns = array("q")
        """Times of the ticks of the window that is under way."""
        self.gaps: Gaps = Gaps()
        self.late_ticks = self.missed_ticks = 0
        self.start_ns = 0
        """When the window that is under way began."""
        self._cpu_ns = 0
        self.clock_ns: int | None = None
        """The process's own CPU clock at the tick that is under way, where it was read at that tick."""
        self._totals: dict[str, int | None] = {}

    def begin(self, now_ns: int) -> None:
        """The first one begins."""
        self.start_ns = now_ns
        self._cpu_ns = time.process_time_ns()
        self._totals = {"machine": procfs.machine_busy_ns(), "throttled": self._throttle.read_ns()}
        self._others.read(now_ns)

    def read_clock(self, *, first: bool) -> None:
        """Read the process's CPU clock beside those of its threads: at the first tick, and a window's last.

        Read at another moment it would have time that no thread can have had.
        """
        self.clock_ns = procfs.process_cpu_ns(self._pid)
        if first:
            self._totals["cpu"] = self.clock_ns

    @property
    def last_tick_ns(self) -> int:
        """When the last tick was; before the first one of a window: when the window began."""
        return self.ticks_ns[-1] if self.ticks_ns else self.start_ns

    def end(self, threads: Threads, *, gil_enabled: bool | None, memory: MemoryReading | None) -> Window:
        """The window that ends with its last tick; the next one begins there."""
        ticks = len(self.ticks_ns)
        start_ns, end_ns = self.start_ns, max(self.last_tick_ns, self.start_ns)
        runs, counters = Runs(), ThreadCounters()
        for thread in threads.alive.values():
            thread.seen_ns = max(thread.seen_ns, threads.seen_ns)
        for thread in threads.of_window():
            thread.close_run(ticks)
            thread.run_start = 0
            _append_runs(runs, thread)
            _append_counters(counters, thread)
        cpu_ns = time.process_time_ns()
        cost = SamplerCost(
            cpu_ns=cpu_ns - self._cpu_ns,
            ticks=ticks,
            late_ticks=self.late_ticks,
            missed_ticks=self.missed_ticks,
            walked_stacks=0,
            torn_stacks=0,
        )
        others, ftdiag_ns = self._others.read(end_ns)
        process = ProcessCounters(
            rss_bytes=procfs.rss_bytes(self._pid),
            threads=len(threads.alive),
            gil_enabled=gil_enabled,
            machine_busy_ns=_at_most(
                self._difference("machine", procfs.machine_busy_ns()),
                (os.cpu_count() or 1) * (end_ns - start_ns),
            ),
            throttled_ns=self._difference("throttled", self._throttle.read_ns()),
            cpu_ns=self._difference("cpu", self.clock_ns or procfs.process_cpu_ns(self._pid)),
            ftdiag_ns=ftdiag_ns,
            others=others,
        )
        gaps = tuple(Gap(what, why, count) for (what, why), count in self.gaps.items())
        window = Window(
            start_ns, end_ns, self.ticks_ns, runs, counters, cost, process, gaps, memory=memory
        )  # fmt: skip
        self.count += bool(ticks)
        self.start_ns, self._cpu_ns = end_ns, cpu_ns
        self.ticks_ns = array("q")
        self.late_ticks = self.missed_ticks = 0
        self.clock_ns = None
        self.gaps.clear()
        threads.ended.clear()
        return window

    def _difference(self, name: str, total: int | None) -> int | None:
        """What a counter that only grows gained since the last window; `None` the first time."""
        before, self._totals[name] = self._totals.get(name), total
        return None if total is None or before is None else max(0, total - before)


def _at_most(value: int | None, limit: int) -> int | None:
    """/proc/stat counts whole clock ticks: within a window it can exceed what the cores have."""
    return None if value is None else min(value, limit)


def _append_runs(runs: Runs, thread: SampledThread) -> None:
    index = thread.info.index
    for first, ticks, (state, stack, wait, holder, confidence) in thread.runs:
        runs.thread.append(index)
        runs.first_tick.append(first)
        runs.ticks.append(ticks)
        runs.state.append(state)
        runs.stack.append(stack)
        runs.wait.append(wait)
        runs.holder.append(holder)
        runs.confidence.append(confidence)
    thread.runs = []


def _append_counters(counters: ThreadCounters, thread: SampledThread) -> None:
    """Differences of the kernel's counters since the window began, or the thread."""
    alive_ns = thread.seen_ns - thread.base_alive_ns
    try:
        cpu, run_queue, _ = map(int, thread.schedstat.split())
        cpu_ns, run_queue_ns = cpu - thread.base_cpu_ns, run_queue - thread.base_run_queue_ns
        thread.base_cpu_ns, thread.base_run_queue_ns = cpu, run_queue
    except ValueError:
        cpu_ns = run_queue_ns = -1
    faults = thread.base_faults
    if thread.ran and thread.info.ended_ns is None:
        faults = thread.files.switches_and_faults() or faults
    base = thread.base_faults
    thread.ran = False
    thread.base_alive_ns = thread.seen_ns
    thread.base_faults = faults
    counters.thread.append(thread.info.index)
    counters.alive_ns.append(max(0, alive_ns))
    counters.cpu_ns.append(cpu_ns)
    counters.run_queue_ns.append(run_queue_ns)
    if faults is None or base is None:
        changes = (-1, -1, -1, -1, -1)
    else:
        changes = (
            faults.voluntary_switches - base.voluntary_switches,
            faults.involuntary_switches - base.involuntary_switches,
            faults.minor_faults - base.minor_faults,
            faults.major_faults - base.major_faults,
            -1
            if faults.migrations is None or base.migrations is None
            else faults.migrations - base.migrations,
        )
    counters.voluntary_switches.append(changes[0])
    counters.involuntary_switches.append(changes[1])
    counters.minor_faults.append(changes[2])
    counters.major_faults.append(changes[3])
    counters.migrations.append(changes[4])
