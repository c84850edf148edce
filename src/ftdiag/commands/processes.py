"""The Python processes of this machine, as far as they may be looked at.

In: /proc. Out: one `PythonProcess` each; what may not be read is `None`, with the reason.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from ftdiag.errors import FtdiagError, NotPython, PermissionRefused, UnsupportedPython
from ftdiag.sources import procfs
from ftdiag.sources.halts import halt_of
from ftdiag.sources.tasks import living_task, proc_folder

CPU_INTERVAL_S: Final = 0.2
"""CPU use is measured over so long: the kernel counts it in ns, so this is enough."""
_PYTHON_NAME: Final = re.compile(r"(?:^|/)(?:python|pypy)(\d+\.\d+)?[\w.-]*$")
_LIBRARY: Final = re.compile(rb"/libpython(\d+\.\d+)\w*\.so")
ASKING_S: Final = 3.0
"""So long at most py-spy is asked about processes of a list; further ones are left to `doctor`."""
THROUGH_PYSPY: Final = "its stacks are read through py-spy: without locks, holders and what cores do"
MAX_MAPS_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class PythonProcess:
    """One process. `attachable` says whether ftdiag can look at it, `reason` why not, or with whose help.

    `source` is who would read its stacks: "native" (ftdiag), "py-spy", or `None`.
    """

    pid: int
    user: str | None
    command: str
    threads: int | None
    cpu_ratio: float | None
    python_version: str | None
    free_threaded: bool | None
    gil_enabled: bool | None
    attachable: bool
    reason: str | None
    source: str | None = None
    remark: str | None = None
    """What a person should know of it besides: that it is stopped, that its main thread has ended."""


def python_processes(interval_s: float = CPU_INTERVAL_S) -> list[PythonProcess]:
    """All Python processes but this one, by pid."""
    found: list[PythonProcess] = []
    before: dict[int, tuple[float, int]] = {}
    asking_ends = time.monotonic() + ASKING_S
    for pid in _pids():
        if pid == os.getpid() or not looks_like_python(pid):
            continue
        cpu = _cpu_ns(pid)
        if cpu is not None:
            before[pid] = (time.monotonic(), cpu)
        process = identify(pid, ask_pyspy=time.monotonic() < asking_ends)
        if process is not None:
            found.append(process)
    if found and interval_s > 0:
        time.sleep(interval_s)
    return [_with_cpu(process, before.get(process.pid)) for process in found]


def python_processes_by_name() -> Iterator[tuple[int, str]]:
    """Pid and command of what is called python: fast, for completion."""
    for pid in _pids():
        if pid != os.getpid() and _called_python(pid):
            yield pid, procfs.read_command_line(pid)


def python_children(pid: int) -> list[int]:
    """Pids of Python processes that `pid` started, directly or not."""
    parents: dict[int, int] = {}
    for other in _pids():
        with suppress(FtdiagError, ValueError, IndexError, OSError):
            parents[other] = procfs.read_process_stat(other).parent
    found = []
    for other, parent in parents.items():
        ancestor, steps = parent, 0
        while ancestor not in (0, 1, pid) and steps < 64:
            ancestor, steps = parents.get(ancestor, 0), steps + 1
        if ancestor == pid and looks_like_python(other):
            found.append(other)
    return found


def looks_like_python(pid: int) -> bool:
    """Whether the process is called python or has a libpython; without reading its memory."""
    return _called_python(pid) or _library_version(pid) is not None


def identify(pid: int, *, ask_pyspy: bool = True) -> PythonProcess | None:
    """What is known of a process; `None` if it is gone or no Python after all.

    `ask_pyspy`: have py-spy look at a process that we cannot read, to know whether it can.
    """
    from ftdiag.sources.interpreter import InterpreterReader
    from ftdiag.sources.memory import RemoteMemory
    from ftdiag.sources.runtime import find_runtime, find_runtime_header

    try:
        stat = procfs.read_process_stat(pid)
        command = procfs.read_command_line(pid)
    except (FtdiagError, ValueError, IndexError, OSError):
        return None
    plain = PythonProcess(
        pid=pid,
        user=_user_name(pid),
        command=command,
        threads=stat.threads,
        cpu_ratio=None,
        python_version=_version_by_name(pid),
        free_threaded=None,
        gil_enabled=None,
        attachable=False,
        reason=None,
        remark=_remark(pid),
    )
    if living_task(pid) is None:
        return replace(plain, threads=None, reason="it has ended (a zombie)")
    memory = RemoteMemory(pid)
    try:
        header = find_runtime_header(pid, memory)
        plain = replace(plain, python_version=str(header.version), free_threaded=header.free_threaded)
        runtime = find_runtime(pid, memory)
        gil = InterpreterReader(memory, runtime, _NoFrames()).gil_enabled()
    except NotPython:
        return None
    except UnsupportedPython as error:
        plain = replace(plain, gil_enabled=None if plain.free_threaded else True)
        return through_pyspy(plain, error.what) if ask_pyspy else replace(plain, reason=error.what)
    except PermissionRefused:
        return replace(plain, reason="it may not be read: ftdiag doctor PID says why")
    except FtdiagError:
        return None  # it ended meanwhile
    return replace(plain, gil_enabled=gil, attachable=True, source="native")


def through_pyspy(process: PythonProcess, refusal: str) -> PythonProcess:
    """A process that we cannot read, with what py-spy says to it when it is asked to look once."""
    from ftdiag.sources import pyspy

    try:
        seen = pyspy.probe(process.pid)
    except pyspy.PySpyFailed as failure:
        return replace(process, reason=f"{refusal}, and {failure.what}")
    return replace(
        process,
        python_version=seen.python_version,
        free_threaded=False if process.gil_enabled else process.free_threaded,
        attachable=True,
        source="py-spy",
        reason=THROUGH_PYSPY,
    )


def _remark(pid: int) -> str | None:
    halt = halt_of(pid)
    words = [] if halt is None else [halt.detail]
    if procfs.main_thread_ended(pid):
        words.append("its main thread has ended, others live on")
    return "; ".join(words) or None


class _NoFrames:
    """For a reader that is not asked for stacks."""

    def intern_frame(self, frame: object) -> int:
        return 0

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        return 0


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _called_python(pid: int) -> bool:
    return any(_PYTHON_NAME.search(name) for name in _names(pid))


def _names(pid: int) -> Iterator[str]:
    executable = procfs.read_executable(pid)
    if executable is not None:
        yield executable.removesuffix(" (deleted)")
        return
    # Another user's executable may not be read; what it was started as may.
    with suppress(FtdiagError, ValueError, IndexError, OSError):
        yield procfs.read_process_stat(pid).name
    yield procfs.read_command_line(pid).partition(" ")[0]


def _version_by_name(pid: int) -> str | None:
    for name in _names(pid):
        match = _PYTHON_NAME.search(name)
        if match and match[1]:
            return match[1]
    return _library_version(pid)


def _library_version(pid: int) -> str | None:
    try:
        with open(f"{proc_folder(pid)}/maps", "rb") as stream:
            match = _LIBRARY.search(stream.read(MAX_MAPS_BYTES))
    except OSError:
        return None
    return match[1].decode() if match else None


def _user_name(pid: int) -> str | None:
    import pwd

    uids = procfs.status_fields(f"/proc/{pid}/status", (b"Uid",)).get(b"Uid", b"").split()
    if not uids:
        return None
    try:
        return pwd.getpwuid(int(uids[1])).pw_name
    except (KeyError, IndexError, ValueError):
        return uids[0].decode()


def _cpu_ns(pid: int) -> int | None:
    """CPU time of the threads now alive."""
    total = 0
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            with (
                suppress(OSError, ValueError, IndexError),
                open(f"/proc/{pid}/task/{tid}/schedstat", "rb") as f,
            ):
                total += int(f.read(96).split()[0])
    except OSError:
        return None
    return total


def _with_cpu(process: PythonProcess, before: tuple[float, int] | None) -> PythonProcess:
    if before is None:
        return process
    now, cpu = time.monotonic(), _cpu_ns(process.pid)
    if cpu is None or now <= before[0]:
        return process
    # A thread that ended meanwhile takes its time with it.
    return replace(process, cpu_ratio=max(0, cpu - before[1]) / ((now - before[0]) * 1e9))
