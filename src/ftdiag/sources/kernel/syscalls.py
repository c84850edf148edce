"""Linux system calls as far as they say why a thread is off its core: number -> name and kind of wait.

In: a line of /proc/PID/task/TID/syscall, the machine's architecture. Out: what the thread is blocked in.
Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass


class Blocking(enum.Enum):
    """What kind of waiting a system call is."""

    FUTEX = "futex"
    IO = "io"
    READINESS = "readiness"
    """poll, select, epoll_wait: waiting for any of several descriptors; an event loop's way to idle."""
    SLEEP = "sleep"
    SIGNAL_OR_CHILD = "signal-or-child"
    YIELD = "yield"
    MEMORY = "memory"
    CLONE = "clone"
    """Starting a process or a thread; with CLONE_VFORK the caller waits until the child has started."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SyscallInfo:
    """Name, kind, and which argument is a file descriptor (`None`: none)."""

    name: str
    blocking: Blocking
    descriptor_argument: int | None = None


@dataclass(frozen=True, slots=True)
class BlockedCall:
    """A thread blocked in the kernel. `number` is -1 when it is blocked outside a system call (a fault)."""

    number: int
    arguments: tuple[int, ...]
    stack_pointer: int | None = None
    instruction: int | None = None


_IO_WITH_DESCRIPTOR: Final = (
    "read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 recvfrom sendto recvmsg"
    " sendmsg recvmmsg sendmmsg accept accept4 connect fsync fdatasync sync_file_range flock fcntl ioctl"
    " getdents64 ftruncate fallocate sendfile splice tee vmsplice copy_file_range close shutdown"
    " io_uring_enter readahead"
).split()
_IO_WITHOUT_DESCRIPTOR: Final = (
    "open openat openat2 stat newfstatat statx unlink unlinkat rename renameat renameat2 mkdir mkdirat"
    " access faccessat faccessat2 readlink readlinkat io_getevents io_pgetevents sync syncfs truncate"
    " rmdir lstat execve"
).split()
_READINESS: Final = "poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2".split()
_SLEEP: Final = "nanosleep clock_nanosleep".split()
_SIGNAL: Final = "wait4 waitid pause rt_sigsuspend rt_sigtimedwait".split()
_CLONE: Final = "clone clone3 vfork".split()
_MEMORY: Final = "mmap munmap mremap madvise brk mprotect membarrier msync mlock".split()

_X86_64: Final[Mapping[str, int]] = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "lstat": 6, "poll": 7, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19,
    "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25, "msync": 26, "madvise": 28,
    "pause": 34, "nanosleep": 35, "sendfile": 40, "connect": 42, "accept": 43, "sendto": 44,
    "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "clone": 56, "vfork": 58, "execve": 59,
    "exit": 60,
    "wait4": 61, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77,
    "rename": 82, "mkdir": 83, "rmdir": 84, "unlink": 87, "readlink": 89, "rt_sigtimedwait": 128,
    "rt_sigsuspend": 130, "mlock": 149, "sync": 162, "readahead": 187, "futex": 202, "io_getevents": 208,
    "getdents64": 217, "restart_syscall": 219, "clock_nanosleep": 230, "exit_group": 231,
    "epoll_wait": 232, "waitid": 247, "openat": 257, "mkdirat": 258, "newfstatat": 262, "unlinkat": 263,
    "renameat": 264, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "splice": 275,
    "tee": 276, "sync_file_range": 277, "vmsplice": 278, "epoll_pwait": 281, "fallocate": 285,
    "accept4": 288, "preadv": 295, "pwritev": 296, "recvmmsg": 299, "syncfs": 306, "sendmmsg": 307,
    "renameat2": 316, "getrandom": 318, "membarrier": 324, "copy_file_range": 326, "preadv2": 327,
    "pwritev2": 328, "statx": 332, "io_pgetevents": 333, "io_uring_enter": 426, "clone3": 435,
    "openat2": 437, "faccessat2": 439, "epoll_pwait2": 441, "futex_waitv": 449, "futex_wait": 455,
}  # fmt: skip

_AARCH64: Final[Mapping[str, int]] = {
    "io_getevents": 4, "epoll_pwait": 22, "fcntl": 25, "ioctl": 29, "flock": 32, "mkdirat": 34,
    "unlinkat": 35, "renameat": 38, "truncate": 45, "ftruncate": 46, "fallocate": 47, "faccessat": 48,
    "openat": 56, "close": 57, "getdents64": 61, "read": 63, "write": 64, "readv": 65, "writev": 66,
    "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev": 70, "sendfile": 71, "pselect6": 72,
    "ppoll": 73, "vmsplice": 75, "splice": 76, "tee": 77, "readlinkat": 78, "newfstatat": 79, "sync": 81,
    "fsync": 82, "fdatasync": 83, "sync_file_range": 84, "exit": 93, "exit_group": 94, "waitid": 95,
    "futex": 98, "nanosleep": 101, "clock_nanosleep": 115, "sched_yield": 124, "restart_syscall": 128,
    "rt_sigsuspend": 133, "rt_sigtimedwait": 137, "accept": 202, "connect": 203, "sendto": 206,
    "recvfrom": 207, "shutdown": 210, "sendmsg": 211, "recvmsg": 212, "readahead": 213, "brk": 214,
    "munmap": 215, "mremap": 216, "clone": 220, "execve": 221, "mmap": 222, "mprotect": 226,
    "msync": 227, "mlock": 228, "madvise": 233, "accept4": 242, "recvmmsg": 243, "wait4": 260,
    "syncfs": 267, "sendmmsg": 269, "renameat2": 276, "getrandom": 278, "membarrier": 283,
    "copy_file_range": 285, "preadv2": 286, "pwritev2": 287, "statx": 291, "io_pgetevents": 292,
    "io_uring_enter": 426, "clone3": 435, "openat2": 437, "faccessat2": 439, "epoll_pwait2": 441,
    "futex_waitv": 449, "futex_wait": 455,
}  # fmt: skip


def _describe(name: str) -> SyscallInfo:
    if name.startswith("futex"):
        return SyscallInfo(name, Blocking.FUTEX)
    if name in _IO_WITH_DESCRIPTOR:
        return SyscallInfo(name, Blocking.IO, 0)
    if name in _IO_WITHOUT_DESCRIPTOR:
        return SyscallInfo(name, Blocking.IO)
    if name in _READINESS:
        return SyscallInfo(name, Blocking.READINESS, 0 if name.startswith("epoll") else None)
    if name in _SLEEP:
        return SyscallInfo(name, Blocking.SLEEP)
    if name in _SIGNAL:
        return SyscallInfo(name, Blocking.SIGNAL_OR_CHILD)
    if name in _MEMORY:
        return SyscallInfo(name, Blocking.MEMORY)
    if name in _CLONE:
        return SyscallInfo(name, Blocking.CLONE)
    if name == "sched_yield":
        return SyscallInfo(name, Blocking.YIELD)
    return SyscallInfo(name, Blocking.OTHER)


def syscall_table(machine: str | None = None) -> Mapping[int, SyscallInfo]:
    """Number -> what the call is, by what uname calls the machine; empty for other architectures."""
    numbers = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(machine or os.uname().machine, {})
    return {number: _describe(name) for name, number in numbers.items()}


RUNNING: Final = b"running"
"""What the kernel prints for a thread that is on a core or waits for one."""


def parse_syscall_line(line: bytes) -> BlockedCall | None:
    """Parse /proc/PID/task/TID/syscall: `None` while running, else the call (fs/proc/base.c).

    Raises ValueError for a line of another shape.
    """
    if line.startswith(RUNNING):
        return None
    fields = line.split()
    number = int(fields[0])
    if number < 0:
        return BlockedCall(-1, ())
    if len(fields) < 7:
        raise ValueError(f"not a syscall line: {line[:80]!r}")
    stack_pointer = int(fields[7], 16) if len(fields) > 7 else None
    instruction = int(fields[8], 16) if len(fields) > 8 else None
    return BlockedCall(number, tuple(int(field, 16) for field in fields[1:7]), stack_pointer, instruction)
