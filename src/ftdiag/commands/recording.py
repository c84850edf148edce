"""What `ftdiag record` does: samples a process into a file until Ctrl-C, its end, or as long as asked.

In: a pid, a path, what was asked for. Out: a recording, and what became of it on standard error. What is only
needed at the end is imported there: the beginning takes its time from the process that is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from ftdiag.commands import terminal
from ftdiag.commands.sampling import check_is_process, sampling
from ftdiag.errors import FtdiagError
from ftdiag.sampling.options import Effort


def record(
    pid: int,
    path: str,
    duration_s: float | None,
    effort: Effort,
    *,
    source: str = "auto",
    blocking: bool = False,
    exports: Sequence[str] = (),
) -> int:
    """Record, and write it in the formats of `exports` at its end; the exit status. Raises FtdiagError."""
    if exports:
        _check_can_export(path, exports)
    with sampling(
        pid, effort=effort, duration_s=duration_s, record=path, source=source, blocking=blocking
    ) as work:
        check_is_process(pid)
        work.wait_until_started()

        def words(passed: float) -> str:
            return f"recording process {pid} to {path}: {passed:.0f} s, {_size_of(path)}  (Ctrl-C ends it)"

        try:
            end, number = work.wait(words)
        except FtdiagError as error:
            raise work.explained(error) from None
    how = "stopped" if number or end is None else end.detail
    terminal.note(f"recorded process {pid} in {path} ({_size_of(path)}): {how}")
    terminal.note(f"  ftdiag open {path}   shows it")
    if exports:
        _export(path, exports)
    return 0


def _check_can_export(path: str, names: Sequence[str]) -> None:
    """Raise RecordingError where a file cannot be made beside the recording: before the work is done."""
    from pathlib import Path

    from ftdiag.commands.exporting import beside, check_can_write

    for name in names:
        check_can_write(beside(Path(path), name))


def _export(path: str, names: Sequence[str]) -> None:
    """Write a finished recording in these formats, each beside it."""
    from pathlib import Path

    from ftdiag.commands import exporting, shortage, viewing
    from ftdiag.formats.exporters import MODULES, exporter_of

    shortage.prepare_analysis()
    recording = Path(path)
    with viewing.opened(recording) as session:
        for name in names:
            made = exporting.beside(recording, name)
            exporting.export(session, exporter_of(name), made)
            terminal.note(f"made {made} of {recording}: {MODULES[name]}")


def _size_of(path: str) -> str:
    """What a recording takes on the disk, in words."""
    from ftdiag.wording import units

    total = 0
    for ending in ("", "-wal"):
        with suppress(OSError):
            total += os.stat(f"{path}{ending}").st_size
    return units.size(total)
