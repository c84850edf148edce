"""The clock: looks at every thread of a target at a fixed rate and writes a recording.

In: a pid and `SamplerOptions`. Out: a recording that grows by one window a second, and a few lines of JSON
on standard output that say how it goes (`started`, `error`, `ended`).
Runs in a process of its own: `python -m ftdiag.sampler`, options as JSON on standard input, which stays
open: when it closes (the parent is gone), sampling ends.

What a tick costs. A thread that has not been on a core since the last tick cannot have changed in any way;
its schedstat line says so, and is all that is read of it. Only threads that ran have their system call
read and their stack walked, all in one system call.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Final, Protocol

from ftdiag import __version__
from ftdiag.errors import (
    DiskFull,
    FtdiagError,
    MemoryReadError,
    NoSuchProcess,
    PermissionRefused,
    RecordingError,
    TargetGone,
    UnsupportedPython,
    UsageError,
)
from ftdiag.model import (
    FIRST_STACK_ID,
    NATIVE_FILE,
    NO_HOLDER,
    NO_STACK,
    NO_WAIT,
    TORN_STACK,
    Confidence,
    End,
    EndReason,
    Frame,
    Gap,
    NativeSamples,
    ProcessCounters,
    RecordingSettings,
    Runs,
    SamplerCost,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadState,
    Wait,
    Window,
)
from ftdiag.sampling.holders import Holders
from ftdiag.sampling.thread import Observation, SampledThread
from ftdiag.sources import procfs
from ftdiag.sources.exits import how_it_ended
from ftdiag.sources.interpreter import MAX_STACK_DEPTH, InterpreterReader, PythonThread
from ftdiag.sources.locks import MAX_LOCKS
from ftdiag.sources.memory import RemoteMemory
from ftdiag.sources.memorymap import MemoryWatch, Owner
from ftdiag.sources.native import NativeSample, NativeSampler
from ftdiag.sources.parkinglot import WaitEntry
from ftdiag.sources.runtime import Runtime, find_runtime
from ftdiag.sources.scheduling import go_first
from ftdiag.sources.sharedobjects import AtomicLines, SharedObjectReader
from ftdiag.sources.stoptheworld import StopTheWorldReader
from ftdiag.sources.waits import Blocked, Classified, WaitReader

SOURCES: Final = ("auto", "native", "py-spy")
MIN_RATE_HZ: Final = 1.0
MAX_RATE_HZ: Final = 1000.0
WINDOW_NS: Final = 1_000_000_000
FIRST_WINDOW_NS: Final = 250_000_000
"""The first window is short, so that a view has something to show at once."""
LATE_RATIO: Final = 0.25
"""A tick that begins later than this part of the period counts as late."""
MAX_THREADS: Final = 20_000
"""Threads that are looked at; further ones are counted as a gap."""
NAMES_EVERY_WINDOWS: Final = 10
"""Names can be changed by the program; apart from new threads they are read again this rarely."""
MATCH_ATTEMPTS: Final = 50
"""Ticks in which a new thread is looked for among the interpreter's before it counts as native."""
MAX_NATIVE_FRAMES: Final = 50_000
"""Native symbols whose frame id is remembered."""
LAST_READING_S: Final = 0.2
"""How long the end of a recording waits for a reading of the memory that is under way."""
NOT_MEASURED_PREFIX: Final = "not measured: "
_SCHEDSTAT_SIZES: Final = repeat(procfs.SCHEDSTAT_BYTES)
_STARTS: Final = repeat(0)
GONE: Final = (errno.ESRCH, errno.ENOENT)
"""What the files of a thread that has ended answer."""
THREADS_SHARE: Final = 2 / 3
"""Part of the descriptors that may be kept open which are for the files of threads, the rest is for native
samples. While more than half of it is left, both files of a thread stay open, then schedstat, then none."""


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """What to sample and where to write. `keep_*` make the recording a ring."""

    pid: int
    path: str
    rate_hz: float = 100.0
    duration_s: float | None = None
    keep_ns: int | None = None
    keep_bytes: int | None = None
    native_rate_hz: float = 199.0
    """Samples a second of machine code while a thread is on a core; 0 switches it off."""
    source: str = "auto"
    """Who reads the stacks: "native" (we), "py-spy", or "auto": py-spy for what we cannot read."""
    blocking: bool = False
    """py-spy may stop the target for each of its looks."""

    def __post_init__(self) -> None:
        """Raises UsageError for a rate or duration that makes no sense."""
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:  # also false for NaN
            raise UsageError(
                f"a rate of {self.rate_hz:g} Hz is not possible",
                f"--rate takes {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}; 100 is usual",
            )
        if self.source not in SOURCES:
            raise UsageError(
                f"there is no source {self.source!r}", f"--source takes one of {', '.join(SOURCES)}"
            )
        if not 0 <= self.native_rate_hz <= MAX_RATE_HZ:
            raise UsageError(
                f"a native rate of {self.native_rate_hz:g} Hz is not possible",
                f"--native-rate takes 0 (off) to {MAX_RATE_HZ:g}; 199 is usual",
            )
        if self.duration_s is not None and not 0 < self.duration_s <= 31_536_000:
            raise UsageError(
                f"a duration of {self.duration_s:g} s is not possible", "--duration takes seconds above 0"
            )


class RecordingSink(Protocol):
    """What the sampler needs of a recording."""

    def intern_frame(self, frame: Frame) -> int: ...
    def intern_stack(self, frame_ids: Sequence[int]) -> int: ...
    def intern_wait(self, wait: Wait) -> int: ...
    def put_thread(self, info: ThreadInfo) -> None: ...
    def update_target(self, target: Target) -> None: ...
    def write_window(self, window: Window) -> None: ...


class _Stacks:
    """The recording's table of stacks, which also tells the wait reader what new stacks look like."""

    def __init__(self, sink: RecordingSink, waits: WaitReader) -> None:
        self._sink = sink
        self._waits = waits
        self._frames: dict[int, Frame] = {}
        self.leaves = array("I")
        """Id of the innermost frame by stack id; 0 where there is none."""

    def intern_frame(self, frame: Frame) -> int:
        frame_id = self._sink.intern_frame(frame)
        self._frames[frame_id] = frame
        return frame_id

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        stack = self._sink.intern_stack(frame_ids)
        self._waits.learn_stack(stack, [self._frames[frame_id] for frame_id in reversed(frame_ids[-12:])])
        if stack >= FIRST_STACK_ID:
            if stack >= len(self.leaves):
                self.leaves.extend(bytes(stack + 1 - len(self.leaves)))
            self.leaves[stack] = frame_ids[-1]
        return stack


class Sampler:
    """Samples one target into a recording until told to stop.

    Raises AttachError (of the fitting kind) on construction when the target cannot be read.
    """

    source = "native"
    """Who reads the stacks, as recordings say it."""

    def __init__(self, options: SamplerOptions) -> None:
        self._options = options
        self._pid = options.pid
        self.tell: Callable[[str], None] = lambda text: None
        """Told what a person should know about how the target is read: a sentence or two, now and then."""
        self._memory = RemoteMemory(options.pid)
        stat = procfs.read_process_stat(options.pid)
        if stat.state in "ZX":
            raise NoSuchProcess(
                f"process {options.pid} has ended; it is a zombie that waits for its parent {stat.parent}",
                "ftdiag list   shows the Python processes",
            )
        version, free_threaded = self._open_python()
        self._pidfd = os.pidfd_open(options.pid)
        self._waits = WaitReader(options.pid, self._memory)
        self._fingerprint = self._identity()
        self._same_namespace = procfs.shares_pid_namespace(options.pid)
        cores, reason = procfs.capacity(options.pid)
        self.target = Target(
            pid=options.pid,
            start_ticks=stat.start_ticks,
            executable=procfs.read_executable(options.pid) or "?",
            command=procfs.read_command_line(options.pid),
            python_version=version,
            free_threaded=free_threaded,
            gil_enabled=None,
            capacity_cores=cores,
            capacity_reason=reason,
            environment=procfs.read_environment(options.pid),
            distribution=procfs.read_distribution(options.pid),
            machine=os.uname().machine,
        )
        self._threads: dict[int, SampledThread] = {}
        self._ended: list[SampledThread] = []
        self._next_index = 0
        self._thread_count = -1
        self._task_directory = os.open(f"/proc/{options.pid}/task", os.O_RDONLY | os.O_DIRECTORY)
        self._tick_ns = array("q")
        self._window_start_ns = 0
        self._late = self._missed = 0
        self._gaps: Counter[tuple[str, str]] = Counter()
        self._windows = 0
        self._names_wanted = True
        self._stopped: list[SampledThread] = []
        self._lock_wait_ids: dict[int, tuple[Classified, int]] = {}
        self._totals: dict[str, int | None] = {
            "machine": procfs.machine_busy_ns(),
            "throttled": procfs.throttled_ns(options.pid),
            "cpu": procfs.process_cpu_ns(options.pid),
        }
        self._end: End | None = None
        self._cpu_base_ns = 0
        self._native_counts: Counter[tuple[int, int, int, int]] = Counter()
        self._native_frames: dict[str | None, int] = {}
        free = procfs.free_descriptors()
        self._descriptors = self._descriptors_left = int(THREADS_SHARE * free)
        self._native, self.native_state = self._open_native(free - self._descriptors)
        self._memory_watch = MemoryWatch(options.pid, self._known_runtime() if free_threaded else None)

    def attach(self, sink: RecordingSink) -> None:
        """Begin to use a recording; reads what does not change often for the first time."""
        self._sink = sink
        stacks = _Stacks(sink, self._waits)
        self._interpreter = InterpreterReader(self._memory, self._runtime, stacks)
        self._atomic_lines = AtomicLines(SharedObjectReader(self._interpreter), stacks.leaves)
        self._pauses = StopTheWorldReader(self._interpreter)
        self._locks = self._waits.use(self._interpreter)
        self._locks.refresh()
        self._holders = Holders(self._locks, self._waits, self._interpreter, self._threads, self._observe)
        self._read_gil()

    def close(self) -> None:
        """Let go of what outlives a look."""
        self._memory_watch.close()

    def _open_python(self) -> tuple[str, bool]:
        """Find the interpreter; its version, and whether it is a free-threaded build."""
        self._runtime = find_runtime(self._pid, self._memory)
        return str(self._runtime.layout.version), self._runtime.layout.free_threaded

    def _known_runtime(self) -> Runtime | None:
        """The interpreter's state, if its layout is known."""
        return self._runtime

    def _open_native(self, most: int) -> tuple[NativeSampler | None, str]:
        """The sampler of machine code of at most so many threads at once, and in words how it samples or why
        it cannot."""
        if not self._options.native_rate_hz:
            return None, f"{NOT_MEASURED_PREFIX}switched off"
        try:
            native = NativeSampler(self._pid, self._options.native_rate_hz, self._runtime, most)
        except PermissionRefused as refusal:
            why = refusal.what if refusal.hint is None else f"{refusal.what} ({refusal.hint})"
            return None, f"{NOT_MEASURED_PREFIX}{why}"
        return native, native.description

    # --- the loop ---

    def run(self, wake_fd: int | None = None) -> End:
        """Sample until the target ends, the time is over, or `wake_fd` becomes readable or closes.

        Raises DiskFull and RecordingError from writing.
        """
        period_ns = int(1e9 / self._options.rate_hz)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if wake_fd is not None:
            poll.register(wake_fd, select.POLLIN | select.POLLHUP)
        clock = time.monotonic_ns
        start = clock()
        self._window_start_ns = start
        self._cpu_base_ns = time.process_time_ns()
        window_end = start + FIRST_WINDOW_NS
        stop_at = None if self._options.duration_s is None else start + int(self._options.duration_s * 1e9)
        due = start
        while self._end is None:
            now = clock()
            if now < due:
                time.sleep((due - now) / 1e9)
                now = clock()
            if now - due > LATE_RATIO * period_ns:
                self._late += 1
                if now - due > period_ns:
                    missed = (now - due) // period_ns
                    self._missed += missed
                    due += missed * period_ns
            due += period_ns
            for descriptor, _ in poll.poll(0):
                self._on_event(descriptor, now)
            if self._end is None:
                self._tick(now)
            if stop_at is not None and now >= stop_at and self._end is None:
                self._end = End(EndReason.DURATION, "the asked duration is over", now)
            if now >= window_end or self._end is not None:
                self._flush(now)
                window_end = max(window_end, now - WINDOW_NS) + (
                    WINDOW_NS if self._windows > 1 else WINDOW_NS - FIRST_WINDOW_NS
                )
        return self._end

    def stop(self, reason: EndReason, detail: str) -> None:
        """Ask the loop to end after the tick it is in."""
        if self._end is None:
            self._end = End(reason, detail, time.monotonic_ns())

    def _on_event(self, descriptor: int, now: int) -> None:
        if descriptor == self._pidfd:
            reason, detail = how_it_ended(self._pid, self._pidfd)
            self._end = End(reason, detail, now)
        else:
            self.stop(EndReason.STOPPED, "stopped on request")

    # --- one tick ---

    def _tick(self, now: int) -> None:
        tick = len(self._tick_ns)
        self._tick_ns.append(now)
        try:
            if os.fstat(self._task_directory).st_nlink != self._thread_count:
                self._update_threads(now, tick)
            ran = self._look(now, tick)
            if ran and self._native is not None:
                self._join_native(self._native.read([thread.info.tid for thread in ran]), now)
            if self._atomic_lines.due(now):
                self._name_shared(ran, now)
            if now >= self._memory_watch.due_ns:
                self._memory_watch.begin(self._owners(), now)
        except (TargetGone, NoSuchProcess):
            self._target_gone(now)
        except MemoryReadError:
            self._gaps["stacks", "the interpreter's memory could not be read"] += 1
            self._check_identity(now)

    def _look(self, now: int, tick: int) -> list[SampledThread]:
        """One tick of all threads; return those that ran since the last one."""
        changed: list[SampledThread] = []
        gone: list[SampledThread] = []
        threads = list(self._threads.values())
        lines: Iterable[bytes | None]
        try:
            # The bulk of a tick when most threads are idle: no bytecode runs between the reads.
            lines = list(map(os.pread, [t.schedstat_fd for t in threads], _SCHEDSTAT_SIZES, _STARTS))
        except OSError:
            lines = [_schedstat_of(thread) for thread in threads]
        for thread, schedstat in zip(threads, lines, strict=True):
            if schedstat is None:
                gone.append(thread)
                continue
            thread.seen_ns = now
            if schedstat == thread.schedstat and thread.settled:
                continue
            thread.schedstat = schedstat
            changed.append(thread)
        if changed:
            gone += self._observe(changed, tick)
        if gone:
            for thread in gone:
                self._thread_ended(thread, tick)
            self._thread_count = -1  # another may have taken its place in the count
        if changed or gone:
            self._holders.tell(tick)
        if self._stopped:
            self._find_requester(tick)
        return changed

    def _observe(self, changed: list[SampledThread], tick: int) -> list[SampledThread]:
        """Look closely at the threads that ran since the last tick; return those that are gone."""
        gone: list[SampledThread] = []
        walked: list[PythonThread] = []
        looked: list[tuple[SampledThread, list[PythonThread], Blocked | None]] = []
        parse = self._waits.parse
        along = self._locks.look_anew()
        for thread in changed:
            thread.ran = True
            line = self._syscall_line(thread)
            if line is None:
                gone.append(thread)
                continue
            blocked = parse(line)
            if blocked is not None and blocked.entry:
                thread.entry = blocked.entry
            place = thread.entry
            for python in thread.python:
                self._locks.want_beside(python, place)
                place = 0
            # Matching threads anew, below, changes `thread.python`; these are what was walked.
            looked.append((thread, thread.python, blocked))
            walked.extend(thread.python)
        self._holders.want(changed)
        stacks = iter(self._interpreter.walk(walked, along))
        for thread, pythons, blocked in looked:
            stack = NO_STACK
            innermost: PythonThread | None = None
            for python in pythons:
                one = next(stacks)
                # A thread can be in several interpreters; the newest that runs anything is the innermost.
                if stack == NO_STACK:
                    stack, innermost = one, python
                if one == TORN_STACK:
                    self._check_python(thread, python)
            if not thread.python and thread.attempts < MATCH_ATTEMPTS:
                self._match_later(thread)
            thread.innermost = innermost
            thread.previous_stack = thread.observation[1] if thread.observation is not None else stack
            entry = self._locks.entry_at(thread.entry)
            now_blocked = self._as_of_stacks(thread, blocked, stack, entry)
            thread.settled = now_blocked is not None and now_blocked is blocked
            self._holders.saw(thread, stack, blocked=now_blocked is not None, entry=entry)
            if now_blocked is None:
                observation = (int(ThreadState.ON_CPU), stack, NO_WAIT, NO_HOLDER, int(Confidence.UNKNOWN))
            else:
                observation = self._blocked(thread, now_blocked, stack, innermost)
            thread.observe(observation, tick)
        return gone

    def _as_of_stacks(
        self, thread: SampledThread, blocked: Blocked | None, stack: int, entry: WaitEntry | None
    ) -> Blocked | None:
        """What a thread waits for as of the moment at which stacks were read; `None` if it runs, or wants to.

        The kernel was asked before; what changed since shows in the wait entry.
        """
        if blocked is None or not blocked.entry:
            if entry is not None and entry.queued and self._holders.parks_at(stack, entry):
                return self._waits.parked_at(thread.entry)
            return blocked
        if entry is not None and (entry.queued or self._holders.parks_at(stack, entry)):
            return blocked if entry.queued else None
        # It left the place where it waited, or did not wait as CPython does.
        line = self._syscall_line(thread)
        return None if line is None else self._waits.parse(line)

    def _syscall_line(self, thread: SampledThread) -> bytes | None:
        """What the kernel says of a thread's system call; empty if it does not say, `None` if it is gone."""
        try:
            return thread.files.syscall()
        except OSError as error:
            return None if error.errno in GONE else b""

    def _blocked(
        self, thread: SampledThread, blocked: Blocked, stack: int, innermost: PythonThread | None
    ) -> Observation:
        found = self._waits.classify(blocked, stack, innermost, thread.info.tid)
        if found.lock is not None:
            wait_id = self._lock_wait_id(found, found.lock.key)
            self._holders.waits(thread, found.lock, stack)
        else:
            wait_id = NO_WAIT if found.wait is None else self._sink.intern_wait(found.wait)
        if found.state is ThreadState.STOPPED:
            self._stopped.append(thread)
        return (int(found.state), stack, wait_id, NO_HOLDER, int(Confidence.UNKNOWN))

    def _lock_wait_id(self, found: Classified, key: int) -> int:
        """The recording's id of a wait for a lock; most are what the last one for that lock was."""
        last, wait_id = self._lock_wait_ids.get(key, (None, NO_WAIT))
        if last is not found:
            wait_id = NO_WAIT if found.wait is None else self._sink.intern_wait(found.wait)
            if len(self._lock_wait_ids) >= MAX_LOCKS:
                self._lock_wait_ids.clear()
            self._lock_wait_ids[key] = found, wait_id
        return wait_id

    def _find_requester(self, tick: int) -> None:
        """Give the threads that were found stopped at this tick the one that asked for it as holder."""
        stopped = [thread for thread in self._stopped if thread.observation is not None]
        self._stopped.clear()
        by_state = {id(python): thread for thread in self._threads.values() for python in thread.python}
        states = [python for thread in self._threads.values() for python in thread.python]
        python = self._pauses.requester(states)
        if python is None:
            return
        holder = by_state[id(python)].info.index + 1
        for thread in stopped:
            assert thread.observation is not None
            state, stack, wait, before, _ = thread.observation
            if state == ThreadState.STOPPED and before != holder and thread.info.index + 1 != holder:
                thread.observe((state, stack, wait, holder, int(Confidence.KNOWN)), tick)

    # --- what the cores did ---

    def _join_native(self, samples: Sequence[NativeSample], now: int) -> None:
        """Charge each sample to the Python stack seen nearest in time: at this tick, or at the one before."""
        middle = now - self._since_last_tick(now) // 2
        counts, frames, threads = self._native_counts, self._native_frames, self._threads
        for sample in samples:
            thread = threads.get(sample.tid)
            if thread is None or thread.observation is None:
                continue
            stack = thread.observation[1] if sample.time_ns >= middle else thread.previous_stack
            frame = frames.get(sample.symbol)
            if frame is None:
                frame = self._intern_symbol(sample.symbol)
            counts[thread.info.index, stack, int(sample.state), frame] += 1

    def _name_shared(self, ran: Iterable[SampledThread], now: int) -> None:
        """Name what threads contend for on the line that one of these is in."""
        on_cpu = int(ThreadState.ON_CPU)
        self._atomic_lines.look(
            (
                (thread.observation[1], thread.innermost)
                for thread in ran
                if thread.innermost is not None
                and thread.observation is not None
                and thread.observation[0] == on_cpu
            ),
            now,
        )

    def _intern_symbol(self, symbol: str | None) -> int:
        name = "?" if symbol is None else symbol
        if len(self._native_frames) >= MAX_NATIVE_FRAMES:
            self._native_frames.clear()
        frame = self._sink.intern_frame(Frame(NATIVE_FILE, name, None))
        self._native_frames[symbol] = frame
        return frame

    def _native_window(self) -> NativeSamples | None:
        """The samples of the window that ends, and begin anew."""
        if self._native is None:
            return None
        lost = self._native.lost
        columns = NativeSamples(lost=lost, sampled_ratio=self._native.sampled_share)
        for (thread, stack, state, frame), samples in self._native_counts.items():
            columns.thread.append(thread)
            columns.stack.append(stack)
            columns.state.append(state)
            columns.frame.append(frame)
            columns.samples.append(samples)
        self._native_counts.clear()
        if lost:
            self._gaps["native samples", "dropped by the kernel: the buffer was full"] += lost
        return columns

    # --- threads that come and go ---

    def _update_threads(self, now: int, tick: int) -> None:
        present = procfs.thread_ids(self._pid)
        for tid in set(self._threads).difference(present):
            self._thread_ended(self._threads[tid], tick)
        new = [tid for tid in present if tid not in self._threads]
        for tid in new:
            self._thread_started(tid, now, tick)
        if new:
            self._match_threads()
        self._thread_count = len(present) + 2  # a directory's link count is its subdirectories + 2

    def _thread_started(self, tid: int, now: int, tick: int) -> None:
        if len(self._threads) >= MAX_THREADS:
            self._gaps["threads", f"more than {MAX_THREADS} threads at once"] += 1
            return
        left = self._descriptors_left
        keep = 2 if left > self._descriptors // 2 else int(left > 0)
        try:
            files = procfs.ThreadFiles(self._pid, tid, keep)
        except (FileNotFoundError, ProcessLookupError):
            self._gaps["threads", "ended before they could be looked at"] += 1
            return
        except OSError as error:
            self._gaps["threads", f"files could not be opened: {os.strerror(error.errno or 0)}"] += 1
            return
        self._descriptors_left -= files.kept
        if not keep:
            why = "looked at with more effort: the limit of open files is low (ulimit -n)"
            self._gaps["threads", why] += 1
        info = ThreadInfo(
            index=self._next_index,
            tid=tid,
            name=files.name() or f"thread {tid}",
            python=False,
            main=tid == self._pid,
            started_ns=now if self._windows or tick else None,
        )
        self._next_index += 1
        thread = SampledThread(info, files, now)
        thread.run_start = tick
        with suppress(OSError, ValueError, IndexError):
            thread.schedstat = files.schedstat()
            cpu, run_queue, _ = thread.schedstat.split()
            if info.started_ns is None:
                # Was there before us: what it did earlier does not count.
                thread.base_cpu_ns, thread.base_run_queue_ns = int(cpu), int(run_queue)
            else:
                # Began since the last look: all it did so far belongs to this window, and so does its time.
                lived = min(int(cpu) + int(run_queue), self._since_last_tick(now))
                thread.base_alive_ns = now - lived
        if info.started_ns is None:
            thread.base_faults = files.switches_and_faults()
        else:
            thread.base_faults = procfs.SwitchesAndFaults(0, 0, 0, 0, 0)
        self._threads[tid] = thread
        if self._native is not None:
            self._native.add_thread(tid)
        self._sink.put_thread(info)
        self._names_wanted = True

    def _owners(self) -> list[Owner]:
        """The threads, as the memory that is theirs is looked for."""
        return [
            Owner(
                thread.info.index,
                tid,
                thread.python[0].ident if thread.python else None,
                thread.info.main,
            )
            for tid, thread in self._threads.items()
        ]

    def _since_last_tick(self, now: int) -> int:
        previous = self._tick_ns[-2] if len(self._tick_ns) > 1 else self._window_start_ns
        return max(0, now - previous)

    def _thread_ended(self, thread: SampledThread, tick: int) -> None:
        if self._threads.pop(thread.info.tid, None) is None:
            return
        thread.close_run(tick)
        thread.observation = None
        self._holders.forget(thread)
        if self._native is not None:
            self._native.remove_thread(thread.info.tid)
        self._descriptors_left += thread.files.kept
        thread.files.close()
        thread.info = replace(thread.info, ended_ns=thread.seen_ns)
        self._sink.put_thread(thread.info)
        self._ended.append(thread)

    def _match_threads(self) -> None:
        """Join the interpreter's thread states to the kernel's threads by their native id."""
        states: dict[int, list[PythonThread]] = {}
        for python in self._interpreter.threads():
            states.setdefault(python.native_id, []).append(python)
        for thread in self._threads.values():
            native_id = thread.info.tid
            if not self._same_namespace:
                native_id = thread.files.namespace_tid() or -1
            found = states.get(native_id, [])
            known = {(python.address, python.native_id) for python in thread.python}
            if {(python.address, python.native_id) for python in found} != known:
                thread.python = found
                thread.settled = False
                thread.info = replace(
                    thread.info, python=True, interpreter=found[-1].interpreter if found else 0
                )
                self._sink.put_thread(thread.info)
                self._names_wanted = True

    def _match_later(self, thread: SampledThread) -> None:
        """A thread that is not Python's yet: it may be just starting, so look again for a while."""
        thread.attempts += 1
        if thread.attempts in (1, 2, 5, 10, 20, MATCH_ATTEMPTS):
            self._match_threads()

    def _check_python(self, thread: SampledThread, python: PythonThread) -> None:
        """A torn stack may mean that the thread state is no longer this thread's."""
        try:
            data = self._memory.read_word(python.address + self._runtime.layout.thread_native_id)
        except MemoryReadError:
            data = 0
        if data != python.native_id:
            thread.python = [other for other in thread.python if other is not python]
            thread.attempts = 0

    def _read_names(self) -> None:
        names = self._interpreter.thread_names()
        for thread in self._threads.values():
            name = next((names[p.ident] for p in thread.python if p.ident in names), None)
            if name is None and not thread.python:
                name = thread.files.name()
            if name is not None and name != thread.info.name:
                thread.info = replace(thread.info, name=name)
                self._sink.put_thread(thread.info)

    # --- the end of the target ---

    def _identity(self) -> tuple[str | None, bytes]:
        """What exec changes while pid and start time stay: the executable, and where things were loaded."""
        try:
            auxiliary = Path(f"/proc/{self._pid}/auxv").read_bytes()
        except OSError:
            auxiliary = b""
        return procfs.read_executable(self._pid), auxiliary

    def _check_identity(self, now: int) -> None:
        if self._end is None and self._identity() != self._fingerprint:
            if select.select([self._pidfd], [], [], 0)[0]:
                self._target_gone(now)
                return
            command = procfs.read_new_command_line(self._pid)
            self._end = End(EndReason.EXECED, f"the process replaced itself (exec): {command}", now)

    def _target_gone(self, now: int) -> None:
        if self._end is None:
            # The kernel takes threads away before it reports the exit.
            select.select([self._pidfd], [], [], 0.5)
            reason, detail = how_it_ended(self._pid, self._pidfd)
            self._end = End(reason, detail, now)

    # --- windows ---

    def _flush(self, now: int) -> None:
        """Write the window that ends now and begin the next."""
        if self._end is None:
            self._once_a_window(now)
        ticks = len(self._tick_ns)
        end_ns = self._tick_ns[-1] if ticks else now
        threads = self._ended + list(self._threads.values())
        threads.sort(key=lambda thread: thread.info.index)
        runs, counters = Runs(), ThreadCounters()
        for thread in threads:
            thread.close_run(ticks)
            thread.run_start = 0
            _append_runs(runs, thread)
            self._append_counters(counters, thread)
        cpu_ns = time.process_time_ns()
        cost = SamplerCost(
            cpu_ns=cpu_ns - self._cpu_base_ns,
            ticks=ticks,
            late_ticks=self._late,
            missed_ticks=self._missed,
            walked_stacks=self._interpreter.walked,
            torn_stacks=self._interpreter.torn,
        )
        self._cpu_base_ns = cpu_ns
        process = ProcessCounters(
            rss_bytes=procfs.rss_bytes(self._pid),
            threads=len(self._threads),
            gil_enabled=self.target.gil_enabled,
            machine_busy_ns=_at_most(
                self._difference("machine", procfs.machine_busy_ns()),
                (os.cpu_count() or 1) * max(0, end_ns - self._window_start_ns),
            ),
            throttled_ns=self._difference("throttled", procfs.throttled_ns(self._pid)),
            cpu_ns=self._difference("cpu", procfs.process_cpu_ns(self._pid)),
        )
        if self._interpreter.cut:
            why = f"deeper than {MAX_STACK_DEPTH:,} frames; the outermost ones are left out"
            self._gaps["stacks", why] += self._interpreter.cut
        shared = self._atomic_lines.window(self._native_counts, now)
        native = self._native_window()
        gaps = tuple(Gap(what, why, count) for (what, why), count in self._gaps.items())
        memory = self._memory_watch.take(0.0 if self._end is None else LAST_READING_S)
        window = Window(
            self._window_start_ns, max(end_ns, self._window_start_ns), self._tick_ns, runs, counters, cost,
            process, gaps, native, shared, memory,
        )  # fmt: skip
        if ticks:
            self._sink.write_window(window)
            self._windows += 1
        self._window_start_ns = end_ns
        self._tick_ns = array("q")
        self._late = self._missed = 0
        self._interpreter.walked = self._interpreter.torn = self._interpreter.cut = 0
        self._gaps.clear()
        self._ended.clear()
        if self._windows % 30 == 1:
            gc.collect()  # automatic collection is off: it would make ticks late

    def _difference(self, name: str, total: int | None) -> int | None:
        """What a counter that only grows gained since the last window; `None` the first time."""
        before, self._totals[name] = self._totals.get(name), total
        return None if total is None or before is None else max(0, total - before)

    def _once_a_window(self, now: int) -> None:
        try:
            self._locks.refresh(self._holders.waited_for)
            if self._native is not None:
                self._native.refresh()
            stale = self._interpreter.recheck_codes()
            if stale:
                self._gaps["code", "code objects were freed; lines seen between may be wrong"] += stale
            if any(not thread.python and thread.ran for thread in self._threads.values()):
                self._match_threads()
            if self._names_wanted or self._windows % NAMES_EVERY_WINDOWS == 0:
                self._names_wanted = False
                self._read_names()
            self._read_gil()
        except (TargetGone, NoSuchProcess):
            self._target_gone(now)
            return
        except MemoryReadError:
            self._gaps["interpreter", "its memory could not be read"] += 1
        self._check_identity(now)

    def _read_gil(self) -> None:
        enabled = self._interpreter.gil_enabled()
        if enabled != self.target.gil_enabled:
            culprits = self._interpreter.gil_culprits() if enabled else ()
            self.target = replace(self.target, gil_enabled=enabled, gil_culprits=culprits)
            self._sink.update_target(self.target)

    def _append_counters(self, counters: ThreadCounters, thread: SampledThread) -> None:
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


def _schedstat_of(thread: SampledThread) -> bytes | None:
    """A schedstat line; `None` when the thread is gone, the one before where it cannot be read."""
    try:
        return thread.files.schedstat()
    except OSError as error:
        return None if error.errno in GONE else thread.schedstat


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


# --- the process ---


def open_sampler(options: SamplerOptions) -> Sampler:
    """Our sampler for a target, or the one with py-spy's stacks: if asked for, or if ours cannot read it.

    Raises AttachError.
    """
    if options.source != "py-spy":
        try:
            return Sampler(options)
        except UnsupportedPython:
            if options.source == "native":
                raise
    from ftdiag.sampling.external import ExternalSampler

    return ExternalSampler(options)


def sample(options: SamplerOptions, *, wake_fd: int | None = None) -> End:
    """Attach, sample into `options.path` until the end, finish the recording.

    Calls back on standard output as the module's docstring says. Raises AttachError, RecordingError,
    DiskFull.
    """
    from ftdiag.recording.writer import RecordingWriter

    procfs.raise_descriptor_limit()
    sampler = open_sampler(options)
    sampler.tell = lambda text: _say({"event": "note", "text": text})
    settings = RecordingSettings(
        rate_hz=options.rate_hz,
        started_ns=time.monotonic_ns(),
        started_unix_ns=time.time_ns(),
        ftdiag_version=__version__,
        host=socket.gethostname(),
        source=sampler.source,
        native=sampler.native_state,
    )
    writer = RecordingWriter(
        Path(options.path),
        sampler.target,
        settings,
        keep_ns=options.keep_ns,
        keep_bytes=options.keep_bytes,
    )
    try:
        sampler.attach(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sampler.stop(EndReason.STOPPED, "stopped on request"))
        _say({"event": "started", "target": asdict(sampler.target)})
        gc.collect()
        gc.freeze()
        gc.disable()
        go_first()
        try:
            end = sampler.run(wake_fd)
        except DiskFull as error:
            end = End(EndReason.DISK_FULL, error.what, time.monotonic_ns())
            with suppress(DiskFull, RecordingError):
                writer.finish(end)
            raise
        writer.finish(end)
    finally:
        sampler.close()
        writer.close()
    return end


def _say(message: Mapping[str, object]) -> None:
    """One line of JSON for the parent. A parent that is gone is noticed elsewhere."""
    with suppress(BrokenPipeError, OSError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Entry point of the sampler's process: options as one line of JSON on standard input."""
    try:
        options = SamplerOptions(**json.loads(sys.stdin.readline()))
        end = sample(options, wake_fd=sys.stdin.fileno())
    except FtdiagError as error:
        kind = type(error).__name__
        _say({"event": "error", "kind": kind, "what": error.what, "hint": error.hint})
        return error.exit_status
    _say({"event": "ended", "reason": end.reason.value, "detail": end.detail})
    return 0


if __name__ == "__main__":
    sys.exit(main())
