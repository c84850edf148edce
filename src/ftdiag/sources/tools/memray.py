"""memray in a running process: whether and how it can be attached, its commands, and what it left behind.

In: a pid. Out: first an `Outline`, for which nothing of the program's is run: which interpreter's memray
would attach, by which method, and what that costs, for whoever is asked. When that was agreed to, a `Plan`:
the interpreter has been asked for its memray. Both or AttachError with what to do; the command lines; what of
memray is still in the process.

`memray attach` runs with the target's own interpreter, whose memray is the one that is imported there: the
injected library has to be of the same build. Facts about memray are those of its version 1.20
(commands/attach.py).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ftdiag import confined
from ftdiag.confined import MIB, Limits, Owner
from ftdiag.datatypes import dataclass, field
from ftdiag.errors import AttachError, FtdiagError, NoSuchProcess, PermissionRefused
from ftdiag.model import FIRST_STACK_ID, Frame
from ftdiag.opening import open_plain, read_from
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.permissions import why_refused
from ftdiag.sources.kernel.tasks import status_fields
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import find_runtime, old_python
from ftdiag.sources.tools.traces import GDB, LLDB, STOPPED, open_files

OLDEST_MEMRAY: Final = (1, 17)
"""The first version that knows --duration, --method and free-threaded builds."""
REMOTE_EXEC: Final = "sys.remote_exec"
PROBE_LIMITS: Final = Limits(30.0, cpu_s=20, memory_bytes=8192 * MIB, file_bytes=16 * MIB, processes=64)
"""For the interpreter that is asked for its memray: importing it takes a second and some 100 MB."""
DRIVE_LIMITS: Final = Limits(0.0, cpu_s=600, memory_bytes=32_768 * MIB, file_bytes=64 * MIB, processes=256)
"""For memray's commands. A debugger maps the symbols of all libraries; it must not be ended by force."""
SAFE_POINT_WAIT_S: Final = 1.0
"""A main thread that was on no core for so long is taken for one that stays where it is."""
POLL_S: Final = 0.05
MAX_MAPS_BYTES: Final = 8 << 20
MAX_SAID: Final = 65_536
MAX_ARGUMENTS_BYTES: Final = 65_536
CAPTURE_MAGIC: Final = b"memray\0"
FIRST_REMOTE_EXEC: Final = (3, 14)
"""The first version of Python that has sys.remote_exec (PEP 768)."""
_KEPT_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUSERBASE",
    "PYTHONNOUSERSITE",
    "TMPDIR",
    "VIRTUAL_ENV",
)
"""Of the program's own environment: what decides which modules its interpreter finds.

Whoever started the program chose them as they chose the interpreter, and they are seen by nothing but a child
that has that user's rights. Nothing of our own environment is among them.
"""
GENERAL_PRICE: Final = (
    "While memray is attached, every allocation takes one lock for the whole process and is written to a"
    " file: code that makes an object at every step ran 10 times slower when measured.",
    "It detaches by itself when the time is over, whatever happens to ftdiag. What it imported stays"
    " imported, and it writes a line to the program's standard error.",
    "The time in which it is attached is left out of every figure about time.",
)
"""What it costs any process, in sentences, for whoever is asked."""
# What the target's interpreter says of itself; `-P`: not the current directory's modules.
_PROBE: Final = """
import json, sys, sysconfig
said = {"version": list(sys.version_info[:3]), "memray": None, "error": None,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "remote_exec": hasattr(sys, "remote_exec")}
try:
    import memray
    said["memray"] = str(memray.__version__)
except Exception as error:
    said["error"] = type(error).__name__ + ": " + str(error)
    said["missing"] = isinstance(error, ModuleNotFoundError) and error.name == "memray"
print(json.dumps(said))
"""


# memray's own command. The code that it brings into the program also tells memray the names of threads which
# run already, with their ids: by itself it learns those of threads that start later. Where that code is not
# as in 1.20, it stays so.
_ATTACH: Final = """
import contextlib, runpy, sys
del sys.argv[0]
begun = "        memray._last_tracker = tracker\\n"
names = '''        with suppress(Exception):
            known = threading.Thread.__dict__["_name"]._callback
            for thread in threading.enumerate():
                known(thread.ident, "%s (tid %d)" % (thread.name, thread.native_id))
'''
with contextlib.suppress(Exception):
    from memray.commands import attach
    if attach.PAYLOAD.count(begun) == 1:
        attach.PAYLOAD = attach.PAYLOAD.replace(begun, begun + names)
runpy.run_module("memray", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True)
class Outline:
    """How memray would get into a process, as far as it is known without running anything of it.

    `methods` are tried in this order; `why` is about the first.
    """

    owner: Owner
    python: str
    python_version: tuple[int, int]
    free_threaded: bool
    methods: tuple[str, ...]
    why: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def price(self) -> tuple[str, ...]:
        """What it costs the program, in sentences, for whoever is asked."""
        how = {
            REMOTE_EXEC: "sys.remote_exec has its main thread run memray's code",
            GDB: "gdb stops it for a moment (about a second) and calls into it",
            LLDB: "lldb stops it for some seconds and calls into it",
        }[self.methods[0]]
        whose = "" if self.owner.user == os.geteuid() else f" as its user ({self.owner.user})"
        return (
            f"memray gets into process {self.owner.pid}: {how} ({self.why}).",
            f"Its own interpreter is run for that{whose}, without a terminal: {self.python}",
            *GENERAL_PRICE,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """How memray gets into a process. JSON-able. `methods` are tried in this order.

    `owner` is the process that was agreed to, and whom to run memray as.
    """

    owner: Owner
    python: str
    python_version: str
    free_threaded: bool
    memray_version: str
    methods: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The process."""
        return self.owner.pid

    @property
    def start_ticks(self) -> int:
        """When it began."""
        return self.owner.start_ticks

    def attach_command(self, method: str, duration_s: int, capture: Path) -> list[str]:
        """The command line that attaches; memray itself ends it after `duration_s`."""
        return [
            *(self.python, "-P", "-c", _ATTACH, "memray", "attach", "--method", method),
            "--duration",
            str(duration_s),
            # Python's own objects come from mimalloc or pymalloc: without this only malloc and mmap are seen.
            "--trace-python-allocators",
            # Compressing would be done by the target, when it detaches.
            "--no-compress",
            "-o",
            os.fspath(capture),
            str(self.pid),
        ]

    def detach_command(self, method: str) -> list[str]:
        """The command line that ends it early."""
        return [self.python, "-P", "-m", "memray", "detach", "--method", method, str(self.pid)]


def plan_from_json(value: Any) -> Plan:
    """The inverse of dataclasses.asdict after a way through JSON."""
    owner = Owner(**{**value["owner"], "executable": tuple(value["owner"]["executable"])})
    return Plan(**{**value, "owner": owner, "methods": tuple(value["methods"])})


def outline(pid: int) -> Outline:
    """How memray could be attached to a process. Runs nothing of the program's.

    Raises AttachError of the fitting kind, with what to do.
    """
    process = procfs.read_process_stat(pid)
    if process.state in "ZX":
        raise NoSuchProcess(f"process {pid} has ended", "ftdiag list   shows the Python processes")
    if process.state == STOPPED:
        raise AttachError(
            f"process {pid} is stopped (SIGSTOP, or Ctrl-Z): nothing can be run in it",
            f"kill -CONT {pid}   lets it go on",
        )
    _check_ours_to_run(pid)
    _check_readable(pid)
    owner = confined.owner_of(pid)
    _check_namespaces(pid)
    _check_not_traced(pid)
    running, free_threaded = _running_build(pid)
    python = interpreter_path(pid)
    environment = _environment(pid)
    _check_not_tracking(pid)
    methods, why = _methods(pid, running >= FIRST_REMOTE_EXEC, environment, owner)
    confined.check_still(owner)
    return Outline(owner, python, running, free_threaded, methods, why, environment)


def plan(agreed: Outline) -> Plan:
    """Ask the program's interpreter for its memray, which runs it: only after it was agreed to.

    Raises AttachError of the fitting kind, with what to do.
    """
    confined.check_still(agreed.owner)
    pid, python = agreed.owner.pid, agreed.python
    said = _probe(agreed)
    version = tuple(said["version"])
    if version[:2] != agreed.python_version or said["free_threaded"] is not agreed.free_threaded:
        running = _build(".".join(map(str, agreed.python_version)), agreed.free_threaded)
        raise AttachError(
            f"process {pid} runs {running}, but {python} is now"
            f" {_build('.'.join(map(str, version)), said['free_threaded'])}",
            "Restart the program with the interpreter that is there now, then attach memray.",
        )
    memray_version = _checked_memray(agreed.owner, python, said)
    confined.check_still(agreed.owner)
    methods = tuple(name for name in agreed.methods if name != REMOTE_EXEC or said["remote_exec"])
    if not methods:
        raise AttachError(
            f"memray cannot be attached to process {pid}: {python} was built without sys.remote_exec",
            "apt install gdb   (or dnf install gdb): gdb reaches it all the same",
        )
    return Plan(
        owner=agreed.owner,
        python=python,
        python_version=".".join(map(str, version)),
        free_threaded=agreed.free_threaded,
        memray_version=memray_version,
        methods=methods,
        environment=agreed.environment,
    )


def _running_build(pid: int) -> tuple[tuple[int, int], bool]:
    """Major and minor version, and whether it is free-threaded; also of those that only py-spy reads."""
    old = old_python(pid)
    if old is not None:
        major, _, minor = old.partition(".")
        return (int(major), int(minor)), False
    layout = find_runtime(pid, RemoteMemory(pid)).layout
    return (layout.version.major, layout.version.minor), layout.free_threaded


def _check_ours_to_run(pid: int) -> None:
    """Memray runs as the process's owner: ourselves, or whoever it is where we are root."""
    owner = procfs.owner_uid(pid)
    if owner is not None and os.geteuid() not in (0, owner):
        raise PermissionRefused(
            f"process {pid} belongs to another user: memray has to run as that user",
            f"sudo ftdiag attach {pid} --memory",
        )


def _check_readable(pid: int) -> None:
    try:
        os.readlink(f"/proc/{pid}/exe")
        os.readlink(f"/proc/{pid}/ns/mnt")
    except PermissionError:
        reason = why_refused(pid)
        raise PermissionRefused(reason.sentence, reason.remedy) from None
    except OSError:
        raise NoSuchProcess(f"process {pid} has ended", "ftdiag list   shows the Python processes") from None


def _check_namespaces(pid: int) -> None:
    """The two ends of memray meet at a port of localhost, and both read the same files."""
    for kind, what in (("mnt", "file systems"), ("net", "network"), ("user", "users")):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"):
                inner = procfs.namespace_tid(f"/proc/{pid}") or pid
                raise AttachError(
                    f"process {pid} is in a container (its {what} are others): memray has to be attached from"
                    " inside",
                    "in the container: python -m memray attach --duration 10 --trace-python-allocators"
                    f" -o /tmp/capture.bin {inner}\n"
                    f"then here: ftdiag report RECORDING --memory /proc/{pid}/root/tmp/capture.bin",
                )


def _check_not_traced(pid: int) -> None:
    tracer = status_fields(f"/proc/{pid}/status", (b"TracerPid",)).get(b"TracerPid", b"0")
    if tracer.isdigit() and int(tracer):
        raise AttachError(
            f"process {pid} is being debugged (by process {int(tracer)})",
            "End the debugger first; a process has one at a time.",
        )


def interpreter_path(pid: int) -> str:
    """The path by which the process's interpreter was started: in a virtual environment, that one's.

    /proc/PID/exe has the file behind the environment's link. Raises AttachError if it is not there any more.
    """
    for candidate in _interpreter_candidates(pid):
        with suppress(OSError, ValueError):
            if os.path.samefile(candidate, f"/proc/{pid}/exe") and os.access(candidate, os.X_OK):
                return candidate
    executable = procfs.read_executable(pid) or "?"
    raise AttachError(
        f"the interpreter of process {pid} is not there any more: {executable}",
        "It was removed or replaced while it runs. Restart the program, then attach memray.",
    )


def _interpreter_candidates(pid: int) -> Iterator[str]:
    variables = _all_variables(pid)
    with suppress(OSError):
        arguments = _arguments(pid).split(b"\0")
        name = os.fsdecode(arguments[0])
        if "/" in name:
            yield os.path.join(os.readlink(f"/proc/{pid}/cwd"), name)
        elif name:
            found = shutil.which(name, path=variables.get("PATH", os.defpath))
            if found is not None:
                yield found
    if variables.get("VIRTUAL_ENV"):
        yield os.path.join(variables["VIRTUAL_ENV"], "bin", "python")
    # An extension module tells the environment that it was loaded from.
    yield from (f"{prefix}/bin/python3" for prefix in _prefixes_of_modules(pid))
    executable = procfs.read_executable(pid)
    if executable is not None:
        yield executable


def _prefixes_of_modules(pid: int) -> list[str]:
    with suppress(OSError):
        with open(f"/proc/{pid}/maps", "rb") as file:
            maps = file.read(MAX_MAPS_BYTES)
        found = re.findall(rb" (/[^\n]*?)/lib(?:64)?/python3\.\d+t?/site-packages/", maps)
        return [os.fsdecode(prefix) for prefix in dict.fromkeys(found)][:8]
    return []


def _arguments(pid: int) -> bytes:
    """The command line, up to a bound: a process may say that it goes on for as long as its memory does."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read(MAX_ARGUMENTS_BYTES)


def _all_variables(pid: int) -> dict[str, str]:
    with suppress(OSError):
        with open(f"/proc/{pid}/environ", "rb") as file:
            raw = file.read(procfs.MAX_ENVIRONMENT_BYTES)
        pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name}
    return {}


def _environment(pid: int) -> dict[str, str]:
    variables = _all_variables(pid)
    kept: dict[str, str] = {name: variables[name] for name in _KEPT_VARIABLES if name in variables}
    path = [*kept.get("PATH", "").split(os.pathsep), *confined.ENVIRONMENT["PATH"].split(os.pathsep)]
    # A debugger may be on our path only; that is all that anybody gets to know of ours.
    path += [os.path.dirname(found) for name in (GDB, LLDB) if (found := shutil.which(name))]
    kept["PATH"] = os.pathsep.join(dict.fromkeys(part for part in path if part.startswith("/")))
    return kept


def _probe(agreed: Outline) -> dict[str, Any]:
    """What the target's interpreter says of itself and of its memray."""
    pid, python = agreed.owner.pid, agreed.python
    why = "it does not answer"
    try:
        ran = confined.run(
            [python, "-P", "-c", _PROBE],
            PROBE_LIMITS,
            confined.rights_of(agreed.owner),
            environment=agreed.environment,
            output_bytes=MAX_SAID,
        )
        why = ran.failure or why
        said = json.loads(ran.output.splitlines()[-1])
        version, free_threaded, remote_exec = said["version"], said["free_threaded"], said["remote_exec"]
        if (
            not all(isinstance(number, int) for number in version)
            or len(version) != 3
            or not isinstance(free_threaded, bool)
            or not isinstance(remote_exec, bool)
        ):
            raise ValueError("no answer")
    except (OSError, ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError):
            why = error.strerror or type(error).__name__
        raise AttachError(
            f"the interpreter of process {pid} does not answer: {python}: {why}",
            f"{by_hand(agreed.owner, python, '-c', 'import memray')}   shows why",
        ) from None
    return {str(name): value for name, value in said.items()}


def by_hand(owner: Owner, *command: str) -> str:
    """A command for a person to give to a shell: an interpreter of a user's is not for root to run."""
    words = shlex.join(command)
    return f"sudo -u '#{owner.user}' {words}" if os.geteuid() == 0 != owner.user else words


def _checked_memray(owner: Owner, python: str, said: Mapping[str, Any]) -> str:
    """The version of memray. Raises AttachError with how to install one that works."""
    pid = owner.pid
    oldest = ".".join(map(str, OLDEST_MEMRAY))
    install = by_hand(owner, python, "-m", "pip", "install", f"memray>={oldest}")
    version = said["memray"]
    if version is None:
        if said.get("missing"):
            words = f"memray is not installed where process {pid} can import it ({python})"
            if said["free_threaded"] and tuple(said["version"][:2]) == (3, 13):
                raise AttachError(
                    f"{words}, and it has no release for free-threaded 3.13",
                    "Run the program on free-threaded 3.14, for which there is one, and attach to that.",
                )
            raise AttachError(words, install)
        why = str(said["error"])[:300]
        raise AttachError(f"memray does not load in the interpreter of process {pid}: {why}", install)
    numbers = tuple(int(part) for part in re.findall(r"\d+", str(version))[:2])
    if numbers < OLDEST_MEMRAY:
        raise AttachError(f"memray {version} is too old to be attached safely", install)
    return str(version)[:40]


def _check_not_tracking(pid: int) -> None:
    """Raise AttachError where memray writes a capture of this process already: only one can."""
    for path in open_files(pid):
        with suppress(OSError):
            if read_from(open_plain(path), len(CAPTURE_MAGIC)) == CAPTURE_MAGIC:
                raise AttachError(
                    f"memray tracks process {pid} already, into {os.readlink(path)}",
                    f"memray detach {pid}   ends that",
                )


def _methods(
    pid: int, remote_exec: bool, environment: Mapping[str, str], owner: Owner
) -> tuple[tuple[str, ...], str]:
    """The methods that will work, the best first, and why it is that one. Raises AttachError if none does."""
    debuggers = [name for name in (GDB, LLDB) if shutil.which(name, path=environment.get("PATH"))]
    refused = _debugger_refused(owner)
    install = (
        "apt install gdb   (or dnf install gdb): gdb reaches a process whose main thread waits"
        if not debuggers
        else refused or ""
    )
    usable = debuggers if refused is None else []
    disabled = _remote_exec_disabled(pid)
    if not remote_exec:
        why_not = "sys.remote_exec needs Python 3.14"
    elif disabled is not None:
        why_not = f"{disabled} forbids sys.remote_exec"
    elif not main_thread_runs(pid):
        why_not = f"the main thread waits{_where_main_thread_is(pid)} and would not run memray's code"
    elif refused is not None:
        why_not = refused
    else:
        return (REMOTE_EXEC, *usable), "its main thread runs, so nothing has to be stopped"
    if usable:
        return tuple(usable), why_not
    raise AttachError(
        f"memray cannot be attached to process {pid}: {why_not}, and"
        + (" there is no debugger" if not debuggers else f" {debuggers[0]} may not attach"),
        install,
    )


def _debugger_refused(owner: Owner) -> str | None:
    """Why a debugger that runs as the target's owner may not attach although we may; None: it may."""
    if owner.user == os.geteuid():
        return None
    with suppress(OSError, ValueError):
        scope = int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
        if scope:
            return (
                f"kernel.yama.ptrace_scope is {scope}, and memray runs as the program's user:"
                " sudo sysctl kernel.yama.ptrace_scope=0   allows it"
            )
    return None


def _remote_exec_disabled(pid: int) -> str | None:
    """What switches PEP 768's way in off, if anything does."""
    if _all_variables(pid).get("PYTHON_DISABLE_REMOTE_DEBUG"):
        return "PYTHON_DISABLE_REMOTE_DEBUG"
    with suppress(OSError):
        if b"disable-remote-debug" in _arguments(pid).replace(b"_", b"-"):
            return "-X disable-remote-debug"
    return None


def main_thread_runs(pid: int, wait_s: float = SAFE_POINT_WAIT_S) -> bool:
    """Whether the main thread gets on a core within a while: only then does it come to a safe point."""
    path = f"/proc/{pid}/task/{pid}/schedstat"
    try:
        before = Path(path).read_bytes().split()[:1]
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            if Path(path).read_bytes().split()[:1] != before:
                return True
    except OSError:
        raise NoSuchProcess(f"process {pid} has ended", "ftdiag list   shows the Python processes") from None
    return False


def _where_main_thread_is(pid: int) -> str:
    """ " in join (threading.py:1094)", or nothing where its stack cannot be read."""
    with suppress(FtdiagError, OSError, ValueError):
        sink = _Frames()
        memory = RemoteMemory(pid)
        reader = InterpreterReader(memory, find_runtime(pid, memory), sink)
        main = [thread for thread in reader.threads() if thread.native_id == pid]
        for stack in reader.walk(main):
            frame = sink.leaf(stack)
            if frame is not None:
                place = f"{frame.filename.rpartition('/')[2]}:{frame.line}"
                return f" in {frame.function} ({place})"
    return ""


class _Frames:
    """Keeps what one look reads."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._stacks: list[tuple[int, ...]] = []

    def intern_frame(self, frame: Frame) -> int:
        """A number for a frame."""
        self._frames.append(frame)
        return len(self._frames)

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """A number for a stack."""
        self._stacks.append(tuple(frame_ids))
        return FIRST_STACK_ID + len(self._stacks) - 1

    def leaf(self, stack: int) -> Frame | None:
        """The innermost frame."""
        known = stack - FIRST_STACK_ID
        if not 0 <= known < len(self._stacks) or not self._stacks[known]:
            return None
        return self._frames[self._stacks[known][-1] - 1]


def _build(version: object, free_threaded: bool) -> str:
    return f"CPython {version}{' free-threaded' if free_threaded else ''}"
