"""Charts of the HTML report: bars of states, the account of cores, columns.

In: figures. Out: HTML and SVG, in the colours of the states; each is read aloud as a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.model import (
    Metrics,
    ThreadState,
)
from ftdiag.reports.html_parts import escape
from ftdiag.wording import units
from ftdiag.wording.account import SAID_CORES, part_name
from ftdiag.wording.states import (
    BAR_ORDER,
    STATE_NAMES,
    STATE_OF_PART,
    split_words,
)

SHOWN_BARS: Final = 64
"""Columns of the concurrency chart; the last one has the rest."""


def bar_of(states: Mapping[ThreadState, float], whole: float, *, big: bool = False) -> str:
    """A bar in one line, split by state; read aloud as its shares."""
    pieces = "".join(
        f'<span style="width:{width:.2f}%;background:{colour_of(state)}"'
        f' title="{escape(STATE_NAMES[state])} {units.share(spent, whole)}"></span>'
        for state, spent in in_order(states)
        if (width := width_of(spent, whole)) >= 0.05
    )
    label = states_words(states, whole)
    return f'<div class="bar{" big" if big else ""}" role="img" aria-label="{label}">{pieces}</div>'


def legend(items: Iterable[tuple[ThreadState, str]], names: Mapping[ThreadState, str] = STATE_NAMES) -> str:
    entries = "".join(
        f'<li><span class="key" style="background:{colour_of(state)}"></span>'
        f"{escape(names[state])}: {value}</li>"
        for state, value in items
    )
    return f'<ul class="legend">{entries}</ul>'


def histogram(concurrency: Sequence[float]) -> str:
    """How many threads at once, as columns."""
    shares = [max(0.0, share) if math.isfinite(share) else 0.0 for share in concurrency]
    if len(shares) > SHOWN_BARS:
        shares = [*shares[: SHOWN_BARS - 1], sum(shares[SHOWN_BARS - 1 :])]
    width, height, gap = 640.0, 110.0, 3.0
    column = width / len(shares)
    top = max(shares) or 1.0
    every = 1 + len(shares) // 24
    parts = []
    for count, share in enumerate(shares):
        tall = height * share / top
        left = count * column
        more = " or more" if count == SHOWN_BARS - 1 else ""
        parts.append(
            f'<rect x="{left:.1f}" y="{height - tall + 14:.1f}" width="{max(1.0, column - gap):.1f}"'
            f' height="{tall:.1f}" style="fill:{colour_of(ThreadState.WORK)}">'
            f"<title>{count}{more} threads: {units.percent(share)}</title></rect>"
        )
        middle = left + (column - gap) / 2
        if count % every == 0:
            parts.append(f'<text x="{middle:.1f}" y="{height + 28:.0f}" text-anchor="middle">{count}</text>')
        if share >= 0.005 and len(shares) <= 24:
            parts.append(
                f'<text x="{middle:.1f}" y="{height - tall + 10:.1f}" text-anchor="middle">'
                f"{units.percent(share)}</text>"
            )
    label = ", ".join(
        f"{count} in {units.percent(share)}" for count, share in enumerate(shares) if share >= 0.005
    )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height + 34:.0f}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def account_bar(metrics: Metrics) -> str:
    """The account of cores as a bar as long as the capacity, with its legend."""
    parts = [(part, cores) for part, cores in metrics.account.items() if cores >= SAID_CORES]
    whole = sum(metrics.account.values())
    named = [(part, f"{escape(part_name(part, metrics))}: {cores:.2f} cores") for part, cores in parts]
    pieces = "".join(
        f'<span style="width:{width_of(cores, whole):.2f}%;background:{colour_of(STATE_OF_PART[part])}"'
        f' title="{text}"></span>'
        for (part, cores), (_, text) in zip(parts, named, strict=True)
    )
    entries = "".join(
        f'<li><span class="key" style="background:{colour_of(STATE_OF_PART[part])}"></span>{text}</li>'
        for part, text in named
    )
    label = "; ".join(text for _, text in named)
    return (
        f'<div class="bar big" role="img" aria-label="{label}">{pieces}</div>'
        f'<ul class="legend">{entries}</ul>'
    )


def states_words(states: Mapping[ThreadState, float], whole: float) -> str:
    return escape(split_words(states, whole))


def colour_of(state: ThreadState) -> str:
    """A state's colour; the style sheet has it for light and dark."""
    return f"var(--{state.label})"


def width_of(part: float, whole: float) -> float:
    """Percent of a bar, whatever the figures."""
    if not (whole > 0 and math.isfinite(whole) and math.isfinite(part)):
        return 0.0
    return min(100.0, max(0.0, 100.0 * part / whole))


def in_order(states: Mapping[ThreadState, float]) -> list[tuple[ThreadState, float]]:
    """In one order everywhere, so that bars can be compared."""
    return [(state, states[state]) for state in BAR_ORDER if states.get(state, 0.0) > 0]
