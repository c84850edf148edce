"""Adds to a recording what its writer does not know: captures of memray, and when it was attached.

In: the path of a recording, growing or finished, and the model's values. Out: a row of its table `meta`.
The sampler stays the only one that writes windows; a row is added in one short transaction, which a
growing recording's writer waits for, and its readers take it in with their next refresh.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ftdiag.errors import DiskFull, RecordingError
from ftdiag.model import Allocations, Perturbation
from ftdiag.recording import schema
from ftdiag.recording.allocations import MAX_PERTURBATIONS, encode_allocations, encode_perturbation
from ftdiag.recording.file import check_beside

BUSY_WAIT_S: Final = 5.0
"""How long to wait for the sampler, which writes for moments only."""


def add_allocations(path: Path, allocations: Allocations) -> None:
    """Keep a capture; one that was there before is replaced. Raises RecordingError, DiskFull."""
    _put(path, schema.META_ALLOCATIONS, encode_allocations(allocations))


def put_perturbation(path: Path, number: int, perturbation: Perturbation) -> None:
    """Mark a time; the same number again replaces the mark. Raises RecordingError, DiskFull."""
    _put(path, f"{schema.META_PERTURBATION}{number}", encode_perturbation(perturbation))


def next_perturbation(path: Path) -> int:
    """A number that no perturbation of the recording has. Raises RecordingError."""
    with _opened(path) as database:
        keys = {str(key) for (key,) in database.execute("SELECT key FROM meta LIMIT 1024")}
    for number in range(MAX_PERTURBATIONS):
        if f"{schema.META_PERTURBATION}{number}" not in keys:
            return number
    raise RecordingError(
        f"{path} has {MAX_PERTURBATIONS} marked times already",
        "Begin a new recording: ftdiag record PID -o FILE",
    )


def put_summaries(path: Path, first_id: int, last_id: int, parts: Mapping[str, bytes]) -> None:
    """Keep the summary of the windows with ids first_id .. last_id, by the names of its parts.

    Nothing is kept where the first window is gone: a ring has dropped it. A recording that grows is not made
    to wait for the disk: a summary that is lost with the machine's power is made anew by who looks.
    Raises RecordingError, DiskFull.
    """
    with _opened(path) as database:
        if database.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            database.execute("PRAGMA synchronous=NORMAL")
            # Whoever writes windows folds the log in.
            database.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        database.execute("BEGIN IMMEDIATE")
        if database.execute("SELECT 1 FROM window WHERE id = ?", (first_id,)).fetchone() is not None:
            database.executemany(
                "INSERT OR REPLACE INTO column_data VALUES (?, ?, ?)",
                ((last_id, f"{schema.SUMMARY_PREFIX}{name}", blob) for name, blob in parts.items()),
            )
        database.execute("COMMIT")


def _put(path: Path, key: str, text: str) -> None:
    with _opened(path) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, text, schema.row_checksum(key, text))
        )
        database.execute("COMMIT")


class _opened:  # noqa: N801 - used as a function
    """A connection to the file of a recording, closed at the end; errors in words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        check_beside(self._path)
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            self._database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_WAIT_S)
            self._database.execute("PRAGMA trusted_schema=OFF")
            found = self._database.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error as error:
            raise RecordingError(
                f"{self._path} cannot be written to: {error}", "Check the name and the permissions."
            ) from None
        if found != (schema.APPLICATION_ID,):
            self._database.close()
            raise RecordingError(f"{self._path} is not a recording of ftdiag.", "Name a recording.")
        return self._database

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            if full:
                raise DiskFull(f"{self._path} cannot grow: the disk is full", "df -h   shows it") from error
            raise RecordingError(
                f"{self._path} cannot be written to: {error}", "Check that nobody else keeps it locked."
            ) from error
