"""Sums up a recording while it grows, so that it opens in a moment however long it is.

In: the path of a recording that a sampler writes. Out: summaries of its blocks of windows, added when it has
ended. Done by a thread that goes behind everything else, a block (four minutes) at a time, which takes 0.1
to 1 s of CPU time; shorter recordings are not touched. What fails leaves the recording as it is: it opens
all the same, later.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from ftdiag.errors import FtdiagError
from ftdiag.ownthreads import start_thread

FIRST_S: Final = 260.0
"""Before this there is no whole block: no need to import what makes one."""
EVERY_S: Final = 30.0
END_S: Final = 20.0
"""How long the end of a recording waits for the block that is being made, and the last one."""
MAX_BYTES: Final = 64 << 20
"""Of summaries that wait for the end of the recording."""
LOW_PRIORITY: Final = 10


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
            os.setpriority(os.PRIO_PROCESS, 0, LOW_PRIORITY)
        from ftdiag.commands.shortage import prepare_analysis

        # A full disk, a damaged file, too little memory: said by who writes or reads it for its own sake.
        with suppress(FtdiagError, OSError):
            prepare_analysis()
            sum_up(self._path, self._ended)


def sum_up(path: Path, ended: threading.Event) -> None:
    """Make the summary of each block when it is whole, until nothing more is written; then add them.

    Those whose windows a ring has dropped meanwhile are left out. Raises RecordingError, DiskFull.
    """
    from ftdiag.analysis.ranges import Ranges
    from ftdiag.recording.additions import put_summaries
    from ftdiag.recording.reader import Recording

    made: list[tuple[int, int, dict[str, bytes]]] = []
    size = next_id = 0
    with Recording.open(path) as recording:
        ranges = Ranges(recording)
        while size <= MAX_BYTES:
            last_look = ended.is_set()
            recording.refresh()
            start = int(recording.window_ids.searchsorted(next_id))
            for first, end, parts in ranges.blocks_to_store(start):
                next_id = int(recording.window_ids[end - 1]) + 1
                made.append((int(recording.window_ids[first]), next_id - 1, parts))
                size += sum(map(len, parts.values()))
            if last_look:
                break
            ended.wait(EVERY_S)
        oldest = int(recording.window_ids[0]) if len(recording) else 0
    ended.wait()
    put_summaries(
        path,
        (
            (last_id, name, blob)
            for first_id, last_id, parts in made
            if first_id >= oldest
            for name, blob in parts.items()
        ),
    )
