"""What the cockpit needs of a session, and which range of it is shown.

In: nothing. Out: the protocol `session.Session` satisfies, the ranges to choose from, and `View`, the one
frozen value that all widgets paint.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from ftdiag.model import Snapshot


class SnapshotSource(Protocol):
    """A recording that may still grow. All calls come from one thread at a time, never the view's own."""

    @property
    def live(self) -> bool:
        """True while more data may come."""

    def refresh(self) -> bool:
        """Read what is new; true if there is anything."""

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The picture of a range; `None` is the recording's own begin or end."""

    def span_ns(self) -> tuple[int, int] | None:
        """Begin and end of what is recorded; `None` before the first window."""

    def close(self) -> None:
        """Let go of the recording; the last call."""


class TimeRange(enum.Enum):
    """The ranges the view can show: a length in seconds counted back from the end, or all."""

    LAST_10_S = 10
    LAST_60_S = 60
    WHOLE = 0

    @property
    def words(self) -> str:
        """What the header says of it."""
        return "whole recording" if self is TimeRange.WHOLE else f"last {self.value} s"

    @property
    def next(self) -> TimeRange:
        """The range that the key changes to."""
        ranges = list(TimeRange)
        return ranges[(ranges.index(self) + 1) % len(ranges)]

    def bounds_ns(self, span_ns: tuple[int, int], until_ns: int | None) -> tuple[int | None, int | None]:
        """Begin and end of this range in a recording of this span, ending at `until_ns` when paused."""
        if self is TimeRange.WHOLE:
            return None, until_ns
        end_ns = span_ns[1] if until_ns is None else until_ns
        return max(span_ns[0], end_ns - self.value * 1_000_000_000), end_ns


@dataclass(frozen=True, slots=True)
class View:
    """All that is on the screen: the latest snapshot, and how it is looked at.

    `snapshot` is `None` until the first window arrives. `error` is the last refresh that failed, one line.
    """

    snapshot: Snapshot | None = None
    live: bool = False
    paused: bool = False
    range: TimeRange = TimeRange.WHOLE
    error: str | None = None
