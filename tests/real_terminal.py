"""A shell on a terminal, with its screen as a person sees it: for the cockpit from its start to its end.

In: what is typed, sizes, signals. Out: the rows of the screen, the modes that were left switched on, the
settings of the line. The terminal is a pseudo-terminal of the kernel, drawn by pyte; the
shell has job control.
"""

from __future__ import annotations

import copy
import fcntl
import os
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pyte

from command_line import FTDIAG, environment
from reading import PATIENCE_S

PROMPT: Final = "ready> "
LEFT_ON: Final = {
    1049: "the alternate screen",
    1000: "mouse buttons",
    1002: "mouse drags",
    1003: "mouse moves",
    1004: "focus",
    1006: "mouse coordinates",
    2004: "bracketed paste",
    2048: "sizes in the input",
}
"""Private modes that no program may leave switched on for the shell."""


# Of the protocol for keyboards (CSI < u and the like), which pyte would draw.
_UNKNOWN: Final = re.compile(rb"\x1b\[[<>=][0-9;]*[A-Za-z]")
_UNFINISHED: Final = re.compile(rb"\x1b(\[[<>=]?[0-9;]*)?\Z")


class _Screen(pyte.Screen):
    """With the second screen that full-screen programs draw on."""

    def __init__(self, columns: int, rows: int) -> None:
        self._first: tuple[Any, tuple[int, int]] | None = None
        super().__init__(columns, rows)

    def set_mode(self, *modes: int, **keywords: Any) -> None:
        super().set_mode(*modes, **keywords)
        if 1049 in modes and keywords.get("private") and self._first is None:
            self._first = copy.deepcopy(self.buffer), (self.cursor.x, self.cursor.y)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **keywords: Any) -> None:
        super().reset_mode(*modes, **keywords)
        if 1049 in modes and keywords.get("private") and self._first is not None:
            self.buffer, (self.cursor.x, self.cursor.y) = self._first
            self._first = None


class RealTerminal:
    """A shell and its screen."""

    def __init__(self, master: int, slave: int, columns: int, rows: int) -> None:
        self._master = master
        self._slave = slave
        self._screen = _Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._held = b""
        self.raw = b""

    # --- what is seen ----------------------------------------------------------------------------------

    @property
    def rows(self) -> list[str]:
        """The screen."""
        return list(self._screen.display)

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.rows)

    @property
    def left_on(self) -> list[str]:
        """What is switched on that a shell does not expect."""
        # pyte keeps private modes shifted, so that they cannot be taken for the others.
        on = [words for number, words in LEFT_ON.items() if number << 5 in self._screen.mode]
        return [*on, "the cursor is hidden"] if self._screen.cursor.hidden else on

    @property
    def line_settings(self) -> list[Any]:
        """What the kernel does with the line: echo, signals, translation (termios)."""
        return termios.tcgetattr(self._slave)

    @property
    def foreground(self) -> int:
        """The process group that has the terminal."""
        return os.tcgetpgrp(self._master)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Read what is drawn until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"waited in vain for {what}; on the screen:\n{self.text}\n"
                    f"the last that was written: {self.raw[-2000:]!r}"
                )
            self._read(0.05)

    def shows(self, pattern: str) -> None:
        """Wait until the screen matches."""
        wanted = re.compile(pattern, re.MULTILINE)
        self.until(lambda: wanted.search(self.text) is not None, repr(pattern))

    @property
    def descriptor(self) -> int:
        """What is drawn can be read here by those who take care of it themselves."""
        return self._master

    def rests(self, moment_s: float = 0.3) -> None:
        """Wait until nothing more is drawn for a moment."""
        while self._read(moment_s):
            pass

    def drain(self, seconds: float) -> None:
        """Read what is drawn for so long, without looking at it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                os.read(self._master, 65_536)

    # --- what is done ----------------------------------------------------------------------------------

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def type_until(self, keys: str, pattern: str) -> None:
        """Press keys, and again each second, until the screen matches."""
        wanted = re.compile(pattern, re.MULTILINE)
        pressed = 0.0

        def holds() -> bool:
            nonlocal pressed
            if wanted.search(self.text) is None and time.monotonic() > pressed + 1:
                self.type(keys)
                pressed = time.monotonic()
            return wanted.search(self.text) is not None

        self.until(holds, repr(pattern))

    def start(self, *arguments: object) -> None:
        """Type a command of ftdiag; how it ended is said after it."""
        command = shlex.join([*FTDIAG, *map(str, arguments)])
        self.type(f'{command}; echo "status=$?"\n')

    def ended_with(self, status: int) -> None:
        """Wait until the command ended, with that status."""
        self.shows(r"^status=\d+")
        assert re.findall(r"^status=(\d+)", self.text, re.MULTILINE) == [str(status)]

    def resize(self, columns: int, rows: int) -> None:
        """Another size; the kernel tells the program in the foreground (SIGWINCH)."""
        self._screen.resize(rows, columns)
        _set_size(self._slave, columns, rows)
        self._read(0.0)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        with suppress(OSError):
            data = os.read(self._master, 65_536)
            self.raw += data
            known = _UNKNOWN.sub(b"", self._held + data)
            rest = _UNFINISHED.search(known)
            end = len(known) if rest is None else rest.start()
            self._held = known[end:]
            self._stream.feed(known[:end])
            return bool(data)
        return False


def _set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def real_terminal(columns: int = 100, rows: int = 30) -> Iterator[RealTerminal]:
    """A shell on a terminal of that size; it and what it started are ended."""
    # Our end of the line stays open: its settings can be read whoever is in the foreground.
    master, slave = os.openpty()
    _set_size(slave, columns, rows)

    def take_terminal() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.login_tty(slave)

    shell = subprocess.Popen(
        ["/bin/sh", "-i"],
        env=environment({"PS1": PROMPT, "ENV": None}),
        preexec_fn=take_terminal,  # noqa: PLW1509 - takes no lock
    )
    terminal = RealTerminal(master, slave, columns, rows)
    try:
        terminal.shows(re.escape(PROMPT.strip()))
        yield terminal
    finally:
        with suppress(OSError):
            group = terminal.foreground
            if group != shell.pid:
                os.killpg(group, signal.SIGKILL)
        shell.kill()
        shell.wait()
        os.close(master)
        os.close(slave)
