"""The clock: ticks at a fixed rate, windows about once a second, until the target ends or somebody says so.

In: a target, and an `Observer`, who knows what the threads do. Out: windows, through the observer, and an
`End`.

What happens in a tick: threads that came or went are noticed (`Threads.follow`), those that ran since the
tick before are told by their schedstat lines (`Threads.who_ran`), and the observer looks at these. Once a
window it is asked to read what changes slowly (`refresh`), and given the window to complete and to write.
"""

from __future__ import annotations

import gc
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from ftdiag.errors import BudgetSpent, MemoryReadError, NoSuchProcess, TargetGone
from ftdiag.model import End, EndReason, Window
from ftdiag.sampling.budget import USUAL_RATE_HZ, CpuBudget, default_budget_cores, scarce, scarce_budget_cores
from ftdiag.sampling.earlyturns import EarlyTurns
from ftdiag.sampling.halted import Halted
from ftdiag.sampling.libraries import LibrarySink
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.steady import Steady
from ftdiag.sampling.target import TargetProcess
from ftdiag.sampling.threads import Gaps, SampledThread, Threads, Tick
from ftdiag.sampling.watchdog import Watchdog
from ftdiag.sampling.windows import Windows
from ftdiag.sources.budget import (
    ASKED_EVERY,
    FIRST_CREDIT_S,
    REFRESH_S,
    TICK_BYTES,
    TICK_CALLS,
    TICK_S,
    Budget,
)
from ftdiag.sources.kernel.memorymap import Owner
from ftdiag.sources.kernel.memorywatch import MOST_CORES, MemoryWatch
from ftdiag.sources.kernel.room import Room

WINDOW_NS: Final = 950_000_000
"""A killed sampler loses a window at most, a tick, and the hundredths that writing takes: a second."""
FIRST_WINDOW_NS: Final = 250_000_000
"""The first window is short, so that a view has something to show at once."""
LATE_RATIO: Final = 0.25
"""A tick that begins later than this part of the period counts as late."""
LAST_READING_S: Final = 0.2
"""How long the end of a recording waits for a reading of the memory that is under way."""
COLLECT_EVERY_WINDOWS: Final = 30
MEMORY_SHARE: Final = 1 / 20
"""Part of the budget that readings of the memory may take."""
OTHERS_SHARE: Final = 1 / 50
"""Part of the budget that reading the CPU clocks of all other processes may take."""
COSTLY_TICK_NS: Final = 400_000_000
"""CPU time of a tick after which the clock rests for twice as long: a target does not get a core of ours."""
REST: Final = 2
TOO_COSTLY_TICK: Final = f"looking at them cost more than {TICK_S:g} s of CPU time: the rest was left out"
TOO_COSTLY_REFRESH: Final = (
    f"reading names, modules and code objects cost more than {REFRESH_S:g} s of CPU time: the rest is missing"
)
REFRESH_AGAIN_NS: Final = 10_000_000_000
"""When that is tried again."""
SILENT_READING_NS: Final = 10_000_000_000
"""A reading of the memory that is not over after so long is waiting for somebody."""

Tell = Callable[[str], None]
"""Told what a person should know about how the target is read: a sentence or two, now and then."""


class Observer(Protocol):
    """Sees what the threads of one target do. One of them serves one clock, from one thread.

    `attach` comes first and `close` last, in every case. `attach`, `observe` and `refresh` raise TargetGone
    or NoSuchProcess of a target that is gone, and MemoryReadError where something that is needed could not be
    read: the clock then finds out whether the target is still the same. What cannot be read of one thread is
    a torn stack or a gap, and raises nothing. Writing raises DiskFull and RecordingError.
    """

    @property
    def source(self) -> str:
        """Who reads the stacks, as `RecordingSettings.source` says it."""
        ...

    @property
    def no_stacks(self) -> str | None:
        """Why nobody reads them, as `RecordingSettings.no_stacks` says it."""
        ...

    @property
    def native_state(self) -> str | None:
        """How machine code is sampled, as `RecordingSettings.native` says it."""
        ...

    @property
    def native_missing(self) -> str | None:
        """Why it is not, as `RecordingSettings.native_missing` says it."""
        ...

    def attach(self, sink: RecordingSink, threads: Threads, tell: Tell) -> None:
        """Begin to use a recording; reads what does not change often for the first time."""
        ...

    def observe(self, changed: Sequence[SampledThread], tick: Tick) -> None:
        """See what the threads do that ran since they were last observed (`SampledThread.observe`).

        Called at every tick, also with none. A thread stays in `changed` at every tick until the observer
        sets its `settled`: then it is known to be off its core, and is looked at when it ran. `tick` has the
        threads that came and went since the call before; one that is found to be gone is ended by the
        observer (`Threads.end`).
        """
        ...

    def go_steadily(self, steady: Steady) -> None:
        """Take ticks for as long as there is nothing to conclude of them, or none, and say which.

        What is raised is of the last of them, and those before it are said by then. It is not called at the
        first tick.
        """
        ...

    def refresh(self, now_ns: int) -> None:
        """Once a window, before it is put together: read what changes slowly, decode what has gathered."""
        ...

    def complete(self, window: Window) -> None:
        """Add to a window what was seen in it, and write it: at once, or when the rest of it is known."""
        ...

    def finish(self) -> None:
        """The last window was completed: write what is still held back."""
        ...

    def close(self) -> None:
        """Let go of what outlives a look: processes, files."""
        ...


class Clock:
    """Samples one target into a recording until told to stop."""

    def __init__(
        self,
        options: SamplerOptions,
        process: TargetProcess,
        observer: Observer,
        descriptors: int,
        watchdog: Watchdog | None = None,
    ) -> None:
        """`descriptors` is how many files of threads may stay open; `watchdog` is told when we read."""
        self._options = options
        self._process = process
        self._observer = observer
        self._descriptors = descriptors
        capacity_cores = process.target.capacity_cores or 1.0
        cores = options.budget_cores or default_budget_cores(capacity_cores, options.rate_hz)
        scarce_cores = None
        if options.budget_cores is None and options.rate_hz <= USUAL_RATE_HZ:
            scarce_cores = scarce_budget_cores(capacity_cores)
        self._cpu_budget = CpuBudget(options.rate_hz, cores, scarce_cores=scarce_cores, burst=options.burst)
        self._capacity_cores = capacity_cores
        self._room = None if scarce_cores is None else Room()
        self._waiting_threads = 0.0
        """Of the target, for a core, in the last window."""
        self._windows = Windows(process.pid, OTHERS_SHARE * cores)
        self._end: End | None = None
        self._refresh_again_ns = 0
        self._credit_s = FIRST_CREDIT_S
        self._budget = Budget(
            process.pid,
            size_bytes=TICK_BYTES,
            calls=TICK_CALLS,
            seconds=TICK_S,
            clock=time.thread_time,
            asked_every=ASKED_EVERY,
        )
        self._reading = _Reading(watchdog)
        runtime = process.runtime if process.target.free_threaded else None
        self._memory_watch = MemoryWatch(process.pid, runtime, min(MOST_CORES, MEMORY_SHARE * cores))
        self._tell: Tell = lambda text: None
        self._told_slow = False
        self._threads: Threads | None = None
        self._halted: Halted | None = None

    def attach(self, sink: RecordingSink, tell: Tell = lambda text: None) -> None:
        """Begin to use a recording."""
        self._tell = tell
        self._threads = Threads(self._process.pid, sink, self._gaps, self._descriptors)
        self._halted = Halted(self._process.pid, sink, tell)
        with self._reading:
            self._observer.attach(LibrarySink(sink, self._process), self._threads, tell)

    def close(self) -> None:
        """Let go of what outlives a look."""
        self._memory_watch.close()
        self._observer.close()
        if self._threads is not None:
            self._threads.close()

    @property
    def _gaps(self) -> Gaps:
        return self._windows.gaps

    def run(self, wake_fd: int | None = None) -> End:
        """Sample until the target ends, the time is over, or `wake_fd` becomes readable or closes.

        Raises DiskFull and RecordingError from writing.
        """
        threads, windows = self._threads, self._windows
        assert threads is not None, "`attach` comes first"
        budget = self._cpu_budget
        period_ns = budget.period_ns
        poll = select.poll()
        poll.register(self._process.pidfd, select.POLLIN)
        if wake_fd is not None:
            poll.register(wake_fd, select.POLLIN | select.POLLHUP)
        clock = time.monotonic_ns
        start = due = clock()
        self._process.memory.budget = self._budget
        windows.begin(start)
        window_end = start + FIRST_WINDOW_NS
        early_turns = EarlyTurns()
        stop_at = None if self._options.duration_s is None else start + int(self._options.duration_s * 1e9)
        files = (self._process.pidfd, *(() if wake_fd is None else (wake_fd,)))
        while self._end is None:
            until = min(window_end, stop_at or window_end)
            due, last_ns, goes_on = self._go_steadily(threads, due, period_ns, until, files)
            if goes_on and last_ns < until:
                if due >= budget.due_ns:
                    due, period_ns = self._keep_budget(clock(), due, period_ns)
                continue
            now = last_ns
            steadily = now >= until
            if not steadily:
                now = clock()
                if now < due:
                    time.sleep((due - now) / 1e9)
                    now = clock()
                if now - due > LATE_RATIO * period_ns:
                    windows.late_ticks += 1
                    if now - due > period_ns:
                        missed = (now - due) // period_ns
                        windows.missed_ticks += missed
                        due += missed * period_ns
                due += period_ns
            for descriptor, _ in poll.poll(0):
                self._on_event(descriptor, now)
            if not steadily and self._end is None:
                began_ns = time.thread_time_ns()
                with self._reading:
                    self._tick(threads, now, last=now >= until)
                due += self._rest_after(time.thread_time_ns() - began_ns, period_ns)
            if stop_at is not None and now >= stop_at and self._end is None:
                self._end = self._process.changed_at_last(now) or End(
                    EndReason.DURATION, "the requested duration was reached", now
                )
            if budget.due(now):
                due, period_ns = self._keep_budget(now, due, period_ns)
            if now >= window_end or self._end is not None:
                self._end_window(threads, now)
                early_turns.keep()
                window_end = max(window_end, now - WINDOW_NS) + (
                    WINDOW_NS if windows.count > 1 else WINDOW_NS - FIRST_WINDOW_NS
                )
        self._observer.finish()
        return self._end

    def stop(self, reason: EndReason, detail: str) -> None:
        """Ask the loop to end after the tick it is in."""
        if self._end is None:
            self._end = End(reason, detail, time.monotonic_ns())

    def _on_event(self, descriptor: int, now: int) -> None:
        if descriptor == self._process.pidfd:
            self._end = self._process.how_it_ended(now)
        else:
            self.stop(EndReason.STOPPED, "stopped on request")

    def _rest_after(self, cost_ns: int, period_ns: int) -> int:
        """How much later the next tick is due after one that cost so much."""
        if cost_ns <= COSTLY_TICK_NS:
            return 0
        spent_s = min(self._credit_s, (cost_ns - COSTLY_TICK_NS) / 1e9)
        self._credit_s -= spent_s
        if spent_s:
            return 0
        rest = REST * cost_ns // period_ns
        self._windows.missed_ticks += rest
        return rest * period_ns

    def _go_steadily(
        self, threads: Threads, due: int, period_ns: int, until: int, files: tuple[int, ...]
    ) -> tuple[int, int, bool]:
        """Take ticks for as long as nothing is to be done at them, up to the first one at `until` or later.

        When the next one is due, when the last one was (0: none was taken), and whether the next can be one
        of these again.
        """
        windows, halted = self._windows, self._halted
        if not (windows.count or windows.ticks_ns) or halted is None or not halted.due_ns:
            return due, 0, False
        # A burst is held to its budget in between.
        last_ns = min(until, max(due, self._cpu_budget.due_ns)) if self._options.burst else until
        steady = Steady(
            len(windows.ticks_ns),
            due,
            period_ns,
            last_ns,
            int(LATE_RATIO * period_ns),
            windows.last_tick_ns,
            files,
            quiet=halted.quiet,
        )
        self._budget.renew(TICK_S, self._credit_s)
        began_ns = time.thread_time_ns()
        with self._told(due), self._reading:
            try:
                self._observer.go_steadily(steady)
            finally:
                windows.ticks_ns.extend(steady.times)
                windows.late_ticks += steady.late
                windows.missed_ticks += steady.missed
                if steady.times and steady.times[-1] >= until:
                    windows.clock_ns = steady.clock_ns
            if steady.times:
                tick = Tick(len(windows.ticks_ns) - 1, steady.times[-1], steady.before_ns)
                if steady.ran or tick.now_ns >= halted.due_ns:
                    halted.mark(threads.alive, steady.ran, tick)
                self._read_memory(threads, tick.now_ns)
        ticks = len(steady.times)
        rest = self._rest_after((time.thread_time_ns() - began_ns) // max(1, ticks), period_ns)
        last_tick_ns = steady.times[-1] if ticks else 0
        return steady.due_ns + rest, last_tick_ns, steady.goes_on and self._end is None

    @contextmanager
    def _told(self, now: int) -> Iterator[None]:
        """Note what of a target's end, or of its cost, is raised meanwhile."""
        try:
            yield
        except (TargetGone, NoSuchProcess):
            self._target_gone(now)
        except BudgetSpent:
            self._gaps["threads", TOO_COSTLY_TICK] += 1
        except MemoryReadError:
            self._gaps["stacks", "the interpreter's memory could not be read"] += 1
            self._check_identity(now)

    def _read_memory(self, threads: Threads, now: int) -> None:
        """Begin a reading of the memory, if it is time."""
        if now >= self._memory_watch.due_ns:
            self._memory_watch.begin(owners(threads), now)

    def _keep_budget(self, now: int, due: int, period_ns: int) -> tuple[int, int]:
        """When the next tick is due, and the time between ticks, by the CPU time that was used.

        Says the first time that it is longer than was asked for.
        """
        budget = self._cpu_budget
        yields = self._room is not None and scarce(
            self._room.read(now), self._waiting_threads, self._capacity_cores
        )
        if not budget.used(now, time.process_time_ns(), scarce=yields):
            return due, period_ns
        if budget.slowed and not budget.yields and not self._told_slow:
            self._told_slow = True
            self._tell(
                f"{self._options.rate_hz:g} samples per second would take more than {budget.cores:g} core:"
                f" it goes on with {budget.rate_hz:.0f}\n  --budget CORES   lets it take more"
            )
        period_ns = budget.period_ns
        return max(due, now + period_ns) if budget.slowed else min(due, now + period_ns), period_ns

    def _tick(self, threads: Threads, now: int, *, last: bool) -> None:
        windows = self._windows
        number = len(windows.ticks_ns)
        tick = Tick(number, now, windows.last_tick_ns, first=not (number or windows.count))
        windows.ticks_ns.append(now)
        self._budget.renew(TICK_S, self._credit_s)
        with self._told(now):
            threads.follow(tick)
            changed = threads.who_ran(tick)
            if tick.first or last:
                windows.read_clock(first=tick.first)
            self._observer.observe(changed, tick)
            if self._halted is not None:
                self._halted.mark(threads.alive, changed, tick)
            self._read_memory(threads, now)

    def _end_window(self, threads: Threads, now: int) -> None:
        """Complete the window that ends now and begin the next."""
        if self._end is None:
            self._refresh(now)
        if self._memory_watch.waits_ns(now) > SILENT_READING_NS:
            self._gaps["memory", "a reading of it does not come back"] += 1
        left_out = self._cpu_budget.ticks_left_out(now)
        if left_out:
            when = " while cores are scarce" if self._cpu_budget.yields else ""
            why = f"left out, to keep to a budget of {self._cpu_budget.cores:g} core{when}"
            self._gaps["ticks", why] += left_out
        window = self._windows.end(
            threads,
            gil_enabled=self._process.target.gil_enabled,
            memory=self._memory_watch.take(0.0 if self._end is None else LAST_READING_S),
        )
        if window.t1_ns > window.t0_ns:
            waited_ns = sum(max(0, one) for one in window.counters.run_queue_ns)
            self._waiting_threads = waited_ns / (window.t1_ns - window.t0_ns)
        if window.tick_ns:
            self._observer.complete(window)
        if self._windows.count % COLLECT_EVERY_WINDOWS == 1:
            gc.collect()  # automatic collection is off: it would make ticks late

    def _refresh(self, now: int) -> None:
        self._budget.renew(REFRESH_S, self._credit_s)
        try:
            with self._reading:
                if now >= self._refresh_again_ns:
                    self._observer.refresh(now)
        except (TargetGone, NoSuchProcess):
            self._target_gone(now)
            return
        except BudgetSpent:
            self._gaps["interpreter", TOO_COSTLY_REFRESH] += 1
            self._refresh_again_ns = now + REFRESH_AGAIN_NS
        except MemoryReadError:
            self._gaps["interpreter", "its memory could not be read"] += 1
        self._check_identity(now)

    def _check_identity(self, now: int) -> None:
        if self._end is None:
            self._end = self._process.changed(now)

    def _target_gone(self, now: int) -> None:
        if self._end is None:
            self._end = self._process.gone(now)


class _Reading:
    """Meanwhile the watchdog takes it that nothing but the target keeps us waiting.

    Without a generator: it is entered a hundred times a second.
    """

    __slots__ = ("_watchdog",)

    def __init__(self, watchdog: Watchdog | None) -> None:
        self._watchdog = watchdog

    def __enter__(self) -> None:
        if self._watchdog is not None:
            self._watchdog.reading = True

    def __exit__(self, *error: object) -> None:
        if self._watchdog is not None:
            self._watchdog.reading = False


def owners(threads: Threads) -> list[Owner]:
    """The threads, as the memory that is theirs is looked for."""
    return [
        Owner(
            thread.info.index,
            tid,
            thread.python[0].ident if thread.python else None,
            thread.info.main,
        )
        for tid, thread in threads.alive.items()
    ]
