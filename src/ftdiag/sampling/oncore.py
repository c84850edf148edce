"""What threads did while they were on a core: samples of machine code, charged to Python stacks.

In: native samples, and the threads as they were seen at the ticks around them. Out: columns for the window.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from ftdiag.errors import PermissionRefused
from ftdiag.model import NATIVE_FILE, Frame, Gap, NativeSamples, Runs, ThreadState, Window
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.threads import SampledThread, Tick
from ftdiag.sampling.turns import Turns
from ftdiag.sources.kernel.rings import Rings
from ftdiag.sources.native.classifier import NativeSample
from ftdiag.sources.native.sampler import NativeSampler
from ftdiag.sources.python.runtime import Runtime

RESTING_NS: Final = 50_000_000
"""How long after it began to run a thread that rested may not be sampled."""
UNSEEN_SHARE: Final = 0.02
"""Part of a program's CPU time in threads that end before a tick sees them from which on cores are sampled
in place of threads."""
UNSEEN_CORES: Final = 0.01
"""So much of it at least: clocks of threads and of the process are read one after the other."""
SEEN_WINDOWS: Final = 10
"""Windows with less than half of that after which threads are sampled again."""
UNTOLD: Final = (
    "what they do takes samples of the cores to tell: root, CAP_PERFMON, or"
    " sudo sysctl kernel.perf_event_paranoid=0"
)
MAX_NATIVE_FRAMES: Final = 50_000
"""Native symbols whose frame id is remembered."""


def open_native(
    options: SamplerOptions, pid: int, runtime: Runtime, most: int
) -> tuple[NativeSampler | None, str]:
    """The sampler of machine code of at most so many threads at once, and in words how it samples or why it
    cannot."""
    if not options.native_rate_hz:
        return None, "switched off"
    try:
        native = NativeSampler(pid, options.native_rate_hz, runtime, most)
    except PermissionRefused as refusal:
        why = refusal.what if refusal.hint is None else f"{refusal.what} ({refusal.hint})"
        return None, why
    return native, native.description


Counts = Counter[tuple[int, int, int, int]]
"""Samples of a window by thread index, stack id, state and native frame's id."""

Unseen = Counter[tuple[int, int]]
"""Samples of threads that no tick has seen, by state and native frame's id."""

Places = Counter[tuple[int, int]]
"""Samples of a window on contended atomic instructions by stack id and the place that they worked on."""

Spun = dict[tuple[int, int], tuple[int, int]]
"""Mutexes of objects that were spun for in a window, by stack id and address: the index of the thread, and
the number of samples."""
SEVERAL: Final = -1
"""In place of the index, where it was not always the same."""
MAX_SPUN: Final = 4096


class OnCore:
    """Counts native samples by thread, stack, state and function."""

    def __init__(self, native: NativeSampler, sink: RecordingSink, turns: Turns) -> None:
        """`turns` says when."""
        self._native = native
        self._sink = sink
        self._turns = turns
        self._on = True
        self._dense = 1.0
        self._recent: dict[int, None] = {}
        """Those that ran since the last turn ended: they are sampled from the beginning of the next."""
        self._turn_ns = 0
        """Since when it is sampled, as of this window."""
        self._sampled_ns = 0
        """How long it was in this window, before that."""
        self._threads_share = 1.0
        self._frames: dict[str | None, int] = {}
        self._indexes: dict[int, int] = {}
        self._left: list[tuple[int, int]] = []
        """(id, index) of threads that ended in the window."""
        self._ends: dict[int, int] = {}
        """When these were seen last, by index."""
        self._samples: list[NativeSample] = []
        self._unseen: Unseen = Counter()
        """Of the window that was taken last."""
        self._seen_windows = 0
        """Windows in a row in which all threads were seen, while cores are sampled."""
        self._refused = False
        """Whether cores may not be sampled."""
        self.places: Places = Counter()
        self.spun: Spun = {}
        """Both of the window that was taken last."""

    def add(self, thread: SampledThread, *, at_once: bool = True) -> None:
        """Begin to sample a thread; if not at once, from the next tick on at which it ran.

        Opening and closing the buffer of a thread that ends before costs more than its samples are worth.
        """
        self._indexes[thread.info.tid] = thread.info.index
        if at_once:
            self._native.add_thread(thread.info.tid)
        else:
            self._native.let_rest(thread.info.tid)

    def remove(self, thread: SampledThread) -> None:
        """End it for one that is gone."""
        self._native.remove_thread(thread.info.tid)
        self._left.append((thread.info.tid, thread.info.index))
        self._ends[thread.info.index] = thread.seen_ns

    def gather(self, ran: Iterable[SampledThread], tick: Tick) -> None:
        """Note who ran since the tick before; begin or end a turn; now and then, make room in the buffers."""
        now_ns = tick.now_ns
        if self._native.by_core:
            if now_ns >= self._native.rings.due_ns:
                self._native.drain(now_ns)
            return
        tids = [thread.info.tid for thread in ran]
        if self._turns.on(now_ns) is not self._on:
            self._switch(now_ns)
        elif self._on and self._dense != self._turns.dense:
            self._switch(now_ns)
            self._recent.update(dict.fromkeys(tids))
            self._switch(now_ns)
        if not self._on:
            self._recent.update(dict.fromkeys(tids))
            return
        new = {thread.info.tid for thread in tick.started}
        self._native.wake([tid for tid in tids if tid not in new] if new else tids)
        if now_ns >= self._native.rings.due_ns:
            self._native.drain(now_ns)

    @property
    def rings(self) -> Rings:
        """What is to be emptied in time, by whoever takes ticks without `gather`."""
        return self._native.rings

    def steady_until_ns(self, now_ns: int) -> int | None:
        """Until when `gather` may be told at once who ran at all the ticks since; `None`: there is no end."""
        if self._native.by_core:
            return None
        if self._on and self._dense != self._turns.dense:
            return now_ns
        ends = self._turns.steady_until_ns(now_ns)
        if not self._on:
            return now_ns if ends is None else ends
        if not self._native.resting:
            return ends
        return now_ns + RESTING_NS if ends is None else min(ends, now_ns + RESTING_NS)

    def _switch(self, now_ns: int) -> None:
        """A turn begins or ends."""
        self._on = not self._on
        if self._on:
            self._turn_ns = now_ns
            self._dense = self._turns.dense
            self._native.resume(self._dense)
            self._native.wake(self._recent)
            self._recent.clear()
        else:
            self._sampled_ns += now_ns - self._turn_ns
            self._threads_share = self._native.sampled_share
            self._native.pause()

    def _share_of(self, window: Window) -> float:
        """Part of the window's thread-time in which samples could be taken."""
        if self._on:
            self._sampled_ns += window.t1_ns - max(self._turn_ns, window.t0_ns)
            self._turn_ns = window.t1_ns
            self._threads_share = self._native.sampled_share
        length_ns = max(1, window.t1_ns - window.t0_ns)
        share = min(1.0, max(0, self._sampled_ns) / length_ns)
        self._sampled_ns = 0
        return share * self._threads_share

    def refresh(self, known_locks: Mapping[int, str]) -> None:
        """Once a window, before it is put together: say what each sample is.

        `known_locks` are the addresses of the interpreter's own locks, with their names.
        """
        self._native.know_locks(known_locks)
        self._read()
        self._native.refresh()

    def _read(self) -> None:
        self._samples += self._native.read()

    def _join(self, window: Window) -> Counts:
        """Charge each sample to the Python stack that its thread was in at the tick nearest in time."""
        counts: Counts = Counter()
        places: Places = Counter()
        spun: Spun = {}
        unseen: Unseen = Counter()
        self.places, self.spun, self._unseen = places, spun, unseen
        later: list[NativeSample] = []
        courses = _courses(window.runs)
        # Twice the moments at which the next tick becomes the nearest.
        middles = list(map(operator.add, window.tick_ns, islice(window.tick_ns, 1, None)))
        frames, indexes = self._frames, self._indexes
        ends, by_core, end_ns = self._ends, self._native.by_core, window.t1_ns
        atomic, spin = ThreadState.ATOMIC, ThreadState.SPIN
        for sample in self._samples:
            tid, time_ns, state, symbol, address = sample
            index = indexes.get(tid, -1)
            course = courses.get(index)
            frame = frames.get(symbol)
            if frame is None:
                frame = self._intern_symbol(symbol)
            if course is None or (by_core and time_ns > ends.get(index, time_ns)):
                # What a thread does after the tick that saw it last is in no clock but the process's.
                if index < 0 and time_ns > end_ns:
                    later.append(sample)  # the next tick may see it
                elif by_core:
                    unseen[int(state), frame] += 1
                continue
            firsts, stacks = course
            stack = stacks[0]
            if len(stacks) > 1:
                stack = stacks[max(0, bisect_right(firsts, bisect_right(middles, 2 * time_ns)) - 1)]
            counted = index, stack, int(state), frame
            counts[counted] = counts.get(counted, 0) + 1
            if address is not None and state is atomic:
                places[stack, address] += 1
            elif address is not None and state is spin:
                # The latest last; where there are too many, the oldest are left out.
                before, times = spun.pop((stack, address), (index, 0))
                spun[stack, address] = index if before == index else SEVERAL, times + 1
                if len(spun) > MAX_SPUN:
                    del spun[next(iter(spun))]
        self._samples = later
        return counts

    def _intern_symbol(self, symbol: str | None) -> int:
        name = "?" if symbol is None else symbol
        if len(self._frames) >= MAX_NATIVE_FRAMES:
            self._frames.clear()
        frame = self._sink.intern_frame(Frame(NATIVE_FILE, name, None))
        self._frames[symbol] = frame
        return frame

    def take(self, window: Window) -> tuple[Counts, NativeSamples, tuple[Gap, ...]]:
        """The samples of the window that ends, counted and as columns, and what was lost; begins anew."""
        self._read()
        counts = self._join(window)
        for tid, index in self._left:
            if self._indexes.get(tid) == index:  # else another thread has that id by now
                del self._indexes[tid]
        self._left.clear()
        self._ends.clear()
        lost = self._native.lost
        columns = NativeSamples(lost=lost, sampled_ratio=self._share_of(window))
        switches = (*window.counters.voluntary_switches, *window.counters.involuntary_switches)
        self._turns.learn(sum(count for count in switches if count > 0), window.t1_ns - window.t0_ns)
        for (thread, stack, state, frame), samples in counts.items():
            columns.thread.append(thread)
            columns.stack.append(stack)
            columns.state.append(state)
            columns.frame.append(frame)
            columns.samples.append(samples)
        for (state, frame), samples in self._unseen.items():
            columns.unseen_state.append(state)
            columns.unseen_frame.append(frame)
            columns.unseen_samples.append(samples)
        untold = self._see_to_unseen(window)
        gaps = [
            Gap("names of machine code", f"{path}: {why}" if path else why, count)
            for (path, why), count in self._native.take_unnamed().items()
        ]
        if untold:
            gaps.append(Gap("threads gone unseen", UNTOLD, 1))
        if lost:
            gaps.append(Gap("native samples", "dropped by the kernel: the buffer was full", lost))
        return counts, columns, tuple(gaps)

    def _see_to_unseen(self, window: Window) -> bool:
        """Sample cores while threads end unseen; whether it would be done, and is not permitted."""
        if window.process.cpu_ns is None:
            return False
        seen_ns = sum(spent for spent in window.counters.cpu_ns if spent > 0)
        unseen_ns = window.process.cpu_ns - seen_ns
        least_ns = max(UNSEEN_SHARE * window.process.cpu_ns, UNSEEN_CORES * (window.t1_ns - window.t0_ns))
        if not self._native.by_core:
            if unseen_ns < least_ns:
                return False
            if self._refused or not self._native.go_by_core():
                self._refused = True
                return True
            self._on, self._turn_ns, self._seen_windows = True, window.t1_ns, 0
            return False
        self._seen_windows = self._seen_windows + 1 if unseen_ns < least_ns / 2 else 0
        if self._seen_windows >= SEEN_WINDOWS:
            self._native.go_by_thread()
            self._on, self._turn_ns, self._dense = True, window.t1_ns, 1.0
        return False

    def close(self) -> None:
        """End sampling."""
        self._native.close()


def _courses(runs: Runs) -> dict[int, tuple[Sequence[int], Sequence[int]]]:
    """The first ticks and the stacks of each thread's runs, which are sorted by thread."""
    courses: dict[int, tuple[Sequence[int], Sequence[int]]] = {}
    begin = 0
    while begin < len(runs.thread):
        index = runs.thread[begin]
        end = bisect_right(runs.thread, index, begin)
        courses[index] = runs.first_tick[begin:end], runs.stack[begin:end]
        begin = end
    return courses
