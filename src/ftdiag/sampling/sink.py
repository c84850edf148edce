"""Where a sampler writes: what it needs of a recording.

In: frames, stacks and waits, which get ids; threads; windows. Out: nothing but the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ftdiag.model import Frame, Target, ThreadInfo, Wait, Window


class RecordingSink(Protocol):
    """What the sampler needs of a recording. All raise DiskFull and RecordingError."""

    def intern_frame(self, frame: Frame) -> int:
        """Id of a frame; the same frame has the same id."""
        ...

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """Id of a stack given by its frames' ids, root first."""
        ...

    def intern_wait(self, wait: Wait) -> int:
        """Id of a wait."""
        ...

    def put_thread(self, info: ThreadInfo) -> None:
        """What is known of a thread by now; replaces what was said of the one with that index before."""
        ...

    def update_target(self, target: Target) -> None:
        """What is known of the target by now."""
        ...

    def write_window(self, window: Window) -> None:
        """The next window; all ids in it were given out before."""
        ...
