"""Files that the cockpit saves in the current directory: reports of the range shown, copies of the recording.

In: a `Saver`, which the command provides, and what is on the screen. Out: a new file, or an error in words
and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.errors import FtdiagError
from ftdiag.model import Snapshot
from ftdiag.tui.source import SECOND_NS


@dataclass(frozen=True, slots=True)
class Export:
    """A format of another tool: what it is for, its file's ending, what writes a range's new file.

    `write` raises FtdiagError; it is called by a thread of its own.
    """

    words: str
    ending: Callable[[], str]
    write: Callable[[Path, Snapshot], None]


@dataclass(frozen=True, slots=True)
class Saver:
    """What can be saved.

    `reports`: by a file's ending (txt, json, html), what makes the report's text. `copy_recording` writes a
    copy of the recording to a new file; raises FtdiagError. Both are called by other threads than the
    screen's and the source's. `temporary` where the recording goes away with the command. `exports`: other
    tools' formats by name.
    """

    reports: Mapping[str, Callable[[Snapshot], str]] = field(default_factory=dict)
    copy_recording: Callable[[Path], None] | None = None
    temporary: bool = False
    exports: Mapping[str, Export] = field(default_factory=dict)


RECORDING_SUFFIX: Final = ".ftdiag"


def report_path(snapshot: Snapshot, span_ns: tuple[int, int] | None, ending: str) -> Path:
    """Names the process and the range, in seconds since the recording's begin."""
    begin = (snapshot.t0_ns - (span_ns or (snapshot.t0_ns, 0))[0]) // SECOND_NS
    end = begin + snapshot.metrics.duration_ns // SECOND_NS
    return Path(f"ftdiag-{snapshot.target.pid}-{begin}-{end}s.{ending}")


def copy_path(snapshot: Snapshot, span_ns: tuple[int, int]) -> Path:
    """Names the process and how long the recording is so far, in seconds."""
    return Path(f"ftdiag-{snapshot.target.pid}-{(span_ns[1] - span_ns[0]) // SECOND_NS}s{RECORDING_SUFFIX}")


def write_text(path: Path, text: str) -> None:
    """A new file; never over one that is there: the directory may be anyone's. Raises FtdiagError."""
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise FtdiagError(f"{path} is not written: {error.strerror}") from None
