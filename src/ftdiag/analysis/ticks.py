"""Tick-level columns of several windows in one piece, so that numpy sees hundreds of windows at once.

In: a recording and window positions. Out: `TickRuns`: all runs of the range with ticks counted from the
range's first tick.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ftdiag.analysis.grouping import Bools, Floats, Ints
from ftdiag.datatypes import dataclass
from ftdiag.model import ThreadState
from ftdiag.recording.reader import Recording

STATES: Final = max(ThreadState) + 1
"""Length of arrays that are indexed by state."""


@dataclass(frozen=True, slots=True)
class TickRuns:
    """Runs of a range of windows, sorted by window, thread and time.

    `first` and `end` are ticks counted from the range's first tick; a run never crosses windows.
    `tick_window` is the window (from 0) of every tick, `tick_ns` its time; `window_start` the first tick of
    every window, with the number of all ticks as one more element. `joined[w]` says that window w follows
    window w - 1 without a hole in time.
    """

    window: Ints
    thread: Ints
    first: Ints
    end: Ints
    state: Ints
    stack: Ints
    wait: Ints
    holder: Ints
    confidence: Ints
    tick_window: Ints
    tick_ns: Ints
    window_start: Ints
    joined: Bools

    @property
    def ticks(self) -> int:
        """Number of ticks in the range."""
        return int(self.window_start[-1])

    def present(self, selected: Bools) -> Ints:
        """How many of the selected runs cover each tick."""
        size = self.ticks + 1
        change = np.bincount(self.first[selected], minlength=size) - np.bincount(
            self.end[selected], minlength=size
        )
        return np.cumsum(change)[:-1]


def tick_runs(recording: Recording, first: int, last: int, tick_period_ns: Floats) -> TickRuns:
    """The runs of the windows at positions [first, last)."""
    parts = recording.all_samples(first, last)
    lengths = np.array([len(part.tick_ns) for part in parts], dtype=np.int64)
    window_start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    rows = np.array([len(part.thread) for part in parts], dtype=np.int64)
    window = np.repeat(np.arange(len(parts), dtype=np.int64), rows)

    def column(name: str) -> Ints:
        if not parts:
            return np.zeros(0, dtype=np.int64)
        return np.concatenate([getattr(part, name) for part in parts]).astype(np.int64)

    begin = column("first_tick") + window_start[window]
    state = column("state")
    hole = recording.t0_ns[first + 1 : last] - recording.t1_ns[first : last - 1]
    return TickRuns(
        window=window,
        thread=column("thread"),
        first=begin,
        end=begin + column("ticks"),
        state=np.where((state < 1) | (state >= STATES), int(ThreadState.UNKNOWN), state),
        stack=column("stack"),
        wait=column("wait"),
        holder=column("holder"),
        confidence=column("confidence"),
        tick_window=np.repeat(np.arange(len(parts), dtype=np.int64), lengths),
        tick_ns=(np.concatenate([part.tick_ns for part in parts]) if parts else np.zeros(0, dtype=np.int64)),
        window_start=window_start,
        joined=np.concatenate([np.zeros(1, dtype=np.bool_), hole < 2 * tick_period_ns[1:]])[: len(parts)],
    )
