"""`ftdiag`: finds the subcommand, runs it, and turns what goes wrong into one message and an exit status.

In: the arguments. Out: the exit status: 0, 1 findings (only with --fail-on), 2 usage, 3 cannot attach or
read, 70 a mistake in ftdiag, 128 + n ended by signal n (130: Ctrl-C).
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import click

from ftdiag import __version__
from ftdiag.commands import shortage, terminal
from ftdiag.commands.parameters import PROCESSES_HINT, BadValue
from ftdiag.commands.terminal import Terminated
from ftdiag.errors import FtdiagError
from ftdiag.spawning import open_standard_descriptors

PROGRAM: Final = "ftdiag"
COMPLETION_VARIABLE: Final = "_FTDIAG_COMPLETE"
USAGE_STATUS: Final = 2
BUG_STATUS: Final = 70
"""EX_SOFTWARE of sysexits.h."""
SIGNAL_STATUS: Final = 128

# Command -> (module, one line for the overview): so that the overview imports none of them.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "list": ("list", "Show the Python processes here."),
    "attach": ("attach", "Look at a running process."),
    "run": ("run", "Start a program and look at it."),
    "record": ("record", "Record a running process to a file."),
    "watch": ("watch", "Record unattended, and keep what happens around a trigger."),
    "open": ("open", "Look at a recording."),
    "report": ("report", "Print the report of a recording."),
    "whatif": ("whatif", "Say what a change would bring."),
    "import": ("import_", "Make a recording of another profiler's file."),
    "export": ("export", "Write a recording in another tool's format."),
    "scale": ("scale", "Measure how a program scales with its threads."),
    "diff": ("diff", "Say what changed between two recordings or sweeps."),
    "explain": ("explain", "Explain a finding: what it means and what to do."),
    "doctor": ("doctor", "Say what works here, and what to do where it does not."),
    "demo": ("demo", "Show a recording of a program that does not scale."),
    "completion": ("completion", "Print the script that completes commands in your shell."),
}
ANALYSING: Final = frozenset({"diff", "export", "import", "report", "whatif"})
"""Commands that read recordings."""
SHOWING: Final = frozenset({"attach", "run", "open", "demo"})
"""Commands that do so later: when the sampler is on its way, and something is on the screen."""


class LazyGroup(click.Group):
    """Imports a subcommand only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are met."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ftdiag.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what was probably meant when there is no such command."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            if name.isdigit():
                meant = f"Did you mean `{PROGRAM} attach {name}`?"
            elif os.path.isfile(name):
                meant = f"Did you mean `{PROGRAM} open {name}`?"
            else:
                import difflib

                close = difflib.get_close_matches(name, COMMANDS, n=1)
                meant = f"Did you mean `{PROGRAM} {close[0]}`?" if close else ""
            raise click.UsageError(f"There is no command {name!r}. {meant}".rstrip(), ctx)
        if not {"-h", "--help"} & set(args):
            if name in ANALYSING:
                shortage.prepare_analysis()
            elif name in SHOWING:
                shortage.check_memory()
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="\b\nExamples:\n"
    "  ftdiag list                          which processes there are\n"
    "  ftdiag attach 4711                   look at one\n"
    "  ftdiag run -- python app.py          start a program and look at it\n"
    "  ftdiag record 4711 -o app.ftdiag     record, to look at it later\n"
    "  ftdiag doctor 4711                   why it does not attach, and what to do",
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks (also: FTDIAG_DEBUG=1).")
def cli(debug: bool) -> None:
    """Say why a running free-threaded Python process does not scale, and what to change.

    Attaches from outside: the process is not stopped and nothing is written into it.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: run a command line, return the exit status."""
    open_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Never an error because of a locale that lacks a character.
            stream.reconfigure(errors="backslashreplace")
    _heed_signals()
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends in words
        status = _in_words(error)
    return _with_output_written(status)


def _run(arguments: list[str]) -> int:
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
    # Not cli.main(): that gives closed pipes and Ctrl-C meanings of its own.
    with cli.make_context(PROGRAM, arguments) as context:
        result: Any = cli.invoke(context)
    return result if isinstance(result, int) else 0


# --- what goes wrong ---------------------------------------------------------------------------------


def _in_words(error: BaseException) -> int:
    """One message for whatever came up; the exit status."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, Terminated):
        return SIGNAL_STATUS + error.number
    if isinstance(error, KeyboardInterrupt | click.Abort):
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("\n")
        return SIGNAL_STATUS + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        return SIGNAL_STATUS + signal.SIGPIPE
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, FtdiagError):
        terminal.complain(error.what, error.hint)
        details: str = getattr(error, "details", "")
        if details and _debugging():
            terminal.note(details)
        return error.exit_status
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        terminal.complain(f"cannot write: {error.strerror}", "df -h   shows which disk is full")
        return 3
    short = shortage.in_words(error)
    if short is not None and not _debugging():
        terminal.complain(short.what, short.hint)
        return short.exit_status
    if _debugging():
        import traceback

        for lines in traceback.format_exception(error):
            terminal.note(lines.rstrip("\n"))
    terminal.complain(
        f"a mistake in ftdiag: {type(error).__name__}: {error}",
        "Nothing of your program is harmed. Please report it with what `ftdiag --debug ...` prints.",
    )
    return BUG_STATUS


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:  # click 8.2 and later
        click.echo(context.get_help(), err=True)
        return USAGE_STATUS
    message = error.format_message()
    hint = f"{path} --help   shows how it is used"
    if isinstance(error, click.NoSuchOption) and re.fullmatch(r"-\d+", error.option_name):
        message = "a process id is above 0"
        hint = PROCESSES_HINT
    elif isinstance(error, BadValue) and error.hint:
        hint = error.hint
    terminal.complain(message[:1].lower() + message[1:] if message[1:2].islower() else message, hint)
    return USAGE_STATUS


def _debugging() -> bool:
    return "--debug" in sys.argv[1:3] or os.environ.get("FTDIAG_DEBUG", "") not in ("", "0")


def _with_output_written(status: int) -> int:
    """Flush; a reader that is gone or a full disk must not end in Python's own message."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError as error:
            # Python flushes once more at exit; let that go nowhere.
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
            if status == 0:
                status = _in_words(error)
    return status


# --- the process -------------------------------------------------------------------------------------


def _heed_signals() -> None:
    """Have SIGINT, SIGTERM and SIGHUP clean up first, unless somebody (nohup) had them ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            with suppress(ValueError):  # not in the main thread: an embedding program decides
                signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
