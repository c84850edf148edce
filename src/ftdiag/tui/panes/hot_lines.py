"""The table of hot lines or functions: columns, order, what a capture of memray adds.

In: hot lines of a range. Out: a table.
"""

from __future__ import annotations

from collections.abc import Hashable

from rich.segment import Segment

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    Allocations,
    HotLine,
    StateGroup,
    ThreadState,
)
from ftdiag.tui.look import Look
from ftdiag.tui.statebar import bar
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.wording.places import long_place, place
from ftdiag.wording.states import STATE_NAMES
from ftdiag.wording.units import seconds

CHOSEN_STATES = frozenset({ThreadState.IDLE, ThreadState.SLEEP, ThreadState.IO, ThreadState.UNKNOWN})
"""States that are no claim on a core: a line is hot by the rest."""


@dataclass(frozen=True, slots=True)
class HotRow:
    """One line with its figures; ratios are of the range's length, so two busy threads make 2.0.

    `picked_ratio` is the time in the state that was picked to sort by.
    """

    hot: HotLine
    busy_ratio: float
    cpu_ratio: float
    picked_ratio: float = 0.0
    allocations_per_s: float | None = None
    allocated_bytes_per_s: float | None = None
    temporary_ratio: float | None = None


def hot_row(
    hot: HotLine,
    duration_ns: float,
    picked: ThreadState | None = None,
    capture: Allocations | None = None,
) -> HotRow:
    """The row of a line; `capture` is what its allocations are from."""
    busy = sum(time for state, time in hot.states_ns.items() if state not in CHOSEN_STATES)
    cpu = sum(time for state, time in hot.states_ns.items() if state.group is StateGroup.ON_CPU)
    length = max(1.0, duration_ns)
    chosen = 0.0 if picked is None else hot.states_ns.get(picked, 0.0) / length
    row = HotRow(hot=hot, busy_ratio=busy / length, cpu_ratio=cpu / length, picked_ratio=chosen)
    own = hot.allocations
    if own is None or capture is None:
        return row
    temporary = own.temporary / own.count if own.count and own.temporary is not None else None
    return replace(
        row,
        allocations_per_s=capture.per_second(own.count),
        allocated_bytes_per_s=capture.per_second(own.size_bytes),
        temporary_ratio=temporary,
    )


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


def _rate(value: float | None) -> str:
    """A rate in at most five cells: "1.9M", "38k", "12"."""
    if value is None:
        return ""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}" if value < 9.95 * limit else f"{value / limit:.0f}{unit}"
    return f"{value:.0f}"


ALLOCATION_COLUMNS: tuple[Column[HotRow], ...] = (
    text_column(
        "allocations",
        "alloc/s",
        8,
        lambda row: _rate(row.allocations_per_s),
        sort=lambda row: (row.allocations_per_s is not None, row.allocations_per_s or 0.0),
        right=True,
        descending=True,
    ),
    text_column(
        "temporary",
        "temp%",
        6,
        lambda row: "" if row.temporary_ratio is None else _percent(row.temporary_ratio),
        sort=lambda row: (row.temporary_ratio is not None, row.temporary_ratio or 0.0),
        right=True,
        descending=True,
        dispensable=5,
    ),
    text_column(
        "bytes",
        "B/s",
        6,
        lambda row: _rate(row.allocated_bytes_per_s),
        sort=lambda row: (row.allocated_bytes_per_s is not None, row.allocated_bytes_per_s or 0.0),
        right=True,
        descending=True,
        dispensable=6,
    ),
)
"""What a capture of memray adds: allocations per second, the temporary ones among them, bytes per second."""


class HotTable(Table[HotRow]):
    """The table of lines or functions."""

    def __init__(self) -> None:
        super().__init__("4", "Hot lines", COLUMNS, "busy", "hot-table")
        self.scope = ""
        self.picked: ThreadState | None = None
        self._with_allocations = False

    def key_of(self, row: HotRow) -> Hashable:
        """A line stays itself wherever it is in the order."""
        return row.hot.frame

    def searched_text(self, row: HotRow) -> str:
        """Function, file, line and states."""
        frame = row.hot.frame
        states = [
            f"{STATE_NAMES[state]} {state.label}" for state, time in row.hot.states_ns.items() if time > 0
        ]
        return "\n".join([frame.function, long_place(frame), *states])

    def caption(self, width: int, look: Look) -> list[Segment]:
        """Whose lines these are, and what else can be shown."""
        if self.scope:
            return [Segment(look.cut(f"of {look.safe(self.scope)} (Esc: all)", width), look.accent)]
        return [Segment(look.cut("m: lines, functions, call tree; x: sort by a state", width), look.muted)]

    def pick(self, state: ThreadState | None) -> None:
        """Show the time in one state as a column and sort by it; `None`: without."""
        self.picked = state
        if state is None:
            self.set_columns(self._own_columns)
            self.sort_on(COLUMNS[0])
            return
        column: Column[HotRow] = text_column(
            "picked",
            f"{STATE_NAMES[state]}%",
            len(STATE_NAMES[state]) + 2,
            lambda row: _percent(row.picked_ratio),
            sort=lambda row: row.picked_ratio,
            style=lambda _, look: look.strong,
            right=True,
            descending=True,
        )
        self.set_columns((column, *self._own_columns))
        self.sort_on(column)

    @property
    def _own_columns(self) -> tuple[Column[HotRow], ...]:
        if not self._with_allocations:
            return COLUMNS
        *figures, function, place_column = COLUMNS
        return (*figures, *ALLOCATION_COLUMNS, function, place_column)

    def show_allocations(self, known: bool) -> None:
        """Have columns for what the lines allocate, or not."""
        if known != self._with_allocations:
            self._with_allocations = known
            picked = [column for column in self.columns if column.key == "picked"]
            self.set_columns((*picked, *self._own_columns))


def by_function(lines: tuple[HotLine, ...]) -> tuple[HotLine, ...]:
    """The lines of one thread summed by function."""
    known: dict[tuple[str, str], HotLine] = {}
    for line in lines:
        key = (line.frame.filename, line.frame.function)
        before = known.get(key)
        if before is None:
            known[key] = replace(line, frame=replace(line.frame, line=None))
            continue
        states = dict(before.states_ns)
        for state, time in line.states_ns.items():
            states[state] = states.get(state, 0.0) + time
        known[key] = replace(
            before,
            total_ns=before.total_ns + line.total_ns,
            states_ns=states,
            stacks=before.stacks + line.stacks,
        )
    return tuple(known.values())
