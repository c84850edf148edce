"""ftdiag on Pythons that have less than most: no compiled part, fewer functions in `os`.

In: a copy of the package without its extension. Out: a report of a live process, from there.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import ftdiag
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload

PACKAGE: Final = Path(ftdiag.__file__).parent
WITHOUT: Final = """
import os, signal
for module, name in ((os, "pidfd_open"), (os, "memfd_create"), (signal, "pidfd_send_signal")):
    delattr(module, name)
"""
"""What Pythons lack that were built with headers of Linux 3.10, as those that uv installs are."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the package as it is installed where there is no compiler."""
    for source in PACKAGE.rglob("*"):
        if source.is_file() and source.suffix in (".py", ".pyi", ".tcss", ".tsv", ".md", ".ftdiag"):
            place = tmp_path / "ftdiag" / source.relative_to(PACKAGE)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())
    return tmp_path


def from_copy(folder: Path, *arguments: object) -> str:
    """What the copy's command prints."""
    run = subprocess.run(
        [sys.executable, "-P", "-m", "ftdiag", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("lacks", ["", WITHOUT], ids=["all of os", "an os without pidfds"])
def test_it_attaches_without_what_may_be_missing(
    lacks: str, copy: Path, workload_process: Callable[..., RunningWorkload]
) -> None:
    # GIVEN ftdiag without its compiled part, and a Python without some functions; a program
    (copy / "sitecustomize.py").write_text(lacks)
    target = workload_process("hot_lock", "--threads", "3")

    # WHEN it looks at the program THEN it sees what it always sees, its end included
    report: dict[str, Any] = {}
    for seconds in (1.5, 4.0, 10.0):  # a busy machine may not let it wait for its lock at once
        report = json.loads(from_copy(copy, "attach", target.pid, "--duration", seconds, "--format", "json"))
        assert len(report["threads"]) >= 3
        assert report["metrics"]["on_cpu_cores"] > 0
        if report["locks"]:
            break
    assert report["locks"]

    # AND the doctor says what is slower for it
    assert "it was not built: there was no compiler" in from_copy(copy, "doctor")


def test_functions_that_some_pythons_lack_are_asked_for_in_one_place(
    free_threaded_pythons: tuple[Interpreter, ...],
) -> None:
    # GIVEN all that we use of modules that are made from the headers of the machine they were built on
    modules = "os", "signal", "fcntl", "resource", "select", "mmap", "socket"
    used: dict[str, set[str]] = {}
    for source in PACKAGE.rglob("*.py"):
        tree = ast.parse(source.read_bytes())
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.asname is None
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if node.value.id in imported.intersection(modules):
                used.setdefault(f"{node.value.id}.{node.attr}", set()).add(source.name)
    asked = [name.split(".") for name in used]
    script = f"""
import importlib
print([n for m, n in {asked!r} if not hasattr(importlib.import_module(m), n)])
"""
    # WHEN every Python at hand is asked THEN what it lacks is used in one module, which does without
    for interpreter in free_threaded_pythons:
        run = subprocess.run(
            [interpreter.path, "-I", "-c", script], capture_output=True, text=True, check=True
        )
        lacking = set(ast.literal_eval(run.stdout))
        where = {name: files for name, files in used.items() if name.partition(".")[2] in lacking}
        elsewhere = {name: files - {"descriptors.py", "memray_child.py"} for name, files in where.items()}
        assert not any(elsewhere.values()), elsewhere


def test_a_free_threaded_python_finds_the_extension_is_none_of_its_own(
    free_threaded_python: Interpreter,
) -> None:
    # GIVEN the extension of this tree, built for Pythons with the GIL WHEN another kind of Python has it
    script = "from ftdiag.sources import compiled as c; print(c.COMPILED, c.WHY_NOT)"
    run = subprocess.run(
        [free_threaded_python.path, "-c", script],
        env={"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    # THEN it says so, and goes on without
    assert run.stdout.startswith("False it was built for another Python"), run.stdout
