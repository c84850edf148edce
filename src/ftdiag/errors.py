"""Errors that a person can act on: what failed, why, and the next command to try.

In: nothing. Out: exception types; `commands` turns them into one message and an exit status.
"""

from __future__ import annotations

from typing import ClassVar, Final


class FtdiagError(Exception):
    """Something ftdiag was asked to do cannot be done.

    `what` says what failed and why in one sentence; `hint` is what to do next, as a sentence or a
    command (may span lines). `exit_status` follows the contract of the JSON report.
    """

    exit_status: ClassVar[int] = 3

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}\n{self.hint}"


MEMORY_HINT: Final = "ulimit -v   shows the limit of this shell, in KiB; try again in one without"
_MEMORY_WORDS: Final = (
    "failed to map segment",
    "cannot allocate memory",
    "out of memory",
    "cannot apply additional memory protection",
)
"""What the dynamic linker and the C library say of too little memory; in every language setting."""


def is_of_memory(words: str) -> bool:
    """Whether a library's or an interpreter's words say that there is not enough memory."""
    said = words.lower()
    return words.startswith("MemoryError") or any(each in said for each in _MEMORY_WORDS)


class UsageError(FtdiagError):
    """The command line makes no sense."""

    exit_status: ClassVar[int] = 2


class AttachError(FtdiagError):
    """The target cannot be attached to."""


class NoSuchProcess(AttachError):
    """There is no such process, or it is a zombie."""


class PermissionRefused(AttachError):
    """The kernel refuses to let us read the target."""


class NotPython(AttachError):
    """The process is not a CPython interpreter."""


class UnsupportedPython(AttachError):
    """A CPython whose memory layout we do not know."""


class TargetGone(AttachError):
    """The target ended or replaced itself (exec) while it was read."""


class PythonNotRunning(NotPython):
    """There is a CPython in the process, but no interpreter: not started yet, or finalised."""


class TargetSilent(AttachError):
    """A read of the target does not come back: somebody else is to bring its memory, and does not."""


class BudgetSpent(AttachError):
    """Reading the target would cost more than a look may: it is damaged, or made to be."""


class MemoryReadError(FtdiagError):
    """A read of the target's memory failed: the address is not mapped (any more)."""


class RecordingError(FtdiagError):
    """A file is not a recording, is damaged, or is of a newer schema."""


class DiskFull(FtdiagError):
    """The recording cannot grow: the disk is full. What was written stays readable."""
