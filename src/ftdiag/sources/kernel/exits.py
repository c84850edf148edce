"""How a process ended, as far as anyone but its parent can know.

In: a pid and its pidfd. Out: the reason and one sentence.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from contextlib import suppress
from typing import Final

from ftdiag.errors import NoSuchProcess, PermissionRefused
from ftdiag.model import EndReason
from ftdiag.sources.kernel.procfs import read_process_stat

# include/uapi/linux/pidfd.h (since Linux 6.13; PIDFD_INFO_EXIT since 6.15): struct pidfd_info
# { mask u64, cgroupid u64, pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid u32,
#   exit_code s32 }
_PIDFD_INFO: Final = struct.Struct("<QQ11Ii")
_PIDFD_INFO_EXIT: Final = 1 << 3
_PIDFD_GET_INFO: Final = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11


def how_it_ended(pid: int, pidfd: int) -> tuple[EndReason, str]:
    """Reason and sentence for a process that has ended.

    The exit status is read from the pidfd (Linux 6.15), else from the zombie if its parent has not reaped
    it yet; else the reason is VANISHED.
    """
    status = _status_from_pidfd(pidfd)
    if status is None:
        status = _status_from_zombie(pid)
    if status is None:
        return EndReason.VANISHED, f"process {pid} has ended; its exit status is known to its parent only"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return EndReason.KILLED, f"process {pid} was killed by {name}"
    return EndReason.EXITED, f"process {pid} exited with status {os.WEXITSTATUS(status)}"


def _status_from_pidfd(pidfd: int) -> int | None:
    request = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *(0,) * 13))
    with suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
        mask, *_, code = _PIDFD_INFO.unpack(request)
        if mask & _PIDFD_INFO_EXIT:
            return int(code)
    return None


def _status_from_zombie(pid: int) -> int | None:
    with suppress(NoSuchProcess, PermissionRefused, ValueError, IndexError):
        stat = read_process_stat(pid)
        if stat.state in "ZX":
            return stat.exit_code
    return None
