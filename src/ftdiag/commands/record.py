"""`ftdiag record`: record a running process to a file, without a screen."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ftdiag.commands.parameters import (
    duration_option,
    effort_options,
    examples,
    output_option,
    pid_argument,
    source_options,
)
from ftdiag.formats.exporters import EXPERIMENTAL, MODULES
from ftdiag.sampling.options import Effort


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
    from ftdiag.commands.recording import record

    return record(pid, os.fspath(path), duration_s, effort, source=source, blocking=blocking, exports=exports)
