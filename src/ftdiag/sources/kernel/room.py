"""Cores that are free for us: what this process uses of them, nobody loses.

In: /proc/stat, and the cpu.stat of our own control groups. Out: how many cores were free since the last
reading (`Room.read`).

Free is what was idle of the cores that this process may run on. None is where a CPU quota holds this process
back: whoever is in the same control group, as a program in its container, gets less for what we use.
"""

from __future__ import annotations

import os
from typing import Final

from ftdiag.sources.kernel.procfs import Throttle

STAT: Final = "/proc/stat"
MOST_BYTES: Final = 1 << 18
"""Of /proc/stat: the lines of some thousand cores."""


class Room:
    """Tells how many cores were free from reading to reading."""

    def __init__(self) -> None:
        self._throttle = Throttle(os.getpid())
        self._before: tuple[int, int, int | None] | None = None

    def read(self, now_ns: int) -> float | None:
        """Cores that were free since the last reading; `None` the first time, and where it is not known.

        `now_ns` is the monotonic clock's.
        """
        idle_ns = idle_since_boot_ns(os.sched_getaffinity(0))
        throttled_ns = self._throttle.read_ns()
        before, self._before = self._before, None if idle_ns is None else (now_ns, idle_ns, throttled_ns)
        if before is None or idle_ns is None or now_ns <= before[0]:
            return None
        if throttled_ns is not None and before[2] is not None and throttled_ns > before[2]:
            return 0.0
        return max(0, idle_ns - before[1]) / (now_ns - before[0])


def idle_since_boot_ns(cores: set[int]) -> int | None:
    """Time for which these cores had nothing to run since boot, together (grain: a clock tick per core).

    idle and iowait of /proc/stat; `None` if it cannot be read.
    """
    try:
        with open(STAT, "rb") as stream:
            if len(cores) >= (os.cpu_count() or 1):
                lines = [stream.readline(1024)]
            else:
                names = {b"cpu%d" % core for core in cores}
                lines = [line for line in stream.readlines(MOST_BYTES) if line.partition(b" ")[0] in names]
        idle = 0
        for line in lines:
            nothing_to_run, waits_for_disk = map(int, line.split()[4:6])
            idle += nothing_to_run + waits_for_disk
    except (OSError, ValueError):
        return None
    return idle * 1_000_000_000 // os.sysconf("SC_CLK_TCK") if lines else None
