"""The program's text, to be shown beside its figures.

In: a file name as the interpreter told it, and the target. Out: its lines, or why there are none. A live
target's files are looked up below its own root (containers), then as plain paths. What is shown is what the
target's user may read: a program can call any file its source, or put a link there. Of a program that is gone
root sees what everybody may read, or under sudo the user who asked. What is read is bounded, and only regular
files are opened (`opening`).
"""

from __future__ import annotations

import os
import pwd
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Protocol

from ftdiag.datatypes import dataclass
from ftdiag.opening import EVERYBODY, Reader, open_in_root, open_plain, reader_of

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

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, int, int], tuple[str, ...]] = OrderedDict()

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """The lines of a file, through the target's root where it lives."""
        if not filename.startswith("/") or "\0" in filename:
            return SourceLines(filename, why="source not available: it does not come from a file")
        reader = None if pid is None else _reader_of(pid)
        alive = pid if reader is not None else None
        reader = reader or last_reader()
        why = "source not available: there is no such file here"
        for process in dict.fromkeys((alive, None)):
            try:
                lines = self._lines(filename, process, reader)
            except FileNotFoundError:
                continue
            except PermissionError as error:
                whose = "everybody may" if reader == EVERYBODY else "the program's user may"
                said = error.strerror or ""
                why = f"source not available: not what {whose} read ({said})"
                continue
            except OSError as error:
                why = f"source not available: {error.strerror or type(error).__name__}"
                continue
            return SourceLines(filename, lines, _path_from_here(filename, process))
        return SourceLines(filename, why=why)

    def _lines(self, filename: str, pid: int | None, reader: Reader | None) -> tuple[str, ...]:
        if pid is None:
            descriptor = open_plain(filename, max_bytes=MAX_BYTES, reader=reader)
        else:
            descriptor = open_in_root(pid, filename, max_bytes=MAX_BYTES, reader=reader)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            key = (filename, status.st_dev, status.st_ino, status.st_mtime_ns)
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


def _reader_of(pid: int) -> Reader | None:
    """The rights of the target; `None` if it is gone."""
    with suppress(OSError):
        return reader_of(pid)
    return None


def last_reader(environment: Mapping[str, str] = os.environ) -> Reader | None:
    """Whose rights count where there is no target any more; `None`: ours.

    Root opens recordings of anybody; under sudo it does so for somebody.
    """
    if os.geteuid() != 0:
        return None
    with suppress(KeyError, ValueError, OSError):
        known = pwd.getpwuid(int(environment["SUDO_UID"]))
        groups = tuple(os.getgrouplist(known.pw_name, known.pw_gid))
        return Reader(known.pw_uid, known.pw_gid, groups)
    return EVERYBODY


def _path_from_here(filename: str, pid: int | None) -> str:
    """Where an editor finds it."""
    with suppress(OSError):
        if pid is not None and not os.path.samefile(f"/proc/{pid}/root", "/"):
            return f"/proc/{pid}/root{filename}"
    return filename
