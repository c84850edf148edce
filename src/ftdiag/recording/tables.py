"""What readers of a recording get: columns of ranges of windows, descriptions of threads.

In: decoded columns. Out: tables with one element a row in every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    ProcessCounters,
    SamplerCost,
    ThreadInfo,
)
from ftdiag.recording import schema
from ftdiag.recording.columns import (
    Column,
    Int32Array,
    Int64Array,
    UInt8Array,
    WindowFacts,
    joined,
)


@dataclass(frozen=True, slots=True, eq=False)
class Counters:
    """Exact counters by thread and window: the columns of ThreadCounters, -1 where not readable.

    `window` is the position of the window; rows are ordered by it.
    """

    thread: Int32Array
    alive_ns: Int64Array
    cpu_ns: Int64Array
    run_queue_ns: Int64Array
    voluntary_switches: Int64Array
    involuntary_switches: Int64Array
    minor_faults: Int64Array
    major_faults: Int64Array
    migrations: Int64Array
    window: Int32Array

    def __len__(self) -> int:
        return len(self.thread)


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """One element a readable window: its position, the sampler's cost, the process's readings."""

    window: Int32Array
    sampler: tuple[SamplerCost, ...]
    process: tuple[ProcessCounters, ...]

    def __len__(self) -> int:
        return len(self.sampler)


@dataclass(frozen=True, slots=True, eq=False)
class NativeColumns:
    """Native samples by thread, stack, state and native frame, as in model.NativeSamples.

    `window` is the position of the window; rows are ordered by it. `measured` are the positions of the
    windows that have native samples at all (with none for a thread that was never on a core). `lost`
    counts samples that the kernel dropped; `sampled_ratio` is the mean share of thread-time sampled
    (`None` without a measured window). `unseen_` columns have what was sampled of threads that no tick saw,
    ordered by window, too.
    """

    window: Int32Array
    thread: Int32Array
    stack: Int32Array
    state: UInt8Array
    frame: Int32Array
    samples: Int64Array
    measured: Int32Array
    lost: int
    sampled_ratio: float | None
    unseen_state: UInt8Array
    unseen_frame: Int32Array
    unseen_samples: Int64Array

    def __len__(self) -> int:
        return len(self.thread)


@dataclass(frozen=True, slots=True, eq=False)
class RunColumns:
    """The runs of one window (columns as in model.Runs) and the time of each of its ticks (ns)."""

    thread: Int32Array
    first_tick: Int32Array
    ticks: Int32Array
    state: UInt8Array
    stack: Int32Array
    wait: Int32Array
    holder: Int32Array
    confidence: UInt8Array
    tick_ns: Int64Array

    def __len__(self) -> int:
        return len(self.thread)


class ThreadTable(Sequence[ThreadInfo]):
    """Thread descriptions by index. One that is not in the file has a made-up name and tid 0."""

    def __init__(self, known: Mapping[int, ThreadInfo]) -> None:
        self._known = known
        self._length = max(known, default=-1) + 1

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> ThreadInfo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ThreadInfo]: ...
    def __getitem__(self, index: int | slice) -> ThreadInfo | Sequence[ThreadInfo]:
        if isinstance(index, slice):
            return [self.described(each) for each in range(*index.indices(self._length))]
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(f"thread {index} of {self._length}")
        return self.described(index)

    def described(self, index: int) -> ThreadInfo:
        """The thread with this index, made up where the file does not describe it."""
        known = self._known.get(index)
        return known or ThreadInfo(index=index, tid=0, name=f"thread #{index}", python=False)


@dataclass(frozen=True, slots=True, eq=False)
class CountedWindows:
    """Decoded counters of the windows with ids first_id .. last_id; rows and facts ordered by window id."""

    first_id: int
    last_id: int
    facts: tuple[WindowFacts, ...]
    row_window_ids: Int64Array
    columns: dict[str, Column]

    def between(self, first_id: int, last_id: int) -> CountedWindows:
        start, stop = np.searchsorted(self.row_window_ids, (first_id, last_id + 1))
        return CountedWindows(
            first_id,
            last_id,
            tuple(facts for facts in self.facts if first_id <= facts.window_id <= last_id),
            self.row_window_ids[start:stop],
            {name: values[start:stop] for name, values in self.columns.items()},
        )

    def followed_by(self, later: CountedWindows) -> CountedWindows:
        return CountedWindows(
            self.first_id,
            later.last_id,
            self.facts + later.facts,
            np.concatenate((self.row_window_ids, later.row_window_ids)),
            {name: np.concatenate((values, later.columns[name])) for name, values in self.columns.items()},
        )


def joined_counters(
    first_id: int, last_id: int, decoded: Sequence[tuple[WindowFacts, dict[str, Column]]]
) -> CountedWindows:
    rows = [len(columns["thread"]) for _, columns in decoded]
    window_ids = np.array([facts.window_id for facts, _ in decoded], np.int64)
    return CountedWindows(
        first_id,
        last_id,
        tuple(facts for facts, _ in decoded),
        np.repeat(window_ids, rows),
        {
            name: joined(
                [columns[name] for _, columns in decoded], np.int32 if name == "thread" else np.int64
            )
            for name in schema.COUNTER_COLUMNS
        },
    )
