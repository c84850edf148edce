"""The command line's grammar: which subcommands there are, what is wrong with a line that makes no sense.

In: the arguments. Out: a subcommand that runs; usage errors in words, with their exit status. The plain
`record`, which is for a machine whose cores others use, goes without it (`plainly`): importing the framework
takes as long as all else that it does.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import Any, Final

import click

from ftdiag import __version__
from ftdiag.commands import shortage, terminal
from ftdiag.commands.parameters import PROCESSES_HINT, BadValue

PROGRAM: Final = "ftdiag"
USAGE_STATUS: Final = 2

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


def run(arguments: list[str]) -> int:
    """Run a command line; the exit status. Raises what goes wrong."""
    # Not cli.main(): that gives closed pipes and Ctrl-C meanings of its own.
    with cli.make_context(PROGRAM, arguments) as context:
        result: Any = cli.invoke(context)
    return result if isinstance(result, int) else 0


def complete(instruction: str, variable: str) -> int:
    """Answer the shell's completion script, which asks through the environment."""
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, PROGRAM, variable, instruction)


def status_of(error: BaseException) -> int | None:
    """The exit status of an error of the framework, told in words; `None` for any other."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error)
    return None


def is_refusal(error: BaseException) -> bool:
    """Whether somebody was asked, and said no or pressed Ctrl-C."""
    return isinstance(error, click.Abort)


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
