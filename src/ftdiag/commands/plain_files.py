"""Files that a person names, read as a whole: regular files only, and no more of them than is wanted.

In: a path. Out: bytes, or OSError.
"""

from __future__ import annotations

import os

from ftdiag.opening import open_plain, read_from


def read(path: str | os.PathLike[str], limit: int) -> bytes:
    """The first `limit` bytes. Raises OSError, also for what is no regular file."""
    return read_from(open_plain(path), limit)
