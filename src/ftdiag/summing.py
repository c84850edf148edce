"""Sums up a recording while it grows, so that it opens in a moment however long it is.

In: the path of a recording that a sampler writes. Out: summaries of its blocks of windows, each added when it
is whole: a recording whose recorder is killed lacks that of its last minutes. Done by a thread that goes
behind everything else, a block (four minutes) at a time, which takes 0.1 to 1 s of CPU time; shorter
recordings are not touched. What fails leaves the recording as it is: it opens all the same, later.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ftdiag.errors import FtdiagError
from ftdiag.ownthreads import start_thread

if TYPE_CHECKING:
    from pathlib import Path

FIRST_S: Final = 260.0
"""Before this there is no whole block: no need to import what makes one."""
EVERY_S: Final = 30.0
END_S: Final = 20.0
"""How long the end of a recording waits for the block that is being made, and the last one."""
LOW_PRIORITY: Final = 10


class Summing:
    """Follows the recording at `path` from now on; `prepare` is called before what reads it is imported."""

    def __init__(self, path: str | os.PathLike[str], prepare: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._prepare = prepare
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        with suppress(MemoryError):
            self._thread = start_thread(self._follow, "summing")

    def finish(self) -> None:
        """Call when nothing is written any more: what is missing is made and added."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_S)

    def _follow(self) -> None:
        if self._ended.wait(FIRST_S):
            return
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, LOW_PRIORITY)
        # A full disk, a damaged file, too little memory: said by who writes or reads it for its own sake.
        with suppress(FtdiagError, OSError):
            self._prepare()
            from pathlib import Path

            sum_up(Path(self._path), self._ended)


def sum_up(path: Path, ended: threading.Event) -> None:
    """Make the summary of each block when it is whole, and add it, until nothing more is written.

    A block of which a ring has dropped windows meanwhile is left out. Raises RecordingError, DiskFull.
    """
    from ftdiag.analysis.ranges import Ranges
    from ftdiag.recording.additions import put_summaries
    from ftdiag.recording.reader import Recording

    next_id = 0
    with Recording.open(path) as recording:
        ranges = Ranges(recording)
        while True:
            last_look = ended.is_set()
            recording.refresh()
            start = int(recording.window_ids.searchsorted(next_id))
            for first, end, parts in ranges.blocks_to_store(start):
                next_id = int(recording.window_ids[end - 1]) + 1
                put_summaries(path, int(recording.window_ids[first]), next_id - 1, parts)
            if last_look:
                break
            ended.wait(EVERY_S)
