"""Which threads were on a core, and what they are blocked in: lines of /proc of many threads in one call.

In: descriptors of /proc/PID/task/TID/schedstat and .../syscall, which stay open. Out: their lines, as they
are now. Two readers speak this protocol: the compiled one (`tick/lines.c`) is used, `PythonThreadLines` takes
over where that could not be built and is the reference: both give the same answers for the same files.

The protocol, for whoever writes a reader
- Files are read with pread(2) from 0, SCHEDSTAT_BYTES or SYSCALL_BYTES of them, once each and in the order in
  which they are given; no longer line is ever looked at. Nothing else is done to a descriptor, and none is
  closed. A line is given as it was read, with its newline.
- An error of one file spoils no other one. ESRCH and ENOENT say that the thread is gone; any other error says
  nothing of it.
- `ran` compares with what it read the last time itself. It costs nothing in Python for a thread that did not
  run: with a thousand idle threads that is what a tick costs.
- Of more than MANY_THREADS threads, one whose line was the same STILL_CALLS times in a row is read at one
  call in STILL_EVERY only, in turn with the others of its kind, until the line is another: that it ran is
  noticed a few ticks late. With a thousand idle threads all other costs are small beside reading their lines.
- No state but the descriptors, the last lines and these counts is kept; nothing is raised.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final, Protocol

from ftdiag.sources.compiled import COMPILED, tick

SCHEDSTAT_BYTES: Final = 96
SYSCALL_BYTES: Final = 256
RUNNING_LINE: Final = b"running\n"
"""The syscall line of a thread that is on a core or waits for one (proc_pid_syscall, fs/proc/base.c)."""
MANY_THREADS: Final = 256
STILL_CALLS: Final = 100
STILL_EVERY: Final = 4
GONE: Final = (errno.ESRCH, errno.ENOENT)
"""What the files of a thread that has ended answer."""
_SCHEDSTAT_SIZES: Final = repeat(SCHEDSTAT_BYTES)
_SYSCALL_SIZES: Final = repeat(SYSCALL_BYTES)
_STARTS: Final = repeat(0)


class ThreadLines(Protocol):
    """Reads lines of the threads of one target. For use by one thread."""

    def follow(self, tid: int, schedstat: int, thread: Any = None, /) -> None:
        """From now on `ran` looks at a thread, whose schedstat is open as that descriptor.

        `thread` is what was seen of it (`sampling.seen`), for a walker that asks who ran by itself.
        """
        ...

    def forget(self, tid: int, /) -> None:
        """It does not any more. A thread that is not followed is ignored."""
        ...

    def ran(self) -> list[tuple[int, bytes | None]]:
        """(tid, line of schedstat) of the followed threads whose line is not what it was at the last call.

        At the first call after `follow` a thread is always among them. `None` in place of the line: it is
        gone; that is said at each call until it is forgotten. One whose file cannot be read for another
        reason is not among them, and is compared with the line before that. In the order of `follow`.
        """
        ...

    def syscalls(self, descriptors: Sequence[int], /) -> list[bytes | None]:
        """The lines of `syscall` files; b"" where one cannot be read, `None` where the thread is gone."""
        ...


def thread_lines() -> ThreadLines:
    """The compiled reader where it was built, else the one in Python."""
    return tick.Lines() if COMPILED else PythonThreadLines()


class PythonThreadLines:
    """Reads lines of threads; see `ThreadLines`."""

    def __init__(self) -> None:
        # Both have the same keys in the same order.
        self._descriptors: dict[int, int] = {}
        self._lines: dict[int, bytes | None] = {}
        self._still: dict[int, int] = {}
        self._calls = 0

    def follow(self, tid: int, schedstat: int, thread: Any = None) -> None:
        """From now on `ran` looks at a thread."""
        self.forget(tid)
        self._descriptors[tid] = schedstat
        self._lines[tid] = None
        self._still[tid] = 0

    def forget(self, tid: int) -> None:
        """It does not any more."""
        self._descriptors.pop(tid, None)
        self._lines.pop(tid, None)
        self._still.pop(tid, None)

    def ran(self) -> list[tuple[int, bytes | None]]:
        """(tid, line of schedstat) of the followed threads whose line is another than at the last call."""
        lines: Sequence[bytes | None]
        self._calls += 1
        tids = list(self._descriptors)
        if len(tids) > MANY_THREADS:
            still, calls = self._still, self._calls
            tids = [
                tid
                for place, tid in enumerate(tids)
                if still[tid] < STILL_CALLS or (place + calls) % STILL_EVERY == 0
            ]
        descriptors = [self._descriptors[tid] for tid in tids]
        try:
            # The bulk of a tick when most threads are idle: no bytecode runs between the reads.
            lines = list(map(os.pread, descriptors, _SCHEDSTAT_SIZES, _STARTS))
        except OSError:
            lines = [_line(each, SCHEDSTAT_BYTES) for each in descriptors]
        changed: list[tuple[int, bytes | None]] = []
        for tid, line in zip(tids, lines, strict=True):
            if line is None:
                changed.append((tid, None))
            elif line == self._lines[tid]:
                self._still[tid] += 1
            elif line != b"":
                self._lines[tid] = line
                self._still[tid] = 0
                changed.append((tid, line))
        return changed

    def syscalls(self, descriptors: Sequence[int]) -> list[bytes | None]:
        """The lines of `syscall` files; b"" where one cannot be read, `None` where the thread is gone."""
        try:
            return list(map(os.pread, descriptors, _SYSCALL_SIZES, _STARTS))
        except OSError:
            return [_line(each, SYSCALL_BYTES) for each in descriptors]


def _line(descriptor: int, size: int) -> bytes | None:
    """What is in a file now: b"" if it cannot be read, `None` if the thread is gone."""
    try:
        return os.pread(descriptor, size, 0)
    except OSError as error:
        return None if error.errno in GONE else b""
