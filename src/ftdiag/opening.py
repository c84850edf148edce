"""Opens files that somebody else chose: a target's user names them, puts links in the way, swaps them.

In: a path, for which process it holds, and who has to be allowed to read it. Out: a descriptor of a regular
file of bounded size that can be read without waiting; OSError for everything else.

A file is first taken hold of without being opened (O_PATH), then looked at, and only then opened, through
/proc/self/fd: what was looked at is what is opened. So a device or a FIFO, of which opening alone may do
something or wait for ever, is never opened. Nor is a file of the kernel's own (procfs, sysfs, tracefs):
reading some of them takes away what they have, or never ends. Nothing waits for a lease that the file's owner
holds.

Below a process's root every link is followed as the process itself would: absolute ones begin at its root,
and no number of `..` leads out of it (openat2(2), RESOLVE_IN_ROOT; where the kernel has no openat2, the same,
step by step).

Who reads with more rights than the one who named the file can be made to show what only the former may see.
`Reader` is whose rights count then: the kernel is asked to open the file as that user, with ACLs and all, in
a thread of its own (setfsuid(2)), whose rights nobody else in this process gets. For what is reached through
a process (/proc/PID/root, exe, map_files) these are that process's own, unless somebody else is named. A
process can become another user's (a set-user-ID program, sudo): `TargetReader` is for who looks at it longer.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.ownthreads import start_thread

MAX_LINKS: Final = 40
"""Symbolic links in one path, as in the kernel (MAXSYMLINKS)."""
MAX_DEPTH: Final = 128
"""Directories below each other; one descriptor is open for each while a path is walked without openat2."""
MAX_GROUPS: Final = 65_536
"""NGROUPS_MAX of Linux."""
MAX_STATUS_BYTES: Final = 1 << 20
NOBODY: Final = 65_534
"""The user that the kernel itself takes for nobody (kernel.overflowuid)."""
TRIES: Final = 8
"""The kernel gives a path up (EAGAIN) when a directory is moved meanwhile."""

_BELOW_ROOT: Final = re.compile(r"/proc/(\d+(?:/task/\d+)?)/root(/.*|)", re.DOTALL)
_OF_PROCESS: Final = re.compile(r"/proc/(\d+(?:/task/\d+)?)/(?:exe|map_files/[^/]+|fd/\d+)")
"""Links of the kernel to files that a process chose."""
CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
"""Who has one of these reads what its user may not (include/uapi/linux/capability.h)."""
_libc: Final = ctypes.CDLL(None, use_errno=True)
_OPENAT2: Final = 437
"""On all architectures (include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl)."""
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_SETGROUPS, _SETFSUID, _SETFSGID = {
    "x86_64": (116, 122, 123),
    "aarch64": (159, 151, 152),
}.get(os.uname().machine, (-1, -1, -1))
_UNCHANGED: Final = (1 << 32) - 1

_KERNELS_OWN: Final = frozenset(
    {
        0x9FA0,  # PROC_SUPER_MAGIC
        0x62656572,  # SYSFS_MAGIC
        0x64626720,  # DEBUGFS_MAGIC
        0x74726163,  # TRACEFS_MAGIC
        0x73636673,  # SECURITYFS_MAGIC
        0x27E0EB,  # CGROUP_SUPER_MAGIC
        0x63677270,  # CGROUP2_SUPER_MAGIC
        0xCAFE4A11,  # BPF_FS_MAGIC
        0x62656570,  # CONFIGFS_MAGIC
        0x65735543,  # FUSE_CTL_SUPER_MAGIC
        0x6165676C,  # PSTOREFS_MAGIC
        0xDE5E81E4,  # EFIVARFS_MAGIC
        0xF97CFF8C,  # SELINUX_MAGIC
        0x43415D53,  # SMACK_MAGIC
        0x42494E4D,  # BINFMTFS_MAGIC
    }
)
"""Types of file systems (include/uapi/linux/magic.h) whose files do something when they are read."""


class NotPlain(OSError):
    """What the path names is not a regular file of bounded size; `strerror` says what it is."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose rights count: a user's id as the kernel outside of any container has it."""

    user: int
    group: int
    groups: tuple[int, ...] = ()

    @property
    def is_us(self) -> bool:
        """Whether we have these rights and no others."""
        ours = os.geteuid(), os.getegid(), set(os.getgroups())
        return (self.user, self.group, set(self.groups)) == ours


EVERYBODY: Final = Reader(NOBODY, NOBODY)
"""Who may read what everybody may read."""


def reader_of(process: int | str) -> Reader:
    """The rights with which a process (its pid, or PID/task/TID) opens files.

    EVERYBODY for one that has the rights of more than one user: what it names may be the choice of either.
    Raises OSError when it is gone.
    """
    with open(f"/proc/{process}/status", "rb") as stream:
        fields = dict(line.partition(b":")[::2] for line in stream.read(MAX_STATUS_BYTES).splitlines())
    try:
        # Real, effective, saved, of the file system (proc_pid_status(5)).
        users, groups = ({int(word) for word in fields[name].split()} for name in (b"Uid", b"Gid"))
        further = tuple(int(word) for word in fields[b"Groups"].split()[:MAX_GROUPS])
        if len(users) != 1 or len(groups) != 1:
            return EVERYBODY
        return Reader(users.pop(), groups.pop(), further)
    except (KeyError, ValueError):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


class TargetReader:
    """Whose rights count for the files of a process, as long as it is looked at: as of the first look.

    exec keeps the number of a process and may make it another user's. What was chosen before must not be read
    with the rights that it has then, nor the other way round.
    """

    def __init__(self, process: int | str) -> None:
        self._process = process
        self._first = self._seen() or EVERYBODY

    @property
    def now(self) -> Reader:
        """EVERYBODY where these rights have changed, or the process is gone."""
        return self._first if self._seen() == self._first else EVERYBODY

    def _seen(self) -> Reader | None:
        with suppress(OSError):
            return reader_of(self._process)
        return None


def open_plain(
    path: str | os.PathLike[str], *, max_bytes: int | None = None, reader: Reader | None = None
) -> int:
    """A descriptor (to read, no waiting) of the regular file that a path names.

    A path that begins with /proc/PID/root (or that of a thread) is one below the root of that process.
    `reader` must be allowed to read the file; `None`: the process, where the path leads through one, else us.
    Raises NotPlain, OSError.
    """
    name = os.fspath(path)
    below = _BELOW_ROOT.fullmatch(name)
    if below is not None:
        return open_in_root(below[1], below[2], max_bytes=max_bytes, reader=reader)
    known = _as_bytes(name)
    process = _OF_PROCESS.fullmatch(name)
    if process is not None and reader is None:
        reader = reader_of(process[1])

    def opened() -> int:
        return _opened(lambda: os.open(known, os.O_PATH | os.O_CLOEXEC), max_bytes)

    return _as_reader(reader, opened)


def open_in_root(
    process: int | str, path: str, *, max_bytes: int | None = None, reader: Reader | None = None
) -> int:
    """The same of a path as a process (its pid, or PID/task/TID) has it; `reader` is the process by default.

    Raises NotPlain, OSError.
    """
    known = _as_bytes(path)
    reader = reader or reader_of(process)
    root = os.open(f"/proc/{process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def opened() -> int:
        return _opened(lambda: _in_root(root, known), max_bytes)

    try:
        return _as_reader(reader, opened)
    finally:
        os.close(root)


def names_in_root(process: int | str, path: str, most: int, *, reader: Reader | None = None) -> list[str]:
    """Names in a directory as a process has it, at most so many; `reader` is the process by default.

    Raises NotADirectoryError, OSError.
    """
    known = _as_bytes(path)
    reader = reader or reader_of(process)
    root = os.open(f"/proc/{process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def opened() -> int:
        held = _in_root(root, known)
        try:
            if _file_system(held) in _KERNELS_OWN:
                raise NotPlain(errno.EINVAL, "a directory of the kernel")
            return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(held)

    try:
        listing = _as_reader(reader, opened)
    finally:
        os.close(root)
    try:
        with os.scandir(listing) as entries:
            return [entry.name for entry in itertools.islice(entries, most)]
    finally:
        os.close(listing)


def _as_bytes(path: str) -> bytes:
    """As the kernel takes it. Raises FileNotFoundError for what no file can be called."""
    with suppress(UnicodeEncodeError):
        if "\0" not in path:
            return os.fsencode(path)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def read_from(descriptor: int, limit: int) -> bytes:
    """Read and close: at most `limit` bytes from the beginning. Raises OSError."""
    try:
        parts = []
        while limit > 0 and (part := os.read(descriptor, min(limit, 1 << 24))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def read_in_root(process: int | str, path: str, limit: int, *, reader: Reader | None = None) -> bytes:
    """The first `limit` bytes of a regular file of a process. Raises NotPlain, OSError."""
    return read_from(open_in_root(process, path, reader=reader), limit)


# --- what is ours alone ----------------------------------------------------------------------------------


def open_own_directory(path: str | os.PathLike[str], *, make: bool = False) -> int:
    """A descriptor (O_PATH) of a directory in which only we (or root) can put anything, or swap it.

    So every directory and link on the way has to be ours or root's, and none writable by others, but for
    those like /tmp in which everybody has their own alone. `make`: what is missing is made. Raises OSError.
    """
    descriptor = _walk_ours(path, _made if make else None)
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it is not ours alone")
    return descriptor


def is_ours_alone(path: str | os.PathLike[str]) -> bool:
    """Whether only we (or root) can have written a file, or could put another in its place."""
    try:
        descriptor = _walk_ours(path, None)
    except OSError:
        return False
    try:
        # Also not writable where that takes another name of the same file.
        status = os.fstat(descriptor)
        return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
    finally:
        os.close(descriptor)


def _walk_ours(path: str | os.PathLike[str], make: Callable[[bytes, int], None] | None) -> int:
    name = os.fspath(path)
    if not name.startswith("/"):
        raise PermissionError(errno.EPERM, "it is not named from the root on")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_ours(os.fstat(root))
        return walk_in_root(root, _as_bytes(name), _check_ours, make)
    finally:
        os.close(root)


def _check_ours(found: os.stat_result) -> None:
    writable = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()) or (writable and not stat.S_ISLNK(found.st_mode)):
        raise PermissionError(errno.EPERM, "somebody else may have put it there")


def _made(name: bytes, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)


# --- how ------------------------------------------------------------------------------------------------


def _opened(take_hold: Callable[[], int], max_bytes: int | None) -> int:
    held = take_hold()
    try:
        found = os.fstat(held)
        if not stat.S_ISREG(found.st_mode):
            what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise NotPlain(errno.EINVAL, what)
        if _file_system(held) in _KERNELS_OWN:
            raise NotPlain(errno.EINVAL, "a file of the kernel")
        if max_bytes is not None and found.st_size > max_bytes:
            raise NotPlain(errno.EFBIG, f"more than {max_bytes >> 20} MiB")
        return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(held)


def _file_system(descriptor: int) -> int:
    """Type of the file system (statfs(2)); its first field, as wide as a machine word."""
    answer = (ctypes.c_long * 32)()
    if _libc.fstatfs(descriptor, answer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(answer[0]) & 0xFFFFFFFF


class _OpenHow(ctypes.Structure):
    """struct open_how (include/uapi/linux/openat2.h)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _in_root(root: int, path: bytes) -> int:
    """An O_PATH descriptor of what a path is below a directory. Raises OSError."""
    for _ in range(TRIES):
        try:
            return _openat2(root, path)
        except OSError as error:
            # No such call, or a filter of system calls (a container's, an old one) knows none of this number.
            if error.errno in (errno.ENOSYS, errno.EPERM):
                break
            if error.errno != errno.EAGAIN:
                raise
    return walk_in_root(root, path)


def _openat2(root: int, path: bytes) -> int:
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    # An empty one is the root itself.
    descriptor = int(_libc.syscall(_OPENAT2, root, path or b".", ctypes.byref(how), ctypes.sizeof(how)))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor


def walk_in_root(
    root: int,
    path: bytes,
    look: Callable[[os.stat_result], None] = lambda found: None,
    make: Callable[[bytes, int], None] | None = None,
) -> int:
    """What openat2 does, step by step: no step follows a link, `..` goes back to what was come from.

    `look` sees each step, links too, and may raise; `make` makes a directory that is missing, by its name and
    the one that it shall be in. Raises OSError.
    """
    steps = _steps(path)
    way = [os.dup(root)]
    links = 0
    try:
        while steps:
            step = steps.pop()
            if step == b"..":
                if len(way) > 1:
                    os.close(way.pop())
                continue
            try:
                found = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=way[-1])
            except FileNotFoundError:
                if make is None:
                    raise
                make(step, way[-1])
                found = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=way[-1])
            way.append(found)
            if len(way) > MAX_DEPTH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            status = os.fstat(found)
            look(status)
            if not stat.S_ISLNK(status.st_mode):
                continue
            target = os.readlink(b"", dir_fd=found)
            os.close(way.pop())
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith(b"/"):
                while len(way) > 1:
                    os.close(way.pop())
            steps += _steps(target)
        return way.pop()
    finally:
        for descriptor in way:
            os.close(descriptor)


def _steps(path: bytes) -> list[bytes]:
    """The names of a path, the first one last."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]


# --- with whose rights -----------------------------------------------------------------------------------


def _as_reader(reader: Reader | None, opened: Callable[[], int]) -> int:
    """Call with the rights of somebody else, in a thread that has no others."""
    # Who reads no more than a user may shows that user nothing that it could not read.
    if reader is None or reader.is_us or not _reads_everything():
        return opened()
    result: list[int] = []
    failure: list[OSError] = []

    def as_somebody_else() -> None:
        try:
            _take_rights(reader)
            result.append(opened())
        except OSError as error:
            failure.append(error)

    dumpable = _dumpable()
    try:
        start_thread(as_somebody_else, "ftdiag-reader").join()
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
    finally:
        _set_dumpable(dumpable)
    if result:
        return result[0]
    raise failure[0] if failure else OSError(errno.EIO, os.strerror(errno.EIO))


def _reads_everything() -> bool:
    """Whether this process reads files of others: root, or one with a capability for it."""
    if os.geteuid() == 0:
        return True
    with suppress(OSError, ValueError, IndexError), open("/proc/thread-self/status", "rb") as stream:
        for line in stream.read(MAX_STATUS_BYTES).splitlines():
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH))
    return True


def _take_rights(reader: Reader) -> None:
    """Give this thread the rights of a user for files, and none beyond. Raises PermissionError.

    The C library's own functions would do so for all threads; the kernel does it for one. User and group for
    signals and tracing stay ours, so that this user gets no hold of the thread.
    """
    if _SETFSUID < 0:
        raise PermissionError(errno.ENOSYS, f"rights of users are not known on {os.uname().machine}")
    groups = (ctypes.c_uint32 * len(reader.groups))(*reader.groups)
    if reader.groups != tuple(os.getgroups()) and _libc.syscall(_SETGROUPS, len(reader.groups), groups):
        raise PermissionError(errno.EPERM, "whether the program's user may read it cannot be asked")
    _libc.syscall(_SETFSGID, reader.group)
    _libc.syscall(_SETFSUID, reader.user)
    # These two tell no failure; called with an id that there is none of they tell what holds.
    now = _libc.syscall(_SETFSGID, _UNCHANGED), _libc.syscall(_SETFSUID, _UNCHANGED)
    if tuple(value & _UNCHANGED for value in now) != (reader.group, reader.user):
        raise PermissionError(errno.EPERM, "whether the program's user may read it cannot be asked")


_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4


def _dumpable() -> int:
    return int(_libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))


def _set_dumpable(value: int) -> None:
    """A thread that changes its rights makes the whole process one that must not be looked at."""
    with suppress(OSError):
        if value == 1:
            _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
