"""Captures of memray: allocations by line and by thread.

In: the path of a capture (full or aggregated, whole or cut short). Out: the model's `Allocations`, or a
recording with nothing else in it. Every failure is a RecordingError that says what to do.

memray's own reader runs in a process of its own (`memray_child`), with any Python that has memray: a capture
may be damaged or hostile, and that reader is C++. So it has the rights of the user whose program wrote the
capture, never root's: where that is not known, nobody's. What it passes on is checked and bounded here.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from ftdiag import __version__, opening
from ftdiag.confined import MIB, Rights
from ftdiag.errors import RecordingError
from ftdiag.formats.importers.memray_process import INSTALL, SPARE_BYTES, Child, OtherVersion, Reader
from ftdiag.formats.importers.memray_reading import Reading
from ftdiag.model import (
    IMPORTED,
    Allocations,
    End,
    EndReason,
    RecordingSettings,
    Runs,
    SamplerCost,
    Target,
    ThreadCounters,
    Window,
)
from ftdiag.opening import NOBODY, open_plain
from ftdiag.sources.kernel.scheduling import hurry_child

KIND: Final = "a capture of memray"
MAGIC: Final = b"memray\0"
LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
"""memray compresses captures as LZ4 frames."""


def recognises(head: bytes, path: Path) -> bool:
    """Whether a file that begins so is a capture of memray."""
    return head.startswith((MAGIC, LZ4_MAGIC))


def import_file(path: Path, output: Path, progress: Callable[[str], None]) -> str:
    """Make a recording of a capture. Raises RecordingError."""
    allocations = read_capture(path, progress)
    write_recording(allocations, output, path)
    what = "aggregated" if allocations.aggregated else f"{allocations.count or 0:,} allocations"
    return f"{what} of process {allocations.pid} in {allocations.duration_ns / 1e9:.1f} s" + (
        ", cut short" if allocations.cut_short else ""
    )


def read_capture(
    path: Path,
    progress: Callable[[str], None],
    *,
    fallback: str | None = None,
    rights: Rights | None = None,
    promptly: bool = False,
) -> Allocations:
    """What is in a capture, read with our own memray; `promptly` where somebody waits beside busy cores.

    Where there is none, or one that does not know the format, with that of the interpreter `fallback`. Opened
    and read with the `rights` of whose program wrote it (`None`: that is not known, or it is us), and never
    read by root.

    Raises RecordingError: no such file, another format, damaged, too large, no memray to read it with.
    """
    from ftdiag.formats.importers import head_of, open_file

    # Opened once: whoever wrote it can put another file in its place.
    whose = None if rights is None else opening.Reader(rights.user, rights.group)
    with os.fdopen(open_file(path, whose), "rb") as capture:
        if not recognises(head_of(path, capture.fileno()), path):
            raise RecordingError(
                f"{path} is not a capture of memray",
                "memray attach -o FILE PID   makes one, ftdiag reads FILE",
            )
        readers: list[Reader] = []
        if importlib.util.find_spec("memray") is not None:
            readers.append(Reader(None, _rights_to_read(rights)))
        if fallback is not None:
            readers.append(Reader(fallback, _rights_to_read(rights)))
        if not readers:
            raise RecordingError(f"{path} is a capture of memray, and memray is not installed here", INSTALL)
        for reader in readers[:-1]:
            with suppress(OtherVersion):
                return _read(path, capture, progress, reader, promptly)
        return _read(path, capture, progress, readers[-1], promptly)


def _rights_to_read(rights: Rights | None) -> Rights | None:
    """Never root's: of a program of root's, or where it is not known whose it was, nobody's."""
    if os.geteuid() != 0 or (rights is not None and rights.user != 0):
        return rights
    return Rights(NOBODY, NOBODY)


def _read(
    path: Path, file: IO[bytes], progress: Callable[[str], None], reader: Reader, promptly: bool
) -> Allocations:
    reading = Reading(path, progress)
    with _handed_over(path, file, reader.rights) as capture, Child(reader, path, capture) as child:
        if promptly:
            hurry_child(0)
            child.hurry()
        child.while_waiting = lambda: reading.tell(child.position_ratio())
        for kind, payload in child.messages():
            reading.take(kind, payload)
    return reading.result()


@contextmanager
def _handed_over(path: Path, file: IO[bytes], rights: Rights | None) -> Iterator[int]:
    """A descriptor of the capture, which the reader can open anew: of a copy, if its user may not read it.

    memray opens its file several times. Raises RecordingError.
    """
    if rights is None or _may_open(file.fileno(), rights):
        yield file.fileno()
        return
    with _copied(path, file, rights) as copy:
        yield copy.fileno()


def _may_open(capture: int, rights: Rights) -> bool:
    try:
        os.close(open_plain(f"/proc/self/fd/{capture}", reader=opening.Reader(rights.user, rights.group)))
    except OSError:
        return False
    return True


def _copied(path: Path, file: IO[bytes], rights: Rights) -> IO[bytes]:
    """A copy without a name that belongs to a user. Raises RecordingError."""
    try:
        file.seek(0)
        place = tempfile.gettempdir()
        if shutil.disk_usage(place).free < os.fstat(file.fileno()).st_size + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy = tempfile.TemporaryFile(prefix="ftdiag-", dir=place)  # noqa: SIM115 - closed by the caller
        try:
            shutil.copyfileobj(file, copy, MIB)
            copy.flush()
            os.fchown(copy.fileno(), rights.user, rights.group)
        except OSError:
            copy.close()
            raise
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be copied for its reader, which is not root: {error.strerror}",
            "TMPDIR=/some/directory ftdiag ...   takes another place",
        ) from None
    return copy


# --- a recording of it -----------------------------------------------------------------------------------


def write_recording(allocations: Allocations, output: Path, source: Path) -> None:
    """A recording that has the capture, one window of its length, and no samples. Raises RecordingError."""
    from ftdiag.recording.additions import add_allocations
    from ftdiag.recording.writer import RecordingWriter

    why = "imported from a capture of memray: it has no samples"
    target = Target(
        pid=allocations.pid,
        start_ticks=0,
        executable="?",
        command=allocations.command,
        python_version="?",
        free_threaded=False,
        gil_enabled=None,
    )
    settings = RecordingSettings(
        rate_hz=0.0,
        started_ns=0,
        started_unix_ns=allocations.begin_unix_ns,
        ftdiag_version=__version__,
        host="?",
        source=IMPORTED,
        imported="memray capture",
        native_missing=why,
    )
    writer = RecordingWriter(output, target, settings)
    try:
        length = max(1, allocations.duration_ns)
        window = Window(0, length, array("q"), Runs(), ThreadCounters(), SamplerCost(0, 0, 0, 0, 0, 0))
        writer.write_window(window)
        writer.finish(End(EndReason.STOPPED, f"imported from {source.name}, a capture of memray", length))
    finally:
        writer.close()
    add_allocations(output, allocations)
