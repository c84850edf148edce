"""`ftdiag import`: make a recording of another profiler's file."""

from __future__ import annotations

from pathlib import Path

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import FILE, RATE, examples, output_option


@click.command(
    short_help="Make a recording of another profiler's file.",
    epilog=examples(
        ("ftdiag import profile.json -o app.ftdiag", "py-spy, speedscope"),
        ("ftdiag import stacks.txt --rate 50 -o a.ftdiag", "raw keeps no rate"),
        ("ftdiag import capture.bin -o app.ftdiag", "of memray"),
        ("ftdiag open profile.json", "to look only"),
    ),
)
@click.argument("file", type=FILE)
@output_option
@click.option(
    "--rate",
    "rate_hz",
    type=RATE,
    metavar="HZ",
    help="At which rate it was sampled, where the file does not say. Default: 100, as py-spy's.",
)
def command(file: Path, path: Path, rate_hz: float | None) -> int:
    """Make a recording of FILE, which another profiler wrote.

    Read are: collapsed stacks (py-spy's raw and others), speedscope, Chrome traces, Firefox profiles, pprof,
    perf script, the formats of Python 3.15's own profiler, and captures of memray. What the file does not
    tell is not measured: there are no counters of the kernel, no states and no locks in it.
    """
    from ftdiag.commands.importing import convert
    from ftdiag.commands.sampling import check_can_record
    from ftdiag.formats.importers import importer_of

    check_can_record(path)
    importer = importer_of(file)
    words, *notes = convert(importer, file, path, rate_hz).splitlines()
    for note in notes:
        terminal.note(note)
    terminal.note(f"made {path} of {file} ({importer.KIND}): {words}")
    terminal.note(f"  ftdiag open {path}   shows it")
    return 0
