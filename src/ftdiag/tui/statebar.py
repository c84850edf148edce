"""The 100 % bar of states.

In: time by state. Out: segments of an exact width, each state with its sign and colour; and the legend.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rich.segment import Segment

from ftdiag.model import ThreadState
from ftdiag.tui.look import Look
from ftdiag.wording.states import BAR_ORDER, STATE_NAMES


def shares(states_ns: Mapping[ThreadState, float], width: int) -> list[tuple[ThreadState, int]]:
    """Cells by state: they add up to `width`, by largest remainder. Empty when there is no time at all."""
    times = [(state, time) for state in BAR_ORDER if (time := states_ns.get(state, 0.0)) > 0]
    total = sum(time for _, time in times)
    if total <= 0 or width <= 0:
        return []
    exact = [(state, time * width / total) for state, time in times]
    cells = {state: int(value) for state, value in exact}
    missing = width - sum(cells.values())
    for state, _ in sorted(exact, key=lambda item: int(item[1]) - item[1])[: max(0, missing)]:
        cells[state] += 1
    return [(state, cells[state]) for state, _ in exact if cells[state]]


def bar(states_ns: Mapping[ThreadState, float], width: int, look: Look) -> list[Segment]:
    """The bar as segments of exactly `width` cells."""
    parts = shares(states_ns, width)
    if not parts:
        return [Segment(" " * max(0, width))]
    return [Segment(look.sign(state) * cells, look.state_styles[state]) for state, cells in parts]


def legend(states: Collection[ThreadState], look: Look, width: int) -> list[Segment]:
    """Signs and words of the given states, as many as fit in `width`."""
    segments: list[Segment] = []
    for state in BAR_ORDER:
        if state not in states:
            continue
        word = f" {STATE_NAMES[state]}  "
        if len(word) + 1 > width:
            break
        width -= len(word) + 1
        segments += [Segment(look.sign(state), look.state_styles[state]), Segment(word)]
    return segments
