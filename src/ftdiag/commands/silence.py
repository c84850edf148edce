"""Ends a command whose question to a target does not come back.

In: a process. Out: what is asked of it meanwhile is answered, or the command ends with an error in words.

For the few questions that a command asks itself; samplers and looks are processes of their own. A thread that
waits in the kernel for a page that nobody brings heeds no key either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ftdiag.commands import terminal
from ftdiag.errors import TargetSilent
from ftdiag.sampling.watchdog import Watchdog


@contextmanager
def told_if_silent(pid: int) -> Iterator[None]:
    """Meanwhile, where the process does not answer, say so and end this process."""

    def silent(what: str) -> None:
        error = TargetSilent(
            f"process {pid} does not answer: {what}",
            f"ftdiag doctor {pid}   says what can be asked of it",
        )
        try:
            terminal.complain(error.what, error.hint)
            with suppress(OSError, ValueError):
                sys.stderr.flush()
        finally:
            os._exit(error.exit_status)

    watchdog = Watchdog(silent)
    watchdog.reading = True
    try:
        yield
    finally:
        watchdog.close()
