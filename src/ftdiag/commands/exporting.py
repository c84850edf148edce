"""Recordings written for other tools: a file that did not exist before, with progress.

In: a session, a format, a path. Out: the file, whole or not at all; notes for people.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from ftdiag.commands import terminal
from ftdiag.errors import RecordingError
from ftdiag.formats.exporters import Exporter, exporter_of

if TYPE_CHECKING:
    from ftdiag.formats.exporters.material import Material
    from ftdiag.session import Session

PARTIAL: Final = ".partial"


def export(
    session: Session,
    exporter: Exporter,
    path: Path | None,
    t0_ns: int | None = None,
    t1_ns: int | None = None,
) -> None:
    """Write the range to `path` (`None`: standard output), saying how far it is; then what to know of it."""
    from ftdiag.formats.exporters.material import Material

    line = terminal.Progress()
    material = Material(session, t0_ns, t1_ns, lambda words: line.show(f"{exporter.NAME}: {words}"))
    try:
        notes = write(material, exporter, path)
    finally:
        line.clear()
    for note in notes:
        terminal.note(f"note: {note}")


def write(material: Material, exporter: Exporter, path: Path | None) -> tuple[str, ...]:
    """Write the file, whole or not at all, without a word; what to know of it."""
    with _output(path) as out:
        return exporter.write(material, out)


def beside(recording: Path, name: str) -> Path:
    """Where an export lies if nobody says otherwise: beside its recording, with its own ending."""
    return recording.with_name(recording.stem + exporter_of(name).ENDING)


def check_can_write(path: Path) -> None:
    """Raise RecordingError where the file cannot be made: before the work is done."""
    if os.path.lexists(path):
        raise RecordingError(
            f"{path} exists already; an export never overwrites a file.",
            "ftdiag export FILE --to FORMAT -o OTHER   takes another name",
        )
    if not path.parent.is_dir():
        raise RecordingError(
            f"{path} cannot be created: {path.parent} is not a directory.", "Choose a directory that exists."
        )


@contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes]]:
    if path is None:
        terminal.require_output()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    check_can_write(path)
    partial = Path(f"{path}{PARTIAL}")
    try:
        # A new file that nobody else can have put there.
        out = open(partial, "xb")  # noqa: SIM115 - closed below, before it gets its name
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be created: {error.strerror}",
            "Choose another place.",
        ) from None
    try:
        with out:
            yield out
        os.link(partial, path)
    except FileExistsError:
        raise RecordingError(f"{path} was made by somebody else meanwhile", "Choose another name.") from None
    finally:
        with suppress(OSError):
            partial.unlink()
