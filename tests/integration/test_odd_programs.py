"""Programs that are odd without being hostile: how they import, what they call things, who may look."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command_line import ftdiag
from reading import eventually
from tools.provision.verification import Interpreter

IN_A_ZIP = """
import asyncio, sys, time, zipfile
with zipfile.ZipFile("m.zip", "w") as file:
    file.writestr("inside.py", "import time\\ndef in_zip():\\n    sum(range(20000)); time.sleep(0.005)\\n")
sys.path.insert(0, "m.zip")
import inside
def steps():
    while True:
        inside.in_zip()
        yield
async def inner(each):
    for _ in each:
        exec("sum(range(10000))")
        await asyncio.sleep(0.005)
async def outer():
    async with asyncio.TaskGroup() as group:
        group.create_task(inner(steps()), name="t\\udcff1")
def trace(frame, event, argument):
    return trace
sys.settrace(trace)
print("ready", flush=True)
asyncio.run(outer())
"""

NAMES = """
import threading, time
made = {"time": time}
source = "def f\\u0439(lock):\\n  while True:\\n    with lock:\\n      time.sleep(0.02)\\n"
exec(compile(source, "/srv/caf\\udce9/app.py", "exec"), made)
lock = threading.Lock()
for name in ("w\\udcff", "n\\nl\\x1b[31m"):
    threading.Thread(target=made["f\\u0439"], args=(lock,), name=name, daemon=True).start()
print("ready", flush=True)
time.sleep(600)
"""

NO_DUMP = """
import ctypes, threading, time
def work():
    while True:
        sum(range(20000)); time.sleep(0.005)
threading.Thread(target=work, daemon=True).start()
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
ctypes.CDLL(None).prctl(15, b"gunicorn: wor)\\n(x", 0, 0, 0)  # PR_SET_NAME
print("ready", flush=True)
time.sleep(600)
"""


MANY = """
import threading, time
threading.stack_size(65536)
event = threading.Event()
for _ in range(2000):
    threading.Thread(target=event.wait, daemon=True).start()
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def running(python: Interpreter, code: str, where: Path) -> Iterator[int]:
    """A program that says "ready"; its pid."""
    command = [str(python.path), "-X", "utf8", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=where) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def seen(pid: int) -> dict[str, Any]:
    """The report of a second."""
    ran = ftdiag("attach", pid, "--format", "json", "--duration", "1")
    assert ran.status == 0, ran.err
    report: dict[str, Any] = ran.json
    return report


def functions(report: dict[str, Any]) -> str:
    """All that was seen to run, as text."""
    return json.dumps(report["hot"], ensure_ascii=False)


def test_code_out_of_a_zip_in_a_traced_loop(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a loop with a task of an odd name, whose code comes from a zip file and from exec, and is traced
    with running(free_threaded_python, IN_A_ZIP, tmp_path) as pid:
        # WHEN it is looked at THEN its stacks are read, with the names of that code
        eventually(lambda: "in_zip" in functions(seen(pid)))
        report = seen(pid)
    assert report["target"]["python_version"] == free_threaded_python.version
    assert [thread["python"] for thread in report["threads"]] == [True]
    assert report["quality"]["torn_ratio"] < 0.5


def test_names_that_no_text_has(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN threads, a function and a file whose names have control characters and half characters
    with running(free_threaded_python, NAMES, tmp_path) as pid:
        # WHEN they are looked at
        report = seen(pid)
        text = ftdiag("attach", pid, "--format", "text", "--duration", "1").out
    # THEN each thread is there, with its function, and no terminal is told anything
    assert len(report["threads"]) == 3
    assert "f\u0439" in functions(report)
    assert "\x1b" not in text
    assert "f\u0439" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks at a process that lets nobody else")
def test_a_process_that_lets_nobody_look(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a process that has forbidden to be looked at, and called itself what no process is called
    with running(free_threaded_python, NO_DUMP, tmp_path) as pid:
        # WHEN root does THEN all of it is seen
        report = seen(pid)
        row = next(row for row in ftdiag("list", "--format", "json").json["processes"] if row["pid"] == pid)
    assert len(report["threads"]) == 2
    assert "work" in functions(report)
    assert row["attachable"] is True


def test_thousands_of_threads_that_wait_for_locks_of_their_own(
    free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a program with two thousand threads, each of which waits for a lock of its own
    with running(free_threaded_python, MANY, tmp_path) as pid:
        # WHEN it is looked at THEN all of them are seen for the first time within what a look may cost
        ran = ftdiag("attach", pid, "--format", "json", "--duration", "4")
    assert ran.status == 0, ran.err
    quality = ran.json["quality"]
    assert quality["torn_ratio"] < 0.1
    assert quality["unknown_ratio"] < 0.1
    assert [gap for gap in quality["gaps"] if "cost more than" in gap["why"]] == []
