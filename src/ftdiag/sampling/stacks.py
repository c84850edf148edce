"""The recording's table of stacks, for who reads them: also keeps what others need of new ones.

In: frames, and stacks of their ids. Out: ids; the innermost frame of each stack.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ftdiag.model import FIRST_STACK_ID, Frame
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sources.locks.waits import WaitReader


class Stacks:
    """The recording's table of stacks, which also tells the wait reader what new stacks look like."""

    def __init__(self, sink: RecordingSink, waits: WaitReader) -> None:
        self._sink = sink
        self._waits = waits
        self._frames: dict[int, Frame] = {}
        self.leaves = array("I")
        """Id of the innermost frame by stack id; 0 where there is none."""

    def intern_frame(self, frame: Frame) -> int:
        """Id of a frame."""
        frame_id = self._sink.intern_frame(frame)
        self._frames[frame_id] = frame
        return frame_id

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """Id of a stack given by its frames' ids, root first."""
        stack = self._sink.intern_stack(frame_ids)
        self._waits.learn_stack(stack, [self._frames[frame_id] for frame_id in reversed(frame_ids[-12:])])
        if stack >= FIRST_STACK_ID:
            if stack >= len(self.leaves):
                self.leaves.extend(bytes(stack + 1 - len(self.leaves)))
            self.leaves[stack] = frame_ids[-1]
        return stack
