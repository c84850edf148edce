"""Builders of recordings for tests: a few readable lines that go through the real `RecordingWriter`.

In: what threads did, as sequences of `spent(...)`, one sequence a thread and a window.
Out: a recording file, closed or still open, that every reader, view and report can use.

    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    builder.window({
        "worker-1": [spent(6, "on_cpu", at="app.py:10 work < app.py:3 main")],
        "worker-2": [spent(4, "lock", at="app.py:9 work", lock="self._lock", holder="worker-1"),
                     spent(2, "on_cpu", at="app.py:10 work")],
    })
    with builder.open() as recording: ...

Time: the first window starts at `START_NS`; a window lasts as many ticks as its longest thread has.
The kernel's counters follow from the samples unless `counters={"worker-1": counted(...)}` says
otherwise: on-CPU ticks are CPU time, `runnable` ticks run-queue time.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftdiag.model import (
    NATIVE_FILE,
    NO_HOLDER,
    NO_STACK,
    NO_WAIT,
    Collections,
    Confidence,
    End,
    EndReason,
    Frame,
    Gap,
    Library,
    LockKind,
    LockRef,
    MemoryKind,
    MemoryReading,
    NativeSamples,
    ProcessCounters,
    RecordingSettings,
    Runs,
    SamplerCost,
    SharedObject,
    SharedPlace,
    Stack,
    StateGroup,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadMemory,
    ThreadState,
    UpdateSight,
    Wait,
    Window,
)
from ftdiag.recording.writer import RecordingWriter

if TYPE_CHECKING:
    from ftdiag.analysis.standing import Stands
    from ftdiag.recording.reader import Recording
    from ftdiag.session import Session

START_NS: Final = 5_000_000_000_000
"""CLOCK_MONOTONIC time at which built recordings start."""
START_UNIX_NS: Final = 1_760_000_000_000_000_000
"""Wall-clock time of `START_NS`."""
FIRST_TID: Final = 4101
_LOCK_KINDS: Final[Mapping[ThreadState, LockKind]] = {
    ThreadState.LOCK: LockKind.USER,
    ThreadState.OBJECT_LOCK: LockKind.OBJECT,
    ThreadState.RUNTIME_LOCK: LockKind.RUNTIME,
    ThreadState.NATIVE_LOCK: LockKind.NATIVE,
    ThreadState.GIL: LockKind.GIL,
}


def a_target(
    *,
    pid: int = 4100,
    python_version: str = "3.14.0",
    free_threaded: bool = True,
    gil_enabled: bool | None = False,
    gil_culprits: tuple[str, ...] = (),
    command: str = "python app.py",
    capacity_cores: float | None = 4.0,
    capacity_reason: str | None = "CPU affinity: 4 of 4 cores",
    libraries: tuple[Library, ...] = (),
) -> Target:
    """A target with everything known, four cores wide."""
    return Target(
        pid=pid,
        start_ticks=123456,
        executable="/usr/bin/python3.14t",
        command=command,
        python_version=python_version,
        free_threaded=free_threaded,
        gil_enabled=gil_enabled,
        gil_culprits=gil_culprits,
        capacity_cores=capacity_cores,
        capacity_reason=capacity_reason,
        capacity_quota="quota" in (capacity_reason or ""),
        libraries=libraries,
    )


def a_stack(text: str) -> Stack:
    """A stack from text, leaf first: "app.py:10 work < app.py:3 main". "?" for an unknown line."""
    frames: list[Frame] = []
    for part in text.split(" < "):
        place, function = part.split(" ", 1)
        filename, line = place.rsplit(":", 1)
        frames.append(Frame(filename, function, None if line == "?" else int(line)))
    return tuple(frames)


def a_lock(
    label: str | None = "self._lock",
    *,
    kind: LockKind = LockKind.USER,
    address: int | None = None,
    type_name: str | None = "_thread.lock",
) -> LockRef:
    """A lock; locks of the same label have the same address unless one is given."""
    if address is None:
        address = 0x7F00_0000_0000 + 16 * sum(ord(c) * (i + 1) for i, c in enumerate(label or "?"))
    return LockRef(address, kind, type_name, label)


def a_reading(
    kinds: Mapping[MemoryKind, int],
    threads: Mapping[int, tuple[int, int]] | None = None,
    *,
    at_ns: int = START_NS,
    **known: int | Mapping[str, str] | None,
) -> MemoryReading:
    """A reading of the memory in MiB by kind; `threads` has (stack, heap) in KiB by index, -1: not known."""
    columns = ThreadMemory()
    for index, (stack, heap) in (threads or {}).items():
        columns.thread.append(index)
        columns.stack_bytes.append(stack << 10 if stack >= 0 else -1)
        columns.heap_bytes.append(heap << 10 if heap >= 0 else -1)
    sizes = {kind: size << 20 for kind, size in kinds.items()}
    reading = MemoryReading(at_ns, 1_000_000, rss_bytes=sum(sizes.values()), kinds=sizes, by_thread=columns)
    return replace(reading, **known)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Spent:
    """A run of ticks in which a thread did one thing. Made by `spent` and `absent`."""

    ticks: int
    state: ThreadState | None
    stack: Stack | int = NO_STACK
    wait: Wait | None = None
    holder: str | None = None
    confidence: Confidence = Confidence.UNKNOWN


def spent(
    ticks: int,
    state: ThreadState | str,
    *,
    at: str | Stack | int = NO_STACK,
    lock: LockRef | str | None = None,
    holder: str | None = None,
    confidence: Confidence = Confidence.KNOWN,
    free: bool = False,
    syscall: str | None = None,
    detail: str | None = None,
) -> Spent:
    """`ticks` ticks in `state` at a stack (text of `a_stack`, a `Stack`, or a reserved stack id).

    A `lock` given as a label gets the kind that fits the state, and "futex" as the system call.
    """
    state = ThreadState[state.upper()] if isinstance(state, str) else state
    if isinstance(lock, str):
        lock = a_lock(lock, kind=_LOCK_KINDS.get(state, LockKind.USER))
    if lock is not None and syscall is None:
        syscall = "futex"
    wait = Wait(syscall, detail, lock) if (syscall or detail or lock) else None
    stack = a_stack(at) if isinstance(at, str) else at
    if holder is None:
        confidence = Confidence.KNOWN if free else Confidence.UNKNOWN
    return Spent(ticks, state, stack, wait, holder, confidence)


def absent(ticks: int) -> Spent:
    """`ticks` ticks at which the thread was not there."""
    return Spent(ticks, None)


@dataclass(frozen=True, slots=True)
class Counted:
    """The kernel's counters of one thread in one window; `None` means "as the samples say"."""

    alive_ns: int | None = None
    cpu_ns: int | None = None
    run_queue_ns: int | None = None
    voluntary_switches: int = 5
    involuntary_switches: int = 1
    minor_faults: int = 0
    major_faults: int = 0
    migrations: int = -1


def counted(
    *,
    alive_ns: int | None = None,
    cpu_ns: int | None = None,
    run_queue_ns: int | None = None,
    voluntary_switches: int = 5,
    involuntary_switches: int = 1,
    minor_faults: int = 0,
    major_faults: int = 0,
    migrations: int = -1,
) -> Counted:
    """Counters that differ from what the samples say."""
    return Counted(
        alive_ns,
        cpu_ns,
        run_queue_ns,
        voluntary_switches,
        involuntary_switches,
        minor_faults,
        major_faults,
        migrations,
    )


class RecordingBuilder:
    """Builds one recording, window by window. Every method that adds something returns the builder."""

    def __init__(
        self,
        path: Path,
        *,
        target: Target | None = None,
        rate_hz: float = 100.0,
        keep_ns: int | None = None,
        keep_bytes: int | None = None,
        native: str | None = None,
    ) -> None:
        self.path = path
        self.target = target or a_target()
        self.rate_hz = rate_hz
        self.settings = RecordingSettings(
            rate_hz=rate_hz,
            started_ns=START_NS,
            started_unix_ns=START_UNIX_NS,
            ftdiag_version="0.1.0",
            host="testhost",
            native=native,
        )
        self.now_ns = START_NS
        self._writer = RecordingWriter(
            path, self.target, self.settings, keep_ns=keep_ns, keep_bytes=keep_bytes
        )
        self._threads: dict[str, ThreadInfo] = {}
        self._open: Recording | None = None
        self._closed = False

    @property
    def period_ns(self) -> int:
        """Time between two ticks."""
        return int(1e9 / self.rate_hz)

    def thread(
        self,
        name: str,
        *,
        tid: int | None = None,
        python: bool = True,
        main: bool | None = None,
        shown_name: str | None = None,
        lived_ns: int | None = None,
    ) -> RecordingBuilder:
        """Declares a thread (or changes it). Undeclared threads are declared at their first window.

        `name` is how the test speaks of it; `shown_name` what the recording says, if different.
        """
        known = self._threads.get(name)
        index = known.index if known else len(self._threads)
        info = ThreadInfo(
            index=index,
            tid=tid if tid is not None else FIRST_TID + index,
            name=name if shown_name is None else shown_name,
            python=python,
            main=(name == "main") if main is None else main,
            started_ns=self.now_ns,
            ended_ns=None if lived_ns is None else self.now_ns + lived_ns,
        )
        self._threads[name] = info
        self._writer.put_thread(info)
        return self

    def index(self, name: str) -> int:
        """The recording's index of a thread."""
        return self._threads[name].index

    def window(
        self,
        threads: Mapping[str, Sequence[Spent]] | None = None,
        *,
        counters: Mapping[str, Counted | None] | None = None,
        gaps: Sequence[Gap] = (),
        ticks: int | None = None,
        length_ns: int | None = None,
        cost: SamplerCost | None = None,
        process: ProcessCounters | None = None,
        native: Sequence[tuple[str | None, str, str, str, int]] | None = None,
        shared: Sequence[tuple[str, SharedObject]] = (),
        memory: MemoryReading | None = None,
        collections: Collections | None = None,
        updates: Sequence[tuple[SharedPlace, str, str, dict[str, Any]]] | None = None,
    ) -> RecordingBuilder:
        """Appends a window. `counters={name: None}` leaves a thread's counters out.

        `native` has (thread, stack, state, symbol, samples), with no thread for what no tick saw, `shared`
        (line as in a stack, object), `updates` (place, thread, stack, fields of its `UpdateSight`).
        """
        threads = threads or {}
        counters = counters or {}
        for name in [*threads, *counters]:
            if name not in self._threads:
                self.thread(name)
        longest = max((sum(part.ticks for part in parts) for parts in threads.values()), default=0)
        ticks = longest if ticks is None else ticks
        length_ns = ticks * self.period_ns if length_ns is None else length_ns
        t0_ns = self.now_ns
        self.now_ns += length_ns
        window = Window(
            t0_ns=t0_ns,
            t1_ns=self.now_ns,
            tick_ns=array("q", (t0_ns + tick * self.period_ns for tick in range(ticks))),
            runs=self._runs(threads),
            counters=self._counters(threads, counters),
            cost=cost
            or SamplerCost(
                cpu_ns=length_ns // 50,
                ticks=ticks,
                late_ticks=0,
                missed_ticks=0,
                walked_stacks=ticks,
                torn_stacks=0,
            ),
            process=process or ProcessCounters(rss_bytes=64 << 20, threads=len(threads)),
            gaps=tuple(gaps),
            native=None if native is None else self._native(native),
            shared=tuple((self._writer.intern_frame(a_stack(line)[0]), one) for line, one in shared),
            memory=memory,
            collections=collections,
            updates=None if updates is None else tuple(self._update(*one) for one in updates),
        )
        self._writer.write_window(window)
        return self

    def pause(self, length_ns: int) -> RecordingBuilder:
        """Leaves a hole in the recording before the next window."""
        self.now_ns += length_ns
        return self

    def end(
        self, reason: EndReason = EndReason.DURATION, detail: str = "the duration asked for is over"
    ) -> RecordingBuilder:
        """Writes how the recording ended and closes it."""
        self._writer.finish(End(reason, detail, self.now_ns))
        self.close()
        return self

    def update_target(self, **changes: object) -> RecordingBuilder:
        """Changes the target in the middle of the recording (e.g. `gil_enabled=True`)."""
        self.target = replace(self.target, **changes)  # type: ignore[arg-type]
        self._writer.update_target(self.target)
        return self

    def open(self) -> Recording:
        """The recording, as a reader sees it now; more windows may be added and seen by `refresh`."""
        from ftdiag.recording.reader import Recording

        if self._open is None:
            self._open = Recording.open(self.path)
        else:
            self._open.refresh()
        return self._open

    def session(self) -> Session:
        """A session on the recording as it is now."""
        from ftdiag.session import Session

        return Session(self.open())

    def close(self) -> None:
        """Closes the writer; the file stays."""
        if not self._closed:
            self._closed = True
            self._writer.close()

    def _runs(self, threads: Mapping[str, Sequence[Spent]]) -> Runs:
        runs = Runs()
        for name in sorted(threads, key=self.index):
            tick = 0
            for part in threads[name]:
                if part.state is not None and part.ticks:
                    runs.thread.append(self.index(name))
                    runs.first_tick.append(tick)
                    runs.ticks.append(part.ticks)
                    runs.state.append(int(part.state))
                    runs.stack.append(self._stack_id(part.stack))
                    runs.wait.append(self._writer.intern_wait(part.wait) if part.wait else NO_WAIT)
                    runs.holder.append(self._holder(part.holder))
                    runs.confidence.append(int(part.confidence))
                tick += part.ticks
        return runs

    def _native(self, samples: Sequence[tuple[str | None, str, str, str, int]]) -> NativeSamples:
        columns = NativeSamples()
        for name, stack, state, symbol, count in samples:
            if name is None:
                columns.unseen_state.append(int(ThreadState[state.upper()]))
                columns.unseen_frame.append(self._writer.intern_frame(Frame(NATIVE_FILE, symbol, None)))
                columns.unseen_samples.append(count)
                continue
            columns.thread.append(self.index(name))
            columns.stack.append(self._stack_id(a_stack(stack)))
            columns.state.append(int(ThreadState[state.upper()]))
            columns.frame.append(self._writer.intern_frame(Frame(NATIVE_FILE, symbol, None)))
            columns.samples.append(count)
        return columns

    def _update(self, place: SharedPlace, name: str, stack: str, more: Mapping[str, Any]) -> UpdateSight:
        """`more` are fields of `UpdateSight`; `other` is a thread's name, `other_stack` a stack in words."""
        other = more.get("other")
        return UpdateSight(
            place,
            self.index(name),
            self._stack_id(a_stack(stack)),
            more.get("guards", ()),
            more.get("count", 1),
            more.get("guard_label"),
            more.get("check", False),
            -1 if other is None else self.index(other),
            0 if other is None else self._stack_id(a_stack(more.get("other_stack", stack))),
        )

    def _holder(self, name: str | None) -> int:
        if name is None:
            return NO_HOLDER
        if name not in self._threads:
            self.thread(name)
        return self.index(name) + 1

    def _stack_id(self, stack: Stack | int) -> int:
        if isinstance(stack, int):
            return stack
        return self._writer.intern_stack([self._writer.intern_frame(frame) for frame in reversed(stack)])

    def _counters(
        self, threads: Mapping[str, Sequence[Spent]], given: Mapping[str, Counted | None]
    ) -> ThreadCounters:
        columns = ThreadCounters()
        for name in sorted({*threads, *given}, key=self.index):
            counter = given.get(name, Counted())
            if counter is None:
                continue
            parts = [part for part in threads.get(name, ()) if part.state is not None]
            alive = sum(part.ticks for part in parts) * self.period_ns
            cpu = self._ticks_of(parts, StateGroup.ON_CPU) * self.period_ns
            queue = self._ticks_of(parts, StateGroup.RUN_QUEUE) * self.period_ns
            columns.thread.append(self.index(name))
            columns.alive_ns.append(alive if counter.alive_ns is None else counter.alive_ns)
            columns.cpu_ns.append(cpu if counter.cpu_ns is None else counter.cpu_ns)
            columns.run_queue_ns.append(queue if counter.run_queue_ns is None else counter.run_queue_ns)
            columns.voluntary_switches.append(counter.voluntary_switches)
            columns.involuntary_switches.append(counter.involuntary_switches)
            columns.minor_faults.append(counter.minor_faults)
            columns.major_faults.append(counter.major_faults)
            columns.migrations.append(counter.migrations)
        return columns

    @staticmethod
    def _ticks_of(parts: Sequence[Spent], group: StateGroup) -> int:
        return sum(part.ticks for part in parts if part.state is not None and part.state.group is group)


def stands(session: Session, *, stuck_ns: float = 10e9) -> Stands:
    """What stands at the last tick, by a new look at all recent windows."""
    from ftdiag.analysis.standing import StandingLook

    ranges = session._ranges
    first, last = ranges.recent()
    look = StandingLook(session.recording, ranges.numbers, stuck_ns)
    return look.at(first, last, ranges.locks_known(), ranges.periods(first, last))
