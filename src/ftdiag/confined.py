"""Children that may run, or read, what a target's user chose: an interpreter, memray, gdb, py-spy, a capture.

In: a command, whose rights it shall have, limits. Out: a process that has no more than that, or OSError.

All of these processes are started here, and all in the same way; nothing that can be left out is there:

- user, group, and no further groups: those of the target's user where we are root, with no way back (real,
  effective and saved; no_new_privs, no capabilities). Where we are not root, the target is our own user's.
- an environment made of nothing, with what `environment` names added; none of ours
- a session of its own without a terminal: what is written to a terminal with TIOCSTI is run by whoever reads
  it; standard input is /dev/null
- no descriptor but three, and those that are named; the directory is /, new files are its user's alone
- limits of memory, CPU time, file size and processes, a bound on its output, and a time at which it ends

Whose process it is, is asked at once with when it began and what it runs (`owner_of`), and again afterwards
(`check_still`): numbers of processes are used again, and exec changes all three but the number.
"""

from __future__ import annotations

import functools
import itertools
import marshal
import os
import resource
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Final

from ftdiag import confined_start, descriptors, opening
from ftdiag.datatypes import dataclass
from ftdiag.errors import NoSuchProcess, PermissionRefused, TargetGone
from ftdiag.ownthreads import start_thread

FAILED_STATUS: Final = confined_start.FAILED
MIB: Final = 1 << 20
MAX_STATUS_BYTES: Final = 1 << 20
MAX_PROCESSES_COUNTED: Final = 50_000
COUNT_HOLDS_S: Final = 60.0
"""How long a count of a user's processes is good enough."""
POLL_S: Final = 0.05
KILLED_TIMEOUT_S: Final = 5.0
MAX_BEGINNING_BYTES: Final = 1024
"""What a child says of its beginning."""
ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/",
    "LANG": "C.UTF-8",
}
"""What a child has where nothing else is named."""
CAP_DAC_READ_SEARCH: Final = 2
CAP_SYS_PTRACE: Final = 19


# --- whose process --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a process is, and which one: when it began, and the file that it runs (device, inode)."""

    pid: int
    user: int
    group: int
    start_ticks: int
    executable: tuple[int, int]


def owner_of(pid: int) -> Owner:
    """All of it as of one moment.

    Raises PermissionRefused where a process has the rights of more than one user (a set-user-ID program) or
    may not be looked at, NoSuchProcess.
    """
    try:
        # What is read below this directory is of one process, whoever gets its number later.
        home = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise _gone(pid) from None
    try:
        owner = _read_owner(pid, home)
        # exec in between changes what is run, and maybe whose it is.
        if owner != _read_owner(pid, home):
            raise TargetGone(f"process {pid} became another program while it was looked at", "Try once more.")
        return owner
    except (FileNotFoundError, ProcessLookupError):
        raise _gone(pid) from None
    except PermissionError:
        raise PermissionRefused(
            f"the kernel refuses to show which program process {pid} runs",
            f"ftdiag doctor {pid}   says which permission is missing and how to give it",
        ) from None
    finally:
        os.close(home)


def _read_owner(pid: int, home: int) -> Owner:
    fields = {}
    for line in _read_below(home, "status").splitlines():
        name, _, value = line.partition(b":")
        fields[name] = value.split()
    tail = _read_below(home, "stat").rpartition(b")")[2].split()
    try:
        users = [int(word) for word in fields[b"Uid"]]
        groups = [int(word) for word in fields[b"Gid"]]
        start_ticks = int(tail[19])
        ended = tail[0] in (b"Z", b"X")
    except (KeyError, ValueError, IndexError):
        raise ProcessLookupError from None
    if ended:
        raise ProcessLookupError
    program = os.stat("exe", dir_fd=home)
    if len({*users}) != 1 or len({*groups}) != 1 or program.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise PermissionRefused(
            f"process {pid} has the rights of more than one user (user ids {_each(users)}, group ids"
            f" {_each(groups)}): nothing is run for any of them",
            "Attach to a process that was not started through a set-user-ID program.",
        )
    return Owner(pid, users[0], groups[0], start_ticks, (program.st_dev, program.st_ino))


def _read_below(home: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=home)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(MAX_STATUS_BYTES)


def _each(numbers: Sequence[int]) -> str:
    return "/".join(str(number) for number in numbers)


def _gone(pid: int) -> NoSuchProcess:
    return NoSuchProcess(f"there is no process {pid}", "ftdiag list   shows the Python processes")


def check_still(owner: Owner) -> None:
    """Raise TargetGone where the number is now another process's, or the process runs another program."""
    with suppress(NoSuchProcess):
        if owner_of(owner.pid) == owner:
            return
    raise TargetGone(
        f"process {owner.pid} ended, or became another program, while it was looked at",
        "ftdiag list   shows the Python processes",
    )


# --- the child ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rights:
    """Whose rights a child has. `capabilities` (of root only): the ones that it may keep, `None`: all."""

    user: int
    group: int
    capabilities: tuple[int, ...] | None = None


def rights_of(owner: Owner) -> Rights | None:
    """What to start a child with for this process; `None`: we are that user. Raises PermissionRefused."""
    if os.geteuid() == 0:
        return Rights(owner.user, owner.group)
    if owner.user != os.geteuid():
        raise PermissionRefused(
            f"process {owner.pid} belongs to another user: what it has can be run as that user only",
            f"sudo ftdiag attach {owner.pid}",
        )
    return None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use. `seconds`: from its start to its end, 0 where it must not be ended by force."""

    seconds: float
    cpu_s: int
    memory_bytes: int
    file_bytes: int
    processes: int
    """More than its user has when it is started; threads count."""
    files: int = 1024


@dataclass(slots=True)
class Ran:
    """How a child that was waited for ended. `status` is `None` where it was ended: too late, too much."""

    status: int | None
    output: bytes = b""
    messages: bytes = b""
    failure: str | None = None
    """Why it never began."""


class Child:
    """A confined process. A context manager: it is gone when that is left.

    `command` begins with an absolute path. With `script` (a file of ours with `prepare` and `main`) our own
    Python runs that instead, imports what `prepare` does with our rights, and has `command` as its arguments.
    `stdout` and `stderr` are descriptors, `kept` others that it gets under the same numbers. `ends_with_us`:
    the kernel ends it when this process (the thread that starts it) ends.

    Raises OSError, PermissionError where we cannot become the user.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        rights: Rights | None,
        *,
        stdout: int,
        stderr: int,
        environment: Mapping[str, str] | None = None,
        kept: Sequence[int] = (),
        script: Path | None = None,
        ends_with_us: bool = True,
    ) -> None:
        if rights is not None and os.geteuid() != 0:
            raise PermissionError(1, "only root runs something as another user")
        for descriptor in (stdout, stderr):
            if os.isatty(descriptor):
                raise ValueError("a child gets no terminal")
        self.ends_with_us = ends_with_us
        orders = {
            "command": list(command),
            "environment": dict(ENVIRONMENT if environment is None else environment),
            "script": None if script is None else os.fspath(script),
            "kept": list(kept),
            "user": None if rights is None else rights.user,
            "group": None if rights is None else rights.group,
            "capabilities": None
            if rights is None or rights.capabilities is None
            else list(rights.capabilities),
            "limits": _resource_limits(limits, os.geteuid() if rights is None else rights.user),
            "parent": os.getpid() if ends_with_us else None,
            "seconds": float(limits.seconds),
        }
        orders_file = descriptors.file_in_memory("ftdiag-orders")
        self._failure, failure = os.pipe()
        try:
            os.write(orders_file, marshal.dumps((_start_code(), orders)))
            # -I: neither the environment nor the current directory have a say in what we import.
            isolated = ("-I",) if script is not None else ("-I", "-S")
            self._process = subprocess.Popen(
                [sys.executable, *isolated, "-c", confined_start.BOOT, str(orders_file), str(failure)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(orders_file, failure, *kept),
                start_new_session=True,
                cwd="/",
            )
        except OSError:
            os.close(self._failure)
            raise
        finally:
            os.close(failure)
            os.close(orders_file)
        self.pid = self._process.pid
        self._begun: tuple[int | None, str | None] | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; `None` while it runs, as far as was asked."""
        return self._process.returncode

    def poll(self) -> int | None:
        """The exit status now. When it has ended, so has what it left behind in its session."""
        if self._process.returncode is None and self._has_ended():
            self._kill_all()
            self._process.wait()
        return self._process.returncode

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, `None` if it still runs after so long."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.001
        while self.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, pause_s))
            pause_s = min(POLL_S, pause_s * 2)
        return self._process.returncode

    def failure(self) -> str | None:
        """Why the program was never begun; `None` if it was. Waits until that is known."""
        return self._how_it_began()[1]

    def begun_ns(self) -> int | None:
        """When the program began (CLOCK_MONOTONIC); `None` if it did not. Waits until that is known."""
        begun_ns, failure = self._how_it_began()
        return begun_ns if failure is None else None

    def _how_it_began(self) -> tuple[int | None, str | None]:
        if self._begun is None:
            said = b""
            while len(said) < MAX_BEGINNING_BYTES and (part := os.read(self._failure, MAX_BEGINNING_BYTES)):
                said += part
            time_ns, _, words = said.partition(b"\n")
            failure = words.strip().decode("utf-8", "replace") or None
            self._begun = int(time_ns) if time_ns.isdigit() else None, failure
        return self._begun

    def send(self, number: int) -> None:
        """A signal, if it still runs."""
        if self.poll() is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """End it and what it started, if they still run, and forget it."""
        if self._failure < 0:
            return
        if self.poll() is None:
            if self.ends_with_us:
                self._kill_all()
            else:
                self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILLED_TIMEOUT_S)
        os.close(self._failure)
        self._failure = -1

    def _has_ended(self) -> bool:
        """Without taking its status: as long as nobody has, its number is no other's."""
        with suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return True

    def _kill_all(self) -> None:
        """It, and all in its group. A debugger is let be: what it has set in its target would kill that."""
        if self.ends_with_us:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class Tail:
    """A pipe for what a child says, of which the last part is kept, however much it says."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._reader, self.writer = os.pipe()
        self._thread = start_thread(self._read, "ftdiag-tail")

    def begun(self) -> None:
        """The child has its end: ours is closed."""
        os.close(self.writer)

    def text(self, timeout_s: float = 1.0) -> str:
        """What was kept, when the child has ended; what it left running may still hold the other end."""
        self._thread.join(timeout_s)
        return bytes(self._kept[-self._limit :]).decode("utf-8", "replace")

    def _read(self) -> None:
        with os.fdopen(self._reader, "rb", buffering=0) as stream:
            while part := stream.read(65_536):
                self._kept += part
                if len(self._kept) > 2 * self._limit:
                    del self._kept[: -self._limit]


@functools.cache
def _start_code() -> CodeType:
    path = confined_start.__file__
    return compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)


def run(
    command: Sequence[str],
    limits: Limits,
    rights: Rights | None,
    *,
    environment: Mapping[str, str] | None = None,
    output_bytes: int,
) -> Ran:
    """Run a command to its end: at most `limits.seconds`, `output_bytes` of each stream. Raises OSError."""
    streams = [os.pipe(), os.pipe()]
    readers = [reader for reader, _ in streams]
    try:
        try:
            child = Child(
                command, limits, rights, stdout=streams[0][1], stderr=streams[1][1], environment=environment
            )
        finally:
            for _, writer in streams:
                os.close(writer)
        with child:
            said = _read_all(child, readers, output_bytes, time.monotonic() + limits.seconds)
            if said is None:
                return Ran(None)
            return Ran(child.status, said[0], said[1], child.failure())
    finally:
        for reader in readers:
            os.close(reader)


def _read_all(child: Child, readers: Sequence[int], limit: int, deadline: float) -> list[bytes] | None:
    """What comes until the child has ended; `None` where it is too much or takes too long."""
    said = {reader: bytearray() for reader in readers}
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            os.set_blocking(reader, False)
            selector.register(reader, selectors.EVENT_READ)
        while True:
            # Asked before what it said is read, so that nothing is missed. What it leaves behind may hold
            # the other ends for ever; it is not waited for.
            ended = child.poll() is not None
            while ready := [key.fd for key, _ in selector.select(0 if ended else POLL_S)]:
                for descriptor in ready:
                    part = os.read(descriptor, 65_536)
                    said[descriptor] += part
                    if not part:
                        selector.unregister(descriptor)
                if any(len(each) > limit for each in said.values()) or time.monotonic() > deadline:
                    return None
                if not selector.get_map():
                    break
            if ended:
                return [bytes(said[reader]) for reader in readers]
            if time.monotonic() > deadline:
                return None
            if not selector.get_map():
                child.wait(POLL_S)


# --- limits -----------------------------------------------------------------------------------------------


def _resource_limits(limits: Limits, user: int) -> dict[int, int]:
    return {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        # Of all the user's; root is not held to it.
        resource.RLIMIT_NPROC: _processes_of(user) + limits.processes,
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_CORE: 0,
    }


_counted: dict[int, tuple[float, int]] = {}


def _processes_of(user: int) -> int:
    """Processes and threads of a user, as RLIMIT_NPROC counts them, or as it was a moment ago."""
    now = time.monotonic()
    known = _counted.get(user)
    if known is not None and now - known[0] < COUNT_HOLDS_S:
        return known[1]
    number = 0
    with os.scandir("/proc") as entries:
        for entry in itertools.islice(
            (entry for entry in entries if entry.name.isdigit()), MAX_PROCESSES_COUNTED
        ):
            with suppress(OSError, ValueError, IndexError):
                if entry.stat().st_uid == user:
                    with open(f"{entry.path}/stat", "rb") as stream:
                        number += int(stream.read(4096).rpartition(b")")[2].split()[17])
    _counted[user] = now, number
    return number


# --- an editor --------------------------------------------------------------------------------------------


def editor_refused(path: str) -> str | None:
    """Why no editor is started on a file by us; `None`: it may be.

    An editor needs the terminal, so it cannot be confined, and there are those that do what a file tells them
    to (modelines, folders with settings beside it). As ourselves we may read what we like with our own; root
    starts one only on what nobody else could have written.
    """
    # Links below the root of a process are not those that we would follow.
    if os.geteuid() != 0 or (not path.startswith("/proc/") and opening.is_ours_alone(path)):
        return None
    return "root starts no editor on a file that somebody else may have written"


def edit(command: Sequence[str], path: str) -> None:
    """Run the person's own editor on a file, on this terminal, until it ends. Raises OSError."""
    refused = editor_refused(path)
    if refused is not None:
        raise PermissionError(1, refused)
    subprocess.run(command, check=False)
