"""What chains of frames mean, put together from what their frames mean.

In: (code object, instruction) words, who knows single frames, who numbers stacks. Out: `Meaning`s. A service
has thousands of chains, as each instruction of each frame makes another, of some hundred frames. There are
two of them: `Chains` of `tick/chains.c` is used, `PlainChains` is the same in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ftdiag.sources.compiled import COMPILED, tick
from ftdiag.sources.python.walking import FrameMeaning, Meaning

MAX_FRAMES: Final = 200_000
"""Instructions of code objects whose meaning is remembered; they are looked up anew beyond."""
MARKED_FRAMES: Final = 2
"""So many innermost frames of a stack can have a marked variable."""
FrameOf = Callable[[int, int], FrameMeaning | None]
"""A code object and an instruction of it to what they mean; `None` if they make no sense."""
StackOf = Callable[[list[int]], int]
"""Ids of frames, root first, to the number of their stack."""


class Chains(Protocol):
    """A `Resolve` that remembers frames."""

    def __call__(self, chain: tuple[int, ...], /) -> Meaning | None:
        """What a chain means; `None` if one of its frames makes no sense. Raises what those two raise."""
        ...

    def forget(self) -> None:
        """What frames mean has to be asked anew: code objects were replaced."""
        ...


def chains(frame: FrameOf, stack: StackOf, *, compiled: bool | None = None) -> Chains:
    """The compiled one where it was built, else the plain one; or the one that is asked for."""
    return (
        tick.Chains(frame, stack)
        if (COMPILED if compiled is None else compiled)
        else PlainChains(frame, stack)
    )


class PlainChains:
    """See `Chains`."""

    def __init__(self, frame: FrameOf, stack: StackOf) -> None:
        self._frame = frame
        self._stack = stack
        self._frames: dict[tuple[int, int], FrameMeaning] = {}

    def forget(self) -> None:
        """See Chains."""
        self._frames.clear()

    def __call__(self, chain: tuple[int, ...]) -> Meaning | None:
        """See Chains."""
        frame_ids = []
        exits: list[tuple[int, int]] = []
        marks: list[tuple[int, int]] = []
        for number, pair in enumerate(zip(chain[0::2], chain[1::2], strict=True)):
            frame = self._frames.get(pair) or self._ask(pair)
            if frame is None:
                return None
            frame_ids.append(frame[0])
            exits.extend([(number, offset) for offset in frame[1]])
            if number < MARKED_FRAMES:
                marks.extend([(number, offset) for offset in frame[2]])
        frame_ids.reverse()
        return self._stack(frame_ids), tuple(exits), tuple(marks)

    def _ask(self, pair: tuple[int, int]) -> FrameMeaning | None:
        frame = self._frame(*pair)
        if frame is not None:
            if len(self._frames) >= MAX_FRAMES:
                self._frames.clear()
            self._frames[pair] = frame
        return frame
