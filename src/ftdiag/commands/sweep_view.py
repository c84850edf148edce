"""The results of a sweep on the screen: the cockpit's view of them, and of the recordings of its runs.

In: a results file. Out: the exit status.
"""

from __future__ import annotations

from pathlib import Path

from ftdiag.commands import terminal
from ftdiag.errors import FtdiagError


def print_sweep(path: Path, form: str) -> int:
    """Its report."""
    from ftdiag.commands.outputs import put_sweep
    from ftdiag.commands.sweeping import read_sweep

    put_sweep(read_sweep(path), form)
    return 0


def show_sweep(path: Path, form: str) -> int:
    """Its view; Enter on a point opens the recording of one of its runs, and leaving that comes back."""
    if form != "tui":
        return print_sweep(path, form)
    from ftdiag.commands.sweeping import read_sweep, runs_folder
    from ftdiag.scaling.curve import scaling_of
    from ftdiag.tui.sweep import SweepApp

    sweep = read_sweep(path)
    folder = runs_folder(path)
    position, words = 0, ""
    while True:
        app = SweepApp(scaling_of(sweep), position=position, words=words)
        app.run()
        if app.ended_by is not None:
            raise terminal.Terminated(app.ended_by)
        if app.chosen is None:
            return app.return_code or 0
        position = app.position
        words = _show_run(folder, app.chosen)


def _show_run(folder: Path, name: str) -> str:
    """The cockpit on a recording; what went wrong, or ""."""
    from ftdiag.commands import viewing

    try:
        viewing.load("tui")
        with viewing.opened(folder / name) as session:
            viewing.show_cockpit(session, file=folder / name)
    except FtdiagError as error:
        return error.what
    return ""
