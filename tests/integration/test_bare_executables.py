"""Interpreters that tell as little of themselves as can be: linked statically, stripped, without sections.

Of a version that was built here the executable is linked anew from its archive, statically: so it exports no
symbol. Of the others it is a copy without its table of sections.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import ftdiag
from ftdiag.model import LockKind
from ftdiag.session import Session
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.runtime import find_runtime, find_runtime_header, static_memory
from ftdiag.sources.python.selfcheck import check_process
from reading import recordings
from tools.provision.verification import Interpreter

MAIN = """
#include <Python.h>
int main(int count, char **arguments) { return Py_BytesMain(count, arguments); }
"""
PROGRAM = """
import os, threading, time
lock = threading.Lock()
def work():
    while True:
        with lock:
            time.sleep(0.02)
for number in range(3):
    threading.Thread(target=work, name=f"worker-{number}", daemon=True).start()
print("ready", os.getpid(), flush=True)
time.sleep(1000)
"""
LIBRARIES = ("-lm", "-lpthread", "-ldl")
_SECTIONS_AT = 0x28
_SECTION_COUNT_AT = 0x3A


def without_sections(executable: Path) -> None:
    """Take the table of sections from an ELF file (64-bit): what `sstrip` does."""
    data = bytearray(executable.read_bytes())
    struct.pack_into("<Q", data, _SECTIONS_AT, 0)
    struct.pack_into("<HHH", data, _SECTION_COUNT_AT, 0, 0, 0)
    executable.write_bytes(data)


@pytest.fixture(params=["sections", "no sections"])
def bare(request: pytest.FixtureRequest, free_threaded_python: Interpreter, tmp_path: Path) -> Path:
    """An executable of the interpreter that exports nothing if that can be had."""
    executable = tmp_path / "pyapp"
    archives = list(Path(free_threaded_python.prefix, "lib").glob("libpython3.*.a"))
    if archives:
        source = tmp_path / "main.c"
        source.write_text(MAIN)
        (headers,) = Path(free_threaded_python.prefix, "include").glob("python3.*")
        subprocess.run(
            ["gcc", "-static", "-s", f"-I{headers}", source, archives[0], *LIBRARIES, "-o", executable],
            check=True,
            capture_output=True,
        )
    else:
        shutil.copy(free_threaded_python.path.resolve(), executable)
    if request.param == "no sections" or not archives:
        without_sections(executable)
    return executable


@pytest.fixture
def pid(bare: Path, free_threaded_python: Interpreter, tmp_path: Path) -> Iterator[int]:
    script = tmp_path / "app.py"
    script.write_text(PROGRAM)
    prefix = free_threaded_python.prefix
    environ = {**os.environ, "PYTHONHOME": prefix, "LD_LIBRARY_PATH": f"{prefix}/lib"}
    with subprocess.Popen([str(bare), str(script)], env=environ, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"ready {process.pid}\n".encode()
            yield process.pid
        finally:
            process.kill()


def test_a_bare_executable_is_attached_to(
    pid: int, bare: Path, free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a program on an interpreter that tells little of itself
    memory = RemoteMemory(pid)

    # WHEN its CPython is looked for, THEN it is found, and all that is known of it holds
    runtime = find_runtime(pid, memory)
    assert str(runtime.layout.version) == free_threaded_python.version
    header = find_runtime_header(pid, memory)
    assert check_process(pid, memory, header.address).wrong == ()
    # AND one that is linked statically exports no symbol
    if b"ld-linux" not in bare.read_bytes()[:4096]:
        assert static_memory(pid) == (0, 0)
    # AND stacks, names and locks are read as of any other
    for recording in recordings(pid, tmp_path, 0.8):
        snapshot = Session(recording).snapshot()
        names = {thread.info.name for thread in snapshot.threads}
        assert {"worker-0", "worker-1", "worker-2"} <= names
        waits = [lock for lock in snapshot.locks if lock.lock.kind is LockKind.USER]
        if waits and waits[0].holders and waits[0].holders[0].thread is not None:
            assert waits[0].lock.type_name == "_thread.lock"
            assert snapshot.hot[0].frame.filename == str(tmp_path / "app.py")
            break
    else:
        pytest.fail("no wait for the lock was seen")
    # AND what is missing is said, with its reason, if anything is
    report = ftdiag("report", str(recording.path), "--format", "json").json
    assert all(report["quality"]["not_measured"].values())
