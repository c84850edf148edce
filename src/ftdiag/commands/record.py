"""`ftdiag record`: record a running process to a file, without a screen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import (
    Effort,
    duration_option,
    effort_options,
    examples,
    output_option,
    pid_argument,
    source_options,
)
from ftdiag.errors import FtdiagError
from ftdiag.formats.exporters import EXPERIMENTAL, MODULES, exporter_of
from ftdiag.wording import units


@click.command(
    short_help="Record a running process to a file.",
    epilog=examples(
        ("ftdiag record 4711 -o app.ftdiag", "until Ctrl-C or its end"),
        ("ftdiag record 4711 -o app.ftdiag --duration 600", "ten minutes"),
        ("ftdiag record 4711 -o app.ftdiag --export pprof", "and app.pb.gz at its end"),
        ("ftdiag report app.ftdiag", "what it says"),
    ),
)
@pid_argument
@output_option
@duration_option("How long to record. Default: until Ctrl-C, or until the process ends.")
@effort_options
@source_options
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice([name for name in MODULES if name not in EXPERIMENTAL]),
    help="At the end, write it in another tool's format beside FILE, too. May be given several times.",
)
def command(
    pid: int,
    path: Path,
    duration_s: float | None,
    effort: Effort,
    source: str,
    blocking: bool,
    exports: tuple[str, ...],
) -> int:
    """Record the running process PID to a file.

    The file can be opened while it grows, by others too, and even if this command crashes.
    """
    from ftdiag.commands.sampling import check_is_process, sampling

    for name in exports:
        from ftdiag.commands.exporting import beside, check_can_write

        check_can_write(beside(path, name))
    with sampling(
        pid, effort=effort, duration_s=duration_s, record=path, source=source, blocking=blocking
    ) as work:
        check_is_process(pid)
        work.wait_until_started()

        def words(passed: float) -> str:
            return f"recording process {pid} to {path}: {passed:.0f} s, {size_of(path)}  (Ctrl-C ends it)"

        try:
            end, number = work.wait(words)
        except FtdiagError as error:
            raise work.explained(error) from None
    how = "stopped" if number or end is None else end.detail
    terminal.note(f"recorded process {pid} in {path} ({size_of(path)}): {how}")
    terminal.note(f"  ftdiag open {path}   shows it")
    if exports:
        _export(path, exports)
    return 0


def _export(recording: Path, names: Sequence[str]) -> None:
    """Write a finished recording in these formats, each beside it."""
    from ftdiag.commands import exporting, shortage, viewing

    shortage.prepare_analysis()
    with viewing.opened(recording) as session:
        for name in names:
            path = exporting.beside(recording, name)
            exporting.export(session, exporter_of(name), path)
            terminal.note(f"made {path} of {recording}: {MODULES[name]}")


def size_of(path: Path) -> str:
    """What a recording takes on the disk, in words."""
    total = 0
    for ending in ("", "-wal"):
        with suppress(OSError):
            total += os.stat(f"{path}{ending}").st_size
    return units.size(total)
