"""Reads a recording, finished or growing, as numpy columns.

In: a recording, written by anybody, and ranges of it. Out: the model's values and tables of columns. What is
damaged is left out and reported by `Recording.damaged`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ftdiag.datatypes import replace
from ftdiag.model import (
    NO_LINE,
    Collections,
    Frame,
    Gap,
    MemoryReading,
    SharedObject,
    Stack,
    ThreadInfo,
    UpdateSight,
    Wait,
)
from ftdiag.recording import schema
from ftdiag.recording.columns import (
    RUN_TYPES,
    Column,
    Int32Array,
    Int64Array,
    WindowFacts,
    decode_collections,
    decode_counters,
    decode_memory,
    decode_native,
    decode_runs,
    decode_shared,
    decode_updates,
    joined,
)
from ftdiag.recording.contents import Contents
from ftdiag.recording.file import (
    RecordingFile,
)
from ftdiag.recording.tables import (
    Costs,
    CountedWindows,
    Counters,
    NativeColumns,
    RunColumns,
    joined_counters,
)

MAX_CACHED_COUNTERS: Final = 1 << 20
"""Rows of counters kept decoded between calls (some 70 bytes each)."""


class Recording(Contents):
    """A recording that is read while it grows, after it ended, or after its writer was killed.

    Ranges are positions [first, last) of windows; see `Contents` for what they mean and what is raised.
    """

    def __init__(self, file: RecordingFile) -> None:
        """Use `open`."""
        super().__init__(file)
        self._native_cache: tuple[tuple[int, ...], NativeColumns] | None = None

    def verify(self) -> tuple[Gap, ...]:
        """Read and check every window. Returns `damaged`."""
        for _ in self._runs(0, len(self)):
            pass
        self._counted(0, len(self))
        self.native(0, len(self))
        self.shared(0, len(self))
        self.updates(0, len(self))
        self.memory(0, len(self))
        self.collections(0, len(self))
        return self.damaged

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
        names = (*schema.NATIVE_COLUMNS, *schema.UNSEEN_COLUMNS)
        parts: dict[str, list[Column]] = {name: [] for name in names}
        facts: list[tuple[int, int]] = []
        for position, columns in self._groups_between(schema.GROUP_NATIVE, first, last, decode_native):
            windows.append(position)
            columns["stack"] = self._interned.usable_stacks(columns["stack"])
            for name in ("frame", "unseen_frame"):
                columns[name] = np.where(columns[name] < self.frame_count, columns[name], 0)
            for name in names:
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
            unseen_state=joined(parts["unseen_state"], np.uint8),
            unseen_frame=joined(parts["unseen_frame"], np.int32),
            unseen_samples=joined(parts["unseen_samples"], np.int64),
        )

    def shared(self, first: int, last: int) -> dict[int, tuple[SharedObject, ...]]:
        """Frame id of a line -> the shared objects named on it in the windows at positions [first, last).

        NO_LINE has the objects whose own locks are waited for, called by the address of the lock. Where one
        is named several times, the highest confidence counts. Lines nobody looked at, or with nothing that
        could be named, are missing.
        """
        first, last = self._clipped(first, last)
        found: dict[int, dict[tuple[str, str], SharedObject]] = {}
        for _, rows in self._groups_between(schema.GROUP_SHARED, first, last, decode_shared):
            for frame, one in rows:
                if frame >= self.frame_count and frame != NO_LINE:
                    continue
                known = found.setdefault(frame, {})
                if one.better_than(known.get((one.name, one.type_name))):
                    known[one.name, one.type_name] = self.with_maker(one)
        return {frame: tuple(objects.values()) for frame, objects in found.items()}

    def with_maker(self, one: SharedObject) -> SharedObject:
        """The object with the name of the thread that made it, where that is known."""
        facts = one.facts
        if facts is None or facts.maker < 0:
            return one
        return replace(one, facts=replace(facts, made_by=self.thread(facts.maker).name))

    def updates(self, first: int, last: int) -> tuple[tuple[int, list[UpdateSight]], ...]:
        """(position of the window, who was in the middle of updating what) where that was looked for."""
        first, last = self._clipped(first, last)
        return tuple(self._groups_between(schema.GROUP_UPDATES, first, last, decode_updates))

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

    def _positions(self, window_ids: Int64Array) -> Int32Array:
        return np.searchsorted(self.window_ids, window_ids).astype(np.int32)

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

    def _counted(self, first: int, last: int) -> CountedWindows:
        """Counters and facts of the windows at [first, last): a live view mostly asks for a few new ones."""
        first, last = self._clipped(first, last)
        if first == last:
            return joined_counters(0, 0, [])
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

    def _decoded_counters(self, first: int, last: int) -> CountedWindows:
        def decode(blob: object, window_id: int, name: str) -> tuple[WindowFacts, dict[str, Column]]:
            position = int(np.searchsorted(self.window_ids, window_id))
            length = int(self.t1_ns[position]) - int(self.t0_ns[position])
            facts, columns = decode_counters(blob, window_id, name, length)
            if len(columns["thread"]) != self._row_counts[position, 1]:
                raise schema.DamagedBlob("it has another number of rows than its entry in the index says")
            return facts, columns

        decoded = self._groups_between(schema.GROUP_COUNTERS, first, last, decode)
        first_id, last_id = int(self.window_ids[first]), int(self.window_ids[last - 1])
        return joined_counters(first_id, last_id, [each for _, each in decoded])
