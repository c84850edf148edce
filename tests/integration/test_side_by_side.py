"""Our reader of stacks beside the interpreter's own: threads that stand still at places they know."""

from __future__ import annotations

from pathlib import Path

from tools.provision.verification import Interpreter
from tools.side_by_side import THREADS, compare

STOPS = 120


def test_both_readers_read_what_the_program_says_of_itself(free_threaded_python: Interpreter) -> None:
    # GIVEN a program whose threads go by many ways to a line and wait there, a hundred times
    own_reader = free_threaded_python.series not in ("3.13", "3.14")

    # WHEN its stacks are read by our reader, and where there is one by the interpreter's own
    found = compare(Path(free_threaded_python.path), STOPS, alone=not own_reader)

    # THEN each stack is the one that the program told, line by line
    assert found.stacks == THREADS * STOPS
    assert found.ours == found.stacks, "\n".join(found.examples)
    # AND the other reader says the same
    if own_reader:
        assert (found.theirs, found.both, found.gave_up) == (found.stacks, found.stacks, 0)
    # AND they were not all alike
    assert found.frames > 12 * found.stacks
