"""`ftdiag demo`: what ftdiag shows, without a program of your own."""

from __future__ import annotations

import os
import select
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import examples
from ftdiag.errors import FtdiagError

if TYPE_CHECKING:
    from ftdiag.tui.sourcetext import SourceText

RECORDING: Final = "demo.ftdiag"
PROGRAM: Final = "shop.py"
READY_TIMEOUT_S: Final = 20.0


class DemoUnavailable(FtdiagError):
    """There is nothing to show."""


@click.command(
    short_help="Show a recording of a program that does not scale.",
    epilog=examples(
        ("ftdiag demo", "a recording that comes with ftdiag"),
        ("ftdiag demo --live", "the same program, now, on this machine"),
        ("ftdiag demo | less", "as a text report"),
    ),
)
@click.option("--live", is_flag=True, help="Start the program under a free-threaded Python and attach to it.")
def command(live: bool) -> int:
    """Show a program that does not scale: eight threads that wait for one lock.

    Without --live it is a recording. Without a terminal the text report is printed.
    """
    if live:
        return _live()
    from ftdiag.commands.open import show

    return show(_recording(), source_of=_source)


def _recording() -> Path:
    path = Path(__file__).parent.parent / "data" / RECORDING
    if not path.is_file():
        raise DemoUnavailable("this installation lacks the demo's recording", "ftdiag demo --live")
    return path


def _source() -> SourceText:
    """The text of the recorded program: it comes with ftdiag, and lies elsewhere than it did."""
    from ftdiag.tui.sourcetext import MovedFiles

    return MovedFiles(_program().parent)


def _program() -> Path:
    """The program: beside the recording in an installation, in samples/ in a checkout."""
    package = Path(__file__).parent.parent
    for directory in (package / "data", package.parent.parent / "samples" / "demo"):
        if (directory / PROGRAM).is_file():
            return directory / PROGRAM
    raise DemoUnavailable("this installation lacks the demo's program", "ftdiag demo")


def _live() -> int:
    from ftdiag.commands.attach import attach
    from ftdiag.commands.interpreters import HOW_TO_GET_ONE, free_threaded_interpreter
    from ftdiag.commands.program import start

    script = _program()
    python = free_threaded_interpreter()
    if python is None:
        raise DemoUnavailable("there is no free-threaded Python here", HOW_TO_GET_ONE)
    arguments = [os.fspath(python), os.fspath(script)]
    terminal.note(f"$ {' '.join(arguments)}")
    with ExitStack() as stack:
        program = start(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            own_group=True,
        )
        stack.callback(program.end)
        said = program.process.stdout
        assert said is not None
        stack.callback(said.close)
        deadline = time.monotonic() + READY_TIMEOUT_S
        ready = select.select([said], [], [], max(0.0, deadline - time.monotonic()))[0] and said.readline()
        if not ready:
            raise DemoUnavailable(f"{script.name} does not run under {python}", " ".join(arguments))
        terminal.note(f"$ ftdiag attach {program.pid}")
        return attach(program.pid)
