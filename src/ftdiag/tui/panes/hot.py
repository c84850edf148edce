"""The hot lines pane: where thread-time goes by line, and the commonest stacks of the line under the cursor.

In: a `View` and, where one was chosen, a thread. Out: a table with a panel of stacks.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Container

from ftdiag.model import HotLine, StateGroup, ThreadMetrics, ThreadState
from ftdiag.tui.lines import Lines, LinesPanel
from ftdiag.tui.look import STATE_WORDS, Look
from ftdiag.tui.panes.places import shares_place
from ftdiag.tui.panes.stacks import long_place, place, stacks_lines
from ftdiag.tui.source import View
from ftdiag.tui.statebar import bar
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.units import seconds

CHOSEN_STATES = frozenset({ThreadState.IDLE, ThreadState.SLEEP, ThreadState.IO, ThreadState.UNKNOWN})
"""States that are no claim on a core: a line is hot by the rest."""


@dataclass(frozen=True, slots=True)
class HotRow:
    """One line with its figures; ratios are of the range's length, so two busy threads make 2.0."""

    hot: HotLine
    busy_ratio: float
    cpu_ratio: float


def hot_row(hot: HotLine, duration_ns: float) -> HotRow:
    """The row of a line."""
    busy = sum(time for state, time in hot.states_ns.items() if state not in CHOSEN_STATES)
    cpu = sum(time for state, time in hot.states_ns.items() if state.group is StateGroup.ON_CPU)
    length = max(1.0, duration_ns)
    return HotRow(hot=hot, busy_ratio=busy / length, cpu_ratio=cpu / length)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f}"


def _paint_bar(row: HotRow, width: int, look: Look) -> list[Segment]:
    return bar(row.hot.states_ns, width, look)


def _paint_place(row: HotRow, width: int, look: Look) -> list[Segment]:
    frame = row.hot.frame
    full = look.safe(long_place(frame))
    text = look.cut_start(full if len(full) <= width else place(frame), width)
    return [look.cell(text, width)]


COLUMNS: tuple[Column[HotRow], ...] = (
    text_column(
        "busy",
        "busy%",
        6,
        lambda row: _percent(row.busy_ratio),
        sort=lambda row: (row.busy_ratio, row.hot.total_ns),
        style=lambda row, look: look.strong if row.busy_ratio >= 0.5 else None,
        right=True,
        descending=True,
    ),
    text_column(
        "cpu",
        "CPU%",
        5,
        lambda row: _percent(row.cpu_ratio),
        sort=lambda row: row.cpu_ratio,
        right=True,
        descending=True,
        dispensable=2,
    ),
    Column(
        key="states",
        title="states",
        least=8,
        most=20,
        grow=1,
        sort=lambda row: row.busy_ratio - row.cpu_ratio,
        paint=_paint_bar,
        descending=True,
        dispensable=1,
    ),
    text_column(
        "time",
        "time",
        11,
        lambda row: seconds(row.hot.total_ns),
        sort=lambda row: row.hot.total_ns,
        right=True,
        descending=True,
        dispensable=4,
    ),
    text_column(
        "threads",
        "thr",
        4,
        lambda row: str(row.hot.threads),
        sort=lambda row: row.hot.threads,
        right=True,
        descending=True,
        dispensable=3,
    ),
    text_column("function", "function", 12, lambda row: row.hot.frame.function, grow=2, most=36),
    Column(
        key="place",
        title="file:line",
        least=14,
        grow=3,
        sort=lambda row: (row.hot.frame.filename, row.hot.frame.line or 0),
        paint=_paint_place,
    ),
)


class HotTable(Table[HotRow]):
    """The table of lines."""

    def __init__(self) -> None:
        super().__init__("2", "Hot lines", COLUMNS, "busy", "hot-table")
        self.scope = ""
        self.locks = 0

    def key_of(self, row: HotRow) -> Hashable:
        """A line stays itself wherever it is in the order."""
        return row.hot.frame

    def searched_text(self, row: HotRow) -> str:
        """Function, file, line and states."""
        frame = row.hot.frame
        states = [
            f"{STATE_WORDS[state][0]} {state.label}" for state, time in row.hot.states_ns.items() if time > 0
        ]
        return "\n".join([frame.function, long_place(frame), *states])

    def caption(self, width: int, look: Look) -> list[Segment]:
        """Whose lines these are, and how to get at the pane that shares the place."""
        if self.scope:
            return [Segment(look.cut(f"of {look.safe(self.scope)} (Esc: all)", width), look.accent)]
        if not self.locks or not shares_place(self):
            return []
        return [Segment(look.cut(f"3 locks: {self.locks}", width), look.muted)]


class HotPane(Container):
    """The table and its stacks."""

    def __init__(self) -> None:
        super().__init__(id="hot")
        self._table = HotTable()
        self._stacks = LinesPanel("Stacks", "stacks")

    def compose(self) -> ComposeResult:
        """Side by side, or one above the other: the style sheet says which."""
        yield self._table
        yield self._stacks

    def show_view(self, view: View, thread: ThreadMetrics | None) -> None:
        """Take the lines of a view: all, or those of one thread."""
        snapshot = view.snapshot
        self._table.locks = len(snapshot.locks) if snapshot else 0
        if snapshot is None:
            self._table.scope = ""
            self._table.show_rows([])
            return
        self._table.scope = "" if thread is None else thread.info.name or str(thread.info.tid)
        self._table.empty_text = "no Python lines in this range"
        lines = snapshot.hot if thread is None else thread.hot
        duration = snapshot.metrics.duration_ns if thread is None else thread.alive_ns
        self._table.show_rows([hot_row(hot, duration) for hot in lines])

    def on_table_moved(self, event: Table.Moved) -> None:
        """Show the stacks of the line under the cursor."""
        event.stop()
        row = self._table.current
        if row is None:
            self._stacks.show_lines("Stacks", lambda _width, _look: [])
            return
        hot = row.hot

        def make(width: int, look: Look) -> Lines:
            return stacks_lines(hot.stacks, hot.total_ns, width, look)

        self._stacks.show_lines(f"Stacks of {place(hot.frame)}", make)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Go to the stacks, to scroll them."""
        event.stop()
        if self._stacks.size.width:
            self._stacks.focus()
