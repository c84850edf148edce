"""The memory of the process over a range: kinds, threads, growth, and what the allocator's time goes to.

In: readings of the memory and native samples of a range of windows, accounted time. Out: `MemoryShares`
(what each range of windows adds), `MemoryMetrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import numpy as np

from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.allocators import part_of
from ftdiag.analysis.grouping import Floats, Ints, group_by, largest_first, numbered, summed
from ftdiag.datatypes import dataclass
from ftdiag.model import (
    AllocatorLine,
    AllocatorPart,
    MemoryKind,
    MemoryMetrics,
    MemoryOfThread,
    MemoryReading,
    RecordingSettings,
    ThreadState,
)
from ftdiag.recording.reader import Recording

MAX_SERIES: Final = 400
"""Points of the curve over time; a screen has fewer columns."""
MAX_THREADS: Final = 1000
"""Threads whose memory is listed, those with most of it."""
MAX_LINES: Final = 40
"""Lines whose time in the allocator is split."""
LEAST_GROWTH_NS: Final = 2_000_000_000
"""A resident size that is followed for less than this says nothing about growth."""
NOT_RECORDED: Final = "not recorded: the recording has no reading of the memory in this range"
NO_PART: Final = "needs native samples of the threads on a core, with the names of functions"

_PARTS: Final = tuple(AllocatorPart)
Point = TypeVar("Point")


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """What a range of windows adds.

    `resident` has (time at the window's end, resident bytes), `kinds` (time, kinds) of each reading. `leaf`,
    `part` and `samples` are columns: native samples of the allocator by leaf frame id and number of the part.
    """

    first: MemoryReading | None
    last: MemoryReading | None
    resident: tuple[tuple[int, int], ...]
    kinds: tuple[tuple[int, Mapping[MemoryKind, int]], ...]
    leaf: Ints
    part: Ints
    samples: Ints
    measured: bool = False
    """Whether machine code was sampled in any of the windows."""

    def __len__(self) -> int:
        """Rows, as kept digests are bounded by."""
        threads = sum(len(each.by_thread.thread) for each in (self.first, self.last) if each is not None)
        return len(self.leaf) + len(self.resident) + len(self.kinds) + threads


def memory_shares(recording: Recording, first: int, last: int) -> MemoryShares:
    """What the windows at positions [first, last) add."""
    readings = [reading for _, reading in recording.memory(first, last)]
    costs = recording.costs(first, last)
    resident = tuple(
        (int(recording.t1_ns[position]), process.rss_bytes)
        for position, process in zip(costs.window.tolist(), costs.process, strict=True)
        if process.rss_bytes is not None
    )
    leaf, part, samples = _allocator_samples(recording, first, last)
    return MemoryShares(
        readings[0] if readings else None,
        readings[-1] if readings else None,
        resident,
        tuple((reading.at_ns, reading.kinds) for reading in readings if reading.kinds),
        leaf,
        part,
        samples,
        bool(len(recording.native(first, last).measured)),
    )


def joined_memory(parts: Sequence[MemoryShares]) -> MemoryShares:
    """What consecutive ranges add together."""
    firsts = [part.first for part in parts if part.first is not None]
    lasts = [part.last for part in parts if part.last is not None]
    leaf = np.concatenate([part.leaf for part in parts]) + 1
    number = np.concatenate([part.part for part in parts])
    samples = np.concatenate([part.samples for part in parts])
    groups = group_by(leaf, number)
    return MemoryShares(
        firsts[0] if firsts else None,
        lasts[-1] if lasts else None,
        tuple(each for part in parts for each in part.resident),
        tuple(each for part in parts for each in part.kinds),
        groups.key(leaf) - 1,
        groups.key(number),
        groups.total(samples.astype(np.float64)).astype(np.int64),
        any(part.measured for part in parts),
    )


def _allocator_samples(recording: Recording, first: int, last: int) -> tuple[Ints, Ints, Ints]:
    native = recording.native(first, last)
    rows = native.state == int(ThreadState.ALLOC)
    leaf = leaves_of(recording, native.stack[rows].astype(np.int64))
    frames, number = numbered(native.frame[rows])
    parts = np.array(
        [
            _PARTS.index(part_of(recording.frame(frame).function if frame > 0 else "?"))
            for frame in frames.tolist()
        ],
        dtype=np.int64,
    )
    part = parts[number] if len(frames) else np.zeros(0, dtype=np.int64)
    # Leaf -1 is a thread without Python code; keys of groups are not negative.
    groups = group_by(leaf + 1, part)
    return (
        groups.key(leaf + 1) - 1,
        groups.key(part),
        groups.total(native.samples[rows].astype(np.float64)).astype(np.int64),
    )


def leaves_of(recording: Recording, stack: Ints) -> Ints:
    """Id of the innermost frame of each of these stacks, -1 where there is none."""
    leaves = recording.leaf_frames()
    leaf = np.full(len(stack), -1, dtype=np.int64)
    inside = stack < len(leaves)
    leaf[inside] = leaves[stack[inside]]
    return leaf


def memory_metrics(
    recording: Recording,
    last: int,
    parts: Sequence[MemoryShares],
    time: ThreadTime,
    *,
    minor_faults: int,
    major_faults: int,
) -> MemoryMetrics:
    """The memory over consecutive ranges that end before position `last`, with accounted time of them all."""
    resident = [each for part in parts for each in part.resident]
    kinds = [each for part in parts for each in part.kinds]
    firsts = [part.first for part in parts if part.first is not None]
    lasts = [part.last for part in parts if part.last is not None]
    reading = lasts[-1] if lasts else _latest_before(recording, last)
    missing: dict[str, str] = {}
    if reading is None:
        missing["memory"] = NOT_RECORDED
    else:
        missing.update({f"memory.{name}": why for name, why in reading.not_measured.items()})
    growth_bytes, growth_ns = _growth(resident)
    threads = () if reading is None else _threads(recording, reading)
    allocator, lines = _allocator(recording, parts, time)
    measured = any(part.measured for part in parts)
    if not measured or (allocator and allocator.keys() <= {AllocatorPart.UNKNOWN}):
        missing["memory.allocator"] = _why_no_parts(recording.settings)
    mean = _mean_of_threads(threads)
    if reading is not None and mean is None:
        why = reading.not_measured.get(MemoryKind.PYTHON_HEAPS.label, "no thread whose memory is known")
        missing["memory.per_thread_bytes"] = why
    return MemoryMetrics(
        rss_bytes=resident[-1][1] if resident else None,
        growth_bytes=growth_bytes,
        growth_ns=growth_ns,
        reading=reading,
        since=firsts[0] if firsts else None,
        readings=len(kinds),
        threads=threads,
        per_thread_bytes=mean,
        series=_thinned(resident),
        kinds_series=_thinned(kinds),
        allocator_ns=allocator,
        allocator_lines=lines,
        minor_faults=minor_faults,
        major_faults=major_faults,
        not_measured=missing,
    )


def _latest_before(recording: Recording, last: int) -> MemoryReading | None:
    """A range of a second or two may lie between two readings: the one before it is the nearest."""
    for step in (16, 256, len(recording)):
        found = recording.memory(max(0, last - step), last)
        if found:
            return found[-1][1]
    return None


def _growth(resident: Sequence[tuple[int, int]]) -> tuple[int | None, int]:
    """What the resident size gained, and in which time; `None` in too short a time."""
    if len(resident) < 2:
        return None, 0
    lasted = resident[-1][0] - resident[0][0]
    if lasted < LEAST_GROWTH_NS:
        return None, 0
    return resident[-1][1] - resident[0][1], lasted


def _threads(recording: Recording, reading: MemoryReading) -> tuple[MemoryOfThread, ...]:
    columns = reading.by_thread
    known = [
        MemoryOfThread(
            recording.thread(index),
            stack if stack >= 0 else None,
            heap if heap >= 0 else None,
        )
        for index, stack, heap in zip(columns.thread, columns.stack_bytes, columns.heap_bytes, strict=True)
    ]
    known.sort(key=lambda each: (-(each.stack_bytes or 0) - (each.heap_bytes or 0), each.info.index))
    return tuple(known[:MAX_THREADS])


def _mean_of_threads(threads: Sequence[MemoryOfThread]) -> float | None:
    known = [
        thread.total_bytes
        for thread in threads
        if not thread.info.main and thread.info.python and thread.total_bytes is not None
    ]
    return sum(known) / len(known) if known else None


def _allocator(
    recording: Recording, parts: Sequence[MemoryShares], time: ThreadTime
) -> tuple[dict[AllocatorPart, float], tuple[AllocatorLine, ...]]:
    """Accounted time in the allocator by part, and by line with its parts."""
    rows = time.state == int(ThreadState.ALLOC)
    if not rows.any() or not parts:
        return {}, ()
    leaf = leaves_of(recording, time.stack[rows]) + 1
    groups = group_by(leaf)
    number, spent = groups.key(leaf), groups.total(time.time_ns[rows])
    split = spent[:, None] * _shares_of(number, parts)
    known = np.flatnonzero(number > 1)  # 0: no Python code, 1: a frame that was not kept
    longest = known[largest_first(spent[known], MAX_LINES)].tolist()
    lines = tuple(
        AllocatorLine(recording.frame(int(number[row]) - 1), float(spent[row]), _named(split[row]))
        for row in longest
    )
    return _named(split.sum(axis=0)), lines


def _shares_of(number: Ints, parts: Sequence[MemoryShares]) -> Floats:
    """For each of these leaf frame ids + 1, ascending, the shares of its samples by part.

    A line whose time was accounted, but not its samples: as all lines together.
    """
    leaf = np.concatenate([each.leaf for each in parts]) + 1
    part = np.concatenate([each.part for each in parts])
    samples = np.concatenate([each.samples for each in parts])
    everywhere = summed(part, samples, len(_PARTS))
    if not everywhere.any():
        everywhere[_PARTS.index(AllocatorPart.UNKNOWN)] = 1.0
    row = np.minimum(np.searchsorted(number, leaf), len(number) - 1)
    known = number[row] == leaf
    flat = summed(row[known] * len(_PARTS) + part[known], samples[known], len(number) * len(_PARTS))
    seen = flat.reshape(-1, len(_PARTS))
    seen[seen.sum(axis=1) <= 0] = everywhere
    shares: Floats = seen / seen.sum(axis=1, keepdims=True)
    return shares


def _named(values: Floats) -> dict[AllocatorPart, float]:
    return {part: float(value) for part, value in zip(_PARTS, values.tolist(), strict=True) if value > 0}


def _thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most MAX_SERIES of them, the last among them."""
    step = -(-len(points) // MAX_SERIES) or 1
    return tuple(points[::-1][::step][::-1])


def _why_no_parts(settings: RecordingSettings) -> str:
    return NO_PART if settings.native_missing is None else settings.native_missing
