"""The target and the recording's end in words.

In: plain values. Out: plain words; names of the target are made safe where they are painted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import EndReason

END_WORDS: Final[Mapping[EndReason, str]] = {
    EndReason.EXITED: "target exited",
    EndReason.KILLED: "target was killed",
    EndReason.EXECED: "target ran another program",
    EndReason.VANISHED: "target vanished",
    EndReason.DURATION: "requested duration reached",
    EndReason.STOPPED: "stopped",
    EndReason.DISK_FULL: "disk full",
    EndReason.FAILED: "recording failed",
}
"""Why the recording ended."""


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
