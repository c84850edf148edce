"""Runs the commands of a build: logged, shown as progress, bounded in time, ended with us.

In: a command line. Out: its exit status and the tail of its output; `ProvisioningFailure` when it could
not be started or took too long.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress

TAIL_LINES: Final = 40
END_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit status and its last lines (stdout and stderr together)."""

    status: int
    tail: tuple[str, ...]


def run_logged(
    command: Sequence[str],
    *,
    cwd: Path,
    log: BinaryIO,
    progress: Progress,
    timeout_s: float,
    environ: Mapping[str, str] | None = None,
    kept_fds: Sequence[int] = (),
    tail_lines: int = TAIL_LINES,
) -> Ended:
    """Runs a command to its end. Its whole process group is ended when we are interrupted.

    `kept_fds` stay open in the command: a lock passed so is held until the last of its children is gone,
    even if we are killed.
    """
    log.write(f"\n$ {' '.join(command)}\n".encode())
    log.flush()
    try:
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(kept_fds),
        )
    except OSError as error:
        raise ProvisioningFailure(f"{command[0]} cannot be run: {error.strerror or error}") from error
    tail: deque[str] = deque(maxlen=tail_lines)
    try:
        _follow(child, log, progress, tail, time.monotonic() + timeout_s)
        return Ended(child.wait(), tuple(tail))
    except TimeoutError:
        raise ProvisioningFailure(
            f"{command[0]} did not end within {timeout_s / 60:.0f} min", "Look at the log, then try again."
        ) from None
    finally:
        _end(child)


def _follow(
    child: subprocess.Popen[bytes], log: BinaryIO, progress: Progress, tail: deque[str], deadline: float
) -> None:
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not selector.select(min(left, 1.0)):
                continue
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                break
            log.write(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if text:
                    tail.append(text)
                    progress.log_line(text)
    if rest:
        tail.append(rest.decode(errors="replace"))
    log.flush()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                break
            try:
                child.wait(END_WAIT_S)
                break
            except subprocess.TimeoutExpired:
                continue
    if child.stdout is not None:
        child.stdout.close()
