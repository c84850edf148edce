"""Early turns that were lost, asked for again.

In: how the kernel schedules us, at the end of each window. Out: `go_first` once more, a few times at most.

A sampler that works for long without a pause steps back (sources.kernel.scheduling). That guards against a
fault of ours that would go on for ever; but the first look at a thousand threads is long, too. Who stepped
back for that would miss ticks from then on wherever the cores are busy.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from ftdiag.sources.kernel.scheduling import go_first

MOST_RETURNS: Final = 3


def is_first() -> bool:
    """Whether the calling thread is scheduled before ordinary ones."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER


class EarlyTurns:
    """Of the calling thread, as it had them when this was made."""

    def __init__(self, first: Callable[[], bool] = is_first, ask: Callable[[], object] = go_first) -> None:
        self._first = first
        self._ask = ask
        self._left = MOST_RETURNS if first() else 0

    def keep(self) -> None:
        """Ask for them again if they were lost."""
        if self._left and not self._first():
            self._left -= 1
            self._ask()
