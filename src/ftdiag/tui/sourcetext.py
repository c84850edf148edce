"""The program's text, to be shown beside its figures.

In: a file name as the interpreter told it, and the target. Out: its lines, or why there are none. A live
target's files are looked up through its own root (containers), then as plain paths. What is read is bounded,
and only regular files are: a target may name a pipe or a device.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Final, Protocol

from ftdiag.datatypes import dataclass

MAX_BYTES: Final = 2 * 1024 * 1024
"""A larger file is not source text that anyone reads here."""
MAX_FILES: Final = 16
"""Files kept; they are read again when they change."""


@dataclass(frozen=True, slots=True)
class SourceLines:
    """The lines of a file, or (without any) why it is not there. `path` is where it was found."""

    filename: str
    lines: tuple[str, ...] = ()
    path: str | None = None
    why: str = ""


class SourceText(Protocol):
    """Where source text comes from."""

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """The file that the target `pid` (`None`: it is gone) calls `filename`."""


class SourceFiles:
    """Source text from files, the latest few kept."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._kept: OrderedDict[tuple[str, int, int], tuple[str, ...]] = OrderedDict()

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """The lines of a file, through the target's root where it lives."""
        if not filename.startswith("/") or "\0" in filename:
            return SourceLines(filename, why="source not available: it does not come from a file")
        why = "source not available: there is no such file here"
        for path in self._places(filename, pid):
            try:
                lines = self._lines(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                why = f"source not available: {reason or type(error).__name__}"
                continue
            return SourceLines(filename, lines, path)
        return SourceLines(filename, why=why)

    def _places(self, filename: str, pid: int | None) -> list[str]:
        mapped = [f"{self._proc}/{pid}/root{filename}"] if pid is not None else []
        return [*mapped, filename]

    def _lines(self, path: str) -> tuple[str, ...]:
        # Without waiting: a pipe without a writer would hold us up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES // (1024 * 1024)} MiB")
            key = (path, status.st_mtime_ns, status.st_size)
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
        lines = tuple(line.expandtabs(4) for line in text.split("\n"))
        self._kept[key] = lines
        while len(self._kept) > MAX_FILES:
            self._kept.popitem(last=False)
        return lines
