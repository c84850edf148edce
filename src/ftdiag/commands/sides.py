"""The sides of a comparison: results of a sweep, a recording, or what another profiler wrote.

In: paths. Out: `Side`s; a recording is cut into equal parts, of which the scatter is that of the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ftdiag.errors import RecordingError, UsageError

if TYPE_CHECKING:
    from ftdiag.model import Snapshot
    from ftdiag.scaling.comparing import Side
    from ftdiag.session import Session

MOST_PARTS: Final = 12
LEAST_PARTS: Final = 2
LEAST_PART_NS: Final = 1_000_000_000
HEAD_BYTES: Final = 64


def is_sweep(path: Path) -> bool:
    """Whether a file begins as the results of a sweep do; false where it cannot be read."""
    from ftdiag.commands import plain_files
    from ftdiag.scaling.results import HEAD

    try:
        return plain_files.read(path, HEAD_BYTES).startswith(HEAD)
    except OSError:
        return False


def side_of(path: Path) -> Side:
    """What is in a file. Raises RecordingError."""
    from ftdiag.commands import viewing
    from ftdiag.commands.sweeping import read_sweep
    from ftdiag.scaling.comparing import Side

    if is_sweep(path):
        return Side(str(path), "sweep", None, sweep=read_sweep(path))
    with viewing.opened(path) as session:
        return side_of_session(session, str(path))


def side_of_session(session: Session, name: str, whole: Snapshot | None = None) -> Side:
    """A recording as a whole and in parts. Raises RecordingError where nothing is in it."""
    from ftdiag.scaling.comparing import Side
    from ftdiag.scaling.digest import digest_of

    span = session.recording.span_ns()
    if span is None:
        raise RecordingError(f"{name} has nothing in it yet", "Record a second or more.")
    length = span[1] - span[0]
    number = max(LEAST_PARTS, min(MOST_PARTS, length // LEAST_PART_NS))
    step = length // number
    parts = [
        digest_of(session.snapshot(span[0] + step * each + 1, span[0] + step * (each + 1)))
        for each in range(number)
    ]
    return Side(
        name,
        "recording",
        digest_of(session.snapshot() if whole is None else whole),
        tuple(parts),
    )


def check_kinds(before: Side, after: Side) -> None:
    """Raise UsageError where one is a sweep and the other is not."""
    if before.kind != after.kind:
        raise UsageError(
            f"{before.name} is a {before.kind} and {after.name} is a {after.kind}: they cannot be compared",
            "ftdiag diff SWEEP SWEEP   or   ftdiag diff RECORDING RECORDING; the recordings of a sweep are in"
            " FILE.runs",
        )
