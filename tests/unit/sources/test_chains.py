"""The compiled meaning of chains and that in Python are the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdiag.sources.python.chains import FrameOf, chains
from ftdiag.sources.python.walking import FrameMeaning

WORDS = st.integers(0, 2**64 - 1) | st.integers(1, 5)
CHAINS = st.lists(st.lists(st.tuples(st.integers(1, 6), WORDS), max_size=12), max_size=12)


class Frames:
    """Says what frames mean, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.stacks: dict[tuple[int, ...], int] = {}

    def frame(self, executable: int, instruction: int) -> FrameMeaning | None:
        self.asked.append((executable, instruction))
        if executable == 6:
            return None
        exits = tuple(range(8, 8 * (executable % 4), 8))
        return executable * 10 + instruction % 3, exits, (96,) if executable == 2 else ()

    def stack(self, frame_ids: list[int]) -> int:
        return self.stacks.setdefault(tuple(frame_ids), 100 + len(self.stacks))


@given(CHAINS, st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_both_are_the_same(found: list[list[tuple[int, int]]], forgotten: int) -> None:
    # GIVEN both
    sides = [(known := Frames(), chains(known.frame, known.stack, compiled=which)) for which in (False, True)]
    for number, pairs in enumerate(found):
        chain = tuple(word for pair in pairs for word in pair)
        meanings = []
        for _, meaning in sides:
            if number == forgotten:
                meaning.forget()
            meanings.append(meaning(chain))
        # THEN chains mean the same, and single frames were asked for once
        assert meanings[1] == meanings[0]
        assert sides[1][0].asked == sides[0][0].asked


def test_wrong_arguments() -> None:
    def frame(executable: int, instruction: int) -> FrameMeaning | None:
        return 1, (), ()

    meaning = chains(frame, lambda frame_ids: 100, compiled=True)
    assert meaning((1, 2)) == (100, (), ())
    for wrong in ((1,), (1, "x"), (-1, 2), tuple(range(20_000))):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            meaning(wrong)  # type: ignore[arg-type]
    answers: list[object] = [(1, 2), (1, (), 3), ("x", (), ()), (1, [], ()), 7]
    for answer in answers:
        odd: FrameOf = lambda executable, instruction, answer=answer: answer  # type: ignore[misc]  # noqa: E731
        with pytest.raises(TypeError):
            chains(odd, lambda frame_ids: 100, compiled=True)((1, 2))
