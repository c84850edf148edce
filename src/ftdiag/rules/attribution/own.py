"""The program's own line from which a library's line is reached.

In: facts, a line of a library. Out: `Own`, and all stacks with their time.
"""

from __future__ import annotations

from collections.abc import Iterator

from ftdiag.datatypes import dataclass
from ftdiag.model import PROGRAM, Frame, Stack
from ftdiag.rules.base import Facts, finite


@dataclass(frozen=True, slots=True)
class Own:
    """The program's own line from which most of a finding's time comes, and its share of that time."""

    frame: Frame
    share: float


def own_line(facts: Facts, filename: str, line: str | int | None) -> Own | None:
    """The innermost line of the program on the stacks that lead to a line, by most of their time."""
    spent: dict[Frame, float] = {}
    whole = 0.0
    for stack, time in stacks_of(facts):
        depth = next(
            (
                number
                for number, frame in enumerate(stack)
                if frame.filename == filename and (line is None or frame.line == line)
            ),
            None,
        )
        if depth is None:
            continue
        whole += time
        own = next((frame for frame in stack[depth:] if facts.target.whose(frame.filename) == PROGRAM), None)
        if own is not None:
            spent[own] = spent.get(own, 0.0) + time
    if not spent or whole <= 0:
        return None
    frame = max(spent, key=lambda each: spent[each])
    return Own(frame, spent[frame] / whole)


def stacks_of(facts: Facts) -> Iterator[tuple[Stack, float]]:
    """All stacks that are known, with their time."""
    for line in facts.hot:
        for stack, time in line.stacks:
            yield stack, finite(time)
    for lock in facts.locks:
        for waiter in lock.waiters:
            yield waiter.stack, finite(waiter.wait_ns)
    for pauses in facts.pauses:
        yield pauses.stack, finite(pauses.total_ns)
