"""What the cockpit needs of a session, which range of it is shown, and the one value that all widgets paint.

In: nothing. Out: the protocol of a source, the range (`Selection`), and `View`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import Finding, Snapshot, ThreadMetrics
from ftdiag.tui.queries import Answers

if TYPE_CHECKING:
    # Brings numpy, which the first picture (without data) need not wait for.
    from ftdiag.session import Session

SECOND_NS: Final = 1_000_000_000
PRESETS: Final[tuple[int | None, ...]] = (10 * SECOND_NS, 60 * SECOND_NS, None)
"""Lengths of the ranges that one key goes through; `None`: the whole recording."""
LEAST_LENGTH_NS: Final = SECOND_NS
"""A window is a second long: a shorter range shows nothing else."""


class SnapshotSource(Protocol):
    """A recording that may still grow. All calls come from one thread at a time, never the view's own."""

    @property
    def live(self) -> bool:
        """True while more data may come."""

    @property
    def watches(self) -> bool:
        """Whether what it says of its process is of a look of ours, and not what a file says."""

    @property
    def failure(self) -> str | None:
        """Why nothing more comes, in one line, where that is not how a recording ends; else `None`."""

    @property
    def session(self) -> Session | None:
        """What answers questions about the range; `None` where there is only a picture."""

    def refresh(self) -> bool:
        """Read what is new; true if there is anything."""

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The picture of a range; `None` is the recording's own begin or end."""

    def span_ns(self) -> tuple[int, int] | None:
        """Begin and end of what is recorded; `None` before the first window."""

    def close(self) -> None:
        """Let go of the recording; the last call."""


def clock(value_ns: int) -> str:
    """A time of the recording: "1:05", "1:02:05"."""
    whole = max(0, value_ns) // SECOND_NS
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The range shown: a length (`None`: from the beginning) that ends at `until_ns` (`None`: now)."""

    length_ns: int | None = None
    until_ns: int | None = None

    @property
    def next_preset(self) -> Selection:
        """The next length of the presets, with the same end."""
        position = PRESETS.index(self.length_ns) + 1 if self.length_ns in PRESETS else 0
        return replace(self, length_ns=PRESETS[position % len(PRESETS)])

    def bounds_ns(self, span_ns: tuple[int, int]) -> tuple[int | None, int | None]:
        """Begin and end of the range in a recording of this span."""
        if self.length_ns is None:
            return None, self.until_ns
        end_ns = span_ns[1] if self.until_ns is None else self.until_ns
        return max(span_ns[0], end_ns - self.length_ns), end_ns

    def moved(self, direction: int, span_ns: tuple[int, int]) -> Selection:
        """Half a range earlier or later; beyond the end it follows the recording again.

        From a range that is the whole recording: its first half.
        """
        length = self._length(span_ns)
        end = span_ns[1] if self.until_ns is None else self.until_ns
        if self.until_ns is None and direction > 0:
            return self
        whole = span_ns[1] - span_ns[0]
        if self.until_ns is None and length >= whole and whole >= 2 * LEAST_LENGTH_NS:
            # All that there is is shown: back is its first half.
            return Selection(whole // 2, span_ns[0] + whole // 2)
        step = max(LEAST_LENGTH_NS, length // 2)
        end = max(span_ns[0] + min(length, span_ns[1] - span_ns[0]), end + direction * step)
        return Selection(self.length_ns) if end >= span_ns[1] else Selection(length, end)

    def scaled(self, factor: float, span_ns: tuple[int, int], around_ns: int | None = None) -> Selection:
        """A wider or narrower range with the same end, or around a time."""
        whole = span_ns[1] - span_ns[0]
        length = max(LEAST_LENGTH_NS, int(self._length(span_ns) * factor))
        if length >= whole and factor > 1:
            return Selection(None, self.until_ns)
        if around_ns is None:
            until = self.until_ns
            # At the beginning there is no more room before: it grows the other way.
            return Selection(length, until if until is None else max(until, span_ns[0] + length))
        end = max(span_ns[0] + length, around_ns + length // 2)
        return Selection(length, None if end >= span_ns[1] else end)

    def _length(self, span_ns: tuple[int, int]) -> int:
        """The length that is shown in fact."""
        begin, end = self.bounds_ns(span_ns)
        begin = span_ns[0] if begin is None else begin
        end = span_ns[1] if end is None else end
        if self.length_ns is not None and self.until_ns is None:
            return min(self.length_ns, max(LEAST_LENGTH_NS, span_ns[1] - span_ns[0]))
        return max(LEAST_LENGTH_NS, end - begin)

    def words(self, span_ns: tuple[int, int] | None) -> str:
        """What the header says of it: "last 60 s", "whole recording", "0:20-0:30 of 2:05"."""
        if self.until_ns is None or span_ns is None:
            return "whole recording" if self.length_ns is None else f"last {_short(self.length_ns)}"
        begin, _ = self.bounds_ns(span_ns)
        begin = span_ns[0] if begin is None else begin
        start = span_ns[0]
        return f"{clock(begin - start)}-{clock(self.until_ns - start)} of {clock(span_ns[1] - start)}"


def _short(length_ns: int) -> str:
    seconds = length_ns / SECOND_NS
    if seconds > 120:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.3g} s"


@dataclass(frozen=True, slots=True)
class View:
    """All that is on the screen: the latest snapshot, and how it is looked at.

    `snapshot` is `None` until the first window arrives. `error` is the last refresh that failed, one line.
    `read_ratio`: how much of the range is read, where the snapshot is of that much so far; else `None`.
    `marked` is the range that others are compared with. `thread` is the index of the thread that was chosen,
    `finding` the finding whose evidence is shown; `answers` are to what the panes asked besides.
    """

    snapshot: Snapshot | None = None
    live: bool = False
    paused: bool = False
    selection: Selection = Selection()
    span_ns: tuple[int, int] | None = None
    answers: Answers = Answers()
    marked: Snapshot | None = None
    error: str | None = None
    read_ratio: float | None = None
    thread: int | None = None
    finding: Finding | None = None

    @property
    def waiting(self) -> str:
        """Why nothing is on the screen yet."""
        return "reading ..." if self.error is None else "no data: the recording cannot be read"

    @property
    def start_ns(self) -> int:
        """The beginning of the recording, from which times are counted."""
        if self.span_ns is not None:
            return self.span_ns[0]
        return 0 if self.snapshot is None else self.snapshot.t0_ns

    @property
    def chosen_thread(self) -> ThreadMetrics | None:
        """The thread that was chosen, if it is in the range."""
        if self.snapshot is None or self.thread is None:
            return None
        return next((each for each in self.snapshot.threads if each.info.index == self.thread), None)
