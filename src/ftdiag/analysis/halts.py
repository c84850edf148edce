"""Which windows of a range say something of the program: those in which nobody kept it from running.

In: the thread-time of each window by state; the rows of a range's thread-time. Out: positions of windows,
words. A program that was stopped looks as if it waited, and other programs had its cores: nothing is
concluded of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.grouping import Bools, Floats, group_by
from ftdiag.model import ThreadState
from ftdiag.recording.reader import Recording

HALTED_SHARE: Final = 0.02
"""A window with more of its thread-time halted than this says nothing of the program: 20 ms of a second."""
UNNAMED: Final = "halted from outside"


def halted_windows(states_ns: Floats) -> Bools:
    """Which windows are halted, from their thread-time by state (one row per window)."""
    halted: Bools = states_ns[:, ThreadState.HALTED] > HALTED_SHARE * states_ns.sum(axis=1)
    return halted


def ranges_without(touched: Sequence[bool], first: int) -> list[tuple[int, int]]:
    """The stretches that are not touched, as positions [begin, end); `touched[0]` is of position `first`."""
    ranges: list[tuple[int, int]] = []
    begin: int | None = None
    for offset, loud in enumerate([*touched, True]):
        if loud and begin is not None:
            ranges.append((first + begin, first + offset))
            begin = None
        elif not loud and begin is None:
            begin = offset
    return ranges


def halted_words(recording: Recording, time: ThreadTime) -> str:
    """What kept the program from running for most of the halted time of these rows."""
    rows = time.state == ThreadState.HALTED
    groups = group_by(time.wait[rows])
    totals = groups.total(time.time_ns[rows])
    most = int(groups.key(time.wait[rows])[int(np.argmax(totals))]) if len(totals) else 0
    wait = recording.wait(most)
    return UNNAMED if wait is None or wait.detail is None else wait.detail
