"""Reads a recording, finished or growing, as numpy columns.

In: the path of a recording, written by anybody: every size is bounded, every blob and row checked.
Out: the model's values and columns. What is damaged is left out and reported by `Recording.damaged`;
what makes the file useless is a RecordingError. A recording is never written to.
"""

from __future__ import annotations

import math
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import numpy as np

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    Allocations,
    Collections,
    End,
    EndReason,
    Frame,
    Gap,
    Intrusion,
    Library,
    MemoryReading,
    ProcessCounters,
    RecordingSettings,
    SamplerCost,
    SharedObject,
    Stack,
    Target,
    ThreadInfo,
    Wait,
)
from ftdiag.recording import schema
from ftdiag.recording.allocations import MAX_INTRUSIONS, decode_allocations, decode_intrusion
from ftdiag.recording.columns import (
    PROFILE_TYPES,
    RUN_TYPES,
    Column,
    Int32Array,
    Int64Array,
    UInt8Array,
    WindowFacts,
    aggregate_runs,
    decode_collections,
    decode_counters,
    decode_memory,
    decode_native,
    decode_rollup,
    decode_runs,
    decode_shared,
    joined,
)
from ftdiag.recording.interned import InternedTables
from ftdiag.recording.source import (
    READ_ERRORS,
    RecordingFile,
    check_schema,
    damaged_file,
    raise_for_memory,
    read_meta,
)

LEAST_CORES: Final = 0.001
"""The smallest quota that the kernel takes: a millisecond a second."""
_LARGEST_ID: Final = 2**64
"""Of processes and threads; Linux stays below 2**22, but other profilers write a thread's address."""
MAX_RATE_HZ: Final = 1e6
"""Of samples; other profilers write up to some 10,000, 0 where the rate is not known."""
MAX_CACHED_COUNTERS: Final = 1 << 20
"""Rows of counters kept decoded between calls (some 70 bytes each)."""
FIGURE_GROUPS: Final = (schema.GROUP_RUNS, schema.GROUP_COUNTERS, schema.GROUP_NATIVE)
"""What figures are made of. A window lacks all of these where one is damaged: figures that are compared come
from the same windows."""

# One cheap look at everything that a writer changes.
_FINGERPRINT: Final = (
    "SELECT (SELECT max(id) FROM window), (SELECT min(id) FROM window), (SELECT max(changed) FROM thread),"
    " (SELECT group_concat(checksum) FROM meta)"
)

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Ticks by thread, state, stack and wait: columns of equal length.

    `window` is the position of a window. Rows of a rolled-up minute have `windows` =
    schema.ROLLUP_WINDOWS and cover the windows `window` .. `window` + `windows` - 1; others have 1.
    """

    thread: Int32Array
    state: UInt8Array
    stack: Int32Array
    wait: Int32Array
    ticks: Int64Array
    window: Int32Array
    windows: UInt8Array

    def __len__(self) -> int:
        return len(self.thread)


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
    counts samples that the kernel dropped; `sampled_ratio` is the mean share of threads sampled at a time
    (`None` without a measured window).
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
class _CountedWindows:
    """Decoded counters of the windows with ids first_id .. last_id; rows and facts ordered by window id."""

    first_id: int
    last_id: int
    facts: tuple[WindowFacts, ...]
    row_window_ids: Int64Array
    columns: dict[str, Column]

    def between(self, first_id: int, last_id: int) -> _CountedWindows:
        start, stop = np.searchsorted(self.row_window_ids, (first_id, last_id + 1))
        return _CountedWindows(
            first_id,
            last_id,
            tuple(facts for facts in self.facts if first_id <= facts.window_id <= last_id),
            self.row_window_ids[start:stop],
            {name: values[start:stop] for name, values in self.columns.items()},
        )

    def followed_by(self, later: _CountedWindows) -> _CountedWindows:
        return _CountedWindows(
            self.first_id,
            later.last_id,
            self.facts + later.facts,
            np.concatenate((self.row_window_ids, later.row_window_ids)),
            {name: np.concatenate((values, later.columns[name])) for name, values in self.columns.items()},
        )


class Recording:
    """A recording that is read while it grows, after it ended, or after its writer was killed.

    Every method opens the file, reads and closes it again, so that no reader keeps a writer from
    finishing. Positions count the windows present, from 0; in a ring they shift when `refresh` returns
    True. All methods that read raise RecordingError where the file cannot be read any more. For use by
    one thread at a time.
    """

    path: Path
    target: Target
    settings: RecordingSettings
    end: End | None
    """How it ended; `None` while it is written, and after its writer was killed."""
    threads: ThreadTable
    window_ids: Int64Array
    """Ids of the windows present, ascending; a window's id never changes."""
    t0_ns: Int64Array
    t1_ns: Int64Array
    tick_counts: Int64Array
    """Ticks taken in each window."""
    allocations: Allocations | None
    """The capture of memray that was added, if there is one."""
    intrusions: tuple[Intrusion, ...]
    """Times in which an instrument changed how the target ran, by their beginning."""

    def __init__(self, file: RecordingFile) -> None:
        """Use `open`."""
        self._file = file
        self.path = file.path
        self.end = None
        self.allocations = None
        self.intrusions = ()
        self.threads = ThreadTable({})
        self.window_ids = self.t0_ns = self.t1_ns = self.tick_counts = np.empty(0, np.int64)
        self._groups: dict[int, frozenset[str]] = {}
        self._group_sets: dict[str, frozenset[str]] = {}
        self._left_out: set[int] = set()
        self._row_counts: Int64Array = np.empty((0, 2), np.int64)
        self._interned = InternedTables()
        self._last_delta = 0
        self._promised_delta = 0
        self._promised_window = 0
        self._promised_threads = 0
        self._known_threads: dict[int, ThreadInfo] = {}
        self._threads_changed = -1
        self._is_ring = False
        self._fingerprint: tuple[object, ...] | None = None
        self._damage: dict[tuple[str, object], tuple[str, int]] = {}
        self._counted_cache: _CountedWindows | None = None
        self._native_cache: tuple[tuple[int, ...], NativeColumns] | None = None

    @classmethod
    def open(cls, path: Path) -> Recording:
        """Open a recording.

        Works while it is written, after its writer was killed, and in a directory that cannot be written
        to (then, if the recording was not finished, by way of a private copy).

        Raises RecordingError: no such file, not a recording, damaged beyond use, or of a newer schema.
        """
        file = RecordingFile(Path(path))
        try:
            recording = cls(file)
            recording._load()
        except BaseException:
            file.close()
            raise
        return recording

    def close(self) -> None:
        """Remove the private copy, if one had to be made."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what is there -----------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take in what was written since the last call. True if anything changed; one query if not."""
        return self._load()

    def __len__(self) -> int:
        """The number of windows present."""
        return len(self.window_ids)

    def span_ns(self) -> tuple[int, int] | None:
        """Beginning of the first window and end of the last, in ns; `None` without windows."""
        return (int(self.t0_ns.min()), int(self.t1_ns.max())) if len(self) else None

    @property
    def damaged(self) -> tuple[Gap, ...]:
        """What was found damaged so far and is left out: parts are checked when they are first read.

        `verify` reads everything.
        """
        counts: dict[tuple[str, str], int] = {}
        for (what, _), (why, count) in self._damage.items():
            counts[what, why] = counts.get((what, why), 0) + count
        if self._left_out:
            why = "a part of them is damaged; they are left out of every figure"
            counts["windows", why] = len(self._left_out)
        return tuple(Gap(what, why, count) for (what, why), count in sorted(counts.items()))

    def verify(self) -> tuple[Gap, ...]:
        """Read and check every window. Returns `damaged`."""
        for _ in self._runs(0, len(self)):
            pass
        for _ in self._rollups(0, len(self)):
            pass
        self._counted(0, len(self))
        self.native(0, len(self))
        self.shared(0, len(self))
        self.memory(0, len(self))
        self.collections(0, len(self))
        return self.damaged

    def left_out(self, first: int, last: int) -> BoolArray:
        """Which of the windows at positions [first, last) lack runs and counters, because some are damaged.

        Known of what was read so far: a window's damage is found when its runs, counters or native samples
        are first read, and from then on it has none of the three.
        """
        first, last = self._clipped(first, last)
        if not self._left_out:
            return np.zeros(last - first, np.bool_)
        return np.isin(self.window_ids[first:last], np.fromiter(self._left_out, np.int64))

    @property
    def left_out_count(self) -> int:
        """How many windows are left out so far."""
        return len(self._left_out)

    def row_counts(self, first: int, last: int) -> Int64Array:
        """How many rows of runs and counters together each of the windows at [first, last) says to have."""
        rows: Int64Array = self._row_counts[slice(*self._clipped(first, last))].sum(axis=1)
        return rows

    def thread(self, index: int) -> ThreadInfo:
        """The thread with this index; made up (tid 0) where the file does not describe it."""
        return self.threads.described(index)

    def frame(self, frame_id: int) -> Frame:
        """A frame by id. Raises IndexError for an id that no stack of the recording has."""
        return self._interned.frame(frame_id)

    def stack(self, stack_id: int) -> Stack:
        """Frames of a stack, leaf first; () for the reserved ids and for unknown ones."""
        return self._interned.stack(stack_id)

    def wait(self, wait_id: int) -> Wait | None:
        """A wait by id; `None` for NO_WAIT and for unknown ids."""
        return self._interned.wait(wait_id)

    def leaf_frames(self) -> Int32Array:
        """Leaf frame id by stack id, -1 for ids without frames. Frame ids are below `frame_count`."""
        return self._interned.leaf_frames()

    def parents(self) -> Int32Array:
        """Parent stack id by stack id, always the smaller one; NO_STACK at the root and for reserved ids."""
        return self._interned.parents()

    @property
    def frame_count(self) -> int:
        """Frame ids are in schema.FIRST_FRAME_ID .. frame_count - 1."""
        return self._interned.frame_count

    @property
    def wait_count(self) -> int:
        """Wait ids are in schema.FIRST_WAIT_ID .. wait_count - 1."""
        return self._interned.wait_count

    # --- columns -----------------------------------------------------------------------------------

    def profile(self, first: int, last: int, *, per_window: bool = False) -> Profile:
        """Ticks by thread, state, stack and wait of the windows at positions [first, last).

        Whole minutes come summed up (see Profile.windows) unless `per_window`; asking for the windows of
        a long busy range costs time and memory: some 25 bytes a row, up to a row for each thread and tick.
        """
        first, last = self._clipped(first, last)
        blocks: list[tuple[int, int, dict[str, Column]]] = []
        covered = np.zeros(last - first, bool)
        if not per_window:
            for position, columns in self._whole_minutes(first, last):
                start = position - schema.ROLLUP_WINDOWS + 1
                blocks.append((start, schema.ROLLUP_WINDOWS, columns))
                covered[start - first : position + 1 - first] = True
        for start, stop in _uncovered(covered):
            for position, columns in self._runs(first + start, first + stop):
                blocks.append((position, 1, aggregate_runs(columns)))
        blocks.sort(key=lambda block: block[0])
        lengths = [len(columns["thread"]) for _, _, columns in blocks]
        arrays = {
            name: joined([columns[name] for _, _, columns in blocks], dtype)
            for name, dtype in PROFILE_TYPES.items()
        }
        return Profile(
            **arrays,
            window=np.repeat(np.array([start for start, _, _ in blocks], np.int32), lengths),
            windows=np.repeat(np.array([count for _, count, _ in blocks], np.uint8), lengths),
        )

    def counters(self, first: int, last: int) -> Counters:
        """Exact counters of every thread in the windows at positions [first, last)."""
        counted = self._counted(first, last)
        return Counters(**counted.columns, window=self._positions(counted.row_window_ids))

    def costs(self, first: int, last: int) -> Costs:
        """What the sampler did, and the process's readings, in the windows at positions [first, last)."""
        facts = self._counted(first, last).facts
        return Costs(
            self._positions(np.array([each.window_id for each in facts], np.int64)),
            tuple(each.cost for each in facts),
            tuple(each.process for each in facts),
        )

    def gaps(self, first: int, last: int) -> tuple[Gap, ...]:
        """What could not be read in the windows at positions [first, last), counts summed by (what, why).

        Kernel counters that could not be read (-1 in `counters`) are among them.
        """
        counted = self._counted(first, last)
        counts: dict[tuple[str, str], int] = {}
        for facts in counted.facts:
            for gap in facts.gaps:
                counts[gap.what, gap.why] = counts.get((gap.what, gap.why), 0) + gap.count
        for name in schema.COUNTER_COLUMNS[1:]:
            if name in schema.OPTIONAL_COUNTER_COLUMNS:
                continue
            missing = int(np.count_nonzero(counted.columns[name] < 0))
            if missing:
                key = (name, "the kernel's counter could not be read")
                counts[key] = counts.get(key, 0) + missing
        return tuple(Gap(what, why, count) for (what, why), count in counts.items())

    def samples(self, position: int) -> RunColumns:
        """All runs of the window at `position`, ordered by thread, then time; none if it is damaged.

        Runs lie within `tick_ns`, those of one thread do not overlap. Unknown states read as UNKNOWN; ids
        that are not in the dictionary as UNKEPT_STACK and NO_WAIT. Raises IndexError without such a window.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"window {position} of {len(self)}")
        return self.all_samples(position, position + 1)[0]

    def all_samples(self, first: int, last: int) -> list[RunColumns]:
        """`samples` of every window at positions [first, last), read in one go."""
        first, last = self._clipped(first, last)
        # To the end: an iterator left half-way keeps its connection until some thread, perhaps another one,
        # throws it away, and SQLite's connections can be closed in their own thread only.
        found = dict(self._runs(first, last))
        none = {name: np.empty(0, dtype) for name, dtype in RUN_TYPES.items()}
        return [RunColumns(**found.get(position, none)) for position in range(first, last)]

    def native(self, first: int, last: int) -> NativeColumns:
        """Native samples of the windows at positions [first, last); damaged ones count as not measured."""
        first, last = self._clipped(first, last)
        # Several analyses ask for the same range, one after the other.
        ends = self.window_ids[first:last][[0, -1]].tolist() if first < last else ()
        key = (self.frame_count, len(self._left_out), first, *ends)
        if self._native_cache is None or self._native_cache[0] != key:
            self._native_cache = key, self._read_native(first, last)
        return self._native_cache[1]

    def _read_native(self, first: int, last: int) -> NativeColumns:
        windows: list[int] = []
        parts: dict[str, list[Column]] = {name: [] for name in schema.NATIVE_COLUMNS}
        facts: list[tuple[int, int]] = []
        for position, columns in self._groups_between(schema.GROUP_NATIVE, first, last, decode_native):
            windows.append(position)
            columns["stack"] = self._interned.usable_stacks(columns["stack"])
            columns["frame"] = np.where(columns["frame"] < self.frame_count, columns["frame"], 0)
            for name in schema.NATIVE_COLUMNS:
                parts[name].append(columns[name])
            facts.append((int(columns["facts"][0]), int(columns["facts"][1])))
        rows = [len(part) for part in parts["thread"]]
        return NativeColumns(
            window=np.repeat(np.array(windows, np.int32), rows),
            thread=joined(parts["thread"], np.int32),
            stack=joined(parts["stack"], np.int32),
            state=joined(parts["state"], np.uint8),
            frame=joined(parts["frame"], np.int32),
            samples=joined(parts["samples"], np.int64),
            measured=np.array(windows, np.int32),
            lost=sum(lost for lost, _ in facts),
            sampled_ratio=sum(share for _, share in facts) / 1e6 / len(facts) if facts else None,
        )

    def shared(self, first: int, last: int) -> dict[int, tuple[SharedObject, ...]]:
        """Frame id of a line -> the shared objects named on it in the windows at positions [first, last).

        Where one is named several times, the highest confidence counts. Lines nobody looked at, or with
        nothing that could be named, are missing.
        """
        first, last = self._clipped(first, last)
        found: dict[int, dict[tuple[str, str], SharedObject]] = {}
        for _, rows in self._groups_between(schema.GROUP_SHARED, first, last, decode_shared):
            for frame, one in rows:
                if not schema.FIRST_FRAME_ID <= frame < self.frame_count:
                    continue
                known = found.setdefault(frame, {})
                before = known.get((one.name, one.type_name))
                if before is None or before.confidence < one.confidence:
                    known[one.name, one.type_name] = one
        return {frame: tuple(objects.values()) for frame, objects in found.items()}

    def memory(self, first: int, last: int) -> tuple[tuple[int, MemoryReading], ...]:
        """(position of the window, reading of the memory) where there is one in [first, last), in order."""
        first, last = self._clipped(first, last)
        return tuple(self._groups_between(schema.GROUP_MEMORY, first, last, decode_memory))

    def collections(self, first: int, last: int) -> tuple[tuple[int, Collections], ...]:
        """(position of the window, what the collector did in it) where that is known, in order."""

        def decode(blob: object, window_id: int, name: str) -> Collections:
            position = int(np.searchsorted(self.window_ids, window_id))
            return decode_collections(blob, window_id, name, int(self.t0_ns[position]))

        first, last = self._clipped(first, last)
        return tuple(self._groups_between(schema.GROUP_COLLECTIONS, first, last, decode))

    # --- decoding ----------------------------------------------------------------------------------

    def _clipped(self, first: int, last: int) -> tuple[int, int]:
        first = min(max(first, 0), len(self))
        return first, min(max(last, first), len(self))

    def _positions(self, window_ids: Int64Array) -> Int32Array:
        return np.searchsorted(self.window_ids, window_ids).astype(np.int32)

    def _whole_minutes(self, first: int, last: int) -> Iterator[tuple[int, dict[str, Column]]]:
        """Rollups whose windows are all in the range, with the position of their last window."""
        if last - first < schema.ROLLUP_WINDOWS:
            return
        for position, columns in self._rollups(first, last):
            start = position - schema.ROLLUP_WINDOWS + 1
            whole = start >= first and (
                self.window_ids[start] == self.window_ids[position] - schema.ROLLUP_WINDOWS + 1
            )
            if whole:
                yield position, columns

    def _rollups(self, first: int, last: int) -> Iterator[tuple[int, dict[str, Column]]]:
        for position, columns in self._groups_between(schema.GROUP_ROLLUP, first, last, decode_rollup):
            yield position, self._with_known_ids(columns)

    def _runs(self, first: int, last: int) -> Iterator[tuple[int, dict[str, Column]]]:
        def decode(blob: object, window_id: int, name: str) -> dict[str, Column]:
            position = int(np.searchsorted(self.window_ids, window_id))
            span = int(self.t0_ns[position]), int(self.t1_ns[position])
            columns = decode_runs(blob, window_id, name, *span)
            promised = int(self.tick_counts[position]), int(self._row_counts[position, 0])
            if (len(columns["tick_ns"]), len(columns["thread"])) != promised:
                raise schema.DamagedBlob("it has another number of rows than its entry in the index says")
            return columns

        for position, columns in self._groups_between(schema.GROUP_RUNS, first, last, decode):
            yield position, self._with_known_ids(columns)

    def _with_known_ids(self, columns: dict[str, Column]) -> dict[str, Column]:
        stacks, waits = columns["stack"], columns["wait"]
        columns["stack"] = self._interned.usable_stacks(stacks)
        if len(waits) and int(waits.max()) >= self.wait_count:
            columns["wait"] = np.where(waits < self.wait_count, waits, 0)
        if columns["stack"] is not stacks or columns["wait"] is not waits:
            self._damage.setdefault(
                ("dictionary", "reference"), ("windows use entries that cannot be read", 1)
            )
        return columns

    def _counted(self, first: int, last: int) -> _CountedWindows:
        """Counters and facts of the windows at [first, last): a live view mostly asks for a few new ones."""
        first, last = self._clipped(first, last)
        if first == last:
            return _joined_counters(0, 0, [])
        first_id, last_id = int(self.window_ids[first]), int(self.window_ids[last - 1])
        cached = self._counted_cache
        if cached is None or not cached.first_id <= first_id <= cached.last_id:
            cached = self._decoded_counters(first, last)
        elif cached.last_id < last_id:
            start = int(np.searchsorted(self.window_ids, cached.last_id, side="right"))
            # Windows before the range may have gone from a ring: do not keep them for ever.
            cached = cached.between(first_id, cached.last_id).followed_by(self._decoded_counters(start, last))
        self._counted_cache = cached if len(cached.row_window_ids) <= MAX_CACHED_COUNTERS else None
        return cached.between(first_id, last_id)

    def _decoded_counters(self, first: int, last: int) -> _CountedWindows:
        def decode(blob: object, window_id: int, name: str) -> tuple[WindowFacts, dict[str, Column]]:
            position = int(np.searchsorted(self.window_ids, window_id))
            length = int(self.t1_ns[position]) - int(self.t0_ns[position])
            facts, columns = decode_counters(blob, window_id, name, length)
            if len(columns["thread"]) != self._row_counts[position, 1]:
                raise schema.DamagedBlob("it has another number of rows than its entry in the index says")
            return facts, columns

        decoded = self._groups_between(schema.GROUP_COUNTERS, first, last, decode)
        first_id, last_id = int(self.window_ids[first]), int(self.window_ids[last - 1])
        return _joined_counters(first_id, last_id, [each for _, each in decoded])

    def _groups_between(
        self, name: str, first: int, last: int, decode: Callable[[object, int, str], Decoded]
    ) -> Iterator[tuple[int, Decoded]]:
        """The decoded blobs of one group, with positions, ascending; damaged ones are noted and left out."""
        if first >= last:
            return
        ids = self.window_ids[first:last].tolist()
        wanted = {
            window_id: first + offset
            for offset, window_id in enumerate(ids)
            if name in self._groups[window_id]
            and (name, window_id) not in self._damage
            and not (name in FIGURE_GROUPS and window_id in self._left_out)
        }
        if not wanted:
            return
        most_bytes = self._file.size_bytes()
        with self._file.reading() as database:
            for window_id, blob in _blobs(database, name, ids, most_bytes):
                position = wanted.pop(window_id, None)
                if position is None:
                    continue
                try:
                    decoded = decode(blob, window_id, name)
                except schema.DamagedBlob as error:
                    self._note_damaged_group(name, window_id, str(error))
                else:
                    yield position, decoded
            self._note_missing(database, name, wanted)

    def _note_damaged_group(self, name: str, window_id: int, why: str) -> None:
        self._damage[name, window_id] = (why, 1)
        if name in FIGURE_GROUPS:
            self._left_out.add(window_id)
            # What was decoded of the window before does not count either.
            self._counted_cache = None

    def _note_missing(self, database: sqlite3.Connection, name: str, wanted: Mapping[int, int]) -> None:
        oldest = database.execute("SELECT min(id) FROM window").fetchone()[0] if self._is_ring else 0
        for window_id in wanted:
            # A ring may have dropped the window since the last refresh.
            if isinstance(oldest, int) and window_id >= oldest:
                self._note_damaged_group(name, window_id, "it is missing or unreadable")

    # --- loading -----------------------------------------------------------------------------------

    def _load(self) -> bool:
        with self._file.reading() as database:
            if self._fingerprint is None:
                check_schema(database, self.path)
            fingerprint = database.execute(_FINGERPRINT).fetchone()
            if fingerprint == self._fingerprint:
                return False
            if self._file.truncated:
                self._damage["file", None] = ("it is shorter than it was when it was written", 1)
            self._load_meta(database)
            self._load_index(database)
            self._load_dictionary(database)
            self._load_threads(database)
        self._fingerprint = fingerprint
        return True

    def _load_meta(self, database: sqlite3.Connection) -> None:
        meta = read_meta(database)
        try:
            self.target = _target(meta.get(schema.META_TARGET))
            self.settings = _settings(meta.get(schema.META_SETTINGS))
        except schema.DamagedBlob as error:
            raise damaged_file(self.path, str(error)) from None
        self._is_ring = schema.META_RING in meta
        finished = database.execute("PRAGMA user_version").fetchone() == (schema.FINISHED,)
        if schema.META_END in meta or finished:
            try:
                self._take_end(_Fields(meta.get(schema.META_END), "the end"))
            except schema.DamagedBlob as error:
                self._damage["end", None] = (str(error), 1)
        self._take_additions(meta)

    def _take_additions(self, meta: Mapping[str, object]) -> None:
        intrusions: list[Intrusion] = []
        for key in meta:
            if key.startswith(schema.META_INTRUSION) and len(intrusions) < MAX_INTRUSIONS:
                try:
                    intrusions.append(decode_intrusion(meta[key]))
                except schema.DamagedBlob as error:
                    self._damage["intrusion", key] = (str(error), 1)
        self.intrusions = tuple(sorted(intrusions, key=lambda each: (each.begin_ns, each.end_ns)))
        if schema.META_ALLOCATIONS in meta:
            try:
                self.allocations = decode_allocations(meta[schema.META_ALLOCATIONS])
            except schema.DamagedBlob as error:
                self._damage["allocations", None] = (str(error), 1)

    def _take_end(self, fields: _Fields) -> None:
        end = _end(fields)
        promised = (
            fields.number("last_window", 0, schema.MAX_WINDOW_ID),
            fields.number("last_dictionary", 0, schema.MAX_WINDOW_ID),
            fields.number("threads", 0, schema.MAX_THREADS),
        )
        self._promised_window, self._promised_delta, self._promised_threads = promised
        self.end = end

    def _load_index(self, database: sqlite3.Connection) -> None:
        known = int(self.window_ids[-1]) if len(self) else 0
        query = f"SELECT * FROM window WHERE id > ? ORDER BY id LIMIT {schema.MAX_WINDOWS}"
        rows = array("q")
        expected, unreadable = known + 1, 0
        ended_ns = int(self.t1_ns[-1]) if len(self) else -schema.MAX_TIME_NS
        for row in self._rows(database, "windows", query, known):
            try:
                numbers, groups, last_delta = _window_row(row, expected, ended_ns)
            except schema.DamagedBlob:
                unreadable += 1
                continue
            window_id, _, ended_ns = numbers[:3]
            # A ring's first window may have any id.
            if expected > 1 or not self._is_ring:
                self._note_lost_windows(expected, window_id)
            expected, unreadable = window_id + 1, 0
            rows.extend(numbers)
            if groups not in self._group_sets:
                self._group_sets[groups] = frozenset(groups.split(","))
            self._groups[window_id] = self._group_sets[groups]
            self._promised_delta = max(self._promised_delta, last_delta)
        if expected <= self._promised_window:
            self._note_lost_windows(expected, self._promised_window + 1)
        elif unreadable:
            self._damage["window", "last"] = ("its entry in the index is damaged", unreadable)
        if rows:
            added = np.array(rows, np.int64).reshape(-1, 6).T
            self.window_ids = np.concatenate((self.window_ids, added[0]))
            self.t0_ns = np.concatenate((self.t0_ns, added[1]))
            self.t1_ns = np.concatenate((self.t1_ns, added[2]))
            self.tick_counts = np.concatenate((self.tick_counts, added[3]))
            self._row_counts = np.concatenate((self._row_counts, added[4:].T))
        if self._is_ring:
            self._forget_dropped(database)

    def _note_lost_windows(self, expected: int, found: int) -> None:
        if found > expected:
            why = "its entry in the index is missing or damaged"
            self._damage["window", expected] = (why, found - expected)

    def _forget_dropped(self, database: sqlite3.Connection) -> None:
        oldest = database.execute("SELECT min(id) FROM window").fetchone()[0]
        if not isinstance(oldest, int) or not len(self) or oldest <= self.window_ids[0]:
            return
        start = int(np.searchsorted(self.window_ids, oldest))
        for window_id in self.window_ids[:start].tolist():
            del self._groups[window_id]
        self.window_ids = self.window_ids[start:]
        self.t0_ns = self.t0_ns[start:]
        self.t1_ns = self.t1_ns[start:]
        self.tick_counts = self.tick_counts[start:]
        self._row_counts = self._row_counts[start:]
        self._left_out = {each for each in self._left_out if each >= oldest}

    def _load_dictionary(self, database: sqlite3.Connection) -> None:
        query = "SELECT seq, data FROM dictionary WHERE seq > ? ORDER BY seq"
        found = self._last_delta
        for seq, blob in self._rows(database, "dictionary", query, self._last_delta):
            if not isinstance(seq, int) or seq > self._promised_delta:
                break
            if seq > found + 1:
                self._damage["dictionary", found + 1] = ("a part of it is missing", seq - found - 1)
            found = seq
            try:
                self._interned.add(seq, blob)
            except schema.DamagedBlob as error:
                self._damage["dictionary", seq] = (str(error), 1)
        if found < self._promised_delta:
            lost = self._promised_delta - found
            self._damage["dictionary", found + 1] = ("a part of it is missing", lost)
        self._last_delta = max(found, self._promised_delta)
        self._interned.settle()

    def _load_threads(self, database: sqlite3.Connection) -> None:
        query = f"SELECT * FROM thread WHERE changed >= ? LIMIT {schema.MAX_THREADS}"
        known = dict(self._known_threads)
        for row in self._rows(database, "threads", query, self._threads_changed):
            try:
                info = _thread_row(row)
            except schema.DamagedBlob as error:
                # Once finished, the file says how many there are: what is damaged is counted below.
                if not self._promised_threads:
                    self._damage["thread", row[0]] = (str(error), 1)
            else:
                known[info.index] = info
                self._threads_changed = max(self._threads_changed, int(row[1]))
        self._known_threads = known
        self.threads = ThreadTable(known)
        if len(known) < self._promised_threads:
            missing = self._promised_threads - len(known)
            self._damage["thread", None] = ("its description is missing or damaged", missing)

    def _rows(
        self, database: sqlite3.Connection, what: str, query: str, after: int
    ) -> Iterator[tuple[Any, ...]]:
        """The rows up to the first that cannot be read, which is noted."""
        try:
            yield from _held(database.execute(query, (after,)), self._file.size_bytes())
        except READ_ERRORS as error:
            raise_for_memory(error)
            self._damage[what, "unreadable"] = (f"the rest cannot be read: {error}", 1)


# --- rows ---------------------------------------------------------------------------------------------


def _held(rows: Iterable[tuple[Any, ...]], most_bytes: int) -> Iterator[tuple[Any, ...]]:
    """The rows as long as their texts and blobs fit the file: in a damaged one they may share its pages."""
    for row in rows:
        most_bytes -= sum(len(value) for value in row if isinstance(value, str | bytes))
        if most_bytes < 0:
            raise sqlite3.DatabaseError("it holds more than its size")
        yield row


def _blobs(
    database: sqlite3.Connection, name: str, window_ids: Sequence[int], most_bytes: int
) -> Iterator[tuple[int, object]]:
    """(window id, blob) of a group. What follows an unreadable page is looked for window by window."""
    reached = window_ids[0] - 1
    query = "SELECT window, data FROM column_data WHERE window BETWEEN ? AND ? AND name = ? ORDER BY window"
    try:
        found = database.execute(query, (window_ids[0], window_ids[-1], name))
        for window_id, blob in _held(found, most_bytes):
            yield window_id, blob
            reached = window_id if isinstance(window_id, int) else reached
        return
    except READ_ERRORS as error:
        raise_for_memory(error)
    for window_id in window_ids:
        if window_id <= reached:
            continue
        try:
            row = database.execute(query, (window_id, window_id, name)).fetchone()
        except READ_ERRORS:
            continue
        if row is not None:
            yield row


_RUNS_AND_COUNTERS: Final = {schema.GROUP_RUNS, schema.GROUP_COUNTERS}


def _window_row(
    row: tuple[Any, ...], expected: int, ended_ns: int
) -> tuple[tuple[int, int, int, int, int, int], str, int]:
    """((id, t0_ns, t1_ns, ticks, rows of runs, rows of counters), names of groups, last delta).

    `expected` is the least id it can have, `ended_ns` when the window before it ended. Raises DamagedBlob.
    """
    if not all(isinstance(value, int) for value in (*row[:7], row[8])) or not isinstance(row[7], str):
        raise schema.DamagedBlob("its entry in the index is damaged")
    window_id, t0_ns, t1_ns, ticks, threads, runs, last_delta, groups, checksum = row
    if schema.row_checksum(*row[:8]) != checksum:
        raise schema.DamagedBlob("the checksum of its entry in the index does not match")
    rows = schema.MAX_WINDOW_ROWS
    if (
        not expected <= window_id <= schema.MAX_WINDOW_ID
        or not max(ended_ns, -schema.MAX_TIME_NS) <= t0_ns <= t1_ns <= schema.MAX_TIME_NS
        or not all(0 <= count <= rows for count in (ticks, threads, runs))
        or not 0 <= last_delta <= schema.MAX_WINDOW_ID
        or len(groups) > 4096
        or not set(groups.split(",")) >= _RUNS_AND_COUNTERS
    ):
        raise schema.DamagedBlob("its entry in the index is out of range")
    return (window_id, t0_ns, t1_ns, ticks, runs, threads), groups, last_delta


def _thread_row(row: tuple[Any, ...]) -> ThreadInfo:
    number, changed, text, checksum = row
    if not isinstance(number, int) or not isinstance(changed, int) or not isinstance(text, str):
        raise schema.DamagedBlob("a value of its description is missing")
    if schema.row_checksum(number, changed, text) != checksum:
        raise schema.DamagedBlob("the checksum of its description does not match")
    if not 0 <= number < schema.MAX_THREADS:
        raise schema.DamagedBlob("its index is out of range")
    fields = _Fields(schema.from_json(text), "a thread")
    return ThreadInfo(
        index=number,
        tid=fields.number("tid", 0, _LARGEST_ID),
        name=schema.bounded_text(fields.required("name", str)),
        python=fields.required("python", bool),
        main=fields.required("main", bool),
        interpreter=fields.number("interpreter", 0, 2**63),
        started_ns=fields.optional_number("started_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS),
        ended_ns=fields.optional_number("ended_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS),
    )


class _Fields:
    """A JSON object of which nothing is taken for granted. Raises DamagedBlob."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise schema.DamagedBlob(f"the description of {what} cannot be read")
        self._fields = value
        self._what = what

    def optional(self, name: str, kind: type[Decoded]) -> Decoded | None:
        value = self._fields.get(name)
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        # bool is an int to Python; here it is not.
        if value is None or type(value) is kind:
            return value
        raise schema.DamagedBlob(f"the description of {self._what} has a wrong {name}")

    def required(self, name: str, kind: type[Decoded]) -> Decoded:
        value = self.optional(name, kind)
        if value is None:
            raise schema.DamagedBlob(f"the description of {self._what} lacks its {name}")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        """A whole number that is there and in low .. high."""
        return self._in_range(name, self.required(name, int), low, high)

    def optional_number(self, name: str, low: int, high: int) -> int | None:
        """The same, where it may be missing."""
        value = self.optional(name, int)
        return None if value is None else self._in_range(name, value, low, high)

    def _in_range(self, name: str, value: int, low: int, high: int) -> int:
        if not low <= value <= high:
            raise schema.DamagedBlob(f"the description of {self._what} has a {name} out of range")
        return value


def _target(value: object) -> Target:
    fields = _Fields(value, "the process")
    culprits = fields.required("gil_culprits", list)
    chains = fields.optional("gil_importers", list) or []
    environment = fields.optional("environment", list) or []
    distribution = fields.optional("distribution", list) or []
    machine = fields.optional("machine", str)
    libraries = fields.optional("libraries", list) or []
    capacity_reason = fields.optional("capacity_reason", str)
    capacity = fields.optional("capacity_cores", float)
    if capacity is not None and not (capacity <= 0 or LEAST_CORES <= capacity <= schema.MAX_CORES):
        said = f"{capacity:g}" if math.isfinite(capacity) else "no number of"
        capacity, capacity_reason = None, f"the recording says {said} cores, which makes no sense"
    return Target(
        pid=fields.number("pid", 0, _LARGEST_ID),
        start_ticks=fields.number("start_ticks", 0, 2**63),
        executable=schema.bounded_text(fields.required("executable", str)),
        command=schema.bounded_text(fields.required("command", str)),
        python_version=schema.bounded_text(fields.required("python_version", str)),
        free_threaded=fields.required("free_threaded", bool),
        gil_enabled=fields.optional("gil_enabled", bool),
        gil_culprits=tuple(schema.bounded_text(str(each)) for each in culprits[: schema.MAX_CULPRITS]),
        gil_importers=tuple(
            tuple(schema.bounded_text(str(name)) for name in chain[: schema.MAX_IMPORTERS])
            for chain in chains[: schema.MAX_CHAINS]
            if isinstance(chain, list)
        ),
        capacity_cores=capacity,
        capacity_reason=None if capacity_reason is None else schema.bounded_text(capacity_reason),
        environment=tuple(schema.bounded_text(str(each)) for each in environment[: schema.MAX_ENVIRONMENT]),
        distribution=tuple(
            schema.bounded_text(str(each)) for each in distribution[: schema.MAX_DISTRIBUTIONS]
        ),
        machine=None if machine is None else schema.bounded_text(machine),
        libraries=tuple(
            Library(*(schema.bounded_text(str(text)) for text in each))
            for each in libraries[: schema.MAX_LIBRARIES]
            if isinstance(each, list) and len(each) == 3
        ),
    )


def _settings(value: object) -> RecordingSettings:
    fields = _Fields(value, "the recording")
    native = fields.optional("native", str)
    rate_hz = fields.required("rate_hz", float)
    if not 0 <= rate_hz <= MAX_RATE_HZ:  # also false for NaN
        raise schema.DamagedBlob("the description of the recording has a rate_hz out of range")
    return RecordingSettings(
        rate_hz=rate_hz,
        started_ns=fields.number("started_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS),
        started_unix_ns=fields.number("started_unix_ns", 0, 2**63),
        ftdiag_version=schema.bounded_text(fields.required("ftdiag_version", str)),
        host=schema.bounded_text(fields.required("host", str)),
        source=schema.bounded_text(fields.required("source", str)),
        native=None if native is None else schema.bounded_text(native),
    )


def _end(fields: _Fields) -> End:
    try:
        reason = EndReason(fields.required("reason", str))
    except ValueError as error:
        if isinstance(error, schema.DamagedBlob):
            raise
        # A reason of a newer minor version: its sentence still says it.
        reason = EndReason.STOPPED
    at_ns = fields.number("at_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS)
    return End(reason, schema.bounded_text(fields.required("detail", str)), at_ns)


# --- arrays -------------------------------------------------------------------------------------------


def _joined_counters(
    first_id: int, last_id: int, decoded: Sequence[tuple[WindowFacts, dict[str, Column]]]
) -> _CountedWindows:
    rows = [len(columns["thread"]) for _, columns in decoded]
    window_ids = np.array([facts.window_id for facts, _ in decoded], np.int64)
    return _CountedWindows(
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


def _uncovered(covered: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """The ranges [start, stop) in which the mask is false."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], covered, [True])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
