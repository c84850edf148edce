"""What the header says of the target and of the recording's end, in words.

In: plain values. Out: plain words, no styles; names of the target are made safe where they are painted.
"""

from __future__ import annotations

from typing import Final

from ftdiag.model import EndReason
from ftdiag.units import cores


def whole_or_cores(value: float) -> str:
    """A number of cores without decimals where it has none: "2", "1.50"."""
    return str(int(value)) if value == int(value) else cores(value)


_END_WORDS: Final = {
    EndReason.EXITED: "target exited",
    EndReason.KILLED: "target was killed",
    EndReason.EXECED: "target ran another program",
    EndReason.VANISHED: "target vanished",
    EndReason.DURATION: "time is up",
    EndReason.STOPPED: "stopped",
    EndReason.DISK_FULL: "disk full",
    EndReason.FAILED: "recording failed",
}


def end_words(reason: EndReason) -> str:
    """Why the recording ended, in few words."""
    return _END_WORDS[reason]


def gil_words(free_threaded: bool, gil_enabled: bool | None, culprits: tuple[str, ...]) -> tuple[str, bool]:
    """The build and its GIL, and whether that is a reason for alarm."""
    if not free_threaded:
        return "GIL build", True
    if gil_enabled is None:
        return "free-threaded, GIL unknown", False
    if not gil_enabled:
        return "free-threaded, GIL off", False
    by = f" by {', '.join(culprits[:2])}" if culprits else ""
    return f"free-threaded, GIL ON{by}", True
