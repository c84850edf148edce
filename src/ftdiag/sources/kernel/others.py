"""Who else uses the machine's cores: the busiest processes beside a target, and ftdiag's own.

In: /proc. Out: by how much the CPU clocks of processes grew since the last reading (`Others.read`).

The CPU clock of a process needs no permission and costs some microseconds (`procfs.process_cpu_ns`), so all
are read once a window, on a machine with many of them less often (`most_cores`); those of ftdiag are read
every time, so that what a window is told to have cost is what it cost. Names are read of the few that are
told. Only the kernel's name of a process is read, never its command line: that is in the memory of somebody
who may let us wait for it. Processes that began and ended between two readings, and those of other PID
namespaces, have no name here; their time is in the machine's busy time.
"""

from __future__ import annotations

import os
import time
from typing import Final

from ftdiag.model import MAX_OTHER_NAME, MAX_OTHERS, OtherProcess
from ftdiag.ownthreads import OWN_NAME
from ftdiag.sources.kernel import procfs

MAX_READ: Final = 16_384
"""Most processes whose clocks are read: some 20 ms of CPU time."""
LOOKED_AT: Final = 32
"""Of the busiest so many it is asked whether they are ftdiag's."""
LEAST_NS: Final = 5_000_000
"""Who used less in a window is nobody's reason to wait."""
MOST_CORES: Final = 0.002
"""Part of a core that reading all clocks may take, unless told otherwise: of 1,000 processes every 5 s."""


class Others:
    """Reads the clocks of all processes but a target and this one."""

    def __init__(self, pid: int, most_cores: float = MOST_CORES) -> None:
        self._skip = {pid, os.getpid()}
        self._most_cores = most_cores
        self._before: dict[int, int] = {}
        self._own: dict[int, int] = {}
        """Clocks of ftdiag's processes that are known."""
        self._due_ns = 0

    def read(self, now_ns: int) -> tuple[tuple[OtherProcess, ...], int]:
        """The busiest since they were last read, most first, and the CPU time of ftdiag's other processes
        since the last call. `now_ns` is the monotonic clock's.

        The first reading finds nobody. Nobody is told where it is not yet time to read them all again.
        """
        own_ns = 0
        for pid, before in list(self._own.items()):
            clock = procfs.process_cpu_ns(pid)
            if clock is None:
                del self._own[pid]
            else:
                own_ns += max(0, clock - before)
                self._own[pid] = clock
        if now_ns < self._due_ns:
            return (), own_ns
        began_ns = time.thread_time_ns()
        others, found_ns = self._read_all()
        self._due_ns = now_ns + int((time.thread_time_ns() - began_ns) / self._most_cores)
        return others, own_ns + found_ns

    def _read_all(self) -> tuple[tuple[OtherProcess, ...], int]:
        """The busiest since the last time, and the CPU time of those that turn out to be ftdiag's."""
        now: dict[int, int] = {}
        for name in os.listdir("/proc"):
            if not name.isdecimal() or int(name) in self._skip or int(name) in self._own:
                continue
            clock = procfs.process_cpu_ns(int(name))
            if clock is not None:
                now[int(name)] = clock
                if len(now) == MAX_READ:
                    break
        before, self._before = self._before, now
        grown = ((clock - before[pid], pid) for pid, clock in now.items() if pid in before)
        busiest = sorted((one for one in grown if one[0] >= LEAST_NS), reverse=True)[:LOOKED_AT]
        others: list[OtherProcess] = []
        own_ns = 0
        for used_ns, pid in busiest:
            name, parent = _name_and_parent(pid)
            if name.startswith(OWN_NAME) or parent == os.getpid():
                own_ns += used_ns
                self._own[pid] = now[pid]
            elif len(others) < MAX_OTHERS:
                others.append(OtherProcess(pid, name, used_ns))
        return tuple(others), own_ns


def _name_and_parent(pid: int) -> tuple[str, int]:
    """The kernel's name of a process, and its parent; "?" and 0 of one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            name, _, rest = stream.read(4096).partition("(")[2].rpartition(")")
        return name[:MAX_OTHER_NAME], int(rest.split()[1])
    except (OSError, ValueError, IndexError):
        return "?", 0
