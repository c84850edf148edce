"""Arguments that several commands take, checked before anything is started.

In: words of the command line. Out: values that make sense, or a click error that says which would.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from ftdiag.commands.terminal import ascii_only
from ftdiag.sampling.options import (
    BUDGETS,
    DEFAULT_NATIVE_RATE_HZ,
    DEFAULT_RATE_HZ,
    DURATIONS,
    MAX_PID,
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    NATIVE_RATES,
    RATES,
    SOURCES,
    Effort,
    Limits,
)

MAX_HELP: Final = 60
"""Of a command that is offered with its process id."""
PROCESSES_HINT: Final = "ftdiag list   shows the Python processes"

if TYPE_CHECKING:
    # Generic only in the newest click.
    _PidType = click.ParamType[int]
    _NumberType = click.ParamType[float]
else:
    _PidType = _NumberType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])


class BadValue(click.BadParameter):
    """A value that makes no sense, and what to do about it."""

    hint: str | None = None


class Pid(_PidType):
    """A process id."""

    name = "pid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A positive number."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if not (text.isascii() and text.removeprefix("-").isdigit()):
            raise _bad_pid(f"{value!r} is not a process id", param, ctx)
        if not 0 < int(text[:20]) <= MAX_PID:
            raise _bad_pid(
                f"{text[:40]} cannot be a process id: they are above 0 and at most {MAX_PID:,}", param, ctx
            )
        return int(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The Python processes."""
        from ftdiag.commands.processes import python_processes_by_name
        from ftdiag.reports.escaping import visible

        return [
            CompletionItem(str(pid), help=visible(command, ascii_only=ascii_only(), limit=MAX_HELP))
            for pid, command in python_processes_by_name()
            if str(pid).startswith(incomplete)
        ]


def _bad_pid(message: str, param: click.Parameter | None, ctx: click.Context | None) -> BadValue:
    error = BadValue(message, ctx, param, param_hint="PID")
    error.hint = PROCESSES_HINT
    return error


class Number(_NumberType):
    """A number within limits; neither nan nor infinite."""

    def __init__(self, name: str, least: float, most: float, above: bool = False) -> None:
        self.name = name
        self._limits = Limits(least, most, above)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """A float."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        if not self._limits.admit(number):
            least, most, above = self._limits
            begin = f"above {least:g}" if above else f"from {least:g}"
            self.fail(f"{value} is not possible; it takes {begin} to {most:,.0f}.", param, ctx)
        return number


PID: Final = Pid()
RATE: Final = Number("hz", *RATES)
NATIVE_RATE: Final = Number("hz", *NATIVE_RATES)
BUDGET: Final = Number("cores", *BUDGETS)
DURATION: Final = Number("seconds", *DURATIONS)
FILE: Final = click.Path(path_type=Path)


def pid_argument(command: Command) -> Command:
    """PID."""
    return click.argument("pid", type=PID)(command)


def format_option(when: str) -> Callable[[Command], Command]:
    """--format of a command that shows the cockpit, or a report `when` it is over: None if not given."""
    return click.option(
        "--format",
        "asked_format",
        type=click.Choice(["tui", "json", "text", "html"]),
        help=f"The cockpit (tui), or a report {when}. Default: tui on a terminal, else text.",
    )


def effort_options(command: Command) -> Command:
    """--rate, --native-rate and --budget: an `effort`."""

    @wraps(command)
    def with_effort(
        *arguments: Any, rate_hz: float, native_rate_hz: float, budget_cores: float | None, **others: Any
    ) -> Any:
        return command(*arguments, effort=Effort(rate_hz, native_rate_hz, budget_cores), **others)

    decorated: Any = click.option(
        "--budget",
        "budget_cores",
        type=BUDGET,
        metavar="CORES",
        help="Cores that sampling may use; it samples less often rather than use more, and says so."
        " Default: 0.1, and 0.03 while cores are scarce (0.25 for more than 100 samples per second), or 3 and"
        " 1.5 % of what the process may use if that is more.",
    )(with_effort)
    decorated = click.option(
        "--native-rate",
        "native_rate_hz",
        type=NATIVE_RATE,
        default=DEFAULT_NATIVE_RATE_HZ,
        metavar="HZ",
        show_default=True,
        help="Machine-code samples per second that a thread is on a core; 0: none.",
    )(decorated)
    return click.option(  # type: ignore[no-any-return]
        "--rate",
        "rate_hz",
        type=RATE,
        default=DEFAULT_RATE_HZ,
        metavar="HZ",
        show_default=True,
        help=f"Samples per second, {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}.",
    )(decorated)


def source_options(command: Command) -> Command:
    """--source and --blocking."""
    command = click.option(
        "--blocking",
        is_flag=True,
        help="py-spy may stop the process for each of its samples: exact stacks, a slower program.",
    )(command)
    return click.option(
        "--source",
        type=click.Choice(SOURCES),
        default="auto",
        show_default=True,
        help="Who reads the stacks: ftdiag (native), py-spy, or py-spy where ftdiag cannot (auto).",
    )(command)


def duration_option(text: str) -> Callable[[Command], Command]:
    """--duration."""

    def decorate(command: Command) -> Command:
        return click.option("--duration", "duration_s", type=DURATION, metavar="SECONDS", help=text)(command)

    return decorate


def fail_on_option(command: Command) -> Command:
    """--fail-on."""
    return click.option(
        "--fail-on",
        type=click.Choice(["warning", "critical"]),
        help="Exit with status 1 if there is a finding of this severity or above.",
    )(command)


def output_option(command: Command) -> Command:
    """-o of commands that make a recording."""
    return click.option(
        "-o",
        "--output",
        "path",
        type=FILE,
        required=True,
        metavar="FILE",
        help="The recording to make; it must not exist.",
    )(command)


def memory_file_option(command: Command) -> Command:
    """--memory of commands that look at a recording."""
    return click.option(
        "--memory",
        type=FILE,
        metavar="CAPTURE",
        help="Join this capture of memray: what each line allocates.",
    )(command)


def examples(*lines: tuple[str, str]) -> str:
    """An epilog of commands and what they do, in two columns; click does not rewrap it."""
    width = max((len(command) for command, words in lines if words), default=0)
    return "\b\nExamples:\n" + "\n".join(f"  {command:{width}}  {words}".rstrip() for command, words in lines)


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    context = click.get_current_context(silent=True)
    given = bool(context and context.find_root().params.get("debug"))
    return given or os.environ.get("FTDIAG_DEBUG", "") not in ("", "0")
