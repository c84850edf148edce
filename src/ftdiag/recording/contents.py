"""What a recording has: its index of windows, descriptions and dictionary, kept up to date while it grows.

In: the path of a recording, written by anybody: every size is bounded, every blob and row checked. Out: the
model's values, and blobs of windows one after the other. What is damaged is left out and reported by
`Contents.damaged`; what makes the file useless is a RecordingError. A recording is never written to.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np

from ftdiag.errors import RecordingError
from ftdiag.model import (
    Allocations,
    End,
    Gap,
    Perturbation,
    RecordingSettings,
    Target,
    ThreadInfo,
)
from ftdiag.recording import schema
from ftdiag.recording.allocations import MAX_PERTURBATIONS, decode_allocations, decode_perturbation
from ftdiag.recording.columns import (
    Int64Array,
)
from ftdiag.recording.descriptions import Fields, end_of, settings_of, target_of, thread_row, window_row
from ftdiag.recording.file import (
    READ_ERRORS,
    RecordingFile,
    check_schema,
    damaged_file,
    raise_for_memory,
    read_meta,
)
from ftdiag.recording.interned import InternedTables
from ftdiag.recording.tables import CountedWindows, ThreadTable

FIGURE_GROUPS: Final = (schema.GROUP_RUNS, schema.GROUP_COUNTERS, schema.GROUP_NATIVE)
"""What figures are made of. A window lacks all of these where one is damaged: figures that are compared come
from the same windows."""
KEPT_TOGETHER: Final = 4
"""Windows that are asked for together at most where what is decoded of them is kept."""
KEPT_GROUPS: Final = 30
"""Groups of windows that are kept decoded: those at both ends of a range (0.1 MB each for 500 threads)."""
# One cheap look at everything that a writer changes.
_FINGERPRINT: Final = (
    "SELECT (SELECT max(id) FROM window), (SELECT min(id) FROM window), (SELECT max(changed) FROM thread),"
    " (SELECT group_concat(checksum) FROM meta)"
)
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Decoded = TypeVar("Decoded")


class Contents:
    """What a recording has, kept up to date while it grows, and what of it was found damaged.

    Every method opens the file, reads and closes it again, so that no reader keeps a writer from
    finishing. Positions count the windows present, from 0; in a ring they shift when `refresh` returns
    True. All methods that read raise RecordingError where the file cannot be read any more. For use by
    one thread at a time.

    Longer than 300 lines, because all that it has is taken in together, from one state of the file.
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
    perturbations: tuple[Perturbation, ...]
    """Times in which an instrument changed how the target ran, by their beginning."""

    def __init__(self, file: RecordingFile) -> None:
        """Use `open`."""
        self._file = file
        self.path = file.path
        self.end = None
        self.allocations = None
        self.perturbations = ()
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
        self._counted_cache: CountedWindows | None = None
        self._decoded: OrderedDict[tuple[str, int], Any] = OrderedDict()

    @classmethod
    def open(cls, path: Path) -> Self:
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

    def _clipped(self, first: int, last: int) -> tuple[int, int]:
        first = min(max(first, 0), len(self))
        return first, min(max(last, first), len(self))

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
        # A view that follows asks for the few windows at both ends of its range again and again.
        again = name in FIGURE_GROUPS and len(ids) <= KEPT_TOGETHER
        if again and all((name, window_id) in self._decoded for window_id in wanted):
            for window_id, place in wanted.items():
                self._decoded.move_to_end((name, window_id))
                yield place, self._decoded[name, window_id]
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
                    if again:
                        self._keep(name, window_id, decoded)
                    yield position, decoded
            self._note_missing(database, name, wanted)

    def _keep(self, name: str, window_id: int, decoded: object) -> None:
        self._decoded[name, window_id] = decoded
        if len(self._decoded) > KEPT_GROUPS:
            self._decoded.popitem(last=False)

    def summary_parts(self, window_id: int) -> dict[str, object]:
        """The blobs of the summary that ends with this window by name of the part; empty if there is none."""
        query = "SELECT name, data FROM column_data WHERE window = ? AND name BETWEEN ? AND ? LIMIT 64"
        ends = schema.SUMMARY_PREFIX, f"{schema.SUMMARY_PREFIX}~"
        try:
            with self._file.reading() as database:
                rows = _held(database.execute(query, (window_id, *ends)), self._file.size_bytes())
                return {str(name).removeprefix(schema.SUMMARY_PREFIX): blob for name, blob in rows}
        except RecordingError:
            return {}

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
            self.target = target_of(meta.get(schema.META_TARGET))
            self.settings = settings_of(meta.get(schema.META_SETTINGS))
        except schema.DamagedBlob as error:
            raise damaged_file(self.path, str(error)) from None
        self._is_ring = schema.META_RING in meta
        finished = database.execute("PRAGMA user_version").fetchone() == (schema.FINISHED,)
        if schema.META_END in meta or finished:
            try:
                self._take_end(Fields(meta.get(schema.META_END), "the end"))
            except schema.DamagedBlob as error:
                self._damage["end", None] = (str(error), 1)
        self._take_additions(meta)

    def _take_additions(self, meta: Mapping[str, object]) -> None:
        perturbations: list[Perturbation] = []
        for key in meta:
            if key.startswith(schema.META_PERTURBATION) and len(perturbations) < MAX_PERTURBATIONS:
                try:
                    perturbations.append(decode_perturbation(meta[key]))
                except schema.DamagedBlob as error:
                    self._damage["perturbation", key] = (str(error), 1)
        self.perturbations = tuple(sorted(perturbations, key=lambda each: (each.begin_ns, each.end_ns)))
        if schema.META_ALLOCATIONS in meta:
            try:
                self.allocations = decode_allocations(meta[schema.META_ALLOCATIONS])
            except schema.DamagedBlob as error:
                self._damage["allocations", None] = (str(error), 1)

    def _take_end(self, fields: Fields) -> None:
        end = end_of(fields)
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
                numbers, groups, last_delta = window_row(row, expected, ended_ns)
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
                info = thread_row(row)
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
