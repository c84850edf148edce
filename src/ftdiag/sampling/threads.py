"""The threads of the target as the kernel has them: who came, who went, who ran.

In: /proc/PID/task and the files of each thread, at each tick. Out: `SampledThread`s with the runs of equal
observations of a window, and which of them ran since the tick before.

What a tick costs. A thread that has not been on a core since the last tick cannot have changed in any way;
its schedstat line says so, and is all that is read of it (`sources/kernel/threadlines.py`: of all threads at
once).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.model import NO_HOLDER, NO_WAIT, TORN_STACK, Confidence, ThreadInfo, ThreadState
from ftdiag.sampling.seen import Observation, Seen
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.threadlines import GONE, ThreadLines, thread_lines
from ftdiag.sources.locks.moment import LockWait
from ftdiag.sources.python.walking import PythonThread

MAX_THREADS: Final = 20_000
"""Threads that are looked at; further ones are counted as a gap."""

NEVER_NS: Final = 1 << 62
_CLOCK_MONOTONIC_COARSE: Final = 6
"""Of include/uapi/linux/time.h: its resolution is a tick of the kernel's clock."""
_SHORTEST_TICK_S: Final = 0.0005
"""Linux ticks 1,000 times a second at most; what stands in for it may have no ticks."""
_MINUS: Final = ord("-")
WITHOUT_STACK: Final = b"-1 0x0 0x0"
"""The syscall line of a thread that has ended: its kernel stack is gone (collect_syscall, lib/syscall.c)."""
NOTHING_BESIDE: Final = (-1, -1, -1)
UNREAD: Final[Observation] = (
    int(ThreadState.UNKNOWN),
    TORN_STACK,
    NO_WAIT,
    NO_HOLDER,
    int(Confidence.UNKNOWN),
)
"""Of a thread that a look did not come to, because it had cost enough."""
Gaps = Counter[tuple[str, str]]
"""What could not be read in this window: how often, by what it is and why."""


class SampledThread(Seen):
    """One thread of the target: its files, what was seen last, and the window's runs so far."""

    __slots__ = (
        "attempts",
        "base_alive_ns",
        "base_cpu_ns",
        "base_faults",
        "base_run_queue_ns",
        "beside",
        "files",
        "held",
        "info",
        "innermost",
        "lock",
        "sections",
        "seen_ns",
        "waited",
    )

    def __init__(
        self,
        info: ThreadInfo,
        files: procfs.ThreadFiles,
        now_ns: int,
        unsettled: dict[SampledThread, None] | None = None,
    ) -> None:
        """`unsettled` is where it puts itself while it is not known to be off its core."""
        super().__init__()
        self.info = info
        self.files = files
        self.syscall_fd = files.syscall_fd
        self.unsettled = {} if unsettled is None else unsettled
        self.attempts = 0
        self.unsettled[self] = None
        self.base_alive_ns = now_ns
        self.seen_ns = now_ns
        """When it was last seen alive, as of the end of the last window, or its own."""
        self.base_cpu_ns = 0
        self.base_run_queue_ns = 0
        self.base_faults: procfs.SwitchesAndFaults | None = None
        self.held: tuple[int, ...] = ()
        self.lock: LockWait | None = None
        """What it waits for, while it is parked there."""
        self.beside = NOTHING_BESIDE
        """What was last asked to be read beside its stack (`LockReader.want_beside`)."""
        self.waited: tuple[object, int, Observation] | None = None
        """The last wait that is told by system call and stack alone: these two, and what was observed."""
        self.sections: tuple[tuple[int, int], ...] | None = ()
        """Object mutexes it holds and the sections that name them; `None`: not read since it ran."""
        self.innermost: PythonThread | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known to be off its core: then nothing can have changed until it runs."""
        return self not in self.unsettled

    @settled.setter
    def settled(self, settled: bool) -> None:
        if settled:
            self.unsettled.pop(self, None)
        else:
            self.looked = False
            self.unsettled[self] = None

    def syscall_line(self) -> bytes | None:
        """What the kernel says of its system call; empty if it does not say, `None` if the thread is gone."""
        try:
            return _unless_ended(self.files.syscall())
        except OSError as error:
            return None if error.errno in GONE else b""

    def schedstat_line(self) -> bytes | None:
        """A schedstat line; `None` when the thread is gone, the one before where it cannot be read."""
        try:
            return self.files.schedstat()
        except OSError as error:
            return None if error.errno in GONE else self.schedstat


class Tick:
    """One tick of a window: its number and time, the time of the one before, and who came and went at it."""

    __slots__ = ("before_ns", "ended", "first", "now_ns", "number", "started")

    def __init__(self, number: int, now_ns: int, before_ns: int, *, first: bool = False) -> None:
        self.number = number
        self.now_ns = now_ns
        self.before_ns = before_ns
        """When the tick before was; at the first of a window, when the window began."""
        self.first = first
        """Whether it is the first of the recording: who is there now was there before us."""
        self.started: list[SampledThread] = []
        self.ended: list[SampledThread] = []


def let_wait(unsettled: dict[SampledThread, None], now_ns: int, after_ns: int) -> None:
    """Take out those that were looked at and were on no core since, but for the last one of all.

    A schedstat line changes when a thread gets a core, when it leaves it, and at each tick of the kernel's
    clock at which it has one (sched_info_arrive, update_curr in kernel/sched). One that wants to run, with a
    line that stays what it is for two of these ticks, waits for a core: what it does is known until it gets
    one. A tick costs what runs, not what wants to. One is kept so that nobody takes the program for halted.
    """
    for thread in list(unsettled):
        if len(unsettled) == 1:
            return
        if thread.looked and now_ns - thread.changed_ns >= after_ns:
            del unsettled[thread]


def waits_ns() -> int:
    """Two ticks of the kernel's clock and a little; NEVER_NS where it need not tick while a program runs, or
    where it is not known how long a tick is.
    """
    with suppress(OSError):
        if Path("/sys/devices/system/cpu/nohz_full").read_bytes().strip() not in (b"", b"(null)"):
            return NEVER_NS
    try:
        tick_s = time.clock_getres(_CLOCK_MONOTONIC_COARSE)
    except OSError:
        return NEVER_NS
    return int(2e9 * tick_s) + 1_000_000 if tick_s >= _SHORTEST_TICK_S else NEVER_NS


class Threads:
    """All threads of one target that are alive, and those that ended in this window.

    `descriptors` is how many files of theirs may stay open. While more than half of it is left, both files of
    a thread stay open, then schedstat, then none. `lines` reads them.
    """

    def __init__(
        self, pid: int, sink: RecordingSink, gaps: Gaps, descriptors: int, lines: ThreadLines | None = None
    ) -> None:
        self._pid = pid
        self._sink = sink
        self._gaps = gaps
        self._descriptors = self._descriptors_left = descriptors
        self._directory = os.open(f"/proc/{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._links = -1
        """What the directory's link count was when it was last listed: its subdirectories + 2."""
        self._next_index = 0
        self._lines: ThreadLines = thread_lines() if lines is None else lines
        self._unkept: dict[int, SampledThread] = {}
        """Those whose files do not stay open."""
        self._partly_kept = False
        """Whether there ever was a thread whose files do not all stay open."""
        self._unsettled: dict[SampledThread, None] = {}
        self.seen_ns = 0
        """When those that are alive were last seen so."""
        self.waits_ns = waits_ns()
        """See `let_wait`."""
        self.alive: dict[int, SampledThread] = {}
        """By the kernel's id."""
        self.ended: list[SampledThread] = []
        """Those that ended in the window that is under way."""

    def follow(self, tick: Tick) -> None:
        """Notice who came and went since the tick before. Raises NoSuchProcess."""
        if os.fstat(self._directory).st_nlink == self._links:
            return
        present = procfs.thread_ids(self._pid)
        for tid in set(self.alive).difference(present):
            self.end(self.alive[tid], tick)
        for tid in present:
            if tid not in self.alive:
                self._begin(tid, tick)
        self._links = len(present) + 2

    def who_ran(self, tick: Tick) -> list[SampledThread]:
        """Those that were on a core since they were last observed; those that are gone end."""
        gone: list[SampledThread] = []
        # Those that were seen on a core are in it already: that they stayed there shows in no line.
        ran = self._unsettled
        alive = self.alive
        for tid, line in self._lines.ran():
            thread = alive[tid]
            if line is None:
                gone.append(thread)
            else:
                thread.schedstat = line
                thread.changed_ns = tick.now_ns
                thread.settled = False
        for thread in self._unkept.values():
            line = thread.schedstat_line()
            if line is None:
                gone.append(thread)
            elif line != thread.schedstat:
                thread.schedstat = line
                thread.changed_ns = tick.now_ns
                thread.settled = False
        for thread in gone:
            self.end(thread, tick)
        self.seen_ns = tick.now_ns
        let_wait(ran, tick.now_ns, self.waits_ns)
        for thread in ran:
            thread.ran = True
        return list(ran)

    @property
    def steady(self) -> tuple[ThreadLines, dict[SampledThread, None], int, int, int] | None:
        """What tells who ran: the reader of lines, where it notes them, the directory of threads, its links,
        `waits_ns`.

        `None` while threads are to be found, or have files that do not stay open.
        """
        if self._unkept or self._links < 0:
            return None
        return self._lines, self._unsettled, self._directory, self._links, self.waits_ns

    def syscall_lines(self, threads: Sequence[SampledThread]) -> list[bytes | None]:
        """What the kernel says of their system calls; "" if it does not say, `None` if a thread is gone."""
        descriptors = [thread.files.syscall_fd for thread in threads]
        if self._partly_kept:
            lines = iter(self._lines.syscalls([descriptor for descriptor in descriptors if descriptor >= 0]))
            read = [next(lines) if t.files.syscall_fd >= 0 else t.syscall_line() for t in threads]
        else:
            read = self._lines.syscalls(descriptors)
        # Of a thread that has ended the line begins with -1, as of one that waits outside a system call.
        return [line if not line or line[0] != _MINUS else _unless_ended(line) for line in read]

    def end(self, thread: SampledThread, tick: Tick) -> None:
        """A thread was found to be gone."""
        if self.alive.pop(thread.info.tid, None) is None:
            return
        self._lines.forget(thread.info.tid)
        self._unkept.pop(thread.info.tid, None)
        thread.settled = True
        thread.unsettled = {}
        thread.close_run(tick.number)
        thread.observation = None
        thread.seen_ns = max(thread.seen_ns, self.seen_ns)
        self._descriptors_left += thread.files.kept
        thread.files.close()
        thread.syscall_fd = -1
        self.put(thread, replace(thread.info, ended_ns=thread.seen_ns))
        self.ended.append(thread)
        tick.ended.append(thread)
        self._links = -1  # another may have taken its place in the count

    def of_window(self) -> list[SampledThread]:
        """All that were there in this window, in the order in which they came."""
        return sorted(self.ended + list(self.alive.values()), key=lambda thread: thread.info.index)

    def idents(self) -> dict[int, int]:
        """What `threading.get_ident()` is in each thread, by its index."""
        return {thread.info.index: thread.python[0].ident for thread in self.alive.values() if thread.python}

    def put(self, thread: SampledThread, info: ThreadInfo) -> None:
        """More is known of a thread."""
        thread.info = info
        self._sink.put_thread(info)

    def close(self) -> None:
        """Close all files."""
        for thread in self.alive.values():
            thread.files.close()
        self.alive.clear()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def _begin(self, tid: int, tick: Tick) -> None:
        if len(self.alive) >= MAX_THREADS:
            self._gaps["threads", f"more than {MAX_THREADS} threads at once"] += 1
            return
        if tid == self._pid and procfs.main_thread_ended(tid):
            return  # it is listed as long as others live
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
        self._partly_kept = self._partly_kept or keep < 2
        if not keep:
            why = "looked at with more effort: the limit of open files is low (ulimit -n)"
            self._gaps["threads", why] += 1
        info = ThreadInfo(
            index=self._next_index,
            tid=tid,
            name=files.name() or f"thread {tid}",
            python=False,
            main=tid == self._pid,
            started_ns=None if tick.first else tick.now_ns,
        )
        self._next_index += 1
        thread = SampledThread(info, files, tick.now_ns, self._unsettled)
        thread.run_start = tick.number
        with suppress(OSError, ValueError, IndexError):
            thread.schedstat = files.schedstat()
            cpu, run_queue, _ = thread.schedstat.split()
            if tick.first:
                # Was there before us: what it did earlier does not count.
                thread.base_cpu_ns, thread.base_run_queue_ns = int(cpu), int(run_queue)
            else:
                # Began since the last look: all it did so far belongs to this window, and so does its time.
                lived = min(int(cpu) + int(run_queue), max(0, tick.now_ns - tick.before_ns))
                thread.base_alive_ns = tick.now_ns - lived
        if tick.first:
            thread.base_faults = files.switches_and_faults()
        else:
            thread.base_faults = procfs.SwitchesAndFaults(0, 0, 0, 0, 0)
        self.alive[tid] = thread
        if files.schedstat_fd >= 0:
            self._lines.follow(tid, files.schedstat_fd, thread)
        else:
            self._unkept[tid] = thread
        self._sink.put_thread(info)
        tick.started.append(thread)


def _unless_ended(line: bytes | None) -> bytes | None:
    """The syscall line of a thread that lives: a main thread that has ended stays as long as others live."""
    return None if line is None or line.startswith(WITHOUT_STACK) else line
