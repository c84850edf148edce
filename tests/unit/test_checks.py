"""`make test` runs what needs no interpreter beside the getting of interpreters, and hides no failure."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from tools import checks


class Failed(list[str]):
    """Checks that were run, of which these failed."""

    def finish(self) -> list[str]:
        """Which."""
        return list(self)


class Machine:
    """Which commands ran, which of them fail, and whether interpreters can be had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.failing: tuple[str, ...] = ()
        self.provisioning = "print('got')"
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        monkeypatch.setattr(checks, "run", self.run)
        monkeypatch.setattr(checks, "Begun", self.begin)
        monkeypatch.setattr(checks, "start_provisioning", self.start)

    def run(self, command: Sequence[str]) -> int:
        """Stands in for a check."""
        said = " ".join(command)
        self.ran.append(said)
        return int(any(word in said for word in self.failing))

    def begin(self, commands: Sequence[tuple[str, ...]]) -> Failed:
        """Stands in for checks beside each other."""
        return Failed([" ".join(command) for command in commands if self.run(command)])

    def start(self, said: BinaryIO) -> subprocess.Popen[bytes]:
        """Stands in for provisioning."""
        return subprocess.Popen([sys.executable, "-c", self.provisioning], stderr=said)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which everything passes."""
    return Machine(monkeypatch)


def test_what_is_compiled_once_is_kept(machine: Machine) -> None:
    # GIVEN a shell that keeps Python from writing bytecode WHEN all is checked THEN the tests may
    assert checks.main([]) == 0
    assert machine.ran
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_everything_runs_once(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN a machine on which everything passes
    # WHEN all is checked
    status = checks.main([])

    # THEN the source is checked, then the tests without interpreters, then those on them
    assert status == 0
    assert [command.rpartition("/")[2] for command in machine.ran[:4]] == [
        "ruff check .",
        "ruff format --check .",
        "lint-imports --no-logo",
        "mypy --strict",
    ]
    assert machine.ran[-2].endswith("-m not integration")
    assert machine.ran[-1].endswith("-m integration")
    assert "everything passed" in capsys.readouterr().out


@pytest.mark.parametrize("failing", ["ruff format", "mypy", "-m not integration", "-m integration"])
def test_one_failure_fails_and_the_rest_is_run(
    machine: Machine, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    # GIVEN one check that fails
    machine.failing = (failing,)

    # WHEN all is checked, THEN it fails at the end, and everything else ran too
    assert checks.main([]) == 1
    # (tests that failed beside others once more, alone)
    again = "integration" in failing
    assert len(machine.ran) == 6 + again
    assert sum("--last-failed" in command for command in machine.ran) == again
    assert capsys.readouterr().out.rstrip().endswith("failed")


@pytest.mark.parametrize("beside", ["worksteal -m not integration", "worksteal -ra -m integration"])
def test_what_fails_beside_other_tests_only_has_not_failed(
    machine: Machine, capsys: pytest.CaptureFixture[str], beside: str
) -> None:
    # GIVEN tests of which some fail while others run, and pass alone
    machine.failing = (beside,)

    # WHEN all is checked, THEN it passes
    assert checks.main([]) == 0
    assert sum("--last-failed" in command for command in machine.ran) == 1
    assert "everything passed" in capsys.readouterr().out


def test_checks_beside_each_other_say_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # GIVEN checks of which the first takes longest and the second fails
    for name, body in (("slow", "sleep 0.5; echo slow said"), ("bad", "echo bad said >&2; exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(checks, "BIN", tmp_path)

    # WHEN they are run THEN each says its own after its name, in order, and the one that failed is named
    assert checks.Begun([("slow", "."), ("bad", "--strict")]).finish() == ["bad --strict"]
    assert capfd.readouterr().out == "$ slow .\nslow said\n$ bad --strict\nbad said\n"


def test_without_interpreters_their_tests_do_not_begin(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a machine that gets no interpreters
    machine.provisioning = (
        "import sys; print('error: no 3.15\\nsudo apt-get install x', file=sys.stderr); sys.exit(1)"
    )

    # WHEN all is checked
    status = checks.main([])

    # THEN it fails with the message of provisioning and its next command, and no such test ran
    assert status == 1
    assert "sudo apt-get install x" in capsys.readouterr().out
    assert not machine.ran[-1].endswith("-m integration")


def test_named_tests_are_run_alone(machine: Machine) -> None:
    # GIVEN a path of tests, WHEN it is checked, THEN only these run, after the checks of the source
    assert checks.main(["tests/unit/test_checks.py"]) == 0
    assert machine.ran[-1].endswith(" tests/unit/test_checks.py")
    assert len(machine.ran) == 5


def test_interrupted_checks_end_provisioning(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN provisioning that takes long, and a person who interrupts the checks
    started: list[subprocess.Popen[bytes]] = []
    machine.provisioning = "import time; time.sleep(600)"

    def start(said: BinaryIO) -> subprocess.Popen[bytes]:
        started.append(machine.start(said))
        return started[0]

    def interrupted(command: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "start_provisioning", start)
    monkeypatch.setattr(checks, "run", interrupted)

    # WHEN it is interrupted, THEN provisioning is ended too
    with pytest.raises(KeyboardInterrupt):
        checks.main([])
    assert started[0].poll() is not None


def test_provisioning_runs_with_low_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a command in the place of provisioning's that says its priority
    says = [sys.executable, "-c", "import os, sys; print(os.nice(0), file=sys.stderr)"]
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **rest: popen(says, **rest))

    # WHEN it is started, THEN it gives way
    with tempfile.TemporaryFile() as said:
        assert checks.start_provisioning(said).wait() == 0
        said.seek(0)
        assert int(said.read()) == min(19, os.nice(0) + checks.NICE)
