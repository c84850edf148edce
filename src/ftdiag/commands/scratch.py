"""The private directory of a look that is not to be kept.

In: nothing. Out: a directory that only we may enter, removed when we leave. A command that was killed
could not do that; the next one does it for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ftdiag.errors import DiskFull

PREFIX: Final = "ftdiag-live-"
OWNER_NAME: Final = "owner"
"""A file that is locked as long as the command that made the directory lives."""


@contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory, mode 0700. Raises DiskFull when there is no place for one."""
    parent: Path | None = None
    try:
        parent = Path(tempfile.gettempdir())
        remove_abandoned(parent)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        descriptor = _owned(directory)
    except OSError as error:
        raise DiskFull(
            f"there is no place for a temporary recording: {error.strerror or error}"
            + (f" ({parent})" if parent else ""),
            "TMPDIR=/some/directory ftdiag ...   takes another place",
        ) from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _owned(directory: Path) -> int:
    """Make the file that says who owns a directory; the descriptor that keeps it locked.

    It gets its name when it is locked: a command that starts at this moment would find it without an owner.
    """
    unnamed = directory / f"{OWNER_NAME}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unnamed.rename(directory / OWNER_NAME)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_abandoned(parent: Path) -> None:
    """Remove private directories of ours whose command is gone."""
    try:
        found = [entry for entry in os.scandir(parent) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for entry in found:
        with suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            owner = os.open(f"{entry.path}/{OWNER_NAME}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(owner)
