"""Starts a process of ours before anything else is imported, and follows it without asking again and again.

In: arguments for our own interpreter. Out: a `Child`: pipes to and from it, what it wrote on its standard
error, its end. `begin_sampler` starts the sampler's process ahead, as the first thing that a command does: it
imports while the command does, and waits for its request; `sampler` hands it over.

It is what `subprocess.Popen` would do, of which the import alone takes longer than the start of a process,
and whose waiting with a limit sleeps up to 50 ms at a time.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

from ftdiag import descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes as long to import as all of this
    from typing import Final

SAMPLER: Final = ("-P", "-m", "ftdiag.sampling.process")
"""-P: the current directory may hold anything, also a json.py."""
_OUTPUT: Final = 1
_ERROR: Final = 2


def open_standard_descriptors() -> None:
    """Give closed standard descriptors to /dev/null, or the next file opened would take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != descriptor:
                    os.dup2(opened, descriptor)
                    os.close(opened)


class Child:
    """Our own Python with `arguments`, in a session of its own. Raises OSError when it cannot be started.

    A session of its own: the keys of the terminal are for us, and where the kernel shares cores by sessions
    (sched_autogroup) it does not have to share ours. Its standard error goes to a file in memory, which
    cannot fill up as a pipe would and leaves nothing behind.
    """

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.request = self.said = self.errors = self._pidfd = -1
        self.status: int | None = None
        """As `subprocess.Popen.returncode`: negative for a signal."""
        theirs: list[int] = []
        try:
            asked, self.request = os.pipe()
            theirs.append(asked)
            self.said, saying = os.pipe()
            theirs.append(saying)
            self.errors = descriptors.file_in_memory("ftdiag-errors")
            self.pid = _spawned(arguments, [(asked, 0), (saying, _OUTPUT), (self.errors, _ERROR)])
            self._pidfd = descriptors.open_process(self.pid)
        except OSError:
            self._close_all()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        os.set_blocking(self.said, False)

    def tell(self, data: bytes) -> None:
        """Write to its standard input. Raises BrokenPipeError when it is gone."""
        while data:
            data = data[os.write(self.request, data) :]

    def let_go(self) -> None:
        """Close its standard input, which asks it to end."""
        if self.request >= 0:
            os.close(self.request)
            self.request = -1

    def errors_said(self, most_bytes: int) -> str:
        """The last that it wrote on its standard error."""
        with suppress(OSError):
            size = os.fstat(self.errors).st_size
            return os.pread(self.errors, most_bytes, max(0, size - most_bytes)).decode("utf-8", "replace")
        return ""

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Its status, or `None` if it has not ended in time."""
        if self.status is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(None if timeout_s is None else 1000 * max(0.0, timeout_s)):
                try:
                    self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                except ChildProcessError:  # reaped by the kernel, as whoever started us wanted
                    self.status = 0
        return self.status

    def send(self, number: int) -> None:
        """A signal, if it is still there."""
        if self.wait(0) is None:
            with suppress(ProcessLookupError):
                descriptors.send_signal(self._pidfd, number)

    def close(self) -> None:
        """Let go of everything but the process."""
        self._close_all()

    def _close_all(self) -> None:
        for name in ("request", "said", "errors", "_pidfd"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                setattr(self, name, -1)
                os.close(descriptor)


def _spawned(arguments: tuple[str, ...], standard: list[tuple[int, int]]) -> int:
    """Start our interpreter with these descriptors as its standard ones; its pid."""
    command = [sys.executable, *arguments]
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in standard]
    defaults = [signal.SIGPIPE, signal.SIGXFSZ]  # Python ignores them, and that would be inherited
    try:
        return os.posix_spawn(
            sys.executable, command, os.environ, file_actions=actions, setsigdef=defaults, setsid=True
        )
    except NotImplementedError:  # Python was built with a C library without it
        import subprocess

        stdin, stdout, stderr = (ours for ours, _ in sorted(standard, key=lambda each: each[1]))
        started = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        started.returncode = 0  # who starts it here waits for it, too
        return started.pid


_ahead: list[Child] = []


def begin_sampler() -> Child | None:
    """Start the sampler's process ahead; `None` if that fails: `sampler` tries again, and raises why."""
    try:
        _ahead.append(Child(SAMPLER))
    except OSError:
        return None
    return _ahead[0]


def sampler() -> Child:
    """The sampler's process that was started ahead, else a new one. Raises OSError."""
    return _ahead.pop() if _ahead else Child(SAMPLER)
