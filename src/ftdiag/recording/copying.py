"""Copies a recording into a file of its own, also while it is written.

In: the path of a recording, growing or finished, and that of the copy. Out: one file with all that was
written until then. Like its original it says whether the recording was ended; it needs no other file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ftdiag.errors import DiskFull, RecordingError
from ftdiag.recording.file import RecordingFile
from ftdiag.recording.writer import create_file, is_full

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COMPANIONS = ("", "-journal", "-wal", "-shm")


def copy_recording(path: Path, copy: Path) -> None:
    """Copy the recording `path` to the new file `copy`, mode 0600; its writer goes on meanwhile.

    Raises RecordingError (`copy` exists or cannot be made, `path` cannot be read) and DiskFull. Then no
    part of a copy is left.
    """
    with closing(RecordingFile(path)) as source:
        create_file(copy)
        try:
            _copy_into(source, copy)
        except BaseException:
            for ending in _COMPANIONS:
                Path(f"{copy}{ending}").unlink(missing_ok=True)
            raise


def _copy_into(source: RecordingFile, copy: Path) -> None:
    with source.reading() as original:
        # Begins the read: the sqlite3 module's backup itself would wait for a locked file without an end.
        original.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        try:
            uri = f"{copy.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as written:
                original.backup(written)
                # A recording that is written says in its header that a log lies beside it.
                written.execute("PRAGMA journal_mode=DELETE").fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                raise
            if is_full(error, copy):
                raise DiskFull(
                    f"The disk is full: {copy} cannot be written.", "Free some space, then try again."
                ) from error
            raise RecordingError(f"{copy} cannot be written: {error}.", "Check the disk.") from error
