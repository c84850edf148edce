"""A plugin of pytest: `pytest --ftdiag` records a test run and says what keeps it from scaling.

In: options of pytest. Out: a recording of pytest's own process, the findings in its summary, and a failure
where there is one of the severity that `--ftdiag-fail-on` names. Nothing of ftdiag is imported without the
option.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from ftdiag.launcher import SamplerProcess

SHOWN = 5
"""Findings in the summary."""
_PR_SET_PTRACER = 0x59616D61


def pytest_addoption(parser: pytest.Parser) -> None:
    """--ftdiag, --ftdiag-fail-on."""
    group = parser.getgroup("ftdiag", "record the test run with ftdiag")
    group.addoption(
        "--ftdiag",
        nargs="?",
        const="pytest.ftdiag",
        metavar="FILE",
        help="Record this test run to FILE (pytest.ftdiag), and say what keeps it from scaling.",
    )
    group.addoption(
        "--ftdiag-fail-on",
        choices=["warning", "critical"],
        help="Fail the run if there is a finding of this severity or above.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin, if asked to, and not in a worker of pytest-xdist."""
    path = config.getoption("--ftdiag")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(
            Recorder(Path(path), config.getoption("--ftdiag-fail-on")), "ftdiag-recorder"
        )


class Recorder:
    """Records pytest's process from the first test to the last."""

    def __init__(self, path: Path, fail_on: str | None) -> None:
        self._path = path
        self._fail_on = fail_on
        self._sampler: SamplerProcess | None = None
        self._lines: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Start the sampler. Raises pytest.UsageError where it cannot."""
        import pytest

        from ftdiag.errors import FtdiagError
        from ftdiag.launcher import SamplerProcess
        from ftdiag.sampling.options import SamplerOptions

        sampler = SamplerProcess()
        try:
            sampler.spawn()
            _permit(sampler.pid or 0)
            sampler.start(SamplerOptions(os.getpid(), os.fspath(self._path.absolute())))
            sampler.wait_until_started()
        except FtdiagError as error:
            sampler.close()
            raise pytest.UsageError(f"--ftdiag: {error.what}\n{error.hint or ''}".rstrip()) from None
        self._sampler = sampler

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End it; the run fails if there is a finding that it shall fail for."""
        from ftdiag.errors import FtdiagError

        if self._sampler is None:
            return
        try:
            self._sampler.stop()
            findings = self._findings()
        except FtdiagError as error:
            self._lines.append(f"not recorded: {error.what}")
            return
        finally:
            self._sampler.close()
        if (
            any(grave(finding.severity.value, self._fail_on) for finding in findings)
            and session.exitstatus == 0
        ):
            self._lines.append(f"failed: there is a finding that is {self._fail_on} or worse")
            session.exitstatus = 1

    def _findings(self) -> tuple[Any, ...]:
        from ftdiag.recording.reader import Recording
        from ftdiag.session import Session
        from ftdiag.wording.answer import answer

        with Recording.open(self._path) as recording:
            snapshot = Session(recording).snapshot()
        self._lines.append(answer(snapshot).sentence)
        self._lines += [
            f"{finding.severity.value}: {finding.summary} ({finding.rule_id})"
            for finding in snapshot.findings[:SHOWN]
        ]
        self._lines.append(f"ftdiag open {self._path}   shows it")
        return snapshot.findings

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say it."""
        if self._lines:
            terminalreporter.section("ftdiag")
            for line in self._lines:
                terminalreporter.write_line(line)


def grave(severity: str, fail_on: str | None) -> bool:
    """Whether a finding is of the severity to fail on, or above."""
    order = ("info", "warning", "critical")
    return fail_on is not None and order.index(severity) >= order.index(fail_on)


def _permit(pid: int) -> None:
    """Let our own child read us: with Yama's ptrace_scope 1 only ancestors may."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)
