"""Command lines of processes, also of those that are just replacing their program."""

from __future__ import annotations

import os
import subprocess

import pytest

from ftdiag.sources.kernel import procfs


@pytest.fixture
def exec_in_progress(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A process whose arguments are not there yet at the first looks."""
    shown = ["[sleep]", "[sleep]", "[sleep]", "sleep 1000"]
    monkeypatch.setattr(procfs, "read_command_line", lambda _pid: shown.pop(0) if shown[1:] else shown[0])
    return shown


def test_the_arguments_of_a_program_that_is_just_started_are_waited_for(exec_in_progress: list[str]) -> None:
    assert procfs.read_new_command_line(1) == "sleep 1000"
    assert exec_in_progress == ["sleep 1000"]


def test_a_program_without_arguments_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "EXEC_TAKES_S", 0.02)
    monkeypatch.setattr(procfs, "read_command_line", lambda _pid: "[kthread]")
    assert procfs.read_new_command_line(1) == "[kthread]"


def test_a_process_that_is_there_is_not_waited_for() -> None:
    assert procfs.read_new_command_line(os.getpid()) == procfs.read_command_line(os.getpid())
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert procfs.read_new_command_line(gone.pid) == "?"
