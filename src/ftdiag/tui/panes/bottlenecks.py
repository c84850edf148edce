"""What to fix first: what waiting ends at, who waits for whom, and the lines that the user waits for.

In: a snapshot. Out: lines for a panel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.segment import Segment

from ftdiag.model import Bottlenecks, LockRef, Snapshot
from ftdiag.tui.lines import Lines, heading, numbered, prose
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.source import View
from ftdiag.wording.bottlenecks import (
    cost_words,
    end_words,
    lock_words,
    ranking_words,
    role_words,
    title_words,
    worth_saying,
)
from ftdiag.wording.locks import names_of
from ftdiag.wording.places import place_and_function
from ftdiag.wording.units import percent, seconds

MOST_RANKED: Final = 12
MOST_PLACES: Final = 3
MOST_EDGES: Final = 14
MOST_LINES: Final = 12
BAR: Final = 20
TIME_CELLS: Final = 11
"""As wide as "12 min 30 s"."""
LEAST_SHARE: Final = 0.01


def bottleneck_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """The pane."""
    found = snapshot.bottlenecks
    if found is None or found.not_told is not None:
        why = "not known of this range" if found is None or found.not_told is None else found.not_told
        return prose(look.safe(why), width, look, look.muted)
    lines = heading("Fix this first", width, look)[1:]
    ranked = worth_saying(found)
    if not ranked:
        lines += prose("nobody waits for anything that costs a core", width, look, look.muted)
    for number, one in enumerate(ranked[:MOST_RANKED], 1):
        lines += numbered(number, title_words(one, look.safe, place_and_function), width, look)
        lines += prose(cost_words(one), width, look, indent=4)
        whole = sum(place.wait_ns for place in one.places) or 1.0
        for place in one.places[:MOST_PLACES]:
            text = f"{percent(place.wait_ns / whole)} {end_words(place, look.safe, place_and_function)}"
            lines += prose(text, width, look, look.muted, indent=4)
    differs = ranking_words(snapshot, look.safe)
    if differs is not None:
        lines += prose(differs, width, look, look.muted)
    lines += _graph(found, names_of(snapshot.locks), width, look)
    lines += _wall(snapshot, width, look)
    return lines


def _graph(found: Bottlenecks, names: Mapping[LockRef, str], width: int, look: Look) -> Lines:
    """Who waits for what, held by whom; threads whose names differ by their number are one."""
    total: dict[tuple[str, str, str], float] = {}
    for edge in found.edges:
        holder = "not known" if edge.holder is None else role_words(edge.holder)
        lock = names.get(edge.lock) or lock_words(edge.lock)
        key = role_words(edge.waiter), lock, holder
        total[key] = total.get(key, 0.0) + edge.wait_ns
    whole = sum(total.values())
    if whole <= 0:
        return []
    lines = heading("Who waits for whom", width, look)
    for (waiter, lock, holder), spent in sorted(total.items(), key=lambda row: -row[1])[:MOST_EDGES]:
        filled = round(BAR * spent / whole)
        bar = ("#" if look.ascii_only else "█") * filled
        text = look.cut(look.safe(f"{waiter} > {lock} > {holder}"), max(8, width - BAR - TIME_CELLS - 3))
        lines.append(
            [
                look.cell(seconds(spent), TIME_CELLS, look.text, right=True),
                Segment(" "),
                look.cell(bar, BAR, look.accent),
                Segment(" "),
                Segment(text, look.text),
            ]
        )
    return lines


def _wall(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """Lines by their part of the wall time."""
    duration = snapshot.metrics.duration_ns
    timed = [line for line in snapshot.hot if line.wall_ns is not None and line.wall_ns > 0]
    if duration <= 0 or not timed:
        return []
    lines = heading("What is waited for: lines by their part of the wall time", width, look)
    whole = sum(snapshot.metrics.states_ns.values()) or 1.0
    for line in sorted(timed, key=lambda one: -(one.wall_ns or 0.0))[:MOST_LINES]:
        part = (line.wall_ns or 0.0) / duration
        if part < LEAST_SHARE:
            break
        of_thread_time = percent(line.total_ns / whole)
        number = "" if line.frame.line is None else f":{line.frame.line}"
        place = f"{line.frame.filename.rpartition('/')[2]}{number}"
        text = look.cut(look.safe(f"{line.frame.function} ({place})"), max(8, width - 40))
        lines.append(
            [
                look.cell(percent(part), 7, look.strong, right=True),
                look.cell(f"  ({of_thread_time} of thread-time)  ", 29, look.muted),
                Segment(text, look.text),
            ]
        )
    return lines


def _lines(view: View, width: int, look: Look) -> Lines:
    assert view.snapshot is not None
    return bottleneck_lines(view.snapshot, width, look)


PANE: Final = Pane(
    "bottlenecks",
    "Fix first",
    lambda: TextPane("bottlenecks", "8 Fix first", _lines),
    "8",
    short="Fix",
    about="fix first: where waits end, who waits for whom, wall time",
)
