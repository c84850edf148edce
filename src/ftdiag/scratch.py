"""The private directory of a look that is not to be kept.

In: nothing. Out: a directory that only we may enter, removed when we leave. A command that was killed
could not do that; the next one does it for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftdiag.errors import DiskFull
from ftdiag.leftovers import LOOK_PREFIX, own, remove_abandoned


@contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory, mode 0700. Raises DiskFull when there is no place for one."""
    import shutil
    import tempfile

    parent: Path | None = None
    try:
        parent = Path(tempfile.gettempdir())
        remove_abandoned(parent)
        directory = Path(tempfile.mkdtemp(prefix=LOOK_PREFIX, dir=parent))
        descriptor = own(directory)
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
