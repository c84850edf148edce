"""Opens the file of a recording for reading, in whatever state its writer left it.

In: a path. Out: short-lived read-only SQLite connections, each in one read transaction; every failure is
a RecordingError that says what to do.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ftdiag.errors import RecordingError
from ftdiag.opening import open_plain
from ftdiag.recording import schema

if TYPE_CHECKING:
    import tempfile

BUSY_WAIT_S: Final = 5.0
"""How long a read waits for a writer that holds the file (it does so for moments only)."""
MAX_TABLES: Final = 64
"""Most tables and indexes of a recording's file."""
MAX_META_ROWS: Final = 1024
"""Most rows of the table `meta`."""
READ_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged file makes the sqlite3 module raise; the second where damage is in an error's own text."""
MAX_META_BYTES: Final = 1 << 26
"""All values of the table `meta` together."""
STEPS_A_BYTE: Final = 4
"""Steps of SQLite's machine that one read may take for each byte of the file: a row of a recording takes some
15 and 20 bytes. A file whose pages refer to each other in circles takes them without an end."""
LEAST_STEPS: Final = 1_000_000
_STEPS_AT_A_TIME: Final = 100_000
_COMPANIONS: Final = ("-wal", "-journal")
"""Endings of the files that SQLite keeps beside a database with changes not yet folded in."""
ALL_COMPANIONS: Final = (*_COMPANIONS, "-shm")
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_PIECE_BYTES: Final = 1 << 20


class RecordingFile:
    """The file of a recording. Raises RecordingError if it is none, or cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = False
        """The file is shorter than it says it is; what is left can be read."""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._identity = self._regular_file()
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        try:
            self._check_kind()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the private copy, if one had to be made."""
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection in one read transaction: what it reads belongs together, whatever is appended."""
        if self._copy is None and self._regular_file() != self._identity:
            raise RecordingError(
                f"{self.path} was replaced by another file while it was read.", "Open it again."
            )
        try:
            database = self._connect(self._uri)
            try:
                database.execute("BEGIN")
                yield database
            finally:
                database.close()
        except READ_ERRORS as error:
            raise self._error(error) from error

    def size_bytes(self) -> int:
        """What the file and its log have by now."""
        total = 0
        for ending in ("", *_COMPANIONS):
            with suppress(OSError):
                total += Path(f"{self.path}{ending}").stat().st_size
        return total

    # --- parts -------------------------------------------------------------------------------------

    def _regular_file(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise RecordingError(f"{self.path} does not exist.", "Check the name.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RecordingError(
                f"{self.path} cannot be opened: {reason}.", "Check the name and the permissions."
            ) from None
        if stat.S_ISDIR(status.st_mode):
            raise RecordingError(f"{self.path} is a directory.", "Name a recording in it.")
        if not stat.S_ISREG(status.st_mode):
            raise RecordingError(
                f"{self.path} is not a regular file.", "Save the recording to a file, then open that."
            )
        if status.st_size == 0:
            raise RecordingError(
                f"{self.path} is empty.",
                "If a recording has just been started, try again in a second; else nothing was recorded.",
            )
        return status.st_dev, status.st_ino

    def _check_kind(self) -> None:
        try:
            self._probe()
        except READ_ERRORS as error:
            raise self._error(error) from error

    def _probe(self) -> None:
        """Find the way to open the file, then ask it what it is."""
        try:
            application_id = self._application_id()
        except sqlite3.OperationalError as error:
            # Without a finished write-ahead log SQLite needs to write beside the file, or into it.
            if _primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            self._read_a_copy()
            application_id = self._application_id()
        if application_id != schema.APPLICATION_ID:
            raise not_a_recording(self.path)

    def _application_id(self) -> int:
        database = self._connect(self._uri)
        try:
            try:
                database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except READ_ERRORS as error:
                if _primary_code(error) != sqlite3.SQLITE_CORRUPT or self.truncated:
                    raise
                # SQLite refuses a file that is too short unless it is told that it may be damaged.
                self.truncated = True
                database.execute("PRAGMA writable_schema=ON")
                database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return int(database.execute("PRAGMA application_id").fetchone()[0])
        finally:
            database.close()

    def _read_a_copy(self) -> None:
        import tempfile

        self._copy = tempfile.TemporaryDirectory(prefix="ftdiag-")
        copied = Path(self._copy.name) / "recording"
        try:
            _copy(self.path, copied)
            for ending in _COMPANIONS:
                with suppress(FileNotFoundError):
                    _copy(Path(f"{self.path}{ending}"), Path(f"{copied}{ending}"))
            if names_another_file(Path(f"{copied}-journal")):
                raise damaged_file(self.path, "the journal beside it names another file")
        except OSError as error:
            raise RecordingError(
                f"{self.path} was not finished; to be read it must be copied, and that failed: {error}.",
                f"Copy it with the files {self.path.name}-* to a directory that you may write to.",
            ) from None
        self._uri = f"{copied.as_uri()}?mode=rw"

    def _connect(self, uri: str) -> sqlite3.Connection:
        database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_WAIT_S)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, schema.MAX_BLOB_BYTES)
        left = [(LEAST_STEPS + STEPS_A_BYTE * self.size_bytes()) // _STEPS_AT_A_TIME]

        def one_less() -> bool:
            left[0] -= 1
            return left[0] < 0

        database.set_progress_handler(one_less, _STEPS_AT_A_TIME)
        # The file may be hostile: its schema gets no functions, its cells are checked, nothing is mapped.
        database.execute("PRAGMA trusted_schema=OFF")
        database.execute("PRAGMA cell_size_check=ON")
        database.execute("PRAGMA mmap_size=0")
        if self.truncated:
            database.execute("PRAGMA writable_schema=ON")
        return database

    def _error(self, error: Exception) -> RecordingError:
        raise_for_memory(error)
        code = _primary_code(error)
        if code == sqlite3.SQLITE_NOTADB:
            return not_a_recording(self.path)
        if code == sqlite3.SQLITE_INTERRUPT:
            return damaged_file(self.path, "its pages refer to each other without an end")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return RecordingError(f"{self.path} is locked by another program.", "Try again in a moment.")
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            return RecordingError(
                f"{self.path} cannot be opened: {error}.",
                "Check its permissions; a recording belongs to the user who made it.",
            )
        return damaged_file(self.path, str(error))


def _copy(path: Path, copy: Path) -> None:
    """Copy a regular file, as long as it is now, to a new one. Raises OSError."""
    with os.fdopen(open_plain(path), "rb") as source, open(copy, "xb") as target:
        left = os.fstat(source.fileno()).st_size
        # It may claim more than anybody has.
        free = os.statvfs(copy.parent)
        if left > free.f_bavail * free.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while left > 0 and (piece := source.read(min(left, _PIECE_BYTES))):
            target.write(piece)
            left -= len(piece)


def names_another_file(journal: Path) -> bool:
    """Whether a rollback journal ends with the name of one for several databases.

    SQLite removes that file when it has undone what the journal says (pager_delsuper, src/pager.c): so who
    wrote the journal could have any file removed, with the rights of whoever opens the database to write.
    """
    with suppress(OSError), os.fdopen(open_plain(journal), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return size >= len(_JOURNAL_MAGIC) and os.pread(file.fileno(), 8, size - 8) == _JOURNAL_MAGIC
    return False


def check_beside(path: Path) -> None:
    """Raise RecordingError where SQLite would take somebody else's file for a part of a recording of ours.

    In a directory like /tmp anybody can put one there. For who is about to write.
    """
    for ending in ALL_COMPANIONS:
        with suppress(FileNotFoundError):
            if os.lstat(f"{path}{ending}").st_uid not in (0, os.geteuid()):
                raise RecordingError(
                    f"{path}{ending} is another user's; SQLite would take it for a part of the recording.",
                    "Choose a directory in which nobody else can write.",
                )


def raise_for_memory(error: Exception) -> None:
    """Raise MemoryError where SQLite had no memory: the file is not to blame."""
    if _primary_code(error) == sqlite3.SQLITE_NOMEM:
        raise MemoryError("SQLite") from error


def _primary_code(error: Exception) -> int:
    """SQLite's error code without its detail; errors of Python's own module have none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def not_a_recording(path: Path) -> RecordingError:
    """The error for a file of another kind."""
    return RecordingError(f"{path} is not a recording of ftdiag.", "Make one with: ftdiag record PID")


def damaged_file(path: Path, detail: str) -> RecordingError:
    """The error for a recording that is damaged beyond use."""
    return RecordingError(
        f"{path} is damaged beyond use: {detail}.",
        "If it was copied, copy it again together with the files whose names start with its name.",
    )


def check_schema(database: sqlite3.Connection, path: Path) -> None:
    """Raise RecordingError unless the file holds exactly our tables, in a version that we read."""
    major, writer = _schema_version(database, path)
    if major > schema.SCHEMA_MAJOR:
        raise RecordingError(
            f"{path} has schema version {major}; this ftdiag reads up to {schema.SCHEMA_MAJOR}.",
            f"It was written by ftdiag {writer}: open it with that version or a newer one.",
        )
    found = {}
    query = f"SELECT type, name, sql FROM sqlite_schema LIMIT {MAX_TABLES}"
    for kind, name, sql in database.execute(query):
        if kind not in ("table", "index"):
            raise damaged_file(path, f"it contains a {kind}, which no recording has")
        found[name] = sql
    for name, sql in schema.TABLES.items():
        if found.get(name) != sql:
            raise damaged_file(path, f"its table {name} is not defined as in a recording")


def read_meta(database: sqlite3.Connection) -> dict[str, object]:
    """The values of the table `meta` by key; None where a value is damaged."""
    meta: dict[str, object] = {}
    left_bytes = MAX_META_BYTES
    for key, text, checksum in database.execute(f"SELECT * FROM meta LIMIT {MAX_META_ROWS}"):
        left_bytes -= sum(len(value) for value in (key, text) if isinstance(value, str | bytes))
        if left_bytes < 0:
            break
        try:
            if not isinstance(key, str) or not isinstance(text, str):
                raise schema.DamagedBlob("a text is missing")
            if schema.row_checksum(key, text) != checksum:
                raise schema.DamagedBlob("its checksum does not match")
            meta[key] = schema.from_json(text)
        except schema.DamagedBlob:
            meta[str(key)] = None
    return meta


def _schema_version(database: sqlite3.Connection, path: Path) -> tuple[int, str]:
    """The major version, and the version of ftdiag that wrote the file."""
    try:
        version = read_meta(database).get(schema.META_SCHEMA)
    except READ_ERRORS as error:
        raise damaged_file(path, str(error)) from error
    match version:
        case {"major": int(major), "minor": int(), "writer": str(writer)}:
            return major, schema.bounded_text(writer)
    raise damaged_file(path, "its schema version cannot be read")
