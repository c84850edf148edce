"""Writes a recording: what the sampler saw, window by window, into one SQLite file.

In: interned frames, stacks and waits, thread descriptions, windows. Out: a file that any number of
readers may follow while it grows, and that a crash of the writer leaves usable.
No numpy here: this runs in the sampler's process, whose start-up time and memory matter.
"""

from __future__ import annotations

import os
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from ftdiag.datatypes import asdict, replace
from ftdiag.errors import DiskFull, RecordingError
from ftdiag.model import (
    FIRST_STACK_ID,
    NO_STACK,
    NO_WAIT,
    UNKEPT_STACK,
    End,
    Frame,
    Gap,
    MemoryReading,
    NativeSamples,
    RecordingSettings,
    Runs,
    SharedObject,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadMemory,
    Wait,
    Window,
)
from ftdiag.recording import schema
from ftdiag.recording.source import check_beside

WAL_CHECKPOINT_PAGES: Final = 256
"""The write-ahead log is folded into the file at this size: it stays near 1 MiB."""
FINISH_WAIT_S: Final = 3.0
"""How long `finish` waits for readers before it leaves the write-ahead log beside the file."""
FINISH_ATTEMPTS: Final = 30
DICTIONARY_SHARE: Final = 0.5
"""Of `keep_bytes`, the part that frames and stacks may fill; windows take the rest."""
MIN_KEEP_BYTES: Final = 1 << 20
"""The smallest bound of a ring's size that leaves room for anything."""
PAGES_OF_SLACK: Final = 16
"""Pages that one transaction may take besides its blobs: nodes of the tables' trees."""
LOW_DISK_BYTES: Final = 1 << 20
"""An input/output error with less than this free is taken for a full disk (shared memory says no more)."""

ProfileKey = tuple[int, int, int, int]
"""Thread index, state, stack id, wait id."""
Columns = TypeVar("Columns", Runs, ThreadCounters)


class RecordingWriter:
    """Creates a recording and appends windows to it. One writer a file; not for use by several threads.

    `keep_ns` and `keep_bytes` make it a ring: the oldest windows are dropped, so that it spans at most
    `keep_ns` of time and its file takes at most about `keep_bytes` (at least MIN_KEEP_BYTES is used;
    beside it lies a write-ahead log of about a MiB while it is written).

    Raises RecordingError if the file exists or cannot be created, DiskFull if there is no room.
    """

    def __init__(
        self,
        path: Path,
        target: Target,
        settings: RecordingSettings,
        *,
        keep_ns: int | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        self._path = path
        self._keep_ns = keep_ns
        self._keep_bytes = None if keep_bytes is None else max(keep_bytes, MIN_KEEP_BYTES)
        self._dictionary = _Dictionary()
        self._dictionary_bytes = 0
        self._dictionary_seq = 0
        self._threads: dict[int, ThreadInfo] = {}
        self._thread_last_window: dict[int, int] = {}
        self._target: Target | None = None
        self._window_id = 0
        self._oldest_id = 1
        self._rollup: dict[ProfileKey, int] | None = {}
        create_file(path)
        try:
            self._database = _open_database(path)
        except sqlite3.Error as error:
            path.unlink(missing_ok=True)
            raise _as_ftdiag_error(error, path) from error
        try:
            with self._errors():
                self._create_tables(target, settings)
        except (DiskFull, RecordingError):
            self._database.close()
            path.unlink(missing_ok=True)
            raise

    # --- interning ---------------------------------------------------------------------------------

    def intern_frame(self, frame: Frame) -> int:
        """The id of a frame; the same frame has the same id. UNKEPT_FRAME when the table is full.

        A negative line is kept as unknown.
        """
        return self._dictionary.intern_frame(frame)

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """The id of the stack of these frames, root first.

        NO_STACK for no frames; UNKEPT_STACK when the table is full or the stack deeper than
        MAX_STACK_DEPTH.
        """
        stack = NO_STACK
        for frame_id in frame_ids:
            stack = self._dictionary.extend_stack(stack, frame_id)
        return stack

    def extend_stack(self, parent_stack_id: int, frame_id: int) -> int:
        """The id of the stack with one more (inner) frame; the parent NO_STACK is the root.

        UNKEPT_STACK and TORN_STACK stay what they are. Otherwise as `intern_stack`.
        """
        return self._dictionary.extend_stack(parent_stack_id, frame_id)

    def intern_wait(self, wait: Wait) -> int:
        """The id of a wait, from 1; NO_WAIT when the table is full."""
        return self._dictionary.intern_wait(wait)

    def put_thread(self, info: ThreadInfo) -> None:
        """Describe a thread, or describe it anew: the last description of an index counts.

        It is written with the next window or by `finish`. Indexes from MAX_THREADS on are not kept.
        """
        if 0 <= info.index < schema.MAX_THREADS:
            self._threads[info.index] = info

    def update_target(self, target: Target) -> None:
        """Replace what is known of the target; written with the next window or by `finish`."""
        self._target = target

    # --- writing -----------------------------------------------------------------------------------

    def write_window(self, window: Window) -> None:
        """Append a window and everything interned since the last one, in one transaction.

        Times are in 0 .. 2**62 ns. Threads that have no place (index >= MAX_THREADS) are left out and
        counted as a gap. Raises DiskFull, RecordingError; the recording is then as it was before the
        call and stays readable. Raises ValueError if the columns differ in length.
        """
        _check_lengths(window)
        window = _bounded(window)
        window_id = self._window_id + 1
        rollup = self._extended_rollup(window.runs)
        groups = {
            schema.GROUP_RUNS: _encode_runs(window_id, window),
            schema.GROUP_COUNTERS: _encode_counters(window_id, window),
        }
        if window.native is not None:
            groups[schema.GROUP_NATIVE] = _encode_native(window_id, window.native)
        if window.shared:
            groups[schema.GROUP_SHARED] = _encode_shared(window_id, window.shared)
        if window.memory is not None:
            groups[schema.GROUP_MEMORY] = _encode_memory(window_id, window.memory)
        if window.collections is not None:
            groups[schema.GROUP_COLLECTIONS] = _encode_collections(window_id, window)
        if window_id % schema.ROLLUP_WINDOWS == 0 and rollup is not None:
            groups[schema.GROUP_ROLLUP] = _encode_rollup(window_id, rollup)
        delta = self._dictionary.encode_delta(self._dictionary_seq + 1)
        with self._errors(), self._transaction():
            oldest_id = self._make_room(window, sum(map(len, groups.values())) + len(delta or b""))
            self._insert_descriptions(window_id, delta)
            self._insert_window(window_id, window, groups, self._dictionary_seq + (delta is not None))
        self._oldest_id = oldest_id
        self._commit_descriptions(delta)
        self._window_id = window_id
        self._rollup = {} if window_id % schema.ROLLUP_WINDOWS == 0 else rollup
        self._note_threads(window_id, window)

    def finish(self, end: End) -> None:
        """Write how the recording ended and leave one file that needs no write-ahead log.

        Where readers hold the file for longer than FINISH_WAIT_S, or the disk is full, the log stays
        beside it; both can be read together. Raises DiskFull if there was no room for the end.
        """
        delta = self._dictionary.encode_delta(self._dictionary_seq + 1)
        with self._errors(), self._transaction():
            self._insert_descriptions(self._window_id + 1, delta)
            stored = {
                "reason": end.reason.value,
                "detail": schema.bounded_text(end.detail),
                "at_ns": end.at_ns,
                "last_window": self._window_id,
                "last_dictionary": self._dictionary_seq + (delta is not None),
                "threads": self._database.execute("SELECT count(*) FROM thread").fetchone()[0],
            }
            self._put_meta(schema.META_END, stored)
            self._database.execute(f"PRAGMA user_version={schema.FINISHED}")
        self._commit_descriptions(delta)
        # The end is safe by now; a failure from here on costs tidiness, not data.
        self._leave_one_file()

    def close(self) -> None:
        """Release the file. Without `finish` it stays readable, as after a crash."""
        self._database.close()

    # --- parts -------------------------------------------------------------------------------------

    def _create_tables(self, target: Target, settings: RecordingSettings) -> None:
        # In one transaction and before WAL mode: the main file names its kind from the first moment.
        database = self._database
        database.execute(f"PRAGMA page_size={schema.PAGE_BYTES}")
        database.execute("PRAGMA secure_delete=OFF")
        with self._transaction():
            database.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
            for statement in (*schema.TABLES.values(), *schema.INDEXES.values()):
                database.execute(statement)
            version = {
                "major": schema.SCHEMA_MAJOR,
                "minor": schema.SCHEMA_MINOR,
                "writer": settings.ftdiag_version,
            }
            self._put_meta(schema.META_SCHEMA, version)
            self._put_meta(schema.META_TARGET, _target_fields(target))
            self._put_meta(schema.META_SETTINGS, _bounded_fields(asdict(settings)))
            if self._keep_ns is not None or self._keep_bytes is not None:
                self._put_meta(schema.META_RING, {"keep_ns": self._keep_ns, "keep_bytes": self._keep_bytes})
        database.execute("PRAGMA journal_mode=WAL").fetchall()
        # A killed process loses nothing committed even so; only a power cut may cost the last windows.
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(f"PRAGMA wal_autocheckpoint={WAL_CHECKPOINT_PAGES}").fetchall()
        database.execute(f"PRAGMA journal_size_limit={WAL_CHECKPOINT_PAGES * schema.PAGE_BYTES}").fetchall()

    def _put_meta(self, key: str, value: object) -> None:
        text = schema.to_json(value)
        self._database.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, text, schema.row_checksum(key, text))
        )

    def _insert_descriptions(self, window_id: int, delta: bytes | None) -> None:
        if delta is not None:
            self._database.execute("INSERT INTO dictionary VALUES (?, ?)", (self._dictionary_seq + 1, delta))
        if self._target is not None:
            self._put_meta(schema.META_TARGET, _target_fields(self._target))
        for info in self._threads.values():
            text = schema.to_json(_thread_fields(info))
            checksum = schema.row_checksum(info.index, window_id, text)
            self._database.execute(
                "INSERT OR REPLACE INTO thread VALUES (?, ?, ?, ?)", (info.index, window_id, text, checksum)
            )

    def _commit_descriptions(self, delta: bytes | None) -> None:
        if delta is not None:
            self._dictionary_seq += 1
            self._dictionary_bytes += len(delta)
            self._dictionary.forget_delta()
            if self._keep_bytes is not None:
                self._dictionary.full = self._dictionary_bytes > DICTIONARY_SHARE * self._keep_bytes
        for index in self._threads:
            self._thread_last_window[index] = self._window_id + 1
        self._threads.clear()
        self._target = None

    def _insert_window(
        self, window_id: int, window: Window, groups: Mapping[str, bytes], dictionary_seq: int
    ) -> None:
        row = (
            window_id,
            window.t0_ns,
            window.t1_ns,
            len(window.tick_ns),
            len(window.counters.thread),
            len(window.runs.thread),
            dictionary_seq,
            ",".join(groups),
        )
        self._database.execute(
            "INSERT INTO window VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, schema.row_checksum(*row))
        )
        self._database.executemany(
            "INSERT INTO column_data VALUES (?, ?, ?)",
            [(window_id, name, blob) for name, blob in groups.items()],
        )

    def _extended_rollup(self, runs: Runs) -> dict[ProfileKey, int] | None:
        """The summed ticks of this minute with these runs, `None` where it has too many rows."""
        # A copy would be safer against a failing transaction, but costs more than all the rest of a
        # window; so a failed window spoils the minute's rollup instead.
        rollup, self._rollup = self._rollup, None
        if rollup is None:
            return None
        known = rollup.get
        keys = zip(runs.thread, runs.state, runs.stack, runs.wait, strict=True)
        for key, ticks in zip(keys, runs.ticks, strict=True):
            rollup[key] = known(key, 0) + ticks
        return rollup if len(rollup) <= schema.MAX_ROLLUP_ROWS else None

    def _leave_one_file(self) -> None:
        # SQLite waits for readers in some of these steps and gives up at once in others: wait here, in all.
        self._database.execute("PRAGMA busy_timeout=0").fetchall()
        for attempt in range(FINISH_ATTEMPTS):
            if attempt:
                time.sleep(FINISH_WAIT_S / FINISH_ATTEMPTS)
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                mode = self._database.execute("PRAGMA journal_mode=DELETE").fetchone()
                if mode == ("delete",):
                    return

    # --- the ring ----------------------------------------------------------------------------------

    def _make_room(self, window: Window, blob_bytes: int) -> int:
        """Drop windows that are too old or in the way. Returns the id of the oldest window left."""
        oldest_id = self._oldest_id
        if self._keep_ns is not None:
            row = self._database.execute(
                "SELECT id FROM window WHERE t1_ns > ? ORDER BY id LIMIT 1", (window.t1_ns - self._keep_ns,)
            ).fetchone()
            first_kept = self._window_id + 1 if row is None else int(row[0])
            oldest_id = self._drop_before(oldest_id, first_kept)
        if self._keep_bytes is not None:
            needed = blob_bytes + PAGES_OF_SLACK * schema.PAGE_BYTES
            while oldest_id <= self._window_id and self._used_bytes() + needed > self._keep_bytes:
                oldest_id = self._drop_before(oldest_id, oldest_id + 1)
        return oldest_id

    def _drop_before(self, oldest_id: int, first_kept: int) -> int:
        if first_kept <= oldest_id:
            return oldest_id
        self._database.execute("DELETE FROM window WHERE id < ?", (first_kept,))
        self._database.execute("DELETE FROM column_data WHERE window < ?", (first_kept,))
        ended = [index for index, last in self._thread_last_window.items() if last < first_kept]
        for index in ended:
            self._database.execute("DELETE FROM thread WHERE number = ?", (index,))
            del self._thread_last_window[index]
        return first_kept

    def _used_bytes(self) -> int:
        pages = self._database.execute("PRAGMA page_count").fetchone()[0]
        free = self._database.execute("PRAGMA freelist_count").fetchone()[0]
        return int(pages - free) * schema.PAGE_BYTES

    def _note_threads(self, window_id: int, window: Window) -> None:
        if self._keep_ns is None and self._keep_bytes is None:
            return
        for column in (window.runs.thread, window.counters.thread):
            for index in set(column):
                self._thread_last_window[index] = window_id

    # --- errors ------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                # SQLite has rolled back by itself after some errors; then there is nothing to undo.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_ftdiag_error(error, self._path) from error


class _Dictionary:
    """The tables of strings, frames, stacks and waits, and what of them is not written yet."""

    def __init__(self) -> None:
        self.full = False
        """Set where the file's bound leaves no room for more entries."""
        self._strings: dict[str, int] = {}
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[int, int] = {}
        self._depths = array("H", bytes(2 * FIRST_STACK_ID))
        self._waits: dict[Wait, int] = {}
        self.forget_delta()

    def forget_delta(self) -> None:
        """Everything interned so far has been written."""
        self._first = [
            schema.FIRST_IDS["string"] + len(self._strings),
            schema.FIRST_IDS["frame"] + len(self._frames),
            schema.FIRST_IDS["stack"] + len(self._stacks),
            schema.FIRST_IDS["wait"] + len(self._waits),
        ]
        self._new_strings: list[bytes] = []
        self._new_frames: list[tuple[int, int, int]] = []
        self._new_stacks: list[tuple[int, int]] = []
        self._new_waits: list[tuple[int, ...]] = []

    def intern_frame(self, frame: Frame) -> int:
        known = self._frames.get(frame)
        if known is not None:
            return known
        frame_id = schema.FIRST_FRAME_ID + len(self._frames)
        if self.full or frame_id >= schema.MAX_FRAMES or len(self._strings) + 2 > schema.MAX_STRINGS:
            return schema.UNKEPT_FRAME
        line = 0 if frame.line is None or frame.line < 0 else frame.line + 1
        filename, function = self._intern_string(frame.filename), self._intern_string(frame.function)
        self._new_frames.append((filename, function, line))
        self._frames[frame] = frame_id
        return frame_id

    def extend_stack(self, parent: int, frame_id: int) -> int:
        key = parent << 32 | frame_id
        known = self._stacks.get(key)
        if known is not None:
            return known
        if parent != NO_STACK and parent < FIRST_STACK_ID:
            return parent
        stack_id = FIRST_STACK_ID + len(self._stacks)
        depth = self._depths[parent] + 1
        if frame_id == schema.UNKEPT_FRAME or depth > schema.MAX_STACK_DEPTH:
            return UNKEPT_STACK
        if self.full or stack_id >= schema.MAX_STACKS:
            return UNKEPT_STACK
        self._stacks[key] = stack_id
        self._depths.append(depth)
        self._new_stacks.append((parent, frame_id))
        return stack_id

    def intern_wait(self, wait: Wait) -> int:
        known = self._waits.get(wait)
        if known is not None:
            return known
        wait_id = schema.FIRST_WAIT_ID + len(self._waits)
        if self.full or wait_id >= schema.MAX_WAITS or len(self._strings) + 5 > schema.MAX_STRINGS:
            return NO_WAIT
        text = self._optional_string
        lock = wait.lock
        self._new_waits.append(
            (text(wait.syscall), text(wait.detail), 0, 0, 0, 0)
            if lock is None
            else (
                text(wait.syscall),
                text(wait.detail),
                lock.address,
                text(lock.kind.value),
                text(lock.type_name),
                text(lock.label),
            )
        )
        self._waits[wait] = wait_id
        return wait_id

    def encode_delta(self, seq: int) -> bytes | None:
        """The blob of everything new, `None` if there is nothing new."""
        if not (self._new_strings or self._new_frames or self._new_stacks or self._new_waits):
            return None
        filename, function, line = _transposed(self._new_frames, 3)
        parent, frame = _transposed(self._new_stacks, 2)
        syscall, detail, address, kind, type_name, label = _transposed(self._new_waits, 6)
        return schema.encode_group(
            seq,
            schema.GROUP_DICTIONARY,
            [
                ("first", self._first, False),
                ("string.bytes", array("I", map(len, self._new_strings)), False),
                ("string.data", array("B", b"".join(self._new_strings)), False),
                ("frame.filename", filename, False),
                ("frame.function", function, False),
                ("frame.line", line, False),
                ("stack.parent", parent, True),
                ("stack.frame", frame, False),
                ("wait.syscall", syscall, False),
                ("wait.detail", detail, False),
                ("wait.lock_address", address, False),
                ("wait.lock_kind", kind, False),
                ("wait.lock_type", type_name, False),
                ("wait.lock_label", label, False),
            ],
        )

    def _optional_string(self, text: str | None) -> int:
        return 0 if text is None else 1 + self._intern_string(text)

    def _intern_string(self, text: str) -> int:
        text = schema.bounded_text(text)
        known = self._strings.get(text)
        if known is None:
            known = self._strings[text] = len(self._strings)
            self._new_strings.append(schema.encode_text(text))
        return known


# --- encoding -----------------------------------------------------------------------------------------


def _transposed(rows: Sequence[tuple[int, ...]], width: int) -> list[Sequence[int]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _check_lengths(window: Window) -> None:
    for columns, names in (
        (window.runs, schema.RUN_COLUMNS),
        (window.counters, schema.COUNTER_COLUMNS),
        (window.native or NativeSamples(), schema.NATIVE_COLUMNS),
        (window.memory.by_thread if window.memory else ThreadMemory(), schema.MEMORY_COLUMNS),
    ):
        lengths = {len(getattr(columns, name)) for name in names}
        if len(lengths) > 1:
            raise ValueError(f"columns of {type(columns).__name__} differ in length: {sorted(lengths)}")


def _bounded(window: Window) -> Window:
    """The window within the format's limits; what had to go is a gap of it."""
    gaps = list(window.gaps)
    runs, counters = window.runs, window.counters
    highest = max(max(runs.thread, default=0), max(counters.thread, default=0))
    if highest >= schema.MAX_THREADS:
        lost = sum(index >= schema.MAX_THREADS for index in set(runs.thread) | set(counters.thread))
        gaps.append(Gap("threads", "the recording's table of threads is full", lost))
        runs = _kept_rows(runs, schema.RUN_COLUMNS, lambda index: index < schema.MAX_THREADS)
        counters = _kept_rows(counters, schema.COUNTER_COLUMNS, lambda index: index < schema.MAX_THREADS)
    if len(runs.thread) > schema.MAX_WINDOW_ROWS:
        gaps.append(Gap("samples", "more runs than a window can hold", len(runs.thread)))
        runs = Runs()
    return replace(window, runs=runs, counters=counters, gaps=tuple(gaps))


def _kept_rows(columns: Columns, names: Sequence[str], keep: Callable[[int], bool]) -> Columns:
    rows = [row for row, index in enumerate(columns.thread) if keep(index)]
    kept = {}
    for name in names:
        column = getattr(columns, name)
        kept[name] = array(column.typecode, [column[row] for row in rows])
    return type(columns)(**kept)


def _encode_runs(window_id: int, window: Window) -> bytes:
    runs, t0_ns = window.runs, window.t0_ns
    # Ids are spread over the whole dictionary, but a window has few: their ranks take a byte, mostly.
    stacks = sorted(set(runs.stack))
    rank = {stack: number for number, stack in enumerate(stacks)}
    columns: list[tuple[str, Sequence[int], bool]] = [
        ("thread", runs.thread, True),
        ("first_tick", runs.first_tick, True),
        ("ticks", runs.ticks, False),
        ("state", runs.state, False),
        ("stacks", stacks, True),
        ("stack", [rank[stack] for stack in runs.stack], False),
        ("wait", runs.wait, False),
        ("holder", runs.holder, False),
        ("confidence", runs.confidence, False),
        ("tick_ns", [tick - t0_ns for tick in window.tick_ns], True),
    ]
    return schema.encode_group(window_id, schema.GROUP_RUNS, columns)


def _encode_rollup(window_id: int, rollup: Mapping[ProfileKey, int]) -> bytes:
    keys = sorted(rollup)
    thread, state, stack, wait = _transposed(keys, 4)
    ticks = [rollup[key] for key in keys]
    columns: list[tuple[str, Sequence[int], bool]] = [
        ("thread", thread, True),
        ("state", state, False),
        ("stack", stack, True),
        ("wait", wait, False),
        ("ticks", ticks, False),
    ]
    return schema.encode_group(window_id, schema.GROUP_ROLLUP, columns)


def _encode_counters(window_id: int, window: Window) -> bytes:
    most = schema.largest_counter(window.t1_ns - window.t0_ns)
    columns: list[tuple[str, Sequence[int], bool]] = [("thread", window.counters.thread, True)]
    columns += [
        (name, _possible(getattr(window.counters, name), most), False) for name in schema.COUNTER_COLUMNS[1:]
    ]
    costs = [getattr(window.cost, name) for name in schema.COST_FIELDS]
    columns.append(("cost", [min(max(0, cost), most) for cost in costs], False))
    readings = [getattr(window.process, name) for name in schema.PROCESS_FIELDS]
    columns.append(("process", [0 if value is None else 1 + int(value) for value in readings], False))
    if window.gaps:
        columns.append(("gaps", array("B", _gaps_json(window.gaps).encode("ascii")), False))
    return schema.encode_group(window_id, schema.GROUP_COUNTERS, columns)


def _possible(values: Sequence[int], most: int) -> Sequence[int]:
    """The values; not read (-1) in place of those that nothing can have done in the window."""
    if not values or (min(values) >= -1 and max(values) <= most):
        return values
    return [value if -1 <= value <= most else -1 for value in values]


def _encode_native(window_id: int, native: NativeSamples) -> bytes:
    rows = [
        row
        for row in zip(*(getattr(native, name) for name in schema.NATIVE_COLUMNS), strict=True)
        if row[0] < schema.MAX_THREADS
    ][: schema.MAX_WINDOW_ROWS]
    thread, stack, state, frame, samples = _transposed(sorted(rows), len(schema.NATIVE_COLUMNS))
    return schema.encode_group(
        window_id,
        schema.GROUP_NATIVE,
        [
            ("thread", thread, True),
            ("stack", stack, True),
            ("state", state, False),
            ("frame", frame, False),
            ("samples", samples, False),
            ("facts", [native.lost, round(1e6 * native.sampled_ratio)], False),
        ],
    )


def _encode_shared(window_id: int, shared: Sequence[tuple[int, SharedObject]]) -> bytes:
    longest = schema.MAX_SHARED_CHARACTERS
    rows = [
        (frame, one.name[:longest], one.type_name[:longest], int(one.confidence))
        for frame, one in shared[: schema.MAX_SHARED]
    ]
    text = schema.to_json(rows).encode("ascii")
    return schema.encode_group(window_id, schema.GROUP_SHARED, [("objects", array("B", text), False)])


def _encode_memory(window_id: int, memory: MemoryReading) -> bytes:
    rows = [
        row
        for row in zip(*(getattr(memory.by_thread, name) for name in schema.MEMORY_COLUMNS), strict=True)
        if row[0] < schema.MAX_THREADS
    ][: schema.MAX_WINDOW_ROWS]
    thread, stack_bytes, heap_bytes = _transposed(sorted(rows), len(schema.MEMORY_COLUMNS))
    readings = [getattr(memory, name) for name in schema.MEMORY_FACTS]
    reasons = list(memory.not_measured.items())[: schema.MAX_MEMORY_REASONS]
    text = schema.to_json([(schema.bounded_text(name), schema.bounded_text(why)) for name, why in reasons])
    return schema.encode_group(
        window_id,
        schema.GROUP_MEMORY,
        [
            ("thread", thread, True),
            ("stack_bytes", stack_bytes, False),
            ("heap_bytes", heap_bytes, False),
            ("kind", [int(kind) for kind in memory.kinds], False),
            ("kind_bytes", list(memory.kinds.values()), False),
            ("facts", [0 if value is None else 1 + max(0, value) for value in readings], False),
            ("reasons", array("B", text.encode("ascii")), False),
        ],
    )


def _encode_collections(window_id: int, window: Window) -> bytes:
    """Sums by generation; times relative to the window's beginning, those that lie out of bounds left out."""
    told = window.collections
    assert told is not None
    rows = [
        (each.generation, each.count, each.total_ns, each.looked_at, each.freed)
        for each in told.generations[: schema.MAX_GENERATIONS]
    ]
    columns: list[tuple[str, Sequence[int], bool]] = [
        (name, values, False)
        for name, values in zip(schema.COLLECTION_COLUMNS, _transposed(rows, 5), strict=True)
    ]
    timed = [
        (generation, begin - window.t0_ns, end - window.t0_ns)
        for generation, begin, end in zip(told.generation, told.begin_ns, told.end_ns, strict=True)
        if begin <= end and max(abs(begin), abs(end)) <= schema.MAX_TIME_NS
    ][: schema.MAX_COLLECTIONS]
    columns += [
        (name, values, False)
        for name, values in zip(schema.TIMED_COLUMNS, _transposed(timed, 3), strict=True)
    ]
    return schema.encode_group(window_id, schema.GROUP_COLLECTIONS, columns)


def _gaps_json(gaps: Sequence[Gap]) -> str:
    """The gaps as JSON of at most MAX_JSON_BYTES; those that do not fit are counted in one more."""
    kept = min(len(gaps), schema.MAX_GAPS)
    while True:
        rows = [
            (schema.bounded_text(gap.what), schema.bounded_text(gap.why), gap.count) for gap in gaps[:kept]
        ]
        if kept < len(gaps):
            rest = sum(gap.count for gap in gaps[kept:])
            rows.append(("gaps", "more than a window can hold", rest))
        text = schema.to_json(rows)
        if len(text) <= schema.MAX_JSON_BYTES:
            return text
        kept //= 2


def _target_fields(target: Target) -> dict[str, object]:
    fields = _bounded_fields(asdict(target))
    culprits = target.gil_culprits[: schema.MAX_CULPRITS]
    fields["gil_culprits"] = [culprit[: schema.MAX_CULPRIT_CHARACTERS] for culprit in culprits]
    fields["gil_importers"] = [
        [name[: schema.MAX_CULPRIT_CHARACTERS] for name in chain[: schema.MAX_IMPORTERS]]
        for chain in target.gil_importers[: schema.MAX_CHAINS]
    ]
    environment = target.environment[: schema.MAX_ENVIRONMENT]
    fields["environment"] = [variable[: schema.MAX_VARIABLE_CHARACTERS] for variable in environment]
    names = target.distribution[: schema.MAX_DISTRIBUTIONS]
    fields["libraries"] = [
        [text[: schema.MAX_LIBRARY_CHARACTERS] for text in (library.prefix, library.name, library.version)]
        for library in target.libraries[: schema.MAX_LIBRARIES]
    ]
    fields["distribution"] = [name[: schema.MAX_CULPRIT_CHARACTERS] for name in names]
    return fields


def _thread_fields(info: ThreadInfo) -> dict[str, object]:
    fields = _bounded_fields(asdict(info))
    del fields["index"]
    return fields


def _bounded_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: schema.bounded_text(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }


# --- the file -----------------------------------------------------------------------------------------


def create_file(path: Path) -> None:
    """Make an empty file that only its owner may read. Raises RecordingError, also if there is one."""
    check_beside(path)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise RecordingError(
            f"{path} exists already; a recording never overwrites a file.",
            "Choose another name, or remove the file first.",
        ) from None
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be created: {error.strerror}.",
            "Choose a directory that exists and that you may write to.",
        ) from None
    try:
        # A recording shows the inside of a program: nobody else may read it, whatever the umask is.
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _open_database(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=FINISH_WAIT_S,
        # One thread at a time: another finishes the file where the one that samples waits for the target.
        check_same_thread=False,
    )


def _as_ftdiag_error(error: sqlite3.Error, path: Path) -> DiskFull | RecordingError:
    if is_full(error, path):
        return DiskFull(
            f"The disk is full: {path} cannot grow.",
            "What was recorded so far can be opened. Free some space, or record with a bound on the size.",
        )
    return RecordingError(
        f"{path} cannot be written: {error}.",
        "What was recorded so far can be opened. Check the disk and that nothing else writes to the file.",
    )


def is_full(error: sqlite3.Error, path: Path) -> bool:
    """Whether SQLite failed because the disk that `path` is on is full."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code == sqlite3.SQLITE_FULL or (code & 0xFF == sqlite3.SQLITE_IOERR and _disk_is_low(path))


def _disk_is_low(path: Path) -> bool:
    try:
        status = os.statvfs(path)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < LOW_DISK_BYTES
