"""Samples of another profiler, thread by thread, made into a recording of ours.

In: per thread a sequence of (tick, stack, ticks) in the order of time. Out: a finished recording.

There are no counters of the kernel in such a recording: a thread's time is its ticks times the period, in the
state UNKNOWN, because the samples do not say whether a thread ran or waited. `settings.imported`
is its kind; analysis reads there that nothing else was measured.
"""

from __future__ import annotations

import socket
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from ftdiag import __version__
from ftdiag.datatypes import dataclass, field
from ftdiag.errors import RecordingError
from ftdiag.model import (
    IMPORTED,
    NO_WAIT,
    End,
    EndReason,
    Frame,
    Gap,
    RecordingSettings,
    Runs,
    SamplerCost,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadState,
    Window,
)
from ftdiag.recording.schema import MAX_STACK_DEPTH, MAX_WINDOW_ROWS
from ftdiag.recording.writer import RecordingWriter

WINDOW_NS: Final = 1_000_000_000
MAX_WINDOWS: Final = 500
"""Longer recordings get longer windows; no view shows more of them apart."""
MAX_WRITTEN_TICKS: Final = 1 << 19
"""Longer recordings get longer ticks: an hour and a half at 100 a second. A line may claim weeks."""
MAX_RUNS: Final = 8_000_000
"""Changes of stack of all threads together that are taken over (40 bytes each)."""
MAX_THREADS: Final = 20_000
MAX_TICKS: Final = 100_000_000
"""Ticks of a recording: eleven days at 100 a second."""
MAX_TEXT: Final = 4096
"""Longest name of a function, file or thread; longer ones are cut."""
UNKNOWN_VERSION: Final = "?"
PARTS: Final = 100
"""Samples that have no time are dealt out over so many parts of the time, each stack evenly."""


@dataclass(slots=True)
class ImportedThread:
    """One thread: what is known of it, and its samples.

    Columns: first tick (ascending), stack (a number of `Assembly.stack`), number of ticks.
    """

    name: str
    tid: int
    main: bool = False
    first: array[int] = field(default_factory=lambda: array("Q"))
    stack: array[int] = field(default_factory=lambda: array("I"))
    ticks: array[int] = field(default_factory=lambda: array("I"))

    @property
    def end(self) -> int:
        """The tick behind the last one."""
        return self.first[-1] + self.ticks[-1] if self.first else 0


class Carry:
    """Lengths as whole ticks, one after the other: what rounding leaves goes to the next."""

    def __init__(self, per_tick: float) -> None:
        self._per_tick = per_tick
        self._rest = 0.0

    def ticks(self, length: float) -> int:
        """The ticks of a length that is not negative."""
        exact = length / self._per_tick + self._rest
        whole = max(0, round(exact))
        self._rest = exact - whole
        return whole


class Assembly:
    """Collects threads and stacks, then writes them. Raises RecordingError where a bound is exceeded."""

    def __init__(self, source: Path, kind: str, rate_hz: float) -> None:
        self._source = source
        self._kind = kind
        self.rate_hz = rate_hz
        self._stacks: dict[tuple[Frame, ...], int] = {}
        self._frames: dict[tuple[str, str, int | None], Frame] = {}
        self._threads: dict[object, ImportedThread] = {}
        self._runs = 0
        self.pid = 0

    @property
    def threads(self) -> Mapping[object, ImportedThread]:
        """The threads by their key."""
        return self._threads

    def frame(self, filename: str, function: str, line: int | None) -> Frame:
        """A frame with its texts bounded; equal ones are one object."""
        key = filename[:MAX_TEXT], function[:MAX_TEXT], line
        known = self._frames.get(key)
        if known is None:
            known = self._frames[key] = Frame(*key)
        return known

    def stack(self, frames: Sequence[Frame]) -> int:
        """The number of a stack, its root first."""
        key = tuple(frames[-MAX_STACK_DEPTH:])
        return self._stacks.setdefault(key, len(self._stacks))

    def thread(self, key: object, name: str, tid: int, *, main: bool = False) -> ImportedThread:
        """The thread of a key; it is made when it is met first."""
        known = self._threads.get(key)
        if known is None:
            if len(self._threads) >= MAX_THREADS:
                raise RecordingError(
                    f"{self._source} has more than {MAX_THREADS:,} threads", "It is probably not a profile."
                )
            known = self._threads[key] = ImportedThread(name[:MAX_TEXT] or f"thread {tid}", tid, main)
        return known

    def add(self, thread: ImportedThread, first: int, stack: int, ticks: int) -> None:
        """More samples of a thread: `ticks` times this stack from tick `first` on."""
        if ticks <= 0:
            return
        first = max(first, thread.end)
        if first + ticks > MAX_TICKS:
            raise RecordingError(
                f"{self._source} is longer than {MAX_TICKS / self.rate_hz:,.0f} s at {self.rate_hz:g} Hz",
                "ftdiag import --rate HZ   says at which rate it was sampled",
            )
        if thread.first and thread.stack[-1] == stack and thread.end == first:
            thread.ticks[-1] += ticks
            return
        self._runs += 1
        if self._runs > MAX_RUNS:
            raise RecordingError(
                f"{self._source} has more than {MAX_RUNS:,} samples",
                "Record a shorter time, or at a lower rate.",
            )
        thread.first.append(first)
        thread.stack.append(stack)
        thread.ticks.append(ticks)

    def deal(self, counts: Mapping[object, Mapping[int, int]]) -> None:
        """Samples without a time (ticks by stack, by a thread's key): all have their share of every part."""
        total = max((sum(stacks.values()) for stacks in counts.values()), default=0)
        parts = max(1, min(PARTS, total))
        for key, stacks in counts.items():
            for part in range(parts):
                begin = total * part // parts
                for stack, ticks in stacks.items():
                    share = ticks * (part + 1) // parts - ticks * part // parts
                    self.add(self._threads[key], begin, stack, share)
                    begin += share

    # --- writing -----------------------------------------------------------------------------------

    def write(self, output: Path, notes: Sequence[str] = ()) -> str:
        """Write the recording, `notes` as gaps of it; in words, what came in.

        Raises RecordingError (also where there is no sample), DiskFull.
        """
        total = max((thread.end for thread in self._threads.values()), default=0)
        if not total:
            raise RecordingError(
                f"{self._source} has no sample in it",
                "Did nothing run while it was recorded? py-spy record -i keeps idle threads, too.",
            )
        step = -(-total // MAX_WRITTEN_TICKS)
        if step > 1:
            self._coarsen(step)
            total = -(-total // step)
            notes = (*notes, f"it is long: {step:,} samples in a row are one, told by the last of them")
        writer = RecordingWriter(output, self._target(), self._settings())
        try:
            self._write(writer, total, notes)
        except BaseException:
            writer.close()
            for ending in ("", "-wal", "-shm", "-journal"):
                Path(f"{output}{ending}").unlink(missing_ok=True)
            raise
        writer.close()
        seconds = total / self.rate_hz
        words = f"{len(self._threads):,} threads, {seconds:,.1f} s at {self.rate_hz:g} samples per second"
        return "\n".join((words, *(f"note: {note}" for note in notes)))

    def _coarsen(self, step: int) -> None:
        """Have one tick stand for `step`; what ended within one ends with it."""
        self.rate_hz /= step
        for thread in self._threads.values():
            runs = zip(thread.first, thread.stack, thread.ticks, strict=True)
            moved = (
                (first // step, stack, (first + ticks) // step - first // step)
                for first, stack, ticks in runs
            )
            kept = [run for run in moved if run[2]]
            thread.first = array("Q", [run[0] for run in kept])
            thread.stack = array("I", [run[1] for run in kept])
            thread.ticks = array("I", [run[2] for run in kept])

    def _target(self) -> Target:
        return Target(
            pid=self.pid,
            start_ticks=0,
            executable="?",
            command=f"imported from {self._source.name}"[:MAX_TEXT],
            python_version=UNKNOWN_VERSION,
            free_threaded=False,
            gil_enabled=None,
            capacity_reason=f"a {self._kind} file does not say",
        )

    def _settings(self) -> RecordingSettings:
        modified_ns = time.time_ns()
        with suppress(OSError):
            modified_ns = self._source.stat().st_mtime_ns
        return RecordingSettings(
            rate_hz=self.rate_hz,
            started_ns=0,
            started_unix_ns=modified_ns,
            ftdiag_version=__version__,
            host=socket.gethostname(),
            source=IMPORTED,
            imported=self._kind,
            native_missing=f"a {self._kind} file has none",
        )

    def _write(self, writer: RecordingWriter, total: int, notes: Sequence[str]) -> None:
        ids = [
            writer.intern_stack([writer.intern_frame(frame) for frame in frames]) for frames in self._stacks
        ]
        threads = sorted(self._threads.values(), key=lambda each: (not each.main, each.tid, each.name))
        for index, thread in enumerate(threads):
            writer.put_thread(ThreadInfo(index, thread.tid, thread.name, python=True, main=thread.main))
        period_ns = 1e9 / self.rate_hz
        per_window = max(1, round(WINDOW_NS / period_ns), -(-total // MAX_WINDOWS))
        positions = [0] * len(threads)
        gaps = tuple(Gap("imported recording", note) for note in notes)
        for begin in range(0, total, per_window):
            end = min(total, begin + per_window)
            runs = Runs()
            for index, thread in enumerate(threads):
                positions[index] = _append(runs, index, thread, positions[index], begin, end, ids)
            if len(runs.thread) > MAX_WINDOW_ROWS:
                raise RecordingError(
                    f"{self._source} has too many changes in too short a time", "Record at a lower rate."
                )
            ticks = array("q", (np.arange(begin, end) * period_ns).astype(np.int64).tobytes())
            cost = SamplerCost(0, end - begin, 0, 0, 0, 0)
            writer.write_window(
                Window(
                    int(begin * period_ns), int(end * period_ns), ticks, runs, ThreadCounters(), cost,
                    gaps=gaps if begin == 0 else (),
                )
            )  # fmt: skip
        writer.finish(End(EndReason.STOPPED, "the end of the imported file", int(total * period_ns)))


def _append(
    runs: Runs, index: int, thread: ImportedThread, position: int, begin: int, end: int, ids: Sequence[int]
) -> int:
    """The part of a thread that lies in [begin, end) ticks; the position of its first run that ends later."""
    while position < len(thread.first):
        first = thread.first[position]
        last = first + thread.ticks[position]
        if first >= end:
            return position
        low, high = max(first, begin), min(last, end)
        runs.thread.append(index)
        runs.first_tick.append(low - begin)
        runs.ticks.append(high - low)
        runs.state.append(ThreadState.UNKNOWN)
        runs.stack.append(ids[thread.stack[position]])
        runs.wait.append(NO_WAIT)
        runs.holder.append(0)
        runs.confidence.append(0)
        if last > end:
            return position
        position += 1
    return position
