"""Through which task a process is read: its main thread, or one that lives on after that has ended.

In: a pid. Out: an id and a folder of /proc that show the memory, files and environment of the process.

A main thread that calls pthread_exit leaves a zombie behind while others go on: the kernel has taken its
memory and files away, so that everything in /proc/PID but the counters is empty (proc_pid_lookup in
fs/proc/base.c answers for the id of any thread, though /proc does not list it). /proc/PID is asked first:
that is the usual case.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final

MAX_STAT_BYTES: Final = 4096
ENDED: Final = "ZX"
"""State letters of a thread that has ended (proc_pid_stat(5))."""


def state_letter(pid: int, tid: int) -> str | None:
    """The state of one thread as proc_pid_stat(5) has it ("R", "S", "T", ...); `None` if it is gone."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb") as stream:
            data = stream.read(MAX_STAT_BYTES)
    except OSError:
        return None
    place = data.rfind(b")") + 2
    return data[place : place + 1].decode("ascii", "replace") or None


def has_ended(pid: int, tid: int) -> bool:
    """Whether a thread is over, though /proc may still list it: a main thread after pthread_exit."""
    letter = state_letter(pid, tid)
    return letter is None or letter in ENDED


def living_task(pid: int, without: Collection[int] = ()) -> int | None:
    """The id that the process can be read by: its own, or that of a thread that lives; `None`: none does.

    `without`: those that are known to have no memory any more. A thread gives it up before it is told as
    ended (exit_mm and exit_notify, kernel/exit.c).
    """
    letter = None if pid in without else state_letter(pid, pid)
    if letter is not None and letter not in ENDED:
        return pid
    try:
        tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except (OSError, ValueError):
        return None
    return next((tid for tid in tids if tid not in without and not has_ended(pid, tid)), None)


def proc_folder(pid: int) -> str:
    """The folder of /proc with the memory, files and environment of the process: /proc/PID, nearly always."""
    return f"/proc/{living_task(pid) or pid}"


def status_fields(path: str, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """The named fields of a /proc status file; those not there (or the file gone) are missing."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(65_536)
    except OSError:
        return {}
    found = {}
    for line in data.splitlines():
        name, _, value = line.partition(b":")
        if name in names:
            found[name] = value.strip()
    return found
