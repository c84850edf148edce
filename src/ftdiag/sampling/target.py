"""The process that is looked at: what it is, whether it still is the same, and how it ended.

In: a pid. Out: its `Target`, and at the end an `End`.
"""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Final

from ftdiag import descriptors
from ftdiag.errors import MemoryReadError, NoSuchProcess, TargetGone
from ftdiag.model import End, EndReason, Target
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.exits import how_it_ended
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.tasks import living_task, proc_folder
from ftdiag.sources.python.runtime import Runtime, RuntimeState, runtime_state

LAST_THREADS_S: Final = 0.5
"""How long an exit is waited for when the threads are gone: the kernel takes them away first."""


class TargetProcess:
    """One process. `target` is what is known of it by now, `runtime` its interpreter, if that can be read.

    Raises NoSuchProcess and PermissionRefused on construction.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory = RemoteMemory(pid)
        stat = procfs.read_process_stat(pid)
        if living_task(pid) is None:
            raise NoSuchProcess(
                f"process {pid} has ended; it is a zombie that waits for its parent {stat.parent}",
                "ftdiag list   shows the Python processes",
            )
        try:
            self.pidfd = descriptors.open_process(pid)
        except ProcessLookupError:
            raise NoSuchProcess(
                f"process {pid} has ended", "ftdiag list   shows the Python processes"
            ) from None
        """Becomes readable when the process has ended."""
        self.same_namespace = procfs.shares_pid_namespace(pid)
        """Whether the target's own thread ids are the kernel's as we see them."""
        self.runtime: Runtime | None = None
        self._finalized = False
        """Whether its Python was found to be finalised at the last look."""
        self._identity = self._identify()
        capacity = procfs.capacity(pid)
        self.target = Target(
            pid=pid,
            start_ticks=stat.start_ticks,
            executable=procfs.read_executable(pid) or "?",
            command=procfs.read_command_line(pid),
            python_version="?",
            free_threaded=False,
            gil_enabled=None,
            capacity_cores=capacity.cores,
            capacity_reason=capacity.reason,
            capacity_quota=capacity.quota,
            environment=procfs.read_environment(pid),
            distribution=procfs.read_distribution(pid),
            machine=os.uname().machine,
        )

    def _identify(self) -> tuple[str | None, bytes]:
        """What exec changes while pid and start time stay: the executable, and where things were loaded."""
        try:
            auxiliary = Path(f"{proc_folder(self.pid)}/auxv").read_bytes()
        except OSError:
            auxiliary = b""
        return procfs.read_executable(self.pid), auxiliary

    def changed(self, now_ns: int) -> End | None:
        """The end of what was attached to, if the process is gone or has replaced itself; else `None`."""
        # Asked twice: a main thread that ends between two reads is no other program.
        if self._identify() == self._identity or self._identify() == self._identity:
            return self._without_python(now_ns)
        if self.exited(0.0):
            return self.gone(now_ns)
        command = procfs.read_new_command_line(self.pid)
        return End(EndReason.EXECED, f"the process replaced itself (exec): {command}", now_ns)

    def _without_python(self, now_ns: int) -> End | None:
        """The end of the look when the interpreter is not there any more, although the process is.

        A process that exits finalises its Python first: that must be so at two looks.
        """
        if self.runtime is None:
            return None
        try:
            state = runtime_state(self.memory, self.runtime)
        except (MemoryReadError, TargetGone):
            if self.exited(LAST_THREADS_S):
                return self.how_it_ended(now_ns)
            words = f"its library was unloaded ({self.runtime.image})"
            return End(EndReason.VANISHED, f"process {self.pid} has no Python any more: {words}", now_ns)
        before, self._finalized = self._finalized, state is RuntimeState.FINALIZED
        if not (before and self._finalized) or self.exited(0.0):
            return None
        words = "it was finalised (Py_FinalizeEx)"
        return End(EndReason.VANISHED, f"process {self.pid} has no Python any more: {words}", now_ns)

    def exited(self, wait_s: float) -> bool:
        """Whether the kernel has reported the exit, waiting so long for it."""
        return bool(select.select([self.pidfd], [], [], wait_s)[0])

    def changed_at_last(self, now_ns: int) -> End | None:
        """The same at the end of a look, which has no next one to see again that Python was finalised."""
        end = self.changed(now_ns)
        if end is None and self._finalized and not self.exited(LAST_THREADS_S):
            end = self.changed(now_ns)
        return end

    def gone(self, now_ns: int) -> End | None:
        """How a process ended whose threads or memory were found to be gone; `None`: it has not.

        A main thread that ends alone lets go of its memory some time before it shows as a zombie (do_exit in
        kernel/exit.c); then the others are what is read through.
        """
        if not self.exited(LAST_THREADS_S) and living_task(self.pid) is not None:
            return None
        return self.how_it_ended(now_ns)

    def how_it_ended(self, now_ns: int) -> End:
        """Reason and sentence of a process that has ended."""
        reason, detail = how_it_ended(self.pid, self.pidfd)
        return End(reason, detail, now_ns)

    def close(self) -> None:
        """Let go of the process."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
