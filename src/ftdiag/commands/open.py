"""`ftdiag open`: look at a recording in the cockpit."""

from __future__ import annotations

from pathlib import Path

import click

from ftdiag.commands.parameters import FILE, examples


@click.command(
    short_help="Look at a recording.",
    epilog=examples(
        ("ftdiag open app.ftdiag", "finished, or still being written"),
        ("ftdiag open app.ftdiag > report.txt", "without a terminal: the text report"),
    ),
)
@click.argument("file", type=FILE)
def command(file: Path) -> int:
    """Look at the recording FILE in the cockpit.

    Without a terminal the text report is printed.
    """
    return show(file)


def show(path: Path) -> int:
    """The cockpit, or without a terminal the text report; the exit status."""
    from ftdiag.commands import viewing

    form = viewing.chosen_format(None)
    viewing.load(form)
    with viewing.opened(path) as session:
        if form == "tui":
            status = viewing.show_cockpit(session)
        else:
            status = viewing.print_report(session.snapshot(), form)
        viewing.warn_of_damage(session.recording)
    return status
