"""Sees threads of a target whose interpreter we do not read: states are the kernel's, stacks are py-spy's.

In: the threads that ran since the tick before, and what py-spy writes. Out: the same recording, a second or
two later: a window is written when py-spy's take of that time has come. States by system call, the run queue
and CPU time are exact as always. Without py-spy (not installed, refused, hanging, of another kind) the
kernel's side goes on alone.

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
from typing import Final

from ftdiag.datatypes import dataclass, field, replace
from ftdiag.errors import FtdiagError, MemoryReadError, NoSuchProcess, TargetGone, UnsupportedPython
from ftdiag.model import (
    NO_HOLDER,
    NO_STACK,
    NO_WAIT,
    NOBODY,
    TORN_STACK,
    Confidence,
    Gap,
    LockKind,
    LockRef,
    Runs,
    Stack,
    ThreadState,
    Wait,
    Window,
)
from ftdiag.sampling.clock import Tell
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.seen import Observation
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.steady import Steady
from ftdiag.sampling.target import TargetProcess
from ftdiag.sampling.threads import Gaps, SampledThread, Threads, Tick
from ftdiag.sampling.watchdog import Watchdog
from ftdiag.sources.kernel.syscalls import Blocking
from ftdiag.sources.locks.waitpoints import library_wait
from ftdiag.sources.locks.waits import Blocked, WaitReader
from ftdiag.sources.python.runtime import find_runtime, find_runtime_header, old_python, static_memory
from ftdiag.sources.tools import pyspy
from ftdiag.sources.tools.pyspy import PySpy, PySpyFailed, Take, TakenThread, ThreadIds

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

_DECIDED_BY_STACK: Final = (Blocking.FUTEX, Blocking.READINESS, Blocking.SLEEP, Blocking.SIGNAL_OR_CHILD)
"""System calls of which the standard library's frames say what they wait for."""


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


def open_observer(
    options: SamplerOptions,
    process: TargetProcess,
    descriptors: int,
    refusal: UnsupportedPython | None,
    watchdog: Watchdog | None,
) -> PySpyObserver:
    """py-spy, in a process of its own, which is given up when it is late. Raises AttachError."""
    if watchdog is not None:
        watchdog.close()
    return PySpyObserver(options, process, refusal)


class PySpyObserver:
    """Observes a target with the kernel's accounting and, where it can be had, py-spy's stacks.

    Longer than 300 lines, because looks of py-spy and ticks of ours are two courses of one window.
    """

    def __init__(
        self, options: SamplerOptions, process: TargetProcess, refusal: UnsupportedPython | None = None
    ) -> None:
        """`refusal` is why our own reader does not read it; told where py-spy does not either."""
        self._options = options
        self._process = process
        self._pid = process.pid
        self._spy: PySpy | None = None
        failure = self._identify_python()
        reasons: list[FtdiagError | None] = [] if failure is None else [refusal, failure]
        self._problem = ", and ".join(each.what for each in reasons if each is not None) or None
        self._remedy = "\n".join(each.hint for each in reasons if each is not None and each.hint)
        self._look_lag_ns = 0
        self._waits = WaitReader(process.pid, process.memory)
        self._ids = ThreadIds(process.memory)
        self._static = static_memory(process.pid)
        self._gaps: Gaps = Gaps()
        self._kept: deque[Window] = deque()
        """Windows whose stacks are not there yet."""
        self._open_waits: dict[int, tuple[str | None, ThreadState]] = {}
        """Waits that the stack decides, by id: the system call, and the state if it decides."""
        self._courses: dict[int, _Course] = {}
        self._left: dict[int, int] = {}
        self._covered_ns = 0
        self._stack_ids: dict[Stack, int] = {}
        self._library_waits: dict[int, str] = {}
        self._child_cpu_ns = 0
        self._period_ns = int(1e9 / options.rate_hz)
        self.source = self._open_spy()
        who = "py-spy reads its stacks" if self._problem is None else "its stacks are not read"
        self.native_state: str | None = None
        self.native_missing = f"machine code is not joined to Python lines where {who}"
        self.no_stacks = self._problem

    def _open_spy(self) -> str:
        """Begin with py-spy, unless it has been found that it cannot; who reads the stacks."""
        if self._problem is not None:
            return NOBODY
        rate_hz = LOOKS_PER_TICK * self._options.rate_hz
        self._look_lag_ns = int(0.5e9 / rate_hz)
        self._spy = PySpy(self._pid, rate_hz, blocking=self._options.blocking)
        return "py-spy"

    def _identify_python(self) -> PySpyFailed | None:
        """Find out which Python it is, and where its memory lies if we know; why py-spy cannot read it."""
        failure: PySpyFailed | None = None
        process = self._process
        version, free_threaded = old_python(self._pid) or "?", False
        try:
            header = find_runtime_header(self._pid, process.memory)
            version, free_threaded = str(header.version), header.free_threaded
        except UnsupportedPython:
            pass  # py-spy may read it nevertheless
        try:
            version = pyspy.probe(self._pid).python_version
        except PySpyFailed as failed:
            failure = failed
        with suppress(FtdiagError):
            process.runtime = find_runtime(self._pid, process.memory)
        gil_enabled = None if free_threaded else True
        process.target = replace(
            process.target, python_version=version, free_threaded=free_threaded, gil_enabled=gil_enabled
        )
        return failure

    def attach(self, sink: RecordingSink, threads: Threads, tell: Tell) -> None:
        """Begin to use a recording."""
        self._sink = sink
        self._threads = threads
        self._tell = tell
        self._child_cpu_ns = _children_cpu_ns()
        self._covered_ns = time.monotonic_ns()
        self._gil_wait = Wait("futex", None, LockRef(self._static[0], LockKind.GIL, None, "the GIL"))
        if self._problem is not None:
            tell(
                f"stacks are not measured: {self._problem}. What the kernel knows of its threads is recorded."
                + (f"\n{self._remedy}" if self._remedy else "")
            )
        elif self._options.blocking:
            tell(
                "py-spy stops the process for each of its samples (--blocking): it runs slower meanwhile, the"
                " more so the more threads it has"
            )

    def close(self) -> None:
        """End py-spy."""
        if self._spy is not None:
            self._spy.close()

    # --- one tick ---

    def observe(self, changed: Sequence[SampledThread], tick: Tick) -> None:
        """What the kernel says of the threads that ran since the tick before; what py-spy has seen by now."""
        for thread, line in zip(changed, self._threads.syscall_lines(changed), strict=True):
            if line is None:
                self._threads.end(thread, tick)
                continue
            blocked = self._waits.parse(line)
            thread.settled = blocked is not None
            # Each look at a thread that ran is a run of its own: its stack may have changed.
            thread.begin_run(self._seen(blocked, thread.info.tid), tick.number)
        for thread in tick.ended:
            self._forget(thread)
        if self._spy is not None:
            self._go_on(self._spy, tick.now_ns)
        self._release(tick.now_ns)

    def _seen(self, blocked: Blocked | None, tid: int) -> Observation:
        """State and wait as far as the kernel knows them; the stack comes later, and may decide them."""
        unknown = int(Confidence.UNKNOWN)
        if blocked is None:
            return int(ThreadState.ON_CPU), NO_STACK, NO_WAIT, NO_HOLDER, unknown
        blocking = None if blocked.info is None else blocked.info.blocking
        if blocking is Blocking.FUTEX and self._is_static(blocked.call.arguments[0]):
            state, wait, blocking = ThreadState.GIL, self._gil_wait, None
        elif blocking is Blocking.FUTEX:
            assert blocked.info is not None
            state, wait = ThreadState.UNKNOWN, Wait(blocked.info.name, NOT_TOLD)
        else:
            found = self._waits.classify(blocked, NO_STACK, None, tid)
            state, wait = found.state, found.wait or Wait(None)
        wait_id = self._sink.intern_wait(wait)
        if blocking in _DECIDED_BY_STACK:
            settled = ThreadState.SLEEP if blocking is Blocking.SLEEP else ThreadState.IDLE
            self._open_waits[wait_id] = wait.syscall, settled
        return int(state), NO_STACK, wait_id, NO_HOLDER, unknown

    def _is_static(self, address: int) -> bool:
        begin, end = self._static
        return begin <= address < end and self._process.target.gil_enabled is True

    def _go_on(self, spy: PySpy, now: int) -> None:
        for take in spy.step(now):
            self._accept(take)
        if spy.given_up and self._problem is None:
            self._problem = spy.problem or "py-spy failed"
            self._tell(f"stacks are not measured any more: {self._problem}. The kernel's side goes on.")

    def finish(self) -> None:
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

    # --- stacks ---

    def _accept(self, take: Take) -> None:
        """Take in what py-spy saw."""
        seen_ns = [thread.times_ns[0] for thread in take.threads if thread.times_ns]
        if seen_ns and min(seen_ns) > self._covered_ns + LONGEST_HOLE_PERIODS * self._period_ns:
            for course in self._courses.values():
                course.add([self._covered_ns], [TORN_STACK])
        self._covered_ns = max(self._covered_ns, take.end_ns)
        if take.errors:
            self._gaps["stacks", "samples of py-spy failed: the target changed meanwhile"] += take.errors
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
        if not self._process.same_namespace:
            for thread in self._threads.alive.values():
                inner = thread.files.namespace_tid()
                if inner is not None:
                    spaces[inner] = thread.info.tid
        for taken in threads:
            if taken.kernel:
                seen_alike = self._process.same_namespace
                tids[taken.ident] = taken.number if seen_alike else spaces.get(taken.number, -1)
        idents = [taken.ident for taken in threads if not taken.kernel]
        if idents:
            present = self._threads.alive if self._process.same_namespace else spaces
            main = self._pid if self._process.same_namespace else 1
            with suppress(TargetGone, NoSuchProcess, MemoryReadError):
                known = self._ids.learn(idents, present, main)
                tids.update((ident, spaces.get(tid, tid)) for ident, tid in known.items())
        return tids

    def _index_of(self, tid: int | None) -> int | None:
        if tid is None:
            return None
        thread = self._threads.alive.get(tid)
        return self._left.get(tid) if thread is None else thread.info.index

    def _name(self, tid: int, taken: TakenThread) -> None:
        thread = self._threads.alive.get(tid)
        if thread is None:
            return
        name = taken.name if taken.name and not taken.name.startswith("thread ") else thread.info.name
        if not thread.info.python or name != thread.info.name:
            self._threads.put(thread, replace(thread.info, name=name, python=True))

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
        parts = self._process.target.python_version.split(".")[:2]
        known = len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts)
        return not known or (int(parts[0]), int(parts[1])) >= FIRST_QUALIFIED

    # --- windows ---

    def _release(self, now: int | None) -> None:
        """Write the windows whose stacks are there, or will not come; with `now` None all."""
        kept = self._kept
        while kept:
            window = kept[0]
            if (
                now is not None
                and self._problem is None
                and window.t1_ns > self._covered_ns
                and now - window.t1_ns <= HOLD_NS
            ):
                return
            kept.popleft()
            self._sink.write_window(self._completed(window))

    def _completed(self, window: Window) -> Window:
        """The window with stacks, and the states that they decide."""
        runs = Runs()
        raw = window.runs
        ticks = window.tick_ns
        holes = 0
        last: tuple[int, int, int, int] | None = None
        python = {thread.info.index for thread in self._threads.alive.values() if thread.info.python}
        python.update(self._courses)
        for index, first, length, state, wait in zip(
            raw.thread, raw.first_tick, raw.ticks, raw.state, raw.wait, strict=True
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
            state, wait = self._decided(state, wait, stack)
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

    def _decided(self, state: int, wait_id: int, stack: int) -> tuple[int, int]:
        """State and wait as the stack decides them."""
        words = self._library_waits.get(stack)
        undecided = self._open_waits.get(wait_id)
        if words is None or undecided is None:
            return state, wait_id
        syscall, settled = undecided
        return int(settled), self._sink.intern_wait(Wait(syscall, words))

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

    def go_steadily(self, steady: Steady) -> None:
        """Each tick is observed by itself."""

    def refresh(self, now_ns: int) -> None:
        """Nothing changes slowly: py-spy says which threads are Python's, and their names."""

    def complete(self, window: Window) -> None:
        """Keep a window back until its stacks are there."""
        spent = _children_cpu_ns()
        cost = replace(window.cost, cpu_ns=window.cost.cpu_ns + spent - self._child_cpu_ns)
        self._child_cpu_ns = spent
        gaps = (*window.gaps, *(Gap(what, why, count) for (what, why), count in self._gaps.items()))
        self._gaps.clear()
        self._kept.append(replace(window, cost=cost, gaps=gaps))

    # --- threads ---

    def _forget(self, thread: SampledThread) -> None:
        if len(self._left) > len(self._threads.alive) + 10_000:
            self._left.clear()
            present = {other.info.index for other in self._threads.alive.values()}
            self._courses = {index: self._courses[index] for index in present & self._courses.keys()}
        self._left[thread.info.tid] = thread.info.index


def _children_cpu_ns() -> int:
    """CPU time of our children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)
