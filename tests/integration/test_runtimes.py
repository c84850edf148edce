"""Which `_PyRuntime` of a process is taken, and what is said of one that is not running; real processes."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from command_line import ftdiag
from elf_files import endless, waiting_program
from fake_process import debug_offsets, layout_of
from ftdiag.errors import NotPython, PythonNotRunning
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel.memory import RemoteMemory, read_mappings
from ftdiag.sources.python.runtime import KnownImages, find_runtime, find_runtime_header, has_runtime_section
from reading import eventually
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload

RUNTIME_BYTES = 8192
Program = Callable[..., RunningWorkload]
WAIT = """
    import ctypes, mmap, os, sys, time
    kept = []
    def mapped(path):
        with open(path, "r+b") as file:
            kept.append(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=3))
"""
READY = """
    print("ready", os.getpid(), flush=True)
    time.sleep(1000)
"""


def runtime(build: str, *, next_id: int = -1, finalizing: int = 0) -> bytes:
    """The beginning of `_PyRuntime` of a build, with no interpreter."""
    data = bytearray(debug_offsets(build).ljust(RUNTIME_BYTES, b"\0"))
    head = layout_of(build).runtime_interpreters_head
    data[head - 24 :] = bytes(len(data) - head + 24)
    struct.pack_into("<Q", data, head - 24, finalizing)
    struct.pack_into("<q", data, head + 16, next_id)
    return bytes(data)


@pytest.fixture
def started() -> Iterator[Callable[..., int]]:
    """Starts a program that waits: its pid once it has replaced us; it is ended afterwards."""
    with ExitStack() as running:

        def start(*command: object) -> int:
            process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.kill)
            eventually(lambda: os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(str(command[0])))
            return process.pid

        yield start


def looked_at(pid: int) -> tuple[str, bool]:
    """Version and image of what is found."""
    found = find_runtime(pid, RemoteMemory(pid))
    return str(found.layout.version), found.layout.free_threaded


def not_running(pid: int) -> str | None:
    """What is said of a Python that is not running; `None` of one that is, and while a program begins."""
    try:
        find_runtime(pid, RemoteMemory(pid))
    except PythonNotRunning as error:
        return error.what
    except NotPython:
        pass
    return None


@pytest.mark.parametrize("sections", [True, False], ids=["sections", "no sections"])
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "not started yet"),
        ({"next_id": 0}, "not started yet"),
        ({"next_id": 1}, "finalised"),
        ({"next_id": 1, "finalizing": 64}, "finalised"),
    ],
    ids=["before", "starting", "after", "finalising"],
)
def test_a_program_of_any_name_that_embeds_python(
    started: Callable[..., int], tmp_path: Path, sections: bool, state: dict[str, int], words: str
) -> None:
    # GIVEN a static program with a Python in it that has no interpreter
    pid = started(waiting_program(tmp_path / "gameserver", runtime("3.13.5t", **state), sections=sections))

    # WHEN it is attached to, THEN the error says which Python this is, and that there is nothing to see
    said = eventually(lambda: not_running(pid))
    assert "CPython 3.13.5" in said
    assert words in said
    # AND a cheap look finds it where a section names it
    assert has_runtime_section(pid, Budget(pid), KnownImages()) is sections


def test_a_version_without_a_table_is_told_with_the_command_that_makes_one(
    started: Callable[..., int], tmp_path: Path
) -> None:
    # GIVEN a CPython 3.16, which is in no table and which py-spy does not read either
    data = debug_offsets("3.15.1t", version_hex=0x31000B1).ljust(RUNTIME_BYTES, b"\0")
    pid = started(waiting_program(tmp_path / "newpython", data))
    make = "tools.cpython_facts make --headers .../python3.16 --python python3.16"

    # WHEN it is attached to, THEN the reason comes first, and the command is there
    attached = ftdiag("attach", str(pid), "--duration", "1", "--format", "text")
    assert attached.err.startswith("stacks are not measured: Python 3.16.0b1 is not known to this ftdiag")
    assert make in attached.err
    # AND so it is with doctor; who wants our reader alone is refused
    looked = ftdiag("doctor", str(pid))
    assert looked.status == 3
    assert f"-> python3 -m {make}" in looked.out
    refused = ftdiag("attach", str(pid), "--source", "native", "--duration", "1", "--format", "text")
    assert refused.status == 3
    assert make in refused.err


def test_list_finds_a_python_of_any_name(started: Callable[..., int], tmp_path: Path) -> None:
    # GIVEN a program that embeds Python, of a name that says nothing, and one without Python
    pid = started(waiting_program(tmp_path / "gameserver", runtime("3.13.5t")))
    other = started(shutil.which("sleep"), "1000")
    eventually(lambda: not_running(pid))

    # WHEN processes are listed, THEN it is there, with what it is, and the other is not
    rows = {row["pid"]: row for row in ftdiag("list", "--format", "json").json["processes"]}
    assert rows[pid]["python_version"] == "3.13.5"
    assert rows[pid]["free_threaded"] is True
    assert rows[pid]["attachable"] is False
    assert "not started yet" in rows[pid]["reason"]
    assert other not in rows
    # AND the doctor says so, too
    ran = ftdiag("doctor", pid)
    assert ran.status == 3
    assert "not started yet" in ran.out


def test_finalised(free_threaded_python: Interpreter, program: Program) -> None:
    # GIVEN a real Python that has been finalised, and whose process lives on
    running = program(
        WAIT
        + """
    ctypes.pythonapi.Py_AtExit.argtypes = [ctypes.c_void_p]
    assert ctypes.pythonapi.Py_AtExit(ctypes.cast(ctypes.CDLL(None).pause, ctypes.c_void_p)) == 0
    print("ready", os.getpid(), flush=True)
    """
    )

    # WHEN it is attached to, THEN that is said
    said = eventually(lambda: not_running(running.pid))
    assert f"CPython {free_threaded_python.version}" in said
    assert "finalised" in said


@pytest.mark.parametrize("other", ["3.13.5t", "3.13.0", "3.14.9t"])
def test_a_second_libpython_beside_the_running_one(
    free_threaded_python: Interpreter, program: Program, tmp_path: Path, other: str
) -> None:
    # GIVEN a Python that has loaded a libpython of another build, as ctypes.CDLL does
    library = waiting_program(tmp_path / "libpython3.99t.so.1.0", runtime(other))
    running = program(WAIT + f"    mapped({str(library)!r})" + READY)

    # WHEN it is attached to, THEN the one that runs is taken
    assert looked_at(running.pid) == (free_threaded_python.version, True)
    assert find_runtime_header(running.pid, RemoteMemory(running.pid)).image != str(library)


def test_anything_but_a_file_name_in_maps(
    free_threaded_python: Interpreter, program: Program, tmp_path: Path
) -> None:
    # GIVEN a process that has mapped files whose names have every byte that a name can have
    names = [bytes([byte]) * 3 for byte in range(1, 256) if byte not in b"/."]
    names += [b"a\rb", b"a\\012b", b" ", b"\xe2\x80\xae", b"7f00-8000 rw-p 0 00:00 1 x"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/n" + name)).write_bytes(b"x" * 4096)
    running = program(
        WAIT
        + f"""
    for name in os.listdir({os.fsencode(tmp_path)!r}):
        if name.startswith(b"n"):
            mapped({os.fsencode(tmp_path)!r} + b"/" + name)
    """
        + READY
    )

    # WHEN its map is read, THEN all are there
    found = {os.fsencode(mapping.path) for mapping in read_mappings(running.pid)}
    for name in names:
        # The kernel writes a line feed as \012, and nothing else differently.
        assert os.fsencode(tmp_path) + b"/n" + name.replace(b"\n", b"\\012") in found
    # AND the process is attached to as any other
    assert looked_at(running.pid) == (free_threaded_python.version, True)


def test_mappings_full_of_cookies_cost_no_more_than_others(program: Program, tmp_path: Path) -> None:
    # GIVEN a Python with a file called libpython, mapped twenty times over, that is all cookies and headers
    library = tmp_path / "libpython3.14t.so.1.0"
    header = debug_offsets("3.13.5t", version_hex=0x30D05F0)[:24]
    library.write_bytes(b"xdebugpy" * (1 << 20) + header * (1 << 16))
    running = program(WAIT + f"    for _ in range(20): mapped({str(library)!r})" + READY)

    # WHEN its runtime is looked for, THEN it is found with few reads
    memory = RemoteMemory(running.pid, Budget(running.pid, calls=2000))
    assert "python" in find_runtime(running.pid, memory).image
    assert memory.budget is not None
    memory.budget.take(0, calls=500)


def test_a_library_that_claims_a_billion_sections(program: Program, tmp_path: Path) -> None:
    # GIVEN a Python with such a file mapped, 64 GiB long
    library = endless(tmp_path / "libpython3.14t.so.1.0")
    running = program(
        WAIT
        + f"""
    with open({str(library)!r}, "r+b") as file:
        kept.append(mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=3))
    """
        + READY
    )

    # WHEN it is attached to, THEN the running one is found with a small budget
    memory = RemoteMemory(running.pid, Budget(running.pid, size_bytes=16 << 20, calls=2000))
    assert find_runtime(running.pid, memory).image != str(library)


def test_many_mappings(program: Program) -> None:
    # GIVEN a Python with tens of thousands of mappings
    running = program(
        WAIT
        + """
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    at = libc.mmap(None, 40_000 * 4096, 3, 0x22, -1, 0)
    for number in range(0, 40_000, 2):
        libc.mprotect(at + number * 4096, 4096, 1)
    """
        + READY
    )

    # WHEN it is attached to, THEN that works
    assert len(read_mappings(running.pid)) > 20_000
    assert looked_at(running.pid)[1] is True


def test_executable_in_memory(
    free_threaded_python: Interpreter, started: Callable[..., int], tmp_path: Path
) -> None:
    # GIVEN an interpreter that was started from memory, under another name
    script = tmp_path / "wait.py"
    script.write_text("import time; time.sleep(1000)")
    launcher = tmp_path / "launch.py"
    launcher.write_text(
        f"""
import ctypes, os
descriptor = ctypes.CDLL(None).memfd_create(b"pyapp", 0)  # not every build has os.memfd_create
with open({str(free_threaded_python.path.resolve())!r}, "rb") as file:
    os.write(descriptor, file.read())
os.environ["PYTHONHOME"] = {free_threaded_python.prefix!r}
os.environ["LD_LIBRARY_PATH"] = {free_threaded_python.prefix!r} + "/lib"  # its own is beside its file
os.execve(descriptor, ["pyapp", {str(script)!r}], os.environ)
"""
    )
    process = subprocess.Popen([str(free_threaded_python.path), str(launcher)])
    try:
        eventually(lambda: "memfd:pyapp" in os.readlink(f"/proc/{process.pid}/exe"))

        # WHEN it is looked at, THEN it can be attached to, and is found cheaply
        assert eventually(lambda: up(process.pid)) == (free_threaded_python.version, True)
        assert has_runtime_section(process.pid, Budget(process.pid), KnownImages())
    finally:
        process.kill()
        process.wait()


def test_started_by_the_dynamic_loader(free_threaded_python: Interpreter) -> None:
    # GIVEN an interpreter that was started as an argument of the dynamic loader
    loader = Path(f"/lib64/ld-linux-{platform.machine().replace('_', '-')}.so.2")
    if not loader.exists():
        loader = Path("/lib/ld-linux-aarch64.so.1")
    assert loader.exists() or shutil.which("ldd") is None
    process = subprocess.Popen(
        [str(loader), str(free_threaded_python.path.resolve()), "-c", "import time; time.sleep(1000)"],
        env={**os.environ, "PYTHONHOME": free_threaded_python.prefix},
    )
    try:
        # WHEN it is looked at, THEN it is found cheaply, and can be attached to
        assert eventually(lambda: up(process.pid)) == (free_threaded_python.version, True)
        assert has_runtime_section(process.pid, Budget(process.pid), KnownImages())
    finally:
        process.kill()
        process.wait()


def up(pid: int) -> tuple[str, bool] | None:
    """What is found, once it is up."""
    try:
        return looked_at(pid)
    except NotPython:
        return None


AGAIN = "import os, sys; os.execv(sys.executable, [sys.executable, '-S', '-c', os.environ['AGAIN']])"


def test_a_program_that_replaces_itself_while_it_is_looked_at(free_threaded_python: Interpreter) -> None:
    # GIVEN a Python that replaces itself with a Python, over and over
    command = [str(free_threaded_python.path), "-S", "-c", AGAIN]
    with subprocess.Popen(command, env={"AGAIN": AGAIN}) as process:
        try:
            eventually(lambda: os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(command[0]))

            # WHEN it is looked at many times, at any moment of that THEN it is a Python each time
            for _ in range(300):
                header = find_runtime_header(process.pid, RemoteMemory(process.pid))
                assert str(header.version) == free_threaded_python.version
        finally:
            process.kill()
