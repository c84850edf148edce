"""What threads did while they were on a core: samples of machine code, charged to Python stacks.

In: native samples, and the threads as they were seen at the ticks around them. Out: columns for the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.errors import PermissionRefused
from ftdiag.model import NATIVE_FILE, Frame, Gap, NativeSamples
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.sink import NOT_MEASURED_PREFIX, RecordingSink
from ftdiag.sampling.threads import SampledThread, Tick
from ftdiag.sources.native import NativeSample, NativeSampler
from ftdiag.sources.runtime import Runtime

MAX_NATIVE_FRAMES: Final = 50_000
"""Native symbols whose frame id is remembered."""


def open_native(
    options: SamplerOptions, pid: int, runtime: Runtime, most: int
) -> tuple[NativeSampler | None, str]:
    """The sampler of machine code of at most so many threads at once, and in words how it samples or why it
    cannot."""
    if not options.native_rate_hz:
        return None, f"{NOT_MEASURED_PREFIX}switched off"
    try:
        native = NativeSampler(pid, options.native_rate_hz, runtime, most)
    except PermissionRefused as refusal:
        why = refusal.what if refusal.hint is None else f"{refusal.what} ({refusal.hint})"
        return None, f"{NOT_MEASURED_PREFIX}{why}"
    return native, native.description


class OnCore:
    """Counts native samples by thread, stack, state and function."""

    def __init__(
        self, native: NativeSampler, sink: RecordingSink, threads: Mapping[int, SampledThread]
    ) -> None:
        """`threads` are all of the target, by id."""
        self._native = native
        self._sink = sink
        self._threads = threads
        self._frames: dict[str | None, int] = {}
        self.counts: Counter[tuple[int, int, int, int]] = Counter()
        """Samples of the window by thread index, stack id, state and native frame's id."""

    def add(self, thread: SampledThread) -> None:
        """Begin to sample a thread."""
        self._native.add_thread(thread.info.tid)

    def remove(self, thread: SampledThread) -> None:
        """End it for one that is gone."""
        self._native.remove_thread(thread.info.tid)

    def gather(self, ran: Iterable[SampledThread], tick: Tick) -> None:
        """Take in what was sampled of the threads that ran since the tick before."""
        self._join(self._native.read([thread.info.tid for thread in ran]), tick)

    def refresh(self) -> None:
        """About once a second."""
        self._native.refresh()

    def _join(self, samples: Sequence[NativeSample], tick: Tick) -> None:
        """Charge each sample to the Python stack seen nearest in time: at this tick, or at the one before."""
        middle = tick.now_ns - max(0, tick.now_ns - tick.before_ns) // 2
        counts, frames, threads = self.counts, self._frames, self._threads
        for sample in samples:
            thread = threads.get(sample.tid)
            if thread is None or thread.observation is None:
                continue
            stack = thread.observation[1] if sample.time_ns >= middle else thread.previous_stack
            frame = frames.get(sample.symbol)
            if frame is None:
                frame = self._intern_symbol(sample.symbol)
            counts[thread.info.index, stack, int(sample.state), frame] += 1

    def _intern_symbol(self, symbol: str | None) -> int:
        name = "?" if symbol is None else symbol
        if len(self._frames) >= MAX_NATIVE_FRAMES:
            self._frames.clear()
        frame = self._sink.intern_frame(Frame(NATIVE_FILE, name, None))
        self._frames[symbol] = frame
        return frame

    def take(self) -> tuple[NativeSamples, tuple[Gap, ...]]:
        """The samples of the window that ends, and what was lost; begins anew."""
        lost = self._native.lost
        columns = NativeSamples(lost=lost, sampled_ratio=self._native.sampled_share)
        for (thread, stack, state, frame), samples in self.counts.items():
            columns.thread.append(thread)
            columns.stack.append(stack)
            columns.state.append(state)
            columns.frame.append(frame)
            columns.samples.append(samples)
        self.counts.clear()
        if not lost:
            return columns, ()
        return columns, (Gap("native samples", "dropped by the kernel: the buffer was full", lost),)

    def close(self) -> None:
        """End sampling."""
        self._native.close()
