"""The directory of a flight recorder: rings that are written, what was kept, and its limits.

In: a directory, limits of size and age. Out: names for new files; what is older or more than the limits is
removed, the oldest first, never what is being written. One recorder a directory: it is locked. Names:
`ring-PID-N.ftdiag` are rings, `kept-TIME-PID-WHY-before.ftdiag` and `-after.ftdiag` what was kept.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import RecordingError

ENDING: Final = ".ftdiag"
LOCK: Final = ".watch-lock"
_OURS: Final = re.compile(r"(?:ring|kept)-[\w.+-]+\.ftdiag")
COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all files together, and of the age of what was kept."""

    size_bytes: int
    age_s: float


class Store:
    """See the module. `now` is the clock on the wall, in seconds."""

    def __init__(self, directory: Path, limits: Limits, now: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self.limits = limits
        self._now = now
        self._number = 0
        self.writing: set[Path] = set()
        """Files that somebody writes: they stay."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory. Raises RecordingError: another recorder has it, or it cannot be made."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise RecordingError(
                f"{self.directory} cannot be used: {error.strerror}", "--directory DIR   takes another one"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise RecordingError(
                f"another recorder writes to {self.directory}", "--directory DIR   takes another one"
            ) from None
        try:
            yield
        finally:
            os.close(lock)

    def ring(self, pid: int) -> Path:
        """The name of a new ring."""
        while True:
            self._number += 1
            path = self.directory / f"ring-{pid}-{self._number}{ENDING}"
            if not os.path.lexists(path):
                return path

    def kept(self, pid: int, why: str, part: str) -> Path:
        """The name of something kept."""
        at = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._now()))
        name = re.sub(r"[^a-z0-9.+-]", "-", why.lower())[:40]
        for number in range(1000):
            more = f"-{number}" if number else ""
            path = self.directory / f"kept-{at}-{pid}-{name}{more}-{part}{ENDING}"
            if not os.path.lexists(path):
                return path
        raise RecordingError(f"{self.directory} has too many files of one second", "Use a longer quiet time.")

    def files(self) -> list[tuple[float, int, Path]]:
        """(when it was last written, bytes with its companions, path) of all recordings, the oldest first."""
        found = []
        with suppress(OSError):
            for entry in os.scandir(self.directory):
                if not _OURS.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                path = Path(entry.path)
                with suppress(OSError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, _size(path), path))
        return sorted(found)

    def used_bytes(self) -> int:
        """What all of them take."""
        return sum(size for _, size, _ in self.files())

    def prune(self, need_bytes: int = 0) -> list[Path]:
        """Remove what is beyond the limits, so that `need_bytes` more fit; what was removed."""
        files = self.files()
        used = sum(size for _, size, _ in files) + need_bytes
        removed = []
        # Rings of before are no more than what was kept on purpose: they go first.
        for at, size, path in sorted(files, key=lambda each: (each[2].name.startswith("kept"), each[0])):
            if path in self.writing:
                continue
            if used <= self.limits.size_bytes and self._now() - at <= self.limits.age_s:
                continue
            remove(path)
            used -= size
            removed.append(path)
        return removed


def remove(path: Path) -> None:
    """A recording with what lies beside it."""
    for ending in COMPANIONS:
        with suppress(OSError):
            os.unlink(f"{path}{ending}")


def _size(path: Path) -> int:
    total = 0
    for ending in COMPANIONS:
        with suppress(OSError):
            total += os.lstat(f"{path}{ending}").st_size
    return total
