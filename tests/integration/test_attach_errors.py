"""What cannot be attached to: each with one clear error, and the odd processes that can."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from command_line import ftdiag
from ftdiag.errors import (
    MemoryReadError,
    NoSuchProcess,
    NotPython,
    PermissionRefused,
    TargetGone,
    UnsupportedPython,
)
from ftdiag.sampling.process import _or_what_became_of
from ftdiag.sampling.target import TargetProcess
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.runtime import find_runtime
from reading import Look, SamplerRun, eventually, is_root, recordings, thread_state, totals
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload, running_workload

READY = 'import os, sys, time\nprint("ready", os.getpid(), flush=True)\ntime.sleep(1000)\n'
Program = Callable[..., RunningWorkload]


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes of any kind, and ends them."""
    with ExitStack() as running:

        def start(*command: str, **keywords: object) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(list(command), stdout=subprocess.PIPE, **keywords)  # type: ignore[call-overload]
            running.callback(process.wait)
            running.callback(process.kill)
            assert process.stdout is not None
            running.callback(process.stdout.close)
            if process.stderr is not None:
                running.callback(process.stderr.close)
            return process  # type: ignore[no-any-return]

        yield start


def refusal(pid: int, path: Path, source: str = "auto") -> dict[str, str]:
    """What the sampler's process says when it cannot attach; it says one thing and makes no file."""
    with SamplerRun(pid=pid, path=str(path), duration_s=0.5, source=source) as run:
        said = run.wait()
    assert said.status == 3, said
    assert said.stderr == ""
    assert len(said.events) == 1
    assert not path.exists()
    return said.events[0]


def test_no_such_process(tmp_path: Path) -> None:
    # GIVEN a process id that nobody has
    with subprocess.Popen(["true"]) as process:
        process.wait()

    # WHEN it is attached to, THEN that is said, with what to do next
    said = refusal(process.pid, tmp_path / "r")
    assert said["kind"] == "NoSuchProcess"
    assert str(process.pid) in said["what"]
    assert "ftdiag list" in said["hint"]


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 5, 2**31])
def test_impossible_process_ids(tmp_path: Path, pid: int) -> None:
    # GIVEN a number that is no process id, WHEN it is attached to, THEN it is one error
    assert refusal(pid, tmp_path / "r")["kind"] == "NoSuchProcess"


def test_not_python(child: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    # GIVEN a process of another program
    process = child("sleep", "100")
    eventually(lambda: "sleep" in os.readlink(f"/proc/{process.pid}/exe"))

    # WHEN it is attached to, THEN it says what it is
    said = refusal(process.pid, tmp_path / "r")
    assert said["kind"] == "NotPython"
    assert "sleep" in said["what"] or "coreutils" in said["what"]


def test_a_process_that_replaces_itself_while_it_is_attached_to() -> None:
    # GIVEN a process that is taken hold of, and becomes another program then
    command = ["sh", "-c", "read line; exec sleep 1000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        target = TargetProcess(process.pid)
        try:
            assert process.stdin is not None
            process.stdin.write(b"now\n")
            process.stdin.flush()
            eventually(lambda: target.changed(0) is not None)

            # WHEN its memory is not where it was THEN the reason is said
            said = r"replaced itself \(exec\): sleep 1000"
            with pytest.raises(TargetGone, match=said), _or_what_became_of(target):
                raise MemoryReadError("cannot read 8 bytes")
        finally:
            target.close()
            process.kill()


def test_a_process_that_is_gone_before_its_threads_are_listed() -> None:
    # GIVEN a process that is taken hold of, and is killed then
    with subprocess.Popen(["sleep", "1000"]) as process:
        target = TargetProcess(process.pid)
        process.kill()
    try:
        # WHEN the folder of its threads is opened THEN its end is said, and not that a file is missing
        with pytest.raises(TargetGone, match=r"was killed|has ended"), _or_what_became_of(target):
            os.open(f"/proc/{process.pid}/task", os.O_RDONLY)
    finally:
        target.close()
    # AND one that is not there at all is told as that
    with pytest.raises(NoSuchProcess):
        TargetProcess(process.pid)


def test_a_file_of_ours_that_is_missing_is_no_end_of_the_target() -> None:
    target = TargetProcess(os.getpid())
    try:
        with pytest.raises(FileNotFoundError), _or_what_became_of(target):
            os.open("/nowhere/at/all", os.O_RDONLY)
    finally:
        target.close()


@pytest.mark.parametrize("kib", [60_000, 150_000, 200_000])
def test_too_little_memory_to_look_with(program: Program, tmp_path: Path, kib: int) -> None:
    # GIVEN a program, and a shell that may use so much address space WHEN it is recorded there
    running = program(READY)
    path = tmp_path / "a.ftdiag"
    shell = ("sh", "-c", f'ulimit -v {kib}; exec "$@"', "sh")
    ran = ftdiag("record", running.pid, "-o", path, "--duration", "0.5", prefix=shell)

    # THEN it is, or it is said what to do
    assert "Traceback" not in ran.err
    assert "mistake in ftdiag" not in ran.err
    assert ran.status == 0 or (ran.status == 3 and "ulimit -v" in ran.err), ran.err


def test_zombie(child: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    # GIVEN a process that has ended and was not waited for
    process = child("true")
    eventually(lambda: thread_state(process.pid, process.pid) == "Z")

    # WHEN it is attached to, THEN its parent is named
    said = refusal(process.pid, tmp_path / "r")
    assert said["kind"] == "NoSuchProcess"
    assert "zombie" in said["what"]
    assert str(os.getpid()) in said["what"]


def old_pythons() -> list[str]:
    """Interpreters at hand that are too old; the test makes one up besides."""
    found = [shutil.which(f"python3.{minor}") for minor in range(8, 13)]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.[0-9]*/bin/python")]
    if sys.version_info < (3, 13):
        found.append(sys.executable)
    versions: dict[str, str] = {}
    for path in found:
        if path:
            command = [path, "-c", "import sys; print(sys.version_info >= (3, 13), *sys.version_info[:2])"]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            said = run.stdout.split()
            if run.returncode == 0 and said[0] == "False":
                versions.setdefault(".".join(said[1:]), path)
    return sorted(versions.values())[:4]


def test_python_that_is_too_old(child: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    # GIVEN interpreters before 3.13, and at least a program that is called like one; no help of py-spy
    made_up = tmp_path / "python3.12"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", made_up)
    commands = [[python, "-c", READY] for python in old_pythons()]
    for command in [*commands, [str(made_up), "100"]]:
        process = child(*command)
        if command[-1] == READY:
            assert process.stdout is not None
            process.stdout.readline()
        else:
            eventually(lambda pid=process.pid: "python3.12" in os.readlink(f"/proc/{pid}/exe"))

        # WHEN they are attached to, THEN the version is named, and what can read it
        said = refusal(process.pid, tmp_path / "r", source="native")
        assert said["kind"] == "UnsupportedPython", (command, said)
        assert "3.13 and later" in said["what"]
        assert "py-spy" in said["hint"]


def test_process_of_another_user(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a process of somebody else
    if is_root():
        # Ours, read by a process that has become nobody.
        with running_workload(free_threaded_python.path, "io_wait") as running:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                    find_runtime(running.pid, RemoteMemory(running.pid))
                except PermissionRefused as error:
                    status = 0 if error.hint and "ftdiag doctor" in error.hint else 2
                finally:
                    os._exit(status)
            _, ended = os.waitpid(pid, 0)

        # WHEN it is attached to, THEN that is refused, with where to find the remedy
        assert os.waitstatus_to_exitcode(ended) == 0
    else:
        # PID 1 is root's.
        assert refusal(1, tmp_path / "r")["kind"] == "PermissionRefused"


def test_kernel_thread(tmp_path: Path) -> None:
    # GIVEN a process without memory of its own
    kernel_threads = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and path.name != str(os.getpid()) and no_command(path)
    ]

    # WHEN it is attached to, THEN it is refused
    for pid in kernel_threads[:1]:
        assert refusal(pid, tmp_path / "r")["kind"] in ("NotPython", "PermissionRefused", "NoSuchProcess")


def no_command(process: Path) -> bool:
    """Whether it has no command line and is a child of the kernel's thread 2."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return (process / "cmdline").read_bytes() == b"" and fields[1] == "2"
    except OSError:
        return False


# --- odd, but Python ---


def sleeping_stack(pid: int) -> list[str]:
    """Functions of the main thread, root first."""
    return [frame.function for frame in eventually(lambda: Look(pid).stacks().get(pid))]


def copied(python: Interpreter, path: Path) -> Path:
    """A copy of the file; it finds its library by PYTHONHOME, what it is linked to by LD_LIBRARY_PATH."""
    shutil.copy(python.path.resolve(), path)
    return path


def without_sections(path: Path) -> None:
    """Overwrite the header's fields about the section table."""
    with path.open("r+b") as stream:
        stream.seek(0x28)
        stream.write(struct.pack("<Q", 0))
        stream.seek(0x3C)
        stream.write(struct.pack("<HH", 0, 0))


@pytest.mark.parametrize("kind", ["copied", "stripped", "without sections", "deleted", "renamed", "odd name"])
def test_executables(
    kind: str,
    free_threaded_python: Interpreter,
    tmp_path: Path,
    child: Callable[..., subprocess.Popen[bytes]],
) -> None:
    # GIVEN an interpreter whose file is stripped, has no section table, is gone, or has an odd name
    name = {"renamed": "myserver", "odd name": "py  thon (deleted)"}.get(kind, "python3")
    executable = copied(free_threaded_python, tmp_path / name)
    if kind == "stripped" and shutil.which("strip"):
        subprocess.run(["strip", str(executable)], check=True)
    elif kind in ("without sections", "stripped"):
        without_sections(executable)
    prefix = free_threaded_python.prefix
    environment = {**os.environ, "PYTHONHOME": prefix, "LD_LIBRARY_PATH": f"{prefix}/lib"}
    process = child(str(executable), "-c", READY, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready")
    if kind == "deleted":
        executable.unlink()

    # WHEN it is attached to
    runtime = find_runtime(process.pid, RemoteMemory(process.pid))

    # THEN the runtime is found, and the stack can be read
    assert str(runtime.layout.version).startswith(free_threaded_python.version.split("+")[0])
    assert runtime.layout.free_threaded
    assert sleeping_stack(process.pid) == ["<module>"]


def test_build_with_the_gil(child: Callable[..., subprocess.Popen[bytes]]) -> None:
    # GIVEN ordinary interpreters from 3.13 on, as many as are at hand
    found = [shutil.which(f"python3.{minor}") for minor in (13, 14, 15)]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.1[345]*/bin/python")]
    for python in {path for path in found if path}:
        process = child(python, "-c", READY)
        assert process.stdout is not None
        if not process.stdout.readline().startswith(b"ready"):
            continue  # a launcher without an interpreter behind it

        # WHEN they are attached to, THEN stacks can be read and the GIL is on
        look = Look(process.pid)
        assert sleeping_stack(process.pid) == ["<module>"]
        if not look.interpreter.layout.free_threaded:
            assert look.interpreter.gil_enabled() is True


def test_gil_that_is_switched_on(
    child: Callable[..., subprocess.Popen[bytes]], free_threaded_python: Interpreter
) -> None:
    # GIVEN a free-threaded interpreter with the GIL and without
    for wanted in ("1", "0"):
        process = child(str(free_threaded_python.path), "-X", f"gil={wanted}", "-c", READY)
        assert process.stdout is not None
        process.stdout.readline()

        # WHEN it is attached to, THEN that is seen
        assert Look(process.pid).interpreter.gil_enabled() is (wanted == "1")


@pytest.mark.parametrize(
    "namespaces", [["--mount"], ["--pid", "--fork", "--kill-child", "--mount-proc"]], ids=["mount", "pid"]
)
def test_other_namespaces(
    namespaces: list[str],
    free_threaded_python: Interpreter,
    tmp_path: Path,
    child: Callable[..., subprocess.Popen[bytes]],
) -> None:
    # GIVEN a process in another mount or PID namespace, whose executable has a path that only it knows
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    store = tmp_path / "store"
    store.mkdir()
    copied(free_threaded_python, store / "python3")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, threading, time
            threading.Thread(target=time.sleep, args=(1000,), name="inside", daemon=True).start()
            print("ready", os.getpid(), flush=True)
            time.sleep(1000)
            """
        )
    )
    script = (
        'mount --bind "$1" "$2" && exec env PYTHONHOME="$3" LD_LIBRARY_PATH="$3/lib" "$2/python3" "$4"'
        if namespaces == ["--mount"]
        else 'exec env PYTHONHOME="$3" LD_LIBRARY_PATH="$3/lib" "$1/python3" "$4"'
    )
    privileged = [] if is_root() else ["--user", "--map-root-user"]
    command = ["unshare", *privileged, *namespaces, "sh", "-c", script, "sh"]
    process = child(
        *command, str(store), str(hidden), free_threaded_python.prefix, str(program), stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    if not process.stdout.readline().startswith(b"ready"):
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert not is_root() or "not permitted" in said or "denied" in said, said
        return  # no namespaces here: said by unshare, and nothing of ours
    pid = process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if "--pid" in namespaces:
        pid = int(eventually(lambda: children.read_text().split())[0])
    try:
        # WHEN it is sampled
        for recording in recordings(pid, tmp_path, 1.0):
            threads = totals(recording).values()

            # THEN its threads have stacks and names
            assert {thread.info.name for thread in threads} == {"MainThread", "inside"}
            assert all(thread.info.python for thread in threads)
            if all(thread.stacks for thread in threads):
                break
        else:
            pytest.fail("a thread has no stacks")
    finally:
        if pid != process.pid:
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def test_errors_are_of_the_family() -> None:
    # GIVEN the errors of attaching, WHEN and THEN: they end a command with status 3
    for kind in (NoSuchProcess, NotPython, PermissionRefused, UnsupportedPython):
        assert kind.exit_status == 3
