"""Who is asked about what when processes are listed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdiag.commands import processes
from ftdiag.commands.processes import PythonProcess, python_processes
from ftdiag.datatypes import replace

SLOW_S = 60.0
"""A limit that no machine reaches."""


@pytest.fixture
def workers() -> Iterator[list[int]]:
    """Three processes of one executable, and one of another."""
    commands = [["cat"]] * 3 + [[sys.executable, "-c", "input()"]]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE) for command in commands]
    yield [process.pid for process in running]
    for process in running:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


class PySpy:
    """In place of the looks of a list: py-spy is to be asked about all, and who it was is written down."""

    def __init__(self, asked: Path, refuses: frozenset[int]) -> None:
        self._asked = asked
        self._refuses = refuses

    def identify(self, pid: int, *_: object) -> PythonProcess:
        """One that py-spy is to be asked about."""
        return PythonProcess(
            pid, "0", "cat", 1, None, "3.11", None, True, False, "too old", processes._TO_ASK
        )

    def through_pyspy(self, process: PythonProcess, refusal: str) -> PythonProcess:
        """What py-spy says."""
        with self._asked.open("a") as log:
            log.write(f"{process.pid}\n")
        if process.pid in self._refuses:
            return replace(process, source=None, reason=f"{refusal}, and py-spy may not")
        return replace(
            process, source="py-spy", attachable=True, python_version="3.11.7", reason="through it"
        )

    @property
    def asked(self) -> list[int]:
        """Whom it was asked about so far."""
        return sorted(map(int, self._asked.read_text().split()))


def listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pids: list[int], refuses: frozenset[int]
) -> tuple[PySpy, dict[int, PythonProcess]]:
    """What a list of these processes says, and whom py-spy was asked about for it."""
    pyspy = PySpy(tmp_path / "asked", refuses)
    monkeypatch.setattr(processes, "_pids", lambda: pids)
    monkeypatch.setattr(processes, "looks_like_python", lambda *_: True)
    monkeypatch.setattr(processes, "identify", pyspy.identify)
    monkeypatch.setattr(processes, "through_pyspy", pyspy.through_pyspy)
    return pyspy, {process.pid: process for process in python_processes(0.0, SLOW_S)}


def test_py_spy_is_asked_once_about_processes_that_are_alike(
    workers: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # WHEN three processes of one executable and one of another are listed
    pyspy, found = listed(monkeypatch, tmp_path, workers, frozenset())

    # THEN py-spy looks at one of each, and its answer holds for all
    *same, other = workers
    assert pyspy.asked == sorted([min(same), other])
    assert {process.source for process in found.values()} == {"py-spy"}
    assert {process.python_version for process in found.values()} == {"3.11.7"}
    assert sorted(found) == sorted(workers)


def test_what_keeps_py_spy_from_one_is_not_said_of_the_others(
    workers: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # GIVEN a process that py-spy cannot read, the first of those like it
    *same, _ = workers
    refused = min(same)

    # WHEN they are listed
    pyspy, found = listed(monkeypatch, tmp_path, workers, frozenset({refused}))

    # THEN the others are asked about themselves
    assert pyspy.asked == sorted(workers)
    assert [pid for pid in workers if found[pid].attachable] == [pid for pid in workers if pid != refused]
    assert "py-spy may not" in (found[refused].reason or "")
    assert processes._TO_ASK not in {process.source for process in found.values()}


def test_processes_of_different_users_and_files_are_not_alike() -> None:
    # GIVEN ourselves, and init, which has other files, another user, or may not be looked at
    assert processes._kin_of(os.getpid()) == processes._kin_of(os.getpid()) != ""
    assert processes._kin_of(1) != processes._kin_of(os.getpid())
