"""Folders of ours in the temporary directory, and what is left of them when who made one was killed.

In: the temporary directory. Out: a lock on a folder as long as its process lives; the abandoned folders,
which the next process of ours removes.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

LOOK_PREFIX: Final = "ftdiag-live-"
"""The recording of a look that is not kept."""
CAPTURE_PREFIX: Final = "ftdiag-memray-"
"""What memray writes while it is attached."""
OWNER_NAME: Final = "owner"
"""A file that is locked as long as the process that made the folder lives."""
INNER: Final = "capture"
"""In a folder for memray: the directory that is the target's user's."""
MAX_LEFT: Final = 1000
"""Files of the target's user that are removed from there; memray makes one."""


def own(folder: Path) -> int:
    """Make the file that says who owns a folder; the descriptor that keeps it locked. Raises OSError.

    It gets its name when it is locked: a process that starts at this moment would find it without an owner.
    """
    unnamed = folder / f"{OWNER_NAME}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unnamed.rename(folder / OWNER_NAME)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove folders of ours whose process is gone; those that were removed."""
    removed = []
    for folder in _of_ours(parent):
        with suppress(OSError):
            owner = os.open(folder / OWNER_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.name.startswith(CAPTURE_PREFIX):
                    remove_capture(folder)
                else:
                    import shutil

                    shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(owner)
    return removed


def remove_capture(folder: Path) -> None:
    """Remove a folder for memray. If the target still writes its capture, the blocks go when that ends.

    What else its user has put beside it is removed as far as it is a few files. Raises OSError.
    """
    with suppress(OSError):
        inner = os.open(folder / INNER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with os.scandir(inner) as entries:
                names = [entry.name for entry in islice(entries, MAX_LEFT)]
            for name in names:
                with suppress(OSError):
                    is_directory = stat.S_ISDIR(os.lstat(name, dir_fd=inner).st_mode)
                    (os.rmdir if is_directory else os.unlink)(name, dir_fd=inner)
        finally:
            os.close(inner)
    if (folder / INNER).exists():
        os.rmdir(folder / INNER)
    (folder / OWNER_NAME).unlink(missing_ok=True)
    if folder.exists():
        os.rmdir(folder)


def _of_ours(parent: Path) -> Iterator[Path]:
    """Folders that are called as ours are, and belong to this user."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            if entry.name.startswith((LOOK_PREFIX, CAPTURE_PREFIX)):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                        yield Path(entry.path)
