"""A stretch of ticks at which nothing had to be concluded in Python.

In: when the next tick is due, and until when nobody needs to be asked. Out: the ticks that were taken. Most
of what a tick costs is Python that has to come into the caches again, a hundred times a second.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.sampling.threads import SampledThread, Tick


class Steady:
    """One stretch: what is asked for, and what came of it."""

    __slots__ = (
        "before_ns",
        "clock_ns",
        "due_ns",
        "files",
        "first",
        "goes_on",
        "last_ns",
        "late",
        "missed",
        "period_ns",
        "quiet",
        "ran",
        "slack_ns",
        "times",
    )

    def __init__(
        self,
        first: int,
        due_ns: int,
        period_ns: int,
        last_ns: int,
        slack_ns: int,
        before_ns: int,
        files: tuple[int, ...],
        *,
        quiet: bool,
    ) -> None:
        """`first` is the number of the first tick in its window, `before_ns` the time of the one before it.

        The stretch ends with the first tick at `last_ns` or later, when one of `files` can be read, and
        before one at which nobody ran, or, if it is `quiet`, somebody did. A tick is late by more than
        `slack_ns`.
        """
        self.first = first
        self.due_ns = due_ns
        self.period_ns = period_ns
        self.last_ns = last_ns
        self.slack_ns = slack_ns
        self.before_ns = before_ns
        self.files = files
        self.quiet = quiet
        self.times: list[int] = []
        """Of the ticks that were taken."""
        self.ran: Mapping[SampledThread, None] = {}
        """The threads that were looked at."""
        self.late = self.missed = 0
        self.clock_ns: int | None = None
        """The process's CPU clock at the tick at `last_ns`, beside those of its threads."""
        self.goes_on = False
        """Whether the next tick can be as steady as those before; else it is to be taken by somebody else."""

    @property
    def last(self) -> Tick:
        """The last one of those that were taken."""
        before_ns = self.times[-2] if len(self.times) > 1 else self.before_ns
        return Tick(self.first + len(self.times) - 1, self.times[-1], before_ns)
