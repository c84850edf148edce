"""The program's text, to be shown beside its figures.

In: a file name as the interpreter told it, and the target. Out: its lines, or why there are none. A live
target's files are looked up below its own root (containers), then as plain paths. What is shown is what the
target's user may read: a program can call any file its source, or put a link there. Of a program that is gone
root sees what everybody may read, or under sudo the user who asked. What is read is bounded, and only regular
files are opened (`opening`).

A recording that was opened names files and a process, too, and may be a stranger's. Its process is never
looked at, whether it seems to grow or not. Its files are those of whoever owns it: root reads them with that
user's rights; others read those of their own recordings and of root's, and none of anybody else's.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from ftdiag.datatypes import dataclass, replace
from ftdiag.opening import EVERYBODY, NOBODY, Reader, TargetReader, open_in_root, open_plain

MAX_BYTES: Final = 2 * 1024 * 1024
"""A larger file is not source text that anyone reads here."""
MAX_FILES: Final = 16
"""Files kept; they are read again when they change."""


@dataclass(frozen=True, slots=True)
class SourceLines:
    """The lines of a file, or (without any) why it is not there. `path` is where it was found,
    `changed_unix_ns` when it was written last; `None` where that is not known."""

    filename: str
    lines: tuple[str, ...] = ()
    path: str | None = None
    why: str = ""
    changed_unix_ns: int | None = None


class SourceText(Protocol):
    """Where source text comes from."""

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """The file that the target `pid` (`None`: it is gone) calls `filename`."""


class SourceFiles:
    """Source text from files, the latest few kept.

    `process`: the target of a look of ours, whose rights are those that it has now. `recording`: the file of
    an opened recording, whose owner's rights count.
    """

    def __init__(self, *, process: int | None = None, recording: Path | None = None) -> None:
        self._kept: OrderedDict[tuple[str, int, int, int], tuple[str, ...]] = OrderedDict()
        self._targets: dict[int, TargetReader] = {}
        if process is not None:
            self._targets[process] = TargetReader(process)
        self._reader, self._refused = last_reader(), ""
        if recording is not None:
            self._reader, self._refused = _reader_of_recording(recording)

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """The lines of a file, through the target's root where it lives."""
        if not filename.startswith("/") or "\0" in filename:
            return SourceLines(filename, why="source not available: it does not come from a file")
        if self._refused:
            return SourceLines(filename, why=self._refused)
        reader = self._reader
        if pid is not None and not os.path.exists(f"/proc/{pid}"):
            pid = None
        if pid is not None:
            if pid not in self._targets:
                self._targets[pid] = TargetReader(pid)
            reader = self._targets[pid].now
        why = "source not available: there is no such file here"
        for process in dict.fromkeys((pid, None)):
            try:
                lines, changed_ns = self._lines(filename, process, reader)
            except ProcessLookupError:
                continue
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
            path = _path_from_here(filename, process)
            return SourceLines(filename, lines, path, changed_unix_ns=changed_ns)
        return SourceLines(filename, why=why)

    def _lines(self, filename: str, pid: int | None, reader: Reader | None) -> tuple[tuple[str, ...], int]:
        """The lines, and when they were written."""
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
                return known, status.st_mtime_ns
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
        lines = tuple(line.expandtabs(4) for line in text.split("\n"))
        self._kept[key] = lines
        while len(self._kept) > MAX_FILES:
            self._kept.popitem(last=False)
        return lines, status.st_mtime_ns


def last_reader(environment: Mapping[str, str] = os.environ) -> Reader | None:
    """Whose rights count where there is no target any more; `None`: ours.

    Root opens recordings of anybody; under sudo it does so for somebody.
    """
    if os.geteuid() != 0:
        return None
    with suppress(KeyError, ValueError, OSError):
        return _reader_called(pwd.getpwuid(int(environment["SUDO_UID"])))
    return EVERYBODY


def _reader_of_recording(path: Path) -> tuple[Reader | None, str]:
    """Whose rights count for the files that a recording names (`None`: ours), or why none is read."""
    try:
        status = os.stat(path)
    except OSError:
        return EVERYBODY, ""
    us = os.geteuid()
    if status.st_uid not in (0, us) and us != 0:
        return None, "source not shown: the recording is another user's; a copy of your own shows it"
    if status.st_mode & stat.S_IWOTH:
        return None, "source not shown: everybody may write into the recording"
    if status.st_uid == us or us != 0:
        return last_reader(), ""
    try:
        known = pwd.getpwuid(status.st_uid)
        return _reader_called(known), ""
    except (KeyError, OSError):
        return Reader(status.st_uid, NOBODY), ""


def _reader_called(known: pwd.struct_passwd) -> Reader:
    return Reader(known.pw_uid, known.pw_gid, tuple(os.getgrouplist(known.pw_name, known.pw_gid)))


def _path_from_here(filename: str, pid: int | None) -> str:
    """Where an editor finds it."""
    with suppress(OSError):
        if pid is not None and not os.path.samefile(f"/proc/{pid}/root", "/"):
            return f"/proc/{pid}/root{filename}"
    return filename


class MovedFiles:
    """Source text from one folder, whatever folder was named: of a program that comes with ftdiag."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = SourceFiles()

    def read(self, filename: str, pid: int | None) -> SourceLines:
        """The lines of the file of that name in the folder."""
        moved = self._folder / PurePosixPath(filename).name
        return replace(self._files.read(os.fspath(moved), None), filename=filename)
