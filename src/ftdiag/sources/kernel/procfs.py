"""What the kernel tells about a process and its threads: /proc/PID, /proc/PID/task/TID, its cgroup.

In: a pid. Out: counters, states, names, the cores it may use.
Files of threads are opened once and re-read; whatever ended meanwhile is `None`, not an error.
"""

from __future__ import annotations

import os
import re
import resource
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ftdiag.datatypes import dataclass
from ftdiag.errors import NoSuchProcess, PermissionRefused
from ftdiag.opening import read_in_root
from ftdiag.sources.kernel.tasks import has_ended, living_task, proc_folder, status_fields
from ftdiag.sources.kernel.threadlines import SCHEDSTAT_BYTES, SYSCALL_BYTES

MAX_STAT_BYTES: Final = 4096
SPARE_DESCRIPTORS: Final = 64
"""Descriptors that stay free for what is opened for a moment: the recording's files, maps, libraries."""
MAX_SOCKET_LOOK_S: Final = 0.03
"""After so long a look at one kind of sockets ends; those not seen by then have no peer."""
SOCKET_CREDIT_S: Final = 0.1
"""Time for looks that may be spent at once, as at the beginning."""
SOCKET_LOOK_SHARE: Final = 0.005
"""Part of a core that looks at sockets may take."""
MAX_SCHED_BYTES: Final = 4096
_SCHED_COUNTS: Final = tuple(
    re.compile(rb"^" + name + rb" *:  *(\d+)$", re.MULTILINE)
    for name in (rb"nr_voluntary_switches", rb"nr_involuntary_switches", rb"se\.nr_migrations")
)
MAX_COMMAND_BYTES: Final = 65_536
EXEC_TAKES_S: Final = 2.0
"""How long a program's start is waited for; a moment, unless others want every core."""
MAX_SOCKET_LINES: Final = 200_000
"""Lines of /proc/PID/net/* searched for a socket."""
MAX_DESCRIBED_DESCRIPTORS: Final = 10_000
"""Descriptor descriptions that are remembered."""


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """From /proc/PID/stat (proc(5)): name, state letter, parent, start time in clock ticks since boot."""

    name: str
    state: str
    parent: int
    start_ticks: int
    threads: int
    exit_code: int


def read_process_stat(pid: int) -> ProcessStat:
    """Read /proc/PID/stat. Raises NoSuchProcess."""
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()[:MAX_STAT_BYTES]
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(
            f"there is no process {pid}", "ftdiag list   shows the Python processes"
        ) from None
    except PermissionError:
        raise PermissionRefused(
            f"the kernel hides process {pid} (hidepid)", f"sudo ftdiag attach {pid}"
        ) from None
    start, end = data.index(b"("), data.rindex(b")")
    fields = data[end + 2 :].split()
    return ProcessStat(
        name=data[start + 1 : end].decode("utf-8", "replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        start_ticks=int(fields[19]),
        threads=int(fields[17]),
        exit_code=int(fields[49]) if len(fields) > 49 else 0,
    )


def read_command_line(pid: int) -> str:
    """The command line with spaces between arguments; the name in brackets where there is none."""
    try:
        with open(f"{proc_folder(pid)}/cmdline", "rb") as stream:
            raw = stream.read(MAX_COMMAND_BYTES)
    except OSError:
        return "?"
    if not raw:
        with suppress(OSError, NoSuchProcess, PermissionRefused):
            return f"[{read_process_stat(pid).name}]"
        return "?"
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def read_new_command_line(pid: int) -> str:
    """The command line of a process that is seen to have replaced its program.

    The kernel shows the new file as soon as the old memory is gone, and the arguments when exec is almost
    over (create_elf_tables in fs/binfmt_elf.c): until then there are none.
    """
    deadline = time.monotonic() + EXEC_TAKES_S
    while (command := read_command_line(pid)).startswith("[") and time.monotonic() < deadline:
        time.sleep(0.002)
    return command


TELLING_VARIABLES: Final = frozenset(
    ("LD_PRELOAD", "GLIBC_TUNABLES", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS")
)
"""Environment variables that change how Python, allocators and native libraries use threads, ..."""
TELLING_BEGINNINGS: Final = (
    *("PYTHON", "MALLOC_", "MIMALLOC_", "OMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMEXPR_", "COVERAGE_"),
)
"""... and what the names of others begin with that do. No expression: making it takes a millisecond."""
MAX_ENVIRONMENT_BYTES: Final = 1 << 20


def read_environment(pid: int) -> tuple[str, ...]:
    """The TELLING_VARIABLES of the process as it was started, "NAME=value"; () if they may not be read."""
    try:
        with open(f"{proc_folder(pid)}/environ", "rb") as stream:
            raw = stream.read(MAX_ENVIRONMENT_BYTES)
    except OSError:
        return ()
    entries = (entry.decode("utf-8", "replace") for entry in raw.split(b"\0"))
    return tuple(entry for entry in entries if _is_telling(entry.partition("=")[0]))


def _is_telling(name: str) -> bool:
    return name in TELLING_VARIABLES or (name.startswith(TELLING_BEGINNINGS) and name.isidentifier())


MAX_RELEASE_BYTES: Final = 16_384
"""What is read of an os-release file."""
MAX_DISTRIBUTIONS: Final = 8
"""Names of a distribution, and of those it is like, that are kept."""


def read_distribution(pid: int) -> tuple[str, ...]:
    """ID and ID_LIKE of the os-release (os-release(5)) that the process sees; () if there is none."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            text = read_in_root(living_task(pid) or pid, path, MAX_RELEASE_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        found = dict(re.findall(r"^(ID|ID_LIKE)=[\"']?([a-z0-9._ -]{1,200}?)[\"']?$", text, re.MULTILINE))
        names = (found.get("ID", "") + " " + found.get("ID_LIKE", "")).split()
        return tuple(dict.fromkeys(names))[:MAX_DISTRIBUTIONS]
    return ()


def read_executable(pid: int) -> str | None:
    """Path of the executable as the target knows it; `None` if it may not be read."""
    try:
        return os.readlink(f"{proc_folder(pid)}/exe")
    except OSError:
        return None


def owner_uid(pid: int) -> int | None:
    """Real owner of the process; `None` if it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def namespace_tid(tid_directory: str) -> int | None:
    """The thread's id in its own (innermost) PID namespace: last number of NSpid in `status`.

    `None` when it is gone.
    """
    value = status_fields(f"{tid_directory}/status", (b"NSpid",)).get(b"NSpid")
    return int(value.split()[-1]) if value else None


def shares_pid_namespace(pid: int) -> bool:
    """Whether the target's thread ids are the same numbers as ours."""
    value = status_fields(f"/proc/{pid}/status", (b"NSpid",)).get(b"NSpid", b"")
    return len(value.split()) <= 1


# --- threads ---


@dataclass(frozen=True, slots=True)
class SwitchesAndFaults:
    """Cumulated since the thread began."""

    voluntary_switches: int
    involuntary_switches: int
    minor_faults: int
    major_faults: int
    migrations: int | None = None
    """Moves to another core; `None` if the kernel does not count them for us."""


class ThreadFiles:
    """The /proc files of one thread. `keep` says how many of them stay open: schedstat, then syscall.

    What does not stay open is opened for each reading, which takes several times as long; its descriptor is
    -1. Raises FileNotFoundError/ProcessLookupError on construction when the thread is gone, OSError when
    there are too many open files, PermissionRefused when the kernel does not let us see its system calls.
    """

    __slots__ = ("_directory", "schedstat_fd", "syscall_fd", "tid")

    def __init__(self, pid: int, tid: int, keep: int = 2) -> None:
        self.tid = tid
        self._directory = f"/proc/{pid}/task/{tid}"
        self.schedstat_fd = self.syscall_fd = -1
        schedstat = os.open(f"{self._directory}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        if keep >= 1:
            self.schedstat_fd = schedstat
        else:
            os.close(schedstat)
        try:
            syscall = os.open(f"{self._directory}/syscall", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            self.close()
            raise PermissionRefused(
                f"the kernel refuses to show the system calls of process {pid}",
                f"ftdiag doctor {pid}   says which permission is missing and how to give it",
            ) from None
        except OSError:
            self.close()
            raise
        if keep >= 2:
            self.syscall_fd = syscall
        else:
            os.close(syscall)

    @property
    def kept(self) -> int:
        """How many descriptors are open."""
        return (self.schedstat_fd >= 0) + (self.syscall_fd >= 0)

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self.schedstat_fd, self.syscall_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self.schedstat_fd = self.syscall_fd = -1

    def schedstat(self) -> bytes:
        """The line of schedstat. Raises OSError, ENOENT or ESRCH when the thread is gone."""
        return self._read(self.schedstat_fd, "schedstat", SCHEDSTAT_BYTES)

    def syscall(self) -> bytes:
        """The line of syscall. Raises OSError, ENOENT or ESRCH when the thread is gone."""
        return self._read(self.syscall_fd, "syscall", SYSCALL_BYTES)

    def _read(self, descriptor: int, name: str, size: int) -> bytes:
        if descriptor >= 0:
            return os.pread(descriptor, size, 0)
        descriptor = os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def name(self) -> str | None:
        """The OS name (at most 15 bytes); `None` if the thread is gone."""
        try:
            with open(f"{self._directory}/comm", "rb") as stream:
                return stream.read(64).rstrip(b"\n").decode("utf-8", "replace")
        except OSError:
            return None

    def namespace_tid(self) -> int | None:
        """The thread's id in its own PID namespace; `None` if it is gone."""
        return namespace_tid(self._directory)

    def switches_and_faults(self) -> SwitchesAndFaults | None:
        """Context switches and migrations (sched), page faults (stat); `None` if the thread is gone.

        sched is there with CONFIG_SCHED_DEBUG (kernel/sched/debug.c); else switches are those of status,
        which the kernel writes at twice the price.
        """
        try:
            data = self._read(-1, "stat", MAX_STAT_BYTES)
            fields = data[data.rindex(b")") + 2 :].split()
            voluntary, involuntary, migrations = self._switches()
            return SwitchesAndFaults(voluntary, involuntary, int(fields[7]), int(fields[9]), migrations)
        except (OSError, KeyError, ValueError, IndexError):
            return None

    def _switches(self) -> tuple[int, int, int | None]:
        """Voluntary and involuntary switches, migrations if they are counted. Raises OSError, KeyError."""
        with suppress(OSError, ValueError):
            data = self._read(-1, "sched", MAX_SCHED_BYTES)
            found = [pattern.search(data) for pattern in _SCHED_COUNTS]
            voluntary, involuntary, migrations = (int(one[1]) for one in found if one is not None)
            return voluntary, involuntary, migrations
        names = b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches"
        switches = status_fields(f"{self._directory}/status", names)
        return int(switches[names[0]]), int(switches[names[1]]), None


def wait_channel(pid: int, tid: int) -> str | None:
    """The kernel function that a thread is blocked in (wchan); `None` if it runs or may not be known."""
    try:
        with open(f"/proc/{pid}/task/{tid}/wchan", "rb") as stream:
            name = stream.read(128).decode("ascii", "replace")
    except OSError:
        return None
    return name if name not in ("", "0") else None


def thread_ids(pid: int) -> list[int]:
    """Ids of the threads that /proc lists, unordered. Raises NoSuchProcess.

    All are alive but for a main thread that has ended while others go on: see `main_thread_ended`.
    """
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(f"there is no process {pid}") from None


def main_thread_ended(pid: int) -> bool:
    """Whether the main thread has ended (pthread_exit) while other threads of the process live."""
    return has_ended(pid, pid) and living_task(pid) is not None


def raise_descriptor_limit() -> int:
    """Raise our own soft limit of open files to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def free_descriptors() -> int:
    """How many files may be kept open for long, after what is open now and `SPARE_DESCRIPTORS`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, limit - len(os.listdir("/proc/self/fd")) - SPARE_DESCRIPTORS)


def rss_bytes(pid: int) -> int | None:
    """Resident memory from statm; `None` if the process is gone."""
    try:
        with open(f"{proc_folder(pid)}/statm", "rb") as stream:
            return int(stream.read(256).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


# --- cores ---


class Capacity(NamedTuple):
    """How many cores a process may use at once, why, and whether it is a quota of a control group."""

    cores: float
    reason: str
    quota: bool = False


def capacity(pid: int) -> Capacity:
    """How many cores the process may use at once, and why (affinity or cgroup CPU quota).

    Raises NoSuchProcess.
    """
    try:
        affinity = len(os.sched_getaffinity(pid))
    except ProcessLookupError:
        raise NoSuchProcess(f"there is no process {pid}") from None
    except PermissionError:
        affinity = os.cpu_count() or 1
    machine = os.cpu_count() or affinity
    quota = cgroup_quota(pid)
    if quota is not None and quota[0] < affinity:
        return Capacity(*quota, quota=True)
    if affinity < machine:
        return Capacity(float(affinity), f"CPU affinity: {affinity} of {machine} cores")
    return Capacity(
        float(affinity), f"all {affinity} cores of the machine" if affinity > 1 else "the machine's only core"
    )


def cgroup_quota(pid: int) -> tuple[float, str] | None:
    """The tightest CPU quota of the process's cgroups in cores, with its file; `None` if unlimited."""
    limits = []
    for directory, version in _cgroup_directories(pid):
        for level in (directory, *directory.parents):
            if not str(level).startswith("/sys/fs/cgroup"):
                break
            limit = _quota_in(level, version)
            if limit is not None:
                limits.append((limit, f"cgroup CPU quota: {limit:g} cores ({level})"))
    return min(limits, default=None)


LEVELS_EVERY: Final = 10
"""Readings of `Throttle` after which quotas are looked for again."""


def machine_busy_ns() -> int | None:
    """CPU time that all programs have used since boot, from /proc/stat (grain: a clock tick per core).

    user, nice, system, irq and softirq; guest time is in user already. `None` if it cannot be read.
    """
    try:
        with open("/proc/stat", "rb") as stream:
            fields = stream.readline(1024).split()
        user, nice, system, _, _, irq, softirq = map(int, fields[1:8])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def process_cpu_ns(pid: int) -> int | None:
    """CPU time of all threads that a process ever had, to the nanosecond; `None` if it cannot be read.

    The CPU clock of a process (MAKE_PROCESS_CPUCLOCK in the kernel's include/linux/posix-timers.h) counts
    threads that have ended, too, and needs no permission.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except (OSError, OverflowError):
        return None


class Throttle:
    """Tells for how long the cgroups of a process were held back by a CPU quota.

    cpu.stat: throttled_usec (v2), throttled_time in ns (v1). Which of them have a quota is found out anew at
    every LEVELS_EVERY-th reading: mostly none has, and looking for it takes a millisecond.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._readings = 0
        self._levels: list[tuple[Path, int]] = []

    def read_ns(self) -> int | None:
        """Time since they were made; `None` without a quota."""
        if self._readings % LEVELS_EVERY == 0:
            self._levels = list(self._levels_with_quota())
        self._readings += 1
        total = None
        for level, version in self._levels:
            name, scale = (b"throttled_usec", 1000) if version == 2 else (b"throttled_time", 1)
            with suppress(OSError, ValueError):
                for line in (level / "cpu.stat").read_bytes().splitlines():
                    if line.split()[:1] == [name]:
                        total = (total or 0) + scale * int(line.split()[1])
        return total

    def _levels_with_quota(self) -> Iterator[tuple[Path, int]]:
        for directory, version in _cgroup_directories(self._pid):
            for level in (directory, *directory.parents):
                if not str(level).startswith("/sys/fs/cgroup"):
                    break
                if _quota_in(level, version) is not None:
                    yield level, version


def _cgroup_directories(pid: int) -> Iterator[tuple[Path, int]]:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines[:64]:
        _, controllers, path = line.split(":", 2)
        relative = path.lstrip("/")
        if ".." in Path(relative).parts:  # seen from inside another cgroup namespace
            relative = ""
        if controllers == "":
            yield Path("/sys/fs/cgroup") / relative, 2
        elif "cpu" in controllers.split(","):
            yield Path("/sys/fs/cgroup/cpu") / relative, 1
            yield Path("/sys/fs/cgroup/cpu,cpuacct") / relative, 1


def _quota_in(directory: Path, version: int) -> float | None:
    try:
        if version == 2:
            quota, period = (directory / "cpu.max").read_text().split()
        else:
            quota = (directory / "cpu.cfs_quota_us").read_text().strip()
            period = (directory / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    if quota in ("max", "-1"):
        return None
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


# --- descriptors ---


class DescriptorNames:
    """Says what a file descriptor of the target is: "socket 10.0.0.5:5432", "pipe", a path.

    Sockets are looked up in /proc/PID/net and remembered by inode, so a reused descriptor is not mistaken.
    The kernel walks all sockets of the machine for that, which takes 200 ms on a busy server. So one look
    takes in everything, ends early, and the next has to wait; until then a socket is just a "socket".
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._folder = proc_folder(pid)
        self._by_link: dict[str, str] = {}
        self._peers: dict[str, str] = {}
        self._credit_s = SOCKET_CREDIT_S
        self._looked = time.monotonic()

    def describe(self, descriptor: int) -> str | None:
        """A few words about descriptor number `descriptor`; `None` if it is closed or may not be read."""
        try:
            link = os.readlink(f"{self._folder}/fd/{descriptor}")
        except OSError:
            # Closed, mostly; or the thread that the folder is of has ended.
            self._folder = proc_folder(self._pid)
            return None
        known = self._by_link.get(link)
        if known is None:
            known = self._words(link)
            if known == "socket":
                return known  # it may be found at the next look
            if len(self._by_link) >= MAX_DESCRIBED_DESCRIPTORS:
                self._by_link.clear()
            self._by_link[link] = known
        return known

    def _words(self, link: str) -> str:
        match = re.fullmatch(r"(socket|pipe):\[(\d+)\]", link)
        if match is None:
            inode_type = re.fullmatch(r"anon_inode:\[?(\w+)\]?", link)
            return inode_type[1] if inode_type else link
        if match[1] == "pipe":
            return "pipe"
        peer = self._peer(match[2])
        return f"socket {peer}" if peer else "socket"

    def _peer(self, inode: str) -> str | None:
        now = time.monotonic()
        self._credit_s = min(SOCKET_CREDIT_S, self._credit_s + SOCKET_LOOK_SHARE * (now - self._looked))
        self._looked = now
        if inode not in self._peers and self._credit_s > 0:
            self._peers = dict(self._sockets())
            self._credit_s -= time.monotonic() - now
        return self._peers.get(inode)

    def _sockets(self) -> Iterator[tuple[str, str]]:
        """Inode and peer of the sockets in the target's network namespace; of very many only a part."""
        for family in ("tcp", "tcp6", "udp", "udp6", "unix"):
            deadline = time.monotonic() + MAX_SOCKET_LOOK_S
            with (
                suppress(OSError, ValueError),
                open(f"{self._folder}/net/{family}", encoding="utf-8", errors="replace") as lines,
            ):
                for number, line in enumerate(lines):
                    if number > MAX_SOCKET_LINES or time.monotonic() > deadline:
                        break
                    fields = line.split()
                    if not number:
                        continue  # the heading
                    if family == "unix":
                        if len(fields) > 6:
                            yield fields[6], f"unix {fields[7]}" if len(fields) > 7 else "unix"
                    elif len(fields) > 9 and fields[9] != "0":
                        yield fields[9], _endpoint(fields[2], fields[1])


def _endpoint(remote: str, local: str) -> str:
    """ "host:port" of the peer, or "listening on port N"."""
    host, _, port = remote.partition(":")
    if int(port, 16) == 0:
        return f"listening on port {int(local.rpartition(':')[2], 16)}"
    raw = b"".join(struct.pack("<I", int(host[place : place + 8], 16)) for place in range(0, len(host), 8))
    import socket

    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    address = socket.inet_ntop(family, raw)
    return f"{address}:{int(port, 16)}" if family == socket.AF_INET else f"[{address}]:{int(port, 16)}"
