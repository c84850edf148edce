"""Which processes to watch: one, those whose command matches, the children of one.

In: /proc. Out: process ids, bounded in number; those that are too young wait, so that workers that are
replaced all the time are not attached to again and again.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from ftdiag.errors import UsageError

MAX_COMMAND: Final = 16_384
"""Bytes of a command line that are looked at."""
MAX_PROCESSES: Final = 65_536
MAX_DEPTH: Final = 64
LEAST_AGE_S: Final = 2.0
"""A process that matches a pattern is attached to when it has lived so long."""


class Wanted:
    """The wish of a command line; `now` gives the processes that are there."""

    def __init__(self, pid: int | None = None, pattern: str | None = None, parent: int | None = None) -> None:
        self._pid = pid
        self._parent = parent
        try:
            self._pattern = None if pattern is None else re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(f"{pattern!r} is no regular expression: {error}") from None

    @property
    def words(self) -> str:
        """What is watched, for people."""
        if self._pid is not None:
            return f"process {self._pid}"
        if self._parent is not None:
            return f"process {self._parent} and its children"
        return f"processes that match {self._pattern.pattern if self._pattern else ''!r}"

    @property
    def is_one(self) -> bool:
        """Whether the end of one process is the end."""
        return self._pid is not None

    def now(self, age_s: float = LEAST_AGE_S) -> list[int]:
        """Process ids, ascending; the one process or parent at once, others when they are old enough."""
        if self._pid is not None:
            return [self._pid] if os.path.isdir(f"/proc/{self._pid}") else []
        pids = [pid for pid in _pids() if pid != os.getpid()]
        if self._parent is not None:
            family = _family(self._parent, pids)
            return sorted(pid for pid in family if pid == self._parent or _age_s(pid) >= age_s)
        assert self._pattern is not None
        return [pid for pid in pids if self._pattern.search(command_of(pid)) and _age_s(pid) >= age_s]


def command_of(pid: int) -> str:
    """A command line in one piece; empty for the kernel's own and for those that went."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
        return stream.read(MAX_COMMAND).rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def _pids() -> list[int]:
    with suppress(OSError):
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[:MAX_PROCESSES]
    return []


def _stat(pid: int) -> list[str]:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stream:
        # The name in brackets may hold anything; what follows its last bracket are numbers.
        return stream.read(4096).rpartition(b")")[2].decode("ascii", "replace").split()
    return []


def _family(parent: int, pids: list[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid in pids:
        fields = _stat(pid)
        if len(fields) > 1 and fields[1].isdigit():
            children.setdefault(int(fields[1]), []).append(pid)
    family, newest = {parent} & set(pids), [parent]
    for _ in range(MAX_DEPTH):
        newest = [child for pid in newest for child in children.get(pid, ()) if child not in family]
        if not newest:
            break
        family.update(newest)
    return family


def _age_s(pid: int) -> float:
    fields = _stat(pid)
    if len(fields) < 20 or not fields[19].isdigit():
        return -1.0
    with suppress(OSError), open("/proc/uptime", "rb") as stream:
        uptime = float(stream.read(64).split()[0])
        return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return -1.0
