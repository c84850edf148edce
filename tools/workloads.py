"""Starts a sample workload and waits until it works.

In: an interpreter, the name of a program in samples/workloads (or the path of another that says "ready
PID") and its arguments. Out: a running process that can be attached to, ended in any case when the
context is left.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.provision.verification import probe_environment

WORKLOADS: Final = Path(__file__).resolve().parent.parent / "samples" / "workloads"
READY_TIMEOUT_S: Final = 90.0
END_TIMEOUT_S: Final = 90.0
"""Both take a moment; on a machine whose cores everybody wants, a hundred times that."""
_SAID_AT_MOST: Final = 4000

_PR_SET_PTRACER: Final = 0x59616D61
_PR_SET_PTRACER_ANY: Final = ctypes.c_ulong(-1)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class WorkloadFailure(Exception):
    """A workload ended, or did not get ready in time; the text has what it said."""


@dataclass(frozen=True, slots=True)
class RunningWorkload:
    """A workload that said it is ready."""

    name: str
    process: subprocess.Popen[bytes]
    said_on_stderr: Path

    @property
    def pid(self) -> int:
        """The process to attach to."""
        return self.process.pid

    def said(self) -> str:
        """What it wrote on stderr so far: its throughput."""
        return self.said_on_stderr.read_text(errors="replace")

    def terminate(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Sends SIGTERM and waits; returns the exit status, negative for a signal."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def program_path(name: str) -> Path:
    """The file of a workload: `hot_lock`, `hot_lock.py`, or a path."""
    path = Path(name)
    if path.is_absolute():
        return path
    return WORKLOADS / (name if name.endswith(".py") else f"{name}.py")


def _allow_attaching() -> None:
    # With Yama's ptrace_scope 1 (Ubuntu's default) only ancestors may read a process, and ftdiag is not one
    # here. Where there is no Yama this fails, and nothing is needed.
    _LIBC.prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)


@contextmanager
def running_workload(
    python: str | os.PathLike[str],
    name: str,
    *arguments: str,
    options: Sequence[str] = (),
    environ: dict[str, str] | None = None,
    ready_timeout_s: float = READY_TIMEOUT_S,
) -> Iterator[RunningWorkload]:
    """Runs the workload under `python` (with interpreter `options`), yields it once it is ready.

    `environ` is added to an environment without PYTHON* variables.
    """
    with tempfile.TemporaryDirectory(prefix="ftdiag-workload-") as scratch:
        said = Path(scratch) / "stderr"
        command = [os.fspath(python), *options, str(program_path(name)), *arguments]
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # What it leaves in temporary files goes with it.
                env={**probe_environment(), "TMPDIR": scratch, **(environ or {})},
                preexec_fn=_allow_attaching,  # noqa: PLW1509 - one system call, takes no lock
            )
        workload = RunningWorkload(name, process, said)
        try:
            _wait_until_ready(workload, ready_timeout_s)
            yield workload
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _wait_until_ready(workload: RunningWorkload, timeout_s: float) -> None:
    process = workload.process
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise WorkloadFailure(
                    f"{workload.name} was not ready within {timeout_s:.0f} s{_told(workload)}"
                )
            chunk = os.read(descriptor, 4096)
            if not chunk:
                status = process.wait()
                raise WorkloadFailure(f"{workload.name} ended with status {status}{_told(workload)}")
            line += chunk
    if line.split() != [b"ready", str(process.pid).encode()]:
        raise WorkloadFailure(f"{workload.name} said {line[:200]!r} instead of 'ready {process.pid}'")


def _told(workload: RunningWorkload) -> str:
    said = workload.said().strip()[-_SAID_AT_MOST:]
    return f", saying:\n{said}" if said else " and said nothing"
