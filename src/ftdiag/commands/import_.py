"""`ftdiag import`: make a recording of what another profiler wrote."""

from __future__ import annotations

from pathlib import Path

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import FILE, examples, output_option


@click.command(
    "import",
    short_help="Make a recording of a file of memray or py-spy.",
    epilog=examples(
        ("ftdiag import capture.bin -o app.ftdiag", "what memray wrote"),
        ("ftdiag open app.ftdiag", "look at it"),
    ),
)
@click.argument("file", type=FILE)
@output_option
def command(file: Path, path: Path) -> int:
    """Make a recording of FILE, which another profiler wrote.

    What kind of file it is is told from what is in it.
    """
    from ftdiag.commands.sampling import check_can_record
    from ftdiag.importers import importer_of

    check_can_record(path)
    importer = importer_of(file)
    line = terminal.Progress()
    try:
        words = importer.import_file(file, path, line.show)
    finally:
        line.clear()
    terminal.note(f"{importer.KIND}: {words}")
    terminal.note(f"  ftdiag open {path}   shows it")
    return 0
