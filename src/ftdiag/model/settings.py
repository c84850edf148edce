"""How a recording was made, how it ended, and what was attached meanwhile.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum
from typing import Final

from ftdiag.datatypes import dataclass

NOBODY: Final = "none"
"""`RecordingSettings.source` where only the kernel was asked."""
IMPORTED: Final = "import"
"""`RecordingSettings.source` of what was made of another program's file."""


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """How a recording was made. `started_unix_ns` is wall-clock time of `started_ns`.

    `source` says who read the stacks: "native" (our reader), "py-spy", NOBODY, or IMPORTED.
    """

    rate_hz: float
    started_ns: int
    started_unix_ns: int
    ftdiag_version: str
    host: str
    source: str = "native"
    native: str | None = None
    """How machine code was sampled."""
    native_missing: str | None = None
    """Why it was not."""
    no_stacks: str | None = None
    """Why nobody read the stacks, where only the kernel was asked."""
    imported: str | None = None
    """The kind of file that the recording was made of, where ftdiag did not record it itself: that has no
    counters of the kernel."""

    @property
    def machine_code(self) -> str | None:
        """How machine code was sampled or why not, for people; `None` where nothing is known of it."""
        return self.native if self.native_missing is None else f"not measured: {self.native_missing}"


class EndReason(enum.Enum):
    """Why a recording ended. The value is stored."""

    EXITED = "exited"
    KILLED = "killed"
    EXECED = "execed"
    VANISHED = "vanished"
    DURATION = "duration"
    STOPPED = "stopped"
    DISK_FULL = "disk-full"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """How a recording ended: the reason, one sentence for people, and when."""

    reason: EndReason
    detail: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A time (on the recording's clock) in which ftdiag itself changed how the target ran.

    `what` names the instrument ("memray"). Its windows are left out of every figure of efficiency.
    """

    what: str
    begin_ns: int
    end_ns: int
