"""Files of other profilers, by what is in them: which importer takes a file.

In: a path. Out: the `Importer` that knows its format, or RecordingError. Each importer is a module of its
own with two functions: `recognises(head, path)` looks at the first HEAD_BYTES of a file, `import_file(path,
output, progress)` makes a recording of it and says in words what came in, a line for each thing to know. A
module whose `import_file` also takes `rate_hz`, for formats that do not say it, has TAKES_RATE. Modules are
imported only when a file is looked at.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, cast

from ftdiag.errors import RecordingError, UsageError
from ftdiag.opening import NotPlain, Reader, open_plain

HEAD_BYTES: Final = 65_536
"""So much of a file is looked at to tell what it is."""

_SQLITE: Final = b"SQLite format 3\0"
"""How a recording of ours begins."""
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


class TakesRate(Protocol):
    """An importer of a format that does not say at which rate it was sampled."""

    def import_file(
        self, path: Path, output: Path, progress: Progress, rate_hz: float | None = None
    ) -> str: ...


MODULES: Final[tuple[str, ...]] = (
    "memray",
    "tachyon",
    "pprof",
    "firefox",
    "speedscope",
    "chrometrace",
    "jsonlines",
    "perf_script",
    "pyspy_raw",
)
"""Names of the importers in this package, asked in this order: the vaguest format is last."""


def importers() -> tuple[Importer, ...]:
    """All importers."""
    return tuple(
        cast(Importer, importlib.import_module(f"ftdiag.formats.importers.{name}")) for name in MODULES
    )


def importer_of(path: Path) -> Importer:
    """The importer for a file. Raises RecordingError: it cannot be read, or nobody knows it."""
    found = importer_or_none(path)
    if found is not None:
        return found
    known = ", ".join(importer.KIND for importer in importers())
    raise RecordingError(
        f"{path} is no file that can be imported: it is none of {known}",
        f"ftdiag open {path}   if it is a recording of ftdiag",
    )


def importer_or_none(path: Path) -> Importer | None:
    """The importer for a file; `None` where nobody knows it. Raises RecordingError: it cannot be read."""
    head = read_head(path)
    if head.startswith(_SQLITE):
        return None
    return next((each for each in importers() if each.recognises(head, path)), None)


def import_recording(
    importer: Importer, path: Path, output: Path, progress: Progress, rate_hz: float | None = None
) -> str:
    """Make the recording; what came in. Raises FtdiagError, UsageError where a rate makes no sense."""
    if rate_hz is None:
        return importer.import_file(path, output, progress)
    if not getattr(importer, "TAKES_RATE", False):
        raise UsageError(f"{path} says itself when things were ({importer.KIND})", "Leave --rate out.")
    return cast(TakesRate, importer).import_file(path, output, progress, rate_hz=rate_hz)


def how_far(path: Path, done_bytes: int, all_bytes: int) -> str:
    """A line of progress."""
    return f"reading {path}: {min(100.0, 100 * done_bytes / max(1, all_bytes)):.0f} %"


def read_head(path: Path) -> bytes:
    """The first HEAD_BYTES of a regular file. Raises RecordingError."""
    descriptor = open_file(path)
    try:
        return head_of(path, descriptor)
    finally:
        os.close(descriptor)


def head_of(path: Path, descriptor: int) -> bytes:
    """The same of a file that is open. Raises RecordingError."""
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}", "Check the disk.") from None
    if not head:
        raise RecordingError(f"{path} is empty", "Nothing was written to it; record once more.")
    return head


def open_file(path: Path, reader: Reader | None = None) -> int:
    """A descriptor of a regular file that `reader` (`None`: we) may read. Raises RecordingError."""
    try:
        return open_plain(path, reader=reader)
    except NotPlain as error:
        raise RecordingError(
            f"{path} is {error.strerror}", "Name a file that another profiler wrote."
        ) from None
    except FileNotFoundError:
        raise RecordingError(f"{path} does not exist", "Check the name.") from None
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be read: {error.strerror}", "Check the name and the permissions."
        ) from None
