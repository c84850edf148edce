"""`ftdiag export`: write a recording in the format of another tool."""

from __future__ import annotations

from pathlib import Path

import click

from ftdiag.commands.parameters import FILE, examples
from ftdiag.commands.report import SECONDS, bounds_ns
from ftdiag.formats.exporters import EXPERIMENTAL, MODULES


def _formats() -> str:
    width = max(map(len, MODULES))
    return "\b\nFormats:\n" + "\n".join(f"  {name:{width}}  {words}" for name, words in MODULES.items())


@click.command(
    short_help="Write a recording in another tool's format.",
    epilog=examples(
        ("ftdiag export app.ftdiag --to pprof", "makes app.pb.gz"),
        ("ftdiag export app.ftdiag --to chrome -o a.json", "for ui.perfetto.dev"),
        ("ftdiag export app.ftdiag --to markdown -o -", "to standard output"),
        ("ftdiag export app.ftdiag --to firefox --from 60 --to-second 90", ""),
    )
    + "\n\n"
    + _formats(),
)
@click.argument("file", type=FILE)
@click.option("--to", "name", type=click.Choice(list(MODULES)), required=True, help="The format, see below.")
@click.option(
    "-o", "--output", "path", type=FILE, metavar="FILE",
    help="The file to make; it must not exist. `-`: standard output. Default: FILE with the format's ending.",
)  # fmt: skip
@click.option("--from", "from_s", type=SECONDS, metavar="SECONDS", help="Begin here, counted from its start.")
@click.option(
    "--to-second", "to_s", type=SECONDS, metavar="SECONDS", help="End here, counted from its start."
)
@click.option("--experimental", is_flag=True, help="Allow formats that are still being defined (otlp).")
def command(
    file: Path, name: str, path: Path | None, from_s: float | None, to_s: float | None, experimental: bool
) -> int:
    """Write the recording FILE in the format of another tool.

    What adds up in the report adds up there: thread-time by thread and state is the same.
    """
    from ftdiag.commands import exporting, terminal, viewing
    from ftdiag.errors import RecordingError, UsageError
    from ftdiag.formats.exporters import exporter_of

    if name in EXPERIMENTAL and not experimental:
        raise UsageError(
            f"the format {name} still changes: other tools may refuse what is written today",
            f"ftdiag export {file} --to {name} --experimental   writes it all the same",
        )
    exporter = exporter_of(name)
    output = None if path == Path("-") else path or exporting.beside(file, name)
    if output is not None:
        exporting.check_can_write(output)
    with viewing.opened(file) as session:
        span = session.recording.span_ns()
        if span is None:
            raise RecordingError(
                f"{file} has nothing in it yet", "ftdiag record PID -o FILE   records at least a second"
            )
        exporting.export(session, exporter, output, *bounds_ns(span, from_s, to_s))
        viewing.warn_of_damage(session.recording)
    if output is not None:
        terminal.note(f"made {output} of {file}: {MODULES[name]}")
    return 0
