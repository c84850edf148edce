"""Files of other profilers, made into recordings for a command: with progress, to be kept or to be looked at.

In: a path. Out: the path of a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftdiag.commands.terminal import Progress, note
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Importer, import_recording, importer_or_none
from ftdiag.scratch import private_directory


def convert(importer: Importer, source: Path, output: Path, rate_hz: float | None = None) -> str:
    """Make the recording, saying how far it is; what came in."""
    line = Progress()
    try:
        return import_recording(importer, source, output, line.show, rate_hz)
    finally:
        line.clear()


@contextmanager
def as_recording(path: Path) -> Iterator[Path]:
    """The path itself, or that of a recording made of another profiler's file, which is removed again."""
    importer = None
    with suppress(RecordingError):  # opening it as a recording says what is wrong with it
        importer = importer_or_none(path)
    if importer is None:
        yield path
        return
    with private_directory() as directory:
        output = directory / "recording"
        for line in convert(importer, path, output).splitlines()[1:]:
            note(line)
        yield output
