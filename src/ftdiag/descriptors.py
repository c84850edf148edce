"""Descriptors of processes and of files in memory, also where Python was built without them.

In: a process id, a name, a signal. Out: what `os.pidfd_open`, `os.memfd_create` and
`signal.pidfd_send_signal` give. A Python that was built with the headers of an old system, to run on all
newer ones, does not have these functions (those that uv installs), while the kernel has the calls:
pidfd_open(2) since Linux 5.3, memfd_create(2) since 3.17, pidfd_send_signal(2) since 5.1. All raise OSError.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes as long to import as all of this
    from collections.abc import Mapping
    from typing import Final

MFD_CLOEXEC: Final = 1
"""<linux/memfd.h>"""
PIDFD_OPEN: Final = 434
PIDFD_SEND_SIGNAL: Final = 424
"""Numbers from 424 on are the same on all machines (Linux 5.1, "unified system call numbers")."""
MEMFD_CREATE: Final[Mapping[str, int]] = {"x86_64": 319, "aarch64": 279}
"""arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h"""


def open_process(pid: int) -> int:
    """A descriptor that becomes readable when the process has ended; not inherited."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return _call(PIDFD_OPEN, pid, 0)


def send_signal(descriptor: int, number: int) -> None:
    """A signal to the process of a descriptor. Raises ProcessLookupError where it has ended."""
    if hasattr(signal, "pidfd_send_signal"):
        signal.pidfd_send_signal(descriptor, number)
    else:
        _call(PIDFD_SEND_SIGNAL, descriptor, number, None, 0)


def file_in_memory(name: str) -> int:
    """A file that has no place on a disk and goes with its last descriptor; not inherited."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, MFD_CLOEXEC)
    machine = os.uname().machine
    if machine not in MEMFD_CREATE:
        raise OSError(38, f"the number of memfd_create is not known on {machine}")
    return _call(MEMFD_CREATE[machine], name.encode(), MFD_CLOEXEC)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """syscall(2)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = int(libc.syscall(ctypes.c_long(number), *given))
    if answer < 0:
        why = ctypes.get_errno()
        raise OSError(why, os.strerror(why))
    return answer
