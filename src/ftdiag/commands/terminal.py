"""What the terminal can do, and how words get there.

In: text. Out: lines on standard output, messages and progress on standard error. Whatever a target chose
(names, command lines, paths) is made harmless before it is printed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, TextIO

from ftdiag.errors import UsageError

MIN_WIDTH: Final = 20
MAX_WIDTH: Final = 120
"""Wider lines of text are hard to read."""
PROGRESS_EVERY_S: Final = 0.5
MAX_HELD: Final = 200
"""Notes that are kept back at most."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP came: clean up and end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def cockpit_possible() -> bool:
    """Whether there is a terminal that the cockpit can draw on and read keys from."""
    return (
        _is_terminal(sys.stdin)
        and _is_terminal(sys.stdout)
        and os.environ.get("TERM", "") not in ("dumb", "")
    )


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def colours() -> bool:
    """Whether messages may be coloured: a terminal that can, and nobody who objects (NO_COLOR)."""
    return (
        _is_terminal(sys.stderr)
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in ("dumb", "")
    )


def ascii_only(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the locale asks for ASCII: the cockpit's judgement (a test compares them), without its imports.

    CPython sets LC_CTYPE=C.UTF-8 for itself in the C locale (PEP 538); that says nothing of the terminal.
    """
    environment = os.environ if environment is None else environment
    everything, types = environment.get("LC_ALL", ""), environment.get("LC_CTYPE", "")
    language = environment.get("LANG", "")
    if not everything and types.upper() in ("C.UTF-8", "C.UTF8", "UTF-8") and language in ("C", "POSIX"):
        return True
    chosen = everything or types or language
    return bool(chosen) and "utf" not in chosen.lower()


def _columns() -> int:
    import shutil  # it brings all archives: 4 ms that no sampler waits for

    return shutil.get_terminal_size((80, 24)).columns


def width() -> int:
    """Columns for text on standard output: those of the terminal, or 80."""
    return max(MIN_WIDTH, min(MAX_WIDTH, _columns()))


def width_of_table() -> int | None:
    """Columns for a table: all of a terminal's; without one nothing is cut."""
    return _columns() if _is_terminal(sys.stdout) else None


def harmless(text: str) -> str:
    """Text for one message, with what could move a cursor escaped; its line breaks stay."""
    try:
        from ftdiag.reports.escaping import visible
    except (ImportError, MemoryError):
        # Where that is the message: too little memory to load the table of characters.
        return "\n".join(ascii(line)[1:-1] for line in text.split("\n"))
    ascii_text = ascii_only()
    return "\n".join(visible(line, ascii_only=ascii_text, limit=2000) for line in text.split("\n"))


# --- standard output ---------------------------------------------------------------------------------


def require_output() -> None:
    """Raise UsageError if there is no standard output: better before the work than after."""
    if sys.stdout is None or sys.stdout.closed:
        raise UsageError("standard output is closed: there is nowhere to print to", "ftdiag ... > FILE")


def put(text: str) -> None:
    """Text on standard output, and a line feed. Whatever is in it, no terminal obeys it."""
    from ftdiag.reports.escaping import harmless

    require_output()
    print(harmless(text), file=sys.stdout)


def put_lines(lines: Iterable[str]) -> None:
    """Lines on standard output."""
    for line in lines:
        put(line)


def put_json(value: object) -> None:
    """One JSON object on standard output."""
    put(json_text(value, only_ascii=ascii_only()))


def json_text(value: object, *, only_ascii: bool = False) -> str:
    """A value as JSON, on one line."""
    from ftdiag.reports import escaping

    return escaping.json_text(value, only_ascii=only_ascii)


# --- standard error ----------------------------------------------------------------------------------


_held: list[str] | None = None


def hold_notes() -> None:
    """Keep notes back: the screen that they would be said on goes away."""
    global _held
    if _held is None:
        _held = []


def say_held_notes() -> None:
    """Say them now."""
    global _held
    held, _held = _held, None
    for text in held or ():
        note(text)


def note(text: str) -> None:
    """One message on standard error. Silent when that is closed."""
    if _held is not None:
        if len(_held) < MAX_HELD:
            _held.append(text)
        return
    if sys.stderr is not None and not sys.stderr.closed:
        with suppress(OSError):  # the terminal has gone away
            print(harmless(text), file=sys.stderr, flush=True)


def complain(what: str, hint: str | None = None) -> None:
    """An error: what failed and why, then what to do next."""
    if sys.stderr is None or sys.stderr.closed:
        return
    head, reset = ("\x1b[1;31m", "\x1b[0m") if colours() else ("", "")
    with suppress(OSError):  # the terminal has gone away
        print(f"{head}ftdiag: error:{reset} {harmless(what)}", file=sys.stderr)
        for line in (hint or "").splitlines():
            print(f"  {harmless(line)}", file=sys.stderr)
        sys.stderr.flush()


class Progress:
    """A line on standard error that is written over, when that is a terminal.

    Else nothing, or, where something takes so long that a log should say so, a line every `plain_every_s`.
    """

    def __init__(self, plain_every_s: float | None = None) -> None:
        self._shown = False
        self._plain_every_s = plain_every_s
        self._next = 0.0 if plain_every_s is None else time.monotonic() + plain_every_s
        self.active = _is_terminal(sys.stderr) and os.environ.get("TERM", "") not in ("dumb", "")
        """Whether there is such a terminal."""

    def show(self, text: str) -> None:
        """Show `text`, not more often than every PROGRESS_EVERY_S."""
        now = time.monotonic()
        if self.active:
            self._show_over(text, now)
        elif self._plain_every_s is not None and now >= self._next:
            self._next = now + self._plain_every_s
            note(text)

    def _show_over(self, text: str, now: float) -> None:
        if self._shown and now < self._next:
            return
        self._next = now + PROGRESS_EVERY_S
        columns = _columns() - 1
        with suppress(OSError):
            sys.stderr.write(f"\r\x1b[2K{harmless(text)[:columns]}")
            sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            with suppress(OSError):
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()
            self._shown = False
            self._next = 0.0
