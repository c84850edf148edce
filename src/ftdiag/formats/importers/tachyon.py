"""Binary profiles of CPython 3.15's profiler (`--binary`), read by that Python itself.

In: a file. Out: a recording. The format is not documented and may change: a Python that knows it is asked to
replay it (`python3.15 -m profiling.sampling replay --gecko`), in a process of its own with nobody's rights if
we are root; what it writes is read as every Firefox profile is. Source: CPython 3.15,
Lib/profiling/sampling/cli.py (_BINARY_PROFILE_MAGICS).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ftdiag import confined
from ftdiag.confined import MIB
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress, firefox
from ftdiag.opening import NOBODY, open_plain

KIND: Final = "binary profile of Python's profiler"
TAKES_RATE: Final = False
MAGICS: Final = (b"TACH", b"HCAT")
PYTHONS: Final = ("python3.15", "python3.15t", "python3.16", "python3.16t")
REPLAY: Final = ("-I", "-m", "profiling.sampling", "replay", "--gecko", "-o")
PYTHON_VARIABLE: Final = "FTDIAG_REPLAY_PYTHON"
LIMITS: Final = confined.Limits(
    seconds=300.0, cpu_s=240, memory_bytes=4096 * MIB, file_bytes=1024 * MIB, processes=16
)
MAX_BYTES: Final = 512 * MIB
MAX_SAID: Final = 65_536


def recognises(head: bytes, path: Path) -> bool:
    """Whether it begins as such a file does."""
    return head.startswith(MAGICS)


def import_file(source: Path, output: Path, progress: Progress) -> str:
    """Make the recording. Raises RecordingError, also where there is no Python that can read it."""
    python = _python(source)
    progress(f"{python} replays {source}")
    with tempfile.TemporaryDirectory(prefix="ftdiag-") as folder:
        replayed = Path(folder) / "replayed.json"
        _replay(source, python, Path(folder), replayed)
        return firefox.import_file(replayed, output, progress, named=source, kind=KIND)


def _python(source: Path) -> str:
    named = os.environ.get(PYTHON_VARIABLE)
    for name in (named,) if named else PYTHONS:
        found = shutil.which(name)
        if found is not None:
            return os.path.realpath(found)
    raise RecordingError(
        f"{source} is a binary profile of Python 3.15, and no such Python was found to read it",
        f"{PYTHON_VARIABLE}=/path/to/python3.15 ftdiag ...   names one;"
        " python3.15 -m profiling.sampling replay --gecko -o NEW FILE   makes one that needs none",
    )


def _replay(source: Path, python: str, folder: Path, replayed: Path) -> None:
    """Have the file replayed into a new one. Raises RecordingError."""
    rights = confined.Rights(NOBODY, NOBODY) if os.geteuid() == 0 else None
    said = confined.Tail(MAX_SAID)
    with ExitStack() as stack:
        try:
            copy = _copied(source, folder)
            if rights is not None:
                for path in (folder, copy):
                    os.chown(path, rights.user, rights.group)
            stack.callback(said.begun)
            child = confined.Child(
                [
                    python,
                    "-I",
                    "-m",
                    "profiling.sampling",
                    "replay",
                    "--gecko",
                    "-o",
                    str(replayed),
                    str(copy),
                ],
                LIMITS,
                rights,
                stdout=said.writer,
                stderr=said.writer,
            )
        except OSError as error:
            raise RecordingError(
                f"{source} cannot be read: {python} does not start: {error.strerror}", "Try another Python."
            ) from None
    with child:
        status = child.wait(LIMITS.seconds)
        failure = child.failure() if status else None
    if status == 0 and replayed.is_file():
        return
    if failure is not None and rights is not None:
        raise RecordingError(
            f"{source} cannot be read: {python} cannot be run by the user nobody ({failure}),"
            " and root reads no such file itself",
            f"{PYTHON_VARIABLE}=/usr/bin/python3.15   names one that everybody may run",
        )
    last = failure or said.text().strip().rpartition("\n")[2][:300] or f"status {status}"
    raise RecordingError(
        f"{source} cannot be read: {python} says: {last}",
        f"{PYTHON_VARIABLE}=/path/to/python   names the Python that wrote it",
    )


def _copied(source: Path, folder: Path) -> Path:
    """A copy that the reader's user may read."""
    copy = folder / "profile.bin"
    with os.fdopen(open_plain(source), "rb") as file, open(copy, "xb") as out:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise RecordingError(
                f"{source} is larger than {MAX_BYTES >> 20} MiB", "Record a shorter time, or at a lower rate."
            )
        shutil.copyfileobj(file, out, MIB)
    return copy
