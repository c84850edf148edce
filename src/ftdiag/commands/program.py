"""A program started to be looked at: allowed to be read, ready or not, its signals, its exit status.

In: a command line. Out: a process that the sampler may attach to.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Final

from ftdiag.commands.processes import python_children
from ftdiag.errors import (
    AttachError,
    FtdiagError,
    NotPython,
    UnsupportedPython,
    UsageError,
)

FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
READY_TIMEOUT_S: Final = 10.0
"""From the start of the program until its Python runtime can be read; wrappers may take a while."""
REFUSAL_TIMEOUT_S: Final = 2.0
"""How long a refusal (an old Python, a permission, a shell) may be that of a wrapper which is about to go."""
READY_POLL_S: Final = 0.003
KILL_AFTER_S: Final = 5.0
SIGNAL_STATUS: Final = 128
_PR_SET_PTRACER: Final = 0x59616D61
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Program:
    """A running program."""

    def __init__(self, process: subprocess.Popen[bytes], *, own_group: bool) -> None:
        self.process = process
        self._own_group = own_group

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Its exit status as a shell would say it; `None` while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else SIGNAL_STATUS - code

    def forward(self, number: int, *, from_terminal: bool = False) -> None:
        """Pass a signal on, unless the terminal has sent it to the program as well."""
        if from_terminal and not self._own_group:
            return
        self.process.send_signal(number)  # nothing if it has ended

    def end(self) -> None:
        """End it: by request, by force when that does not help."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(
    arguments: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    own_group: bool = False,
) -> Program:
    """Start a program that we and our children may read. Raises UsageError if there is none such."""
    parent = os.getpid()

    def allow_reading() -> None:
        # With Yama's ptrace_scope 1 only ancestors may read a process, and the sampler is none. Without
        # Yama this fails, and nothing is needed. It outlives exec.
        _libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(parent), 0, 0, 0)

    try:
        process = subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=allow_reading,  # noqa: PLW1509 - one system call, no locks; we have no threads yet
            process_group=0 if own_group else None,
        )
    except OSError as error:
        name = arguments[0]
        hint = (
            f"ftdiag run -- python {name}   runs a script"
            if name.endswith(".py")
            else "ftdiag run -- python script.py ARGUMENTS   is the form"
        )
        raise UsageError(f"cannot start {name!r}: {error.strerror}", hint) from None
    except ValueError as error:
        raise UsageError(f"cannot start {arguments[0]!r}: {error}") from None
    return Program(process, own_group=own_group)


def wait_until_python(program: Program, source: str = "auto") -> None:
    """Return when the program has a Python runtime that can be read, by py-spy where we do not read it.

    Raises AttachError when it ends before, or does not get one in time.
    """
    begin = time.monotonic()
    next_look_s = 0.0
    while True:
        failure = _not_yet(program.pid)
        if failure is None:
            return
        if isinstance(failure, UnsupportedPython) and source != "native" and _pyspy_reads(program.pid):
            return
        status = program.status
        if status is not None:
            raise AttachError(
                f"the program ended (status {status}) before it could be looked at",
                "A program has to run for some tenths of a second to be seen.",
            )
        waited_s = time.monotonic() - begin
        limit_s = READY_TIMEOUT_S if isinstance(failure, NotPython) else REFUSAL_TIMEOUT_S
        if waited_s > limit_s:
            if isinstance(failure, UnsupportedPython) and source != "native":
                return  # the kernel's side can be seen; the sampler says why there is nothing of py-spy
            raise _final(failure, program.pid)
        if waited_s > REFUSAL_TIMEOUT_S and waited_s > next_look_s:
            next_look_s = waited_s + 1.0
            if python_children(program.pid):
                raise _final(failure, program.pid)
        time.sleep(READY_POLL_S if waited_s < 1.0 else 10 * READY_POLL_S)


def _pyspy_reads(pid: int) -> bool:
    from ftdiag.sources.tools import pyspy

    with suppress(pyspy.PySpyFailed):
        pyspy.probe(pid)
        return True
    return False


def _not_yet(pid: int) -> FtdiagError | None:
    """What prevents looking at the process now."""
    from ftdiag.sources.kernel.memory import RemoteMemory
    from ftdiag.sources.python.runtime import find_runtime

    memory = RemoteMemory(pid)
    try:
        runtime = find_runtime(pid, memory)
        head = memory.read_word(runtime.address + runtime.layout.runtime_interpreters_head)
        if head and memory.read_word(head + runtime.layout.interpreter_threads_head):
            return None
    except FtdiagError as error:
        return error
    return NotPython(f"the Python of process {pid} does not come up")


def _final(failure: FtdiagError, pid: int) -> FtdiagError:
    if not isinstance(failure, NotPython):
        return failure
    children = python_children(pid)
    if not children:
        return failure
    commands = "\n".join(f"ftdiag attach {child}" for child in children[:5])
    return NotPython(f"the program only started Python: {failure.what}", commands)
