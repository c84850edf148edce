"""`ftdiag open`: look at a recording in the cockpit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftdiag.commands.parameters import FILE, examples, memory_file_option

if TYPE_CHECKING:
    from ftdiag.tui.sourcetext import SourceText


@click.command(
    short_help="Look at a recording.",
    epilog=examples(
        ("ftdiag open app.ftdiag", "finished, or still being written"),
        ("ftdiag open app.ftdiag --memory a.bin", "with a capture of memray"),
        ("ftdiag open app.ftdiag > report.txt", "without a terminal: the text report"),
    ),
)
@click.argument("file", type=FILE)
@memory_file_option
def command(file: Path, memory: Path | None) -> int:
    """Look at the recording FILE, or at the results of `ftdiag scale`, in the cockpit.

    Without a terminal the text report is printed.
    """
    return show(file, memory)


def show(path: Path, memory: Path | None = None, source_of: Callable[[], SourceText] | None = None) -> int:
    """The cockpit, or without a terminal the text report; the exit status.

    `source_of` makes what has the program's source, where its files are not where the recording says.
    """
    from ftdiag.commands import viewing
    from ftdiag.commands.first_sight import first_sight
    from ftdiag.commands.sides import is_sweep

    form = viewing.chosen_format(None)
    if is_sweep(path):
        from ftdiag.commands.sweep_view import show_sweep

        return show_sweep(path, form)
    with first_sight(form, f"reading {path}") as sight:
        viewing.load(None)
        with viewing.opened(path, memory) as session:
            if form == "tui":
                ahead = viewing.ReadingAhead(session)
                try:
                    viewing.load(form)
                    texts = None if source_of is None else source_of()
                    status = viewing.show_cockpit(session, file=path, sight=sight, texts=texts, ahead=ahead)
                finally:
                    ahead.end()
            else:
                viewing.load(form)
                viewing.read(session)
                snapshot = session.with_predictions(session.snapshot())
                status = viewing.print_report(session, snapshot, form)
            viewing.warn_of_damage(session.recording)
    return status
