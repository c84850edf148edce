"""Progress on stderr: the step, the time since the start, and the last line of its log.

In: steps and the log lines of the running command. Out: text on a stream; a terminal gets one line that
is rewritten, anything else gets a line now and then.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Final, TextIO

REDRAW_S: Final = 0.2
"""How often a terminal's line is rewritten."""
REPORT_S: Final = 20.0
"""How often a line is added where there is no terminal."""

LOG_CHARACTERS: Final = 60
"""How much of a log line is shown."""


class Progress:
    """Shows which step runs. `clock` is given so that tests need not wait."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._shown = self._start
        self._step = ""
        self._live = stream.isatty()
        self._open_line = False

    def step(self, text: str) -> None:
        """A new step begins."""
        self._step = text
        self._shown = self._clock()
        self._put(text, keep=True)

    def note(self, text: str) -> None:
        """Something to know that is not a step."""
        self._put(text, keep=True)

    def log_line(self, text: str) -> None:
        """The running command wrote a line to its log."""
        now = self._clock()
        if now - self._shown < (REDRAW_S if self._live else REPORT_S):
            return
        self._shown = now
        # Compiler lines may hold anything; a terminal gets only what is printable.
        shown = "".join(c if c.isprintable() else " " for c in text.strip())
        if len(shown) > LOG_CHARACTERS:
            # A compiler's line starts with the same flags every time; its end tells the file.
            shown = "... " + shown[-LOG_CHARACTERS:]
        self._put(f"{self._step}: {shown}", keep=not self._live)

    def close(self) -> None:
        """Leaves the terminal on a fresh line."""
        if self._open_line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open_line = False

    def _put(self, text: str, *, keep: bool) -> None:
        elapsed = self._clock() - self._start
        width = max(20, shutil.get_terminal_size((100, 24)).columns - 1)
        line = f"[{int(elapsed // 60):2d}:{int(elapsed % 60):02d}] {text}"
        if self._open_line:
            self._stream.write("\r\x1b[K")
        if self._live and not keep:
            self._stream.write(line[:width])
            self._open_line = True
        else:
            self._stream.write(line + "\n")
            self._open_line = False
        self._stream.flush()
