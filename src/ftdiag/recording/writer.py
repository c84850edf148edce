"""Writes a recording: what the sampler saw, window by window, into one SQLite file.

In: interned frames, stacks and waits, thread descriptions, windows. Out: a file that any number of
readers may follow while it grows, and that a crash of the writer leaves usable.
No numpy here: this runs in the sampler's process, whose start-up time and memory matter.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ftdiag.errors import DiskFull, RecordingError
from ftdiag.model import (
    NO_STACK,
    End,
    Frame,
    RecordingSettings,
    Target,
    ThreadInfo,
    Wait,
    Window,
)
from ftdiag.recording import schema
from ftdiag.recording.dictionary import Dictionary
from ftdiag.recording.encoding import (
    bounded,
    check_lengths,
    encode_collections,
    encode_counters,
    encode_memory,
    encode_native,
    encode_runs,
    encode_shared,
    encode_updates,
    settings_fields,
    target_fields,
    thread_fields,
)
from ftdiag.recording.file import check_beside

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
        self._dictionary = Dictionary()
        self._dictionary_bytes = 0
        self._dictionary_seq = 0
        self._threads: dict[int, ThreadInfo] = {}
        self._thread_last_window: dict[int, int] = {}
        self._target: Target | None = None
        self._window_id = 0
        self._oldest_id = 1
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
        check_lengths(window)
        window = bounded(window)
        window_id = self._window_id + 1
        groups = {
            schema.GROUP_RUNS: encode_runs(window_id, window),
            schema.GROUP_COUNTERS: encode_counters(window_id, window),
        }
        if window.native is not None:
            groups[schema.GROUP_NATIVE] = encode_native(window_id, window.native)
        if window.shared:
            groups[schema.GROUP_SHARED] = encode_shared(window_id, window.shared)
        if window.updates is not None:
            groups[schema.GROUP_UPDATES] = encode_updates(window_id, window.updates)
        if window.memory is not None:
            groups[schema.GROUP_MEMORY] = encode_memory(window_id, window.memory)
        if window.collections is not None:
            groups[schema.GROUP_COLLECTIONS] = encode_collections(window_id, window)
        delta = self._dictionary.encode_delta(self._dictionary_seq + 1)
        with self._errors(), _transaction(self._database):
            oldest_id = self._make_room(window, sum(map(len, groups.values())) + len(delta or b""))
            self._insert_descriptions(window_id, delta)
            self._insert_window(window_id, window, groups, self._dictionary_seq + (delta is not None))
        self._oldest_id = oldest_id
        self._commit_descriptions(delta)
        self._window_id = window_id
        self._note_threads(window_id, window)

    def finish(self, end: End) -> None:
        """Write how the recording ended and leave one file that needs no write-ahead log.

        Where readers hold the file for longer than FINISH_WAIT_S, or the disk is full, the log stays
        beside it; both can be read together. Raises DiskFull if there was no room for the end.
        """
        delta = self._dictionary.encode_delta(self._dictionary_seq + 1)
        with self._errors(), _transaction(self._database):
            self._insert_descriptions(self._window_id + 1, delta)
            stored = {
                "reason": end.reason.value,
                "detail": schema.bounded_text(end.detail),
                "at_ns": end.at_ns,
                "last_window": self._window_id,
                "last_dictionary": self._dictionary_seq + (delta is not None),
                "threads": self._database.execute("SELECT count(*) FROM thread").fetchone()[0],
            }
            _put_meta(self._database, schema.META_END, stored)
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
        with _transaction(self._database):
            database.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
            for statement in (*schema.TABLES.values(), *schema.INDEXES.values()):
                database.execute(statement)
            version = {
                "major": schema.SCHEMA_MAJOR,
                "minor": schema.SCHEMA_MINOR,
                "writer": settings.ftdiag_version,
            }
            _put_meta(self._database, schema.META_SCHEMA, version)
            _put_meta(self._database, schema.META_TARGET, target_fields(target))
            _put_meta(self._database, schema.META_SETTINGS, settings_fields(settings))
            if self._keep_ns is not None or self._keep_bytes is not None:
                _put_meta(
                    self._database,
                    schema.META_RING,
                    {"keep_ns": self._keep_ns, "keep_bytes": self._keep_bytes},
                )
        database.execute("PRAGMA journal_mode=WAL").fetchall()
        # A killed process loses nothing committed even so; only a power cut may cost the last windows.
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(f"PRAGMA wal_autocheckpoint={WAL_CHECKPOINT_PAGES}").fetchall()
        database.execute(f"PRAGMA journal_size_limit={WAL_CHECKPOINT_PAGES * schema.PAGE_BYTES}").fetchall()

    def _insert_descriptions(self, window_id: int, delta: bytes | None) -> None:
        if delta is not None:
            self._database.execute("INSERT INTO dictionary VALUES (?, ?)", (self._dictionary_seq + 1, delta))
        if self._target is not None:
            _put_meta(self._database, schema.META_TARGET, target_fields(self._target))
        for info in self._threads.values():
            text = schema.to_json(thread_fields(info))
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
            while oldest_id <= self._window_id and _used_bytes(self._database) + needed > self._keep_bytes:
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

    def _note_threads(self, window_id: int, window: Window) -> None:
        if self._keep_ns is None and self._keep_bytes is None:
            return
        for column in (window.runs.thread, window.counters.thread):
            for index in set(column):
                self._thread_last_window[index] = window_id

    # --- errors ------------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_ftdiag_error(error, self._path) from error


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            # SQLite has rolled back by itself after some errors; then there is nothing to undo.
            if database.in_transaction:
                database.execute("ROLLBACK")
        raise


def _used_bytes(database: sqlite3.Connection) -> int:
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    free = database.execute("PRAGMA freelist_count").fetchone()[0]
    return int(pages - free) * schema.PAGE_BYTES


def _put_meta(database: sqlite3.Connection, key: str, value: object) -> None:
    text = schema.to_json(value)
    database.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, text, schema.row_checksum(key, text))
    )


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
