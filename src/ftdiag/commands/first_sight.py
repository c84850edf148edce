"""What is on the screen while the cockpit is imported, which takes a second where others want every core.

In: words. Out: the terminal's second screen, on which the cockpit will draw, with these words on it; the
first screen as it was when there is no cockpit after all. Imports nothing that takes time.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ftdiag.commands import terminal

ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
LEAVE: Final = "\x1b[?1049l\x1b[?25h"
KEYS: Final = "Ctrl-C leaves"


class FirstSight:
    """The words on the screen. Textual draws on standard error, so they are there, too."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, *lines: str) -> None:
        """Take the second screen. Does nothing where the cockpit could not draw either."""
        stream = sys.__stderr__
        if stream is None or stream.closed or not stream.isatty() or not terminal.cockpit_possible():
            return
        columns, rows = shutil.get_terminal_size((80, 24))
        words = "".join(f" {terminal.harmless(line)[: max(1, columns - 2)]}\r\n" for line in lines)
        # Below that the cursor stays: what else is said meanwhile (how far an import is) stands there.
        self._write(f"{ENTER}{words}\r\n\x1b7\x1b[{rows};1H {KEYS[: max(1, columns - 2)]}\x1b8")
        self._shown = True
        terminal.hold_notes()

    def give_way(self) -> None:
        """The cockpit took the screen over, and gave it back."""
        self._shown = False

    def end(self) -> None:
        """Back to the first screen, if no cockpit took this one over; notes that were held are said there."""
        if self._shown:
            self._write(LEAVE)
            self._shown = False
        terminal.say_held_notes()

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal has gone away
            os.write(2, text.encode(errors="replace"))


@contextmanager
def first_sight(form: str, *lines: str) -> Iterator[FirstSight]:
    """The words are on the screen until the cockpit is, or there is none after all; for reports nothing."""
    sight = FirstSight()
    try:
        if form == "tui":
            sight.show(*lines)
        yield sight
    finally:
        sight.end()
