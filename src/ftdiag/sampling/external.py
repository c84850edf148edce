"""The sampler for a target whose interpreter we do not read: the kernel's side is ours, stacks are py-spy's.

In: a pid, and `SamplerOptions`. Out: the same recording, a second or two later: a window is written when
py-spy's take of that time has come. States by system call, the run queue and CPU time are exact as always.
Without py-spy (not installed, refused, hanging, of another kind) the kernel's side goes on alone.

How stacks and states are joined. py-spy looks at moments of its own. A thread that has not been on a core
since has the stack of the last look; a thread that ran gets the look that is nearest in time, which is on
average half a period away. What a thread in a futex waits for is told only where the standard library's
frames say so, and where the futex lies in the interpreter's own static memory: in a GIL build nothing waits
there but for the GIL (Python/ceval_gil.c: the mutexes and conditions of `struct _gil_runtime_state` are part
of `_PyRuntime`; locks of programs are allocated).
"""

from __future__ import annotations

import resource
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from ftdiag.errors import FtdiagError, MemoryReadError, NoSuchProcess, TargetGone, UnsupportedPython
from ftdiag.model import (
    NO_HOLDER,
    NO_STACK,
    NO_STACKS_PREFIX,
    NO_WAIT,
    TORN_STACK,
    Confidence,
    End,
    Frame,
    Gap,
    LockKind,
    LockRef,
    Runs,
    SharedObject,
    Stack,
    Target,
    ThreadInfo,
    ThreadState,
    Wait,
    Window,
)
from ftdiag.sampler import NOT_MEASURED_PREFIX, RecordingSink, Sampler, SamplerOptions
from ftdiag.sampling.holders import Holders
from ftdiag.sampling.thread import Observation, SampledThread
from ftdiag.sources import pyspy
from ftdiag.sources.interpreter import InterpreterReader
from ftdiag.sources.native import NativeSampler
from ftdiag.sources.pyspy import PySpy, PySpyFailed, Take, TakenThread, ThreadIds
from ftdiag.sources.runtime import Runtime, find_runtime, find_runtime_header, old_python, static_memory
from ftdiag.sources.sharedobjects import AtomicLines
from ftdiag.sources.syscalls import Blocking
from ftdiag.sources.waitpoints import library_wait
from ftdiag.sources.waits import Blocked

HOLD_NS: Final = 15_000_000_000
"""A window waits so long at most for its stacks."""
LOOKS_PER_TICK: Final = 2
"""py-spy looks at random moments (intervals are exponential): at the rate of ticks more than a third of them
would get a look that another one has had, and shares would be less exact than their number says."""
DRAIN_S: Final = 4.0
"""At the end, so long at most for the take that was under way."""
LONGEST_HOLE_PERIODS: Final = 5
"""After so many periods between two takes it is not known any more what a thread did."""
MAX_STACKS: Final = 200_000
"""Stacks whose id is remembered."""
NOT_TOLD: Final = "a lock, a condition or an event"
FIRST_QUALIFIED: Final = (3, 11)
"""From this version on code objects know their qualified name (co_qualname), which is what py-spy tells."""

# What the stack still decides about a wait, kept in the holder's column until the stack is there.
_SETTLED, _FUTEX, _READINESS, _SLEEP, _SIGNAL = range(5)
_OPEN_KINDS: Final = {
    Blocking.FUTEX: _FUTEX,
    Blocking.READINESS: _READINESS,
    Blocking.SLEEP: _SLEEP,
    Blocking.SIGNAL_OR_CHILD: _SIGNAL,
}


@dataclass(slots=True)
class _Course:
    """Since when a thread was in which stack; ascending."""

    times_ns: array[int] = field(default_factory=lambda: array("q"))
    stacks: array[int] = field(default_factory=lambda: array("I"))

    def add(self, times_ns: Sequence[int], stacks: Sequence[int]) -> None:
        """A newer take, which counts from its beginning on."""
        keep = bisect_left(self.times_ns, times_ns[0])
        del self.times_ns[keep:], self.stacks[keep:]
        self.times_ns.extend(times_ns)
        self.stacks.extend(stacks)

    def at(self, time_ns: int) -> int | None:
        """The stack at a time; `None` before the first look."""
        place = bisect_right(self.times_ns, time_ns) - 1
        return self.stacks[place] if place >= 0 else None

    def forget(self, before_ns: int) -> None:
        """Drop what is not needed for times from `before_ns` on."""
        place = bisect_right(self.times_ns, before_ns) - 1
        if place > 0:
            del self.times_ns[:place], self.stacks[:place]


class _Windows:
    """The recording, but for windows: they are kept back until their stacks are there."""

    def __init__(self, sink: RecordingSink) -> None:
        self._sink = sink
        self.kept: deque[Window] = deque()
        self.waits: dict[int, Wait] = {NO_WAIT: Wait(None)}

    def intern_frame(self, frame: Frame) -> int:
        return self._sink.intern_frame(frame)

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        return self._sink.intern_stack(frame_ids)

    def intern_wait(self, wait: Wait) -> int:
        wait_id = self._sink.intern_wait(wait)
        self.waits[wait_id] = wait
        return wait_id

    def put_thread(self, info: ThreadInfo) -> None:
        self._sink.put_thread(info)

    def update_target(self, target: Target) -> None:
        self._sink.update_target(target)

    def write_window(self, window: Window) -> None:
        self.kept.append(window)

    def release(self, window: Window) -> None:
        """Write a window whose stacks are there."""
        self._sink.write_window(window)


class _NoInterpreter(InterpreterReader):
    """Stands for the reader of an interpreter that we do not read."""

    def __init__(self) -> None:
        self.walked = self.torn = self.cut = 0


class _NoHolders(Holders):
    """Stands for the knowledge of who holds what, of which there is none."""

    def __init__(self) -> None:
        pass

    def forget(self, thread: SampledThread) -> None:
        pass

    def tell(self, tick: int) -> None:
        pass


class _NoAtomicLines(AtomicLines):
    """Stands for the names of shared objects, which are not looked for."""

    def __init__(self) -> None:
        pass

    def due(self, now_ns: int) -> bool:
        return False

    def window(self, counts: object, now_ns: int) -> tuple[tuple[int, SharedObject], ...]:
        return ()


class ExternalSampler(Sampler):
    """Samples a target with the kernel's accounting and, where it can be had, py-spy's stacks."""

    def __init__(self, options: SamplerOptions) -> None:
        self._spy: PySpy | None = None
        self._problem: str | None = None
        self._remedy: str | None = None
        super().__init__(options)
        self._ids = ThreadIds(self._memory)
        self._static = static_memory(options.pid)
        self._courses: dict[int, _Course] = {}
        self._left: dict[int, int] = {}
        self._serial = 0
        self._covered_ns = 0
        self._stack_ids: dict[Stack, int] = {}
        self._library_waits: dict[int, str] = {}
        self._child_cpu_ns = 0
        self._look_lag_ns = 0
        self._period_ns = int(1e9 / options.rate_hz)
        self.source = self._open_spy()

    def _open_spy(self) -> str:
        """Begin with py-spy, unless it has been found that it cannot; who reads the stacks."""
        if self._problem is not None:
            return f"{NO_STACKS_PREFIX}{self._problem}"
        rate_hz = LOOKS_PER_TICK * self._options.rate_hz
        self._look_lag_ns = int(0.5e9 / rate_hz)
        self._spy = PySpy(self._pid, rate_hz, blocking=self._options.blocking)
        return "py-spy"

    # --- what is set up otherwise ---

    def _open_python(self) -> tuple[str, bool]:
        version, free_threaded = old_python(self._pid) or "?", False
        try:
            header = find_runtime_header(self._pid, self._memory)
            version, free_threaded = str(header.version), header.free_threaded
        except UnsupportedPython:
            pass  # py-spy may read it nevertheless
        try:
            version = pyspy.probe(self._pid).python_version
        except PySpyFailed as failure:
            self._problem = failure.what
            self._remedy = failure.hint
        return version, free_threaded

    def _known_runtime(self) -> Runtime | None:
        try:
            return find_runtime(self._pid, self._memory)
        except FtdiagError:
            return None

    def _open_native(self, most: int) -> tuple[NativeSampler | None, str]:
        who = "py-spy reads its stacks" if self._problem is None else "its stacks are not read"
        return None, f"{NOT_MEASURED_PREFIX}machine code is not joined to Python lines where {who}"

    def attach(self, sink: RecordingSink) -> None:
        """Begin to use a recording."""
        self._windows_kept = _Windows(sink)
        self._sink = self._windows_kept
        self._interpreter = _NoInterpreter()
        self._atomic_lines = _NoAtomicLines()
        self._holders = _NoHolders()
        self._gil_wait = Wait("futex", None, LockRef(self._static[0], LockKind.GIL, None, "the GIL"))
        if not self.target.free_threaded:
            self.target = replace(self.target, gil_enabled=True)
            sink.update_target(self.target)
        if self._problem is not None:
            self.tell(
                f"stacks are not measured: {self._problem}. What the kernel knows of its threads is recorded."
                + (f"\n{self._remedy}" if self._remedy else "")
            )
        elif self._options.blocking:
            self.tell(
                "py-spy stops the process for each of its looks (--blocking): it runs slower meanwhile, the"
                " more so the more threads it has"
            )

    def close(self) -> None:
        """End py-spy."""
        super().close()
        if self._spy is not None:
            self._spy.close()

    # --- the loop ---

    def run(self, wake_fd: int | None = None) -> End:
        """As `Sampler.run`; ends when the last stacks are there."""
        self._child_cpu_ns = _children_cpu_ns()
        self._covered_ns = time.monotonic_ns()
        end = super().run(wake_fd)
        self._drain()
        return end

    def _tick(self, now: int) -> None:
        super()._tick(now)
        if self._spy is not None and self._end is None:
            self._go_on(self._spy, now)
        self._release(now)

    def _go_on(self, spy: PySpy, now: int) -> None:
        for take in spy.step(now):
            self._accept(take)
        if spy.given_up and self._problem is None:
            self._problem = spy.problem or "py-spy failed"
            self.tell(f"stacks are not measured any more: {self._problem}. The kernel's side goes on.")

    def _drain(self) -> None:
        """Wait for the takes that are under way, then write what was kept back."""
        spy = self._spy
        if spy is not None:
            spy.stop()
            deadline = time.monotonic() + DRAIN_S
            while spy.waiting and time.monotonic() < deadline:
                for take in spy.step(time.monotonic_ns()):
                    self._accept(take)
                time.sleep(0.005)
            spy.close()
        self._release(None)

    # --- one tick ---

    def _observe(self, changed: list[SampledThread], tick: int) -> list[SampledThread]:
        """What the kernel says of the threads that ran since the last tick; those that are gone."""
        gone: list[SampledThread] = []
        for thread in changed:
            thread.ran = True
            line = self._syscall_line(thread)
            if line is None:
                gone.append(thread)
                continue
            blocked = self._waits.parse(line)
            thread.settled = blocked is not None
            # Each look at a thread that ran is a run of its own: its stack may have changed.
            self._serial = (self._serial + 1) & 0xFFFF_FFFF
            thread.observe(self._seen(blocked, thread.info.tid), tick)
        return gone

    def _seen(self, blocked: Blocked | None, tid: int) -> Observation:
        """State, number of the look, wait, what the stack still decides, 0."""
        if blocked is None:
            return int(ThreadState.ON_CPU), self._serial, NO_WAIT, _SETTLED, 0
        kind = _SETTLED if blocked.info is None else _OPEN_KINDS.get(blocked.info.blocking, _SETTLED)
        if kind == _FUTEX and self._is_static(blocked.call.arguments[0]):
            state, wait, kind = ThreadState.GIL, self._gil_wait, _SETTLED
        elif kind == _FUTEX:
            assert blocked.info is not None
            state, wait = ThreadState.UNKNOWN, Wait(blocked.info.name, NOT_TOLD)
        else:
            found = self._waits.classify(blocked, NO_STACK, None, tid)
            state, wait = found.state, found.wait or Wait(None)
        return int(state), self._serial, self._sink.intern_wait(wait), kind, 0

    def _is_static(self, address: int) -> bool:
        begin, end = self._static
        return begin <= address < end and self.target.gil_enabled is True

    # --- stacks ---

    def _accept(self, take: Take) -> None:
        """Take in what py-spy saw."""
        seen_ns = [thread.times_ns[0] for thread in take.threads if thread.times_ns]
        if seen_ns and min(seen_ns) > self._covered_ns + LONGEST_HOLE_PERIODS * self._period_ns:
            for course in self._courses.values():
                course.add([self._covered_ns], [TORN_STACK])
        self._covered_ns = max(self._covered_ns, take.end_ns)
        if take.errors:
            self._gaps["stacks", "looks of py-spy failed: the target changed meanwhile"] += take.errors
        tids = self._tids_of(take.threads)
        unknown = 0
        for taken in take.threads:
            index = self._index_of(tids.get(taken.ident))
            if index is None:
                unknown += 1
                continue
            if taken.times_ns:
                stacks = [self._stack_id(stack) for stack in taken.stacks]
                self._courses.setdefault(index, _Course()).add(taken.times_ns, stacks)
            self._name(tids[taken.ident], taken)
        if unknown:
            self._gaps["threads", "py-spy saw threads that could not be told from each other"] += unknown

    def _tids_of(self, threads: Sequence[TakenThread]) -> dict[int, int]:
        """The kernel's ids as we see them, by Python's."""
        tids: dict[int, int] = {}
        spaces: dict[int, int] = {}
        if not self._same_namespace:
            for thread in self._threads.values():
                inner = thread.files.namespace_tid()
                if inner is not None:
                    spaces[inner] = thread.info.tid
        for taken in threads:
            if taken.kernel:
                tids[taken.ident] = taken.number if self._same_namespace else spaces.get(taken.number, -1)
        idents = [taken.ident for taken in threads if not taken.kernel]
        if idents:
            present = self._threads if self._same_namespace else spaces
            main = self._pid if self._same_namespace else 1
            with suppress(TargetGone, NoSuchProcess, MemoryReadError):
                known = self._ids.learn(idents, present, main)
                tids.update((ident, spaces.get(tid, tid)) for ident, tid in known.items())
        return tids

    def _index_of(self, tid: int | None) -> int | None:
        if tid is None:
            return None
        thread = self._threads.get(tid)
        return self._left.get(tid) if thread is None else thread.info.index

    def _name(self, tid: int, taken: TakenThread) -> None:
        thread = self._threads.get(tid)
        if thread is None:
            return
        name = taken.name if taken.name and not taken.name.startswith("thread ") else thread.info.name
        if not thread.info.python or name != thread.info.name:
            thread.info = replace(thread.info, name=name, python=True)
            self._sink.put_thread(thread.info)

    def _stack_id(self, stack: Stack) -> int:
        known = self._stack_ids.get(stack)
        if known is not None:
            return known
        if len(self._stack_ids) >= MAX_STACKS:
            self._stack_ids.clear()
        number = self._sink.intern_stack([self._sink.intern_frame(frame) for frame in reversed(stack)])
        words = library_wait(stack[:12], qualified=self._qualified)
        if words is not None:
            self._library_waits[number] = words
        self._stack_ids[stack] = number
        return number

    @property
    def _qualified(self) -> bool:
        parts = self.target.python_version.split(".")[:2]
        known = len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts)
        return not known or (int(parts[0]), int(parts[1])) >= FIRST_QUALIFIED

    # --- windows ---

    def _release(self, now: int | None) -> None:
        """Write the windows whose stacks are there, or will not come; with `now` None all."""
        kept = self._windows_kept
        while kept.kept:
            window = kept.kept[0]
            if (
                now is not None
                and self._problem is None
                and window.t1_ns > self._covered_ns
                and now - window.t1_ns <= HOLD_NS
            ):
                return
            kept.kept.popleft()
            kept.release(self._completed(window))

    def _completed(self, window: Window) -> Window:
        """The window with stacks, and the states that they decide."""
        runs = Runs()
        raw = window.runs
        ticks = window.tick_ns
        holes = 0
        last: tuple[int, int, int, int] | None = None
        python = {thread.info.index for thread in self._threads.values() if thread.info.python}
        python.update(self._courses)
        for index, first, length, state, wait, kind in zip(
            raw.thread, raw.first_tick, raw.ticks, raw.state, raw.wait, raw.holder, strict=True
        ):
            stack = NO_STACK
            course = self._courses.get(index)
            # On average the change was half a period before the look that found it.
            lag = self._look_lag_ns if state == ThreadState.ON_CPU else 0
            at_ns = ticks[first + length - 1] + lag
            found = course.at(at_ns) if course is not None else None
            if found is not None:
                stack = found
                holes += length if found == TORN_STACK else 0
            elif index in python and self._spy is not None:
                stack = TORN_STACK
                holes += length
            state, wait = self._decided(state, wait, kind, stack)
            what = index, state, stack, wait
            if what == last and runs.first_tick[-1] + runs.ticks[-1] == first:
                runs.ticks[-1] += length
                continue
            last = what
            runs.thread.append(index)
            runs.first_tick.append(first)
            runs.ticks.append(length)
            runs.state.append(state)
            runs.stack.append(stack)
            runs.wait.append(wait)
            runs.holder.append(NO_HOLDER)
            runs.confidence.append(int(Confidence.UNKNOWN))
        for course in self._courses.values():
            course.forget(window.t0_ns)
        cost = replace(window.cost, torn_stacks=holes)
        return replace(window, runs=runs, cost=cost, gaps=self._told(window, holes))

    def _decided(self, state: int, wait_id: int, kind: int, stack: int) -> tuple[int, int]:
        """State and wait as the stack decides them."""
        words = self._library_waits.get(stack) if kind != _SETTLED else None
        if words is None:
            return state, wait_id
        syscall = self._windows_kept.waits.get(wait_id, Wait(None)).syscall
        settled = int(ThreadState.SLEEP if kind == _SLEEP else ThreadState.IDLE)
        return settled, self._sink.intern_wait(Wait(syscall, words))

    def _told(self, window: Window, holes: int) -> tuple[Gap, ...]:
        gaps = list(window.gaps)
        if self._problem is not None:
            gaps.append(Gap("stacks", self._problem))
        elif holes:
            why = "py-spy had not looked yet"
            if self._spy is not None and self._spy.problem is not None:
                why = self._spy.problem
            gaps.append(Gap("stacks", why, holes))
        return tuple(gaps)

    def _flush(self, now: int) -> None:
        before = len(self._windows_kept.kept)
        super()._flush(now)
        spent = _children_cpu_ns()
        if len(self._windows_kept.kept) > before:
            window = self._windows_kept.kept.pop()
            cost = replace(window.cost, cpu_ns=window.cost.cpu_ns + spent - self._child_cpu_ns)
            self._windows_kept.kept.append(replace(window, cost=cost))
            self._child_cpu_ns = spent

    def _once_a_window(self, now: int) -> None:
        self._check_identity(now)

    # --- threads ---

    def _thread_ended(self, thread: SampledThread, tick: int) -> None:
        if len(self._left) > len(self._threads) + 10_000:
            self._left.clear()
            self._courses = {
                index: course
                for index, course in self._courses.items()
                if any(other.info.index == index for other in self._threads.values())
            }
        self._left[thread.info.tid] = thread.info.index
        super()._thread_ended(thread, tick)

    def _match_threads(self) -> None:
        """Nothing: py-spy says which threads are Python's."""

    def _read_gil(self) -> None:
        """Nothing: a build with the GIL has it."""


def _children_cpu_ns() -> int:
    """CPU time of our children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)
