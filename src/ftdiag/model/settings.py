"""How a recording was made, how it ended, and what was attached meanwhile.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum
from typing import Final

from ftdiag.datatypes import dataclass

IMPORTED_PREFIX: Final = "import: "
"""`RecordingSettings.source` of a recording that was made of another program's file begins with this."""
NO_STACKS_PREFIX: Final = "none: "
"""`RecordingSettings.source` where nobody read the stacks begins with this; the reason follows."""


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """How a recording was made. `started_unix_ns` is wall-clock time of `started_ns`.

    `native` says how machine code was sampled, or why it was not (beginning with "not measured: ").
    `source` says who read the stacks: "native" (our reader), "py-spy", NO_STACKS_PREFIX and the reason where
    only the kernel was asked, or IMPORTED_PREFIX and the kind of file: that has no counters of the kernel.
    """

    rate_hz: float
    started_ns: int
    started_unix_ns: int
    ftdiag_version: str
    host: str
    source: str = "native"
    native: str | None = None

    @property
    def imported(self) -> str | None:
        """The kind of file that the recording was made of, where ftdiag did not record it itself."""
        return self.source[len(IMPORTED_PREFIX) :] if self.source.startswith(IMPORTED_PREFIX) else None

    @property
    def no_stacks(self) -> str | None:
        """Why nobody read the stacks; `None` if somebody did."""
        return self.source[len(NO_STACKS_PREFIX) :] if self.source.startswith(NO_STACKS_PREFIX) else None


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
class Intrusion:
    """A time (on the recording's clock) in which ftdiag itself changed how the target ran.

    `what` names the instrument ("memray"). Its windows are left out of every figure of efficiency.
    """

    what: str
    begin_ns: int
    end_ns: int
