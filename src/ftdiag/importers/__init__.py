"""Files of other profilers, by what is in them: which importer takes a file.

In: a path. Out: the `Importer` that knows its format, or RecordingError. Each importer is a module of its
own with two functions: `recognises(head, path)` looks at the first HEAD_BYTES of a file, `import_file(path,
output, progress)` makes a recording of it and says in words what came in. Modules are imported only when a
file is looked at.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, cast

from ftdiag.errors import RecordingError

HEAD_BYTES: Final = 65_536
"""So much of a file is looked at to tell what it is."""

Progress = Callable[[str], None]
"""Called now and then with one line that says how far it is."""


class Importer(Protocol):
    """A module that reads one program's files."""

    KIND: str
    """What such a file is, for people: "a capture of memray"."""

    def recognises(self, head: bytes, path: Path) -> bool:
        """Whether a file that begins with `head` is one of these."""

    def import_file(self, path: Path, output: Path, progress: Progress) -> str:
        """Make the recording `output`; a sentence about what came in. Raises FtdiagError."""


MODULES: Final[tuple[str, ...]] = ()
"""Names of the importers in this package, asked in this order."""


def importers() -> tuple[Importer, ...]:
    """All importers."""
    return tuple(cast(Importer, importlib.import_module(f"ftdiag.importers.{name}")) for name in MODULES)


def importer_of(path: Path) -> Importer:
    """The importer for a file. Raises RecordingError: it cannot be read, or nobody knows it."""
    head = read_head(path)
    for importer in importers():
        if importer.recognises(head, path):
            return importer
    known = ", ".join(importer.KIND for importer in importers())
    raise RecordingError(
        f"{path} is no file that can be imported: it is none of {known}",
        f"ftdiag open {path}   if it is a recording of ftdiag",
    )


def read_head(path: Path) -> bytes:
    """The first HEAD_BYTES of a regular file. Raises RecordingError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise RecordingError(f"{path} is {what}", "Name a file that memray or py-spy wrote.")
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise RecordingError(f"{path} does not exist", "Check the name.") from None
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be read: {error.strerror}", "Check the name and the permissions."
        ) from None
    if not head:
        raise RecordingError(f"{path} is empty", "Nothing was written to it; record once more.")
    return head
