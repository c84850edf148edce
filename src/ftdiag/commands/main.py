"""`ftdiag`: finds the subcommand, runs it, and turns what goes wrong into one message and an exit status.

In: the arguments. Out: the exit status: 0, 1 findings (only with --fail-on), 2 usage, 3 cannot attach or
read, 70 a mistake in ftdiag, 128 + n ended by signal n (130: Ctrl-C).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

from ftdiag.commands import plainly, shortage, terminal
from ftdiag.commands.terminal import Terminated
from ftdiag.errors import FtdiagError
from ftdiag.spawning import open_standard_descriptors

COMPLETION_VARIABLE: Final = "_FTDIAG_COMPLETE"
BUG_STATUS: Final = 70
"""EX_SOFTWARE of sysexits.h."""
SIGNAL_STATUS: Final = 128


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
    if not instruction:
        asked = plainly.recording(arguments)
        if asked is not None:
            from ftdiag.commands.recording import record

            return record(*asked)
    from ftdiag.commands import group

    return group.run(arguments) if not instruction else group.complete(instruction, COMPLETION_VARIABLE)


# --- what goes wrong ---------------------------------------------------------------------------------


def _in_words(error: BaseException) -> int:
    """One message for whatever came up; the exit status."""
    group = sys.modules.get("ftdiag.commands.group")  # else no error is the command line framework's
    said: int | None = None if group is None else group.status_of(error)
    if said is not None:
        return said
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, Terminated):
        return SIGNAL_STATUS + error.number
    if isinstance(error, KeyboardInterrupt) or (group is not None and group.is_refusal(error)):
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("\n")
        return SIGNAL_STATUS + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        return SIGNAL_STATUS + signal.SIGPIPE
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
