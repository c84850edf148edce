"""Sums up a recording while it grows, so that it opens in a moment however long it is.

In: the path of a recording that a sampler writes. Out: summaries of its blocks of windows, added when it has
ended. Done by a thread that goes behind everything else, a block (two minutes) at a time, which takes 0.05
to 0.7 s of CPU time; shorter recordings are not touched. What fails leaves the recording as it is: it opens
all the same, later.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ftdiag.errors import FtdiagError
from ftdiag.ownthreads import start_thread

if TYPE_CHECKING:
    from ftdiag.analysis.ranges import Ranges
    from ftdiag.recording.reader import Recording

FIRST_S: Final = 135.0
"""Before this there is no whole block: no need to import what makes one."""
EVERY_S: Final = 30.0
END_S: Final = 20.0
"""How long the end of a recording waits for the block that is being made, and the last one."""
MAX_BYTES: Final = 64 << 20
"""Of summaries that wait for the end of the recording."""
LEAST_PRIORITY: Final = 19


class Summing:
    """Follows the recording at `path` from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        with suppress(MemoryError):
            self._thread = start_thread(self._follow, "summing")

    def finish(self) -> None:
        """Call when nothing is written any more: what is missing is made and everything added."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_S)

    def _follow(self) -> None:
        if self._ended.wait(FIRST_S):
            return
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, LEAST_PRIORITY)
        from ftdiag.commands.shortage import prepare_analysis

        # A full disk, a damaged file, too little memory: said by who writes or reads it for its own sake.
        with suppress(FtdiagError, OSError):
            prepare_analysis()
            from ftdiag.analysis.ranges import Ranges
            from ftdiag.recording.reader import Recording

            with Recording.open(self._path) as recording:
                _sum_up(recording, Ranges(recording), self._ended)


def _sum_up(recording: Recording, ranges: Ranges, ended: threading.Event) -> None:
    """Make the summary of each block when it is whole; add them at the end if their windows are there."""
    from ftdiag.recording.additions import put_summaries

    made: list[tuple[int, int, dict[str, bytes]]] = []
    size = next_id = 0
    while True:
        last_look = ended.is_set()
        recording.refresh()
        first = int(recording.window_ids.searchsorted(next_id))
        for first_position, end, parts in ranges.blocks_to_store(first):
            next_id = int(recording.window_ids[end - 1]) + 1
            made.append((int(recording.window_ids[first_position]), next_id - 1, parts))
            size += sum(map(len, parts.values()))
            if size > MAX_BYTES:
                return
        if last_look:
            break
        ended.wait(EVERY_S)
    oldest = int(recording.window_ids[0]) if len(recording) else 0
    put_summaries(
        recording.path,
        (
            (last_id, name, blob)
            for first_id, last_id, parts in made
            if first_id >= oldest
            for name, blob in parts.items()
        ),
    )
