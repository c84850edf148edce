"""What a thread that is off its core waits for.

In: its line of /proc/PID/task/TID/syscall and its Python stack. Out: a state of the closed set and a
`Wait` for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ftdiag.model import Frame, ThreadState, Wait
from ftdiag.sources.memory import RemoteMemory
from ftdiag.sources.procfs import DescriptorNames
from ftdiag.sources.runtime import Runtime
from ftdiag.sources.syscalls import (
    BlockedCall,
    Blocking,
    SyscallInfo,
    parse_syscall_line,
    syscall_table,
)

MAX_PARSED_LINES: Final = 4096


@dataclass(frozen=True, slots=True)
class Blocked:
    """A blocked thread: the call and what kind it is (`None`: not in the table)."""

    call: BlockedCall
    info: SyscallInfo | None


class WaitReader:
    """Classifies the waits of one target."""

    def __init__(self, pid: int, memory: RemoteMemory, runtime: Runtime) -> None:
        self._memory = memory
        self._layout = runtime.layout
        self._table = syscall_table()
        self._descriptors = DescriptorNames(pid)
        self._parsed: dict[bytes, Blocked | None] = {}

    def learn_stack(self, stack: int, frames: Sequence[Frame]) -> None:
        """Told of every new stack: its innermost frames, leaf first."""

    def parse(self, line: bytes) -> Blocked | None:
        """`None` for a thread that runs or wants to; unreadable lines count as an unknown wait."""
        if line in self._parsed:
            return self._parsed[line]
        try:
            call = parse_syscall_line(line)
        except (ValueError, IndexError):
            call = BlockedCall(-1, ())
        blocked = None if call is None else Blocked(call, self._table.get(call.number))
        if len(self._parsed) >= MAX_PARSED_LINES:
            self._parsed.clear()
        self._parsed[line] = blocked
        return blocked

    def classify(self, blocked: Blocked, stack: int) -> tuple[ThreadState, Wait | None]:
        """State and wait of a blocked thread with the given Python stack."""
        info = blocked.info
        if info is None:
            if blocked.call.number < 0:
                return ThreadState.UNKNOWN, Wait(None, "blocked in the kernel outside a system call")
            return ThreadState.UNKNOWN, Wait(f"syscall {blocked.call.number}")
        if info.blocking is Blocking.SLEEP:
            return ThreadState.SLEEP, Wait(info.name)
        if info.blocking is Blocking.IO:
            return ThreadState.IO, Wait(info.name, self._descriptor(blocked.call, info))
        if info.blocking in (Blocking.READINESS, Blocking.SIGNAL_OR_CHILD):
            return ThreadState.IDLE, Wait(info.name)
        return ThreadState.UNKNOWN, Wait(info.name)

    def _descriptor(self, call: BlockedCall, info: SyscallInfo) -> str | None:
        if info.descriptor_argument is None:
            return None
        return self._descriptors.describe(call.arguments[info.descriptor_argument] & 0x7FFFFFFF)
