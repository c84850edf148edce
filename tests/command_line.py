"""Runs `ftdiag` as a person would: its own process, its exit status, what it prints where.

In: arguments. Out: `Ran`, or for the cockpit a `Screen` on a pseudo-terminal.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from reading import PATIENCE_S, eventually, windows_in

TIMEOUT_S: Final = 2 * PATIENCE_S
FTDIAG: Final = (sys.executable, "-P", "-m", "ftdiag")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def message(self) -> str:
        """The error without its hint: the first line of standard error."""
        return self.err.partition("\n")[0]


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Ours without what changes the output, then the changes; None removes."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "FTDIAG_DEBUG", "NO_COLOR")
    }
    ours.update(TERM="xterm-256color", LANG="C.UTF-8", LC_ALL="C.UTF-8")
    for name, value in (changes or {}).items():
        if value is None:
            ours.pop(name, None)
        else:
            ours[name] = value
    return ours


def ftdiag(
    *arguments: object,
    env: Mapping[str, str | None] | None = None,
    stdin: str = "",
    prefix: Sequence[str] = (),
) -> Ran:
    """Run a command to its end; it has no terminal."""
    done = subprocess.run(
        [*prefix, *FTDIAG, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(env),
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(
    *arguments: object,
    env: Mapping[str, str | None] | None = None,
    stdin: int | IO[str] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs, for signals; it heeds Ctrl-C also where pytest was told to ignore it."""
    process = subprocess.Popen(
        [*FTDIAG, *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(env),
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - takes no lock
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> Ran:
    """Wait for the end of a started command."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return Ran(process.returncode, out, err)


def until_seen(directory: Path) -> None:
    """Wait until a command with this TMPDIR has attached, and has seen something that it can report."""
    eventually(lambda: any(windows_in(path) for path in directory.glob("ftdiag-live-*/recording")))


class Screen:
    """A command on a pseudo-terminal."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self.seen = b""
        self.status: int | None = None

    def wait_for(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Read until `text` was drawn."""
        deadline = time.monotonic() + timeout_s
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{text!r} was not drawn, but: {self.seen[-3000:]!r}")

    def press(self, keys: str) -> None:
        """Send keys."""
        os.write(self._descriptor, keys.encode())

    def wait(self) -> int:
        """Read to the end; the exit status, negative for a signal."""
        while self._read(TIMEOUT_S):
            pass
        if self.status is None:
            _, code = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(code)
        return self.status

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:
            return False
        self.seen += data
        return bool(data)


@contextmanager
def screen(
    *arguments: object,
    columns: int = 100,
    rows: int = 30,
    env: Mapping[str, str | None] | None = None,
) -> Iterator[Screen]:
    """Run a command on a terminal of that size."""
    ours = environment(env)
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            _heed_ctrl_c()
            os.execve(FTDIAG[0], [*FTDIAG, *map(str, arguments)], ours)
        finally:
            os._exit(127)
    shown = Screen(pid, descriptor)
    try:
        yield shown
    finally:
        if shown.status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(descriptor)


def samplers_of(directory: Path) -> list[int]:
    """Sampler processes whose TMPDIR is `directory`: ours, not those of tests beside us."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes()
            variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ftdiag.sampling.process" in command and f"TMPDIR={directory}".encode() in variables:
            found.append(int(name))
    return found
