"""Two ranges side by side: the one that was marked, and the one that is shown.

In: two snapshots. Out: lines for a panel.
"""

from __future__ import annotations

from typing import Final

from rich.segment import Segment

from ftdiag.datatypes import dataclass
from ftdiag.model import Snapshot, ThreadState
from ftdiag.tui.lines import Lines, figure, heading, prose
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.queries import Drifted, Query, Range
from ftdiag.tui.source import View, clock
from ftdiag.wording.locks import lock_words
from ftdiag.wording.places import place_and_function
from ftdiag.wording.states import BAR_ORDER, STATE_NAMES
from ftdiag.wording.units import NOT_MEASURED, cores

MOST: Final = 12
MOST_NAME: Final = 70
"""Cells of a name at most."""
FIGURE: Final = 9
SAID_CORES: Final = 0.005


def compare_lines(
    marked: Snapshot,
    shown: Snapshot,
    start_ns: int,
    width: int,
    look: Look,
    drifted: Drifted | None = None,
) -> Lines:
    """The page; `drifted` where what was marked is a baseline, another recording."""
    # On a wide screen the figures stay near what they are of.
    name_room = min(MOST_NAME, max(12, width - 3 * FIGURE - 3))
    lines: Lines = _drift_lines(drifted, width, look)
    of_a = _range(marked, start_ns) if drifted is None else look.cut(f"all of {drifted.name}", width - 14)
    name_a = "A, marked" if drifted is None else "A, baseline"
    lines += [
        [Segment(" "), look.cell(name_a, 12, look.strong), Segment(of_a, look.text)],
        [Segment(" "), look.cell("B, shown", 12, look.strong), Segment(_range(shown, start_ns), look.text)],
    ]

    def title(text: str) -> None:
        lines.append([])
        lines.append(
            [
                look.cell(f" {text}", name_room, look.strong),
                *(look.cell(word, FIGURE, look.muted, right=True) for word in ("A", "B", "B - A")),
            ]
        )

    def row(name: str, before: float | None, after: float | None) -> None:
        change = "" if before is None or after is None else f"{after - before:+.2f}"
        lines.append(
            [
                look.cell(f" {name}", name_room, look.text),
                look.cell(_figure(before), FIGURE, look.text, right=True),
                look.cell(_figure(after), FIGURE, look.text, right=True),
                look.cell(change, FIGURE, look.accent, right=True),
            ]
        )

    one, two = marked.metrics, shown.metrics
    title("Cores")
    counted = marked.imported is None and shown.imported is None
    row("on CPU", one.on_cpu_cores if counted else None, two.on_cpu_cores if counted else None)
    row("useful", one.useful_cores, two.useful_cores)
    row("efficiency, of 1", one.efficiency_ratio, two.efficiency_ratio)
    row(
        STATE_NAMES[ThreadState.RUNNABLE],
        one.run_queue_cores if counted else None,
        two.run_queue_cores if counted else None,
    )
    title("Lost cores")
    for state in BAR_ORDER:
        before, after = one.lost_cores.get(state, 0.0), two.lost_cores.get(state, 0.0)
        if max(before, after) >= SAID_CORES:
            row(STATE_NAMES[state], before, after)
    title("Threads in a state, on average")
    for state in BAR_ORDER:
        before, after = _mean(marked, state), _mean(shown, state)
        if max(before, after) >= SAID_CORES:
            row(STATE_NAMES[state], before, after)
    title("Waiting for locks, threads on average")
    queues: dict[str, list[float]] = {}
    for place, picture in enumerate((marked, shown)):
        for lock in picture.locks[:MOST]:
            queues.setdefault(lock_words(lock.lock), [0.0, 0.0])[place] += lock.mean_queue
    for name, (before, after) in sorted(queues.items(), key=lambda item: -max(item[1]))[:MOST]:
        row(name, before, after)
    title("Hot lines, threads on average")
    busy: dict[str, list[float]] = {}
    for place, picture in enumerate((marked, shown)):
        duration = max(1, picture.metrics.duration_ns)
        for hot in picture.hot[: 2 * MOST]:
            busy.setdefault(place_and_function(hot.frame), [0.0, 0.0])[place] += hot.total_ns / duration
    for name, (before, after) in sorted(busy.items(), key=lambda item: -max(item[1]))[:MOST]:
        row(name, before, after)
    lines += heading("c marks another range; Esc goes back", width, look)
    return lines


def _drift_lines(drifted: Drifted | None, width: int, look: Look) -> Lines:
    """What is not as usual."""
    if drifted is None:
        return []
    calm = not drifted.figures and not drifted.causes
    lines: Lines = prose(f"Drift: {drifted.words}", width, look, look.good if calm else look.strong)
    for name, now, low, high, worse in drifted.figures[:MOST]:
        style = look.warning if worse else look.good
        words = f"{cores(now)}, usual {cores(low)} to {cores(high)}"
        lines += figure(name, words, width, look, style, room=40)
    for word, summary in drifted.causes[:MOST]:
        lines += figure(f"{word} finding", summary, width, look)
    return [*lines, []]


def _range(snapshot: Snapshot, start_ns: int) -> str:
    return f"{clock(snapshot.t0_ns - start_ns)} to {clock(snapshot.t1_ns - start_ns)} of the recording"


def _figure(value: float | None) -> str:
    return NOT_MEASURED if value is None else cores(value)


def _mean(snapshot: Snapshot, state: ThreadState) -> float:
    return snapshot.metrics.states_ns.get(state, 0.0) / max(1, snapshot.metrics.duration_ns)


@dataclass(frozen=True, slots=True)
class Drift(Query["Drifted | None"]):
    """What the range differs in from the baseline."""

    def answer(self, of: Range) -> Drifted | None:
        """Compare."""
        return None if of.baseline is None else of.baseline.drifted(of.snapshot)


def _title(view: View) -> str:
    return "Compare two ranges" if view.answers.of(Drift) is None else "Against the baseline"


def _lines(view: View, width: int, look: Look) -> Lines:
    if view.marked is None or view.snapshot is None:
        return [[look.cell(" no range is marked: c marks one", width, look.muted)]]
    drifted = view.answers.of(Drift)
    return compare_lines(view.marked, view.snapshot, view.start_ns, width, look, drifted)


PANE: Final = Pane(
    "compare",
    "Compare",
    lambda: TextPane("compare", "Compare", _lines, title_of=_title, queries=lambda _width: (Drift(),)),
)
