"""Whose code a file is: the distribution that installed it, by its metadata.

In: names of files as the target has them. Out: `Library` values: a path, and the distribution (name, version)
that owns what is below it. Metadata is read below the target's own root: `*.dist-info` beside the file or
beside one of its parents, as wheels are installed (packaging.python.org, "Recording installed projects"). A
file that no distribution lists is nobody's: the program's own, or a library without metadata.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from ftdiag.model import Library
from ftdiag.opening import TargetReader, names_in_root, read_in_root

MAX_PARENTS: Final = 12
"""Directories above a file that are looked at for metadata."""
MAX_ENTRIES: Final = 20_000
"""Entries of a directory that are looked at."""
MAX_INSTALLED: Final = 2_000
"""Distributions of one directory that are known."""
MAX_RECORD_BYTES: Final = 1 << 20
"""How much of one RECORD or top_level.txt is read."""
MAX_READ_BYTES: Final = 1 << 24
"""How much metadata is read of one target in all: what is not found by then stays unknown."""

_DIST_INFO: Final = re.compile(r"(?P<name>[A-Za-z0-9._]+)-(?P<version>[A-Za-z0-9._+!]+)\.dist-info")


class Distributions:
    """The distributions that a target has installed, read as far as they are asked for."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._reader = TargetReader(pid)
        self._installed: dict[str, dict[str, str]] = {}
        """By directory: the folders of metadata in it, by what the distribution is called there."""
        self._records: dict[str, str] = {}
        self._left_bytes = MAX_READ_BYTES

    def library_of(self, filename: str) -> Library | None:
        """The distribution that a file belongs to; `None` where none says so."""
        if not filename.startswith("/"):
            return None
        directory, below = filename, ""
        for _ in range(MAX_PARENTS):
            directory, _, name = directory.rpartition("/")
            below = f"{name}/{below}" if below else name
            if not directory:
                return None
            folders = self._folders(directory)
            if folders:
                return self._owner(directory, below, folders)
        return None

    def _owner(self, directory: str, below: str, folders: dict[str, str]) -> Library | None:
        """The distribution whose list of files has the file; the one of that name is asked first."""
        top = below.partition("/")[0].removesuffix(".py")
        first = [folder for name, folder in folders.items() if _same(name, top)]
        for folder in (*first, *(folder for folder in folders.values() if folder not in first)):
            record = self._record(f"{directory}/{folder}")
            if f"\n{below}," not in record:
                continue
            found = _DIST_INFO.fullmatch(folder)
            assert found is not None, "only such folders are kept"
            # The folder of a package is its distribution's; of a namespace, which several share, the file is.
            alone = f"\n{top}/__init__.py," in record
            prefix = f"{directory}/{top}" if alone else f"{directory}/{below}"
            return Library(prefix, found["name"], found["version"])
        return None

    def _folders(self, directory: str) -> dict[str, str]:
        known = self._installed.get(directory)
        if known is None:
            known = self._installed[directory] = {}
            names: list[str] = []
            with suppress(OSError):
                names = names_in_root(self._pid, directory, MAX_ENTRIES, reader=self._reader.now)
            for name in names:
                found = _DIST_INFO.fullmatch(name)
                if found is not None and len(known) < MAX_INSTALLED:
                    known[found["name"]] = name
        return known

    def _record(self, folder: str) -> str:
        """The list of a distribution's files, with a line end before each; "" where it cannot be read."""
        known = self._records.get(folder)
        if known is None:
            text = b""
            if self._left_bytes > 0:
                with suppress(OSError):
                    limit = min(MAX_RECORD_BYTES, self._left_bytes)
                    text = read_in_root(self._pid, f"{folder}/RECORD", limit, reader=self._reader.now)
            self._left_bytes -= len(text)
            known = self._records[folder] = "\n" + text.decode("utf-8", "replace")
        return known


def _same(name: str, top: str) -> bool:
    """Whether a distribution and a package have the same name, as names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower() == re.sub(r"[-_.]+", "-", top).lower()
