"""The hot code pane: thread-time by line, function or as a call tree; source and stacks of what is chosen.

In: a `View` and, where one was chosen, a thread. Out: tables with a panel of source text and one of stacks.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    Allocations,
    Confidence,
    Frame,
    HotLine,
    Pauses,
    Snapshot,
    StateGroup,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.tui.lines import Lines, LinesPanel, wrapped
from ftdiag.tui.look import Look
from ftdiag.tui.panes.stacks import stacks_lines
from ftdiag.tui.source import View
from ftdiag.tui.sourcetext import SourceLines
from ftdiag.tui.statebar import bar
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.wording.places import long_place, place
from ftdiag.wording.states import BAR_ORDER, STATE_NAMES
from ftdiag.wording.units import percent, plural, seconds

if TYPE_CHECKING:
    from ftdiag.session import CallNode

CHOSEN_STATES = frozenset({ThreadState.IDLE, ThreadState.SLEEP, ThreadState.IO, ThreadState.UNKNOWN})
"""States that are no claim on a core: a line is hot by the rest."""


class Mode(enum.Enum):
    """What the rows are."""

    LINES = "lines"
    FUNCTIONS = "functions"
    TREE = "call tree"

    @property
    def next(self) -> Mode:
        """The one that the key changes to."""
        modes = list(Mode)
        return modes[(modes.index(self) + 1) % len(modes)]


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
"""What a capture of memray adds: allocations a second, the temporary ones among them, bytes a second."""


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


# --- the call tree -----------------------------------------------------------------------------------------

LEAST_SHARE: Final = 0.005
"""Functions below this share of all thread-time are left out of the tree."""
MAX_TREE_ROWS: Final = 400


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A function called from the one above that is indented less. `offset` and `share` are of the whole."""

    position: int
    depth: int
    node: CallNode
    offset: float
    share: float
    path: tuple[tuple[str, str], ...]


def tree_rows(nodes: tuple[CallNode, ...]) -> list[TreeRow]:
    """The tree as rows, callers before what they call, the largest first."""
    whole = sum(node.total_ns for node in nodes)
    if whole <= 0:
        return []
    rows: list[TreeRow] = []
    for node, depth, offset, path in _walk(nodes, 0, 0.0, ()):
        if node.total_ns / whole < LEAST_SHARE:
            continue
        rows.append(TreeRow(len(rows), depth, node, offset / whole, node.total_ns / whole, path))
        if len(rows) >= MAX_TREE_ROWS:
            break
    return rows


def _walk(
    nodes: tuple[CallNode, ...], depth: int, offset: float, path: tuple[tuple[str, str], ...]
) -> Iterator[tuple[CallNode, int, float, tuple[tuple[str, str], ...]]]:
    for node in nodes:
        here = (*path, (node.frame.filename, node.frame.function))
        yield node, depth, offset, here
        yield from _walk(node.children, depth + 1, offset, here)
        offset += node.total_ns


def _paint_icicle(row: TreeRow, width: int, look: Look) -> list[Segment]:
    begin = min(width - 1, int(row.offset * width))
    cells = max(1, min(width - begin, round(row.share * width)))
    rest = width - begin - cells
    return [Segment(" " * begin), *bar(row.node.states_ns, cells, look), Segment(" " * rest)]


def _paint_call(row: TreeRow, width: int, look: Look) -> list[Segment]:
    indent = min(row.depth, max(0, width // 2))
    name = look.safe(row.node.frame.function)
    return [look.cell(" " * indent + name, width, look.strong if row.node.self_ns > 0 else look.text)]


TREE_COLUMNS: tuple[Column[TreeRow], ...] = (
    Column(
        key="icicle",
        title="share of time",
        least=16,
        grow=2,
        sort=lambda row: row.position,
        paint=_paint_icicle,
    ),
    text_column(
        "total", "total", 6, lambda row: percent(row.share), sort=lambda row: row.position, right=True
    ),
    text_column(
        "self",
        "self",
        10,
        lambda row: seconds(row.node.self_ns) if row.node.self_ns > 0 else "",
        sort=lambda row: row.position,
        style=lambda _, look: look.muted,
        right=True,
        dispensable=1,
    ),
    Column(
        key="call",
        title="function, and what it calls",
        least=24,
        grow=2,
        sort=lambda row: row.position,
        paint=_paint_call,
    ),
    text_column(
        "place",
        "file",
        17,
        lambda row: place(row.node.frame),
        sort=lambda row: row.position,
        style=lambda _, look: look.muted,
        grow=1,
        most=30,
        dispensable=2,
    ),
)


class TreeTable(Table[TreeRow]):
    """The call tree as an icicle: what is called stands below its caller, within the caller's bar."""

    def __init__(self) -> None:
        super().__init__("4", "Call tree", TREE_COLUMNS, "icicle", "tree-table")

    def key_of(self, row: TreeRow) -> Hashable:
        """The path from the outermost function."""
        return row.path

    def searched_text(self, row: TreeRow) -> str:
        """Function and file."""
        return f"{row.node.frame.function}\n{row.node.frame.filename}"

    def caption(self, width: int, look: Look) -> list[Segment]:
        """What can be shown instead."""
        return [Segment(look.cut("m: lines, functions, call tree", width), look.muted)]

    def action_sort_step(self, step: int) -> None:
        """A tree has one order."""

    def action_sort_reverse(self) -> None:
        """A tree has one order."""

    def sort_on(self, column: Column[TreeRow]) -> None:
        """A tree has one order."""


# --- the source --------------------------------------------------------------------------------------------


def source_lines(
    source: SourceLines, hot: tuple[HotLine, ...], line: int | None, width: int, look: Look
) -> Lines:
    """The text with its heat: share of the file's hottest line, dominant cause, number, text."""
    if not source.lines:
        return [
            [],
            [Segment(" "), Segment(look.cut(source.why or "source not available", width - 2), look.muted)],
        ]
    heat: dict[int, HotLine] = {}
    for each in hot:
        if each.frame.filename == source.filename and each.frame.line is not None:
            heat[each.frame.line] = each
    total = sum(each.total_ns for each in hot) or 1.0
    lines: Lines = []
    number_width = len(str(len(source.lines)))
    for number, text in enumerate(source.lines, 1):
        known = heat.get(number)
        here = number == line
        gutter = [Segment("      ")]
        if known is not None:
            cause = max(
                known.states_ns, key=lambda state: known.states_ns[state], default=ThreadState.UNKNOWN
            )
            gutter = [
                look.cell(f"{100 * known.total_ns / total:.0f}%", 4, look.strong, right=True),
                Segment(" "),
                Segment(look.sign(cause), look.state_styles[cause]),
            ]
        mark = look.pointer if here else " "
        style = look.strong if here else look.text if known is not None else look.muted
        lines.append(
            [
                *gutter,
                Segment(mark, look.accent),
                look.cell(str(number), number_width, look.muted, right=True),
                Segment(" "),
                Segment(look.cut(text, max(0, width - 8 - number_width)), style),
            ]
        )
    return lines


MAX_SHARED: Final = 8
"""Objects named of one line, symbols of machine code, and places of pauses."""
SAID_SHARE: Final = 0.005


def line_lines(hot: HotLine, pauses: Sequence[Pauses], width: int, look: Look) -> Lines:
    """What is known of a line besides its stacks: shared objects, machine code, pauses asked for there."""
    lines: Lines = []

    def block(title: str, entries: list[str]) -> None:
        if entries:
            lines.append([Segment(look.cut(f" {title}", width), look.strong)])
            for entry in entries[:MAX_SHARED]:
                for number, text in enumerate(wrapped(entry, width - 4, look, most=3)):
                    lines.append([Segment("   " if number == 0 else "     "), Segment(text, look.text)])

    block(
        "shared by threads here",
        [
            f"{each.name} ({each.type_name}{'' if each.confidence is Confidence.KNOWN else ', possibly'})"
            for each in hot.shared
        ],
    )
    block("threads spin here for the lock of", list(hot.spun_for))
    block("threads spin here for locks that they hold themselves", list(hot.own_locks))
    block(
        "pauses asked for here",
        [
            f"{each.count}{f' for {each.reason}' if each.reason else ''}: {seconds(each.total_ns)} in all, "
            f"{plural(each.threads_max, 'thread')} stopped"
            for each in pauses
        ],
    )
    block(
        "machine code, share of its time on a core",
        [f"{percent(share)} {symbol}" for symbol, share in hot.native if share >= SAID_SHARE],
    )
    return lines


def _pauses_at(frame: Frame, snapshot: Snapshot | None) -> list[Pauses]:
    """Pauses that were asked for at a line (or in a function, where the line is none)."""
    if snapshot is None:
        return []
    return [
        each
        for each in snapshot.pauses
        if each.stack
        and (each.stack[0].filename, each.stack[0].function) == (frame.filename, frame.function)
        and frame.line in (None, each.stack[0].line)
    ]


class HotPane(Container):
    """The tables, and below them the source and the stacks of the row under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "mode", "Lines, functions or call tree", show=False),
        Binding("x", "pick_state", "Sort by a state", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="hot")
        self._table = HotTable()
        self._tree = TreeTable()
        self._source = LinesPanel("Source", "source")
        self._stacks = LinesPanel("Stacks", "stacks")
        self._view = View()
        self._thread: ThreadMetrics | None = None
        self._source_at: tuple[str, int | None] | None = None
        self.mode = Mode.LINES

    def compose(self) -> ComposeResult:
        """Tables above, text below: the style sheet says how much of each."""
        yield self._table
        yield self._tree
        with Container(id="hot-details"):
            yield self._source
            yield self._stacks

    @property
    def table(self) -> HotTable | TreeTable:
        """The table that is shown."""
        return self._tree if self.mode is Mode.TREE else self._table

    @property
    def frame(self) -> Frame | None:
        """The line (or function) under the cursor."""
        if self.mode is Mode.TREE:
            row = self._tree.current
            return None if row is None else row.node.frame
        line = self._table.current
        return None if line is None else line.hot.frame

    def action_mode(self) -> None:
        """The next kind of rows."""
        had_focus = self.table.has_focus
        self.mode = self.mode.next
        self.set_class(self.mode is Mode.TREE, "-tree")
        self._table.pane_title = "Hot functions" if self.mode is Mode.FUNCTIONS else "Hot lines"
        self.show_view(self._view, self._thread)
        if had_focus:
            self.call_after_refresh(self.table.focus)
        self.post_message(Table.Moved(self.table))

    def action_pick_state(self) -> None:
        """Sort by the time in the next state that there is."""
        lines = [row.hot for row in self._table.rows]
        seen = [state for state in BAR_ORDER if any(line.states_ns.get(state) for line in lines)]
        picked = self._table.picked
        following = seen if picked not in seen else seen[seen.index(picked) + 1 :]
        self._table.pick(following[0] if following else None)
        self.show_view(self._view, self._thread)

    def show_lines_of_all(self, view: View) -> None:
        """The lines of all threads, whatever was shown."""
        if self.mode is not Mode.LINES:
            self.mode = Mode.LINES
            self.set_class(False, "-tree")
            self._table.pane_title = "Hot lines"
        self.show_view(view, None)

    def show_view(self, view: View, thread: ThreadMetrics | None) -> None:
        """Take the lines of a view: all, or those of one thread."""
        self._view = view
        self._thread = thread
        snapshot = view.snapshot
        self._table.scope = "" if thread is None else thread.info.name or str(thread.info.tid)
        self._table.empty_text = "no Python lines in this range" if snapshot else "no data yet"
        self._tree.empty_text = (
            "reading ..." if view.extras.tree is None else "no Python functions in this range"
        )
        if snapshot is None:
            self._table.show_rows([])
            self._tree.show_rows([])
            return
        if self.mode is Mode.TREE:
            self._tree.show_rows(tree_rows(view.extras.tree or ()))
            return
        lines = snapshot.hot if thread is None else thread.hot
        if self.mode is Mode.FUNCTIONS:
            lines = view.extras.functions or () if thread is None else _by_function(lines)
        duration = snapshot.metrics.duration_ns if thread is None else thread.alive_ns
        capture = snapshot.allocations
        self._table.show_allocations(capture is not None and any(hot.allocations for hot in lines))
        self._table.show_rows([hot_row(hot, duration, self._table.picked, capture) for hot in lines])

    def on_table_moved(self, _: Table.Moved) -> None:
        """Show the source and the stacks of the row under the cursor; the application hears of it too."""
        self._show_source()
        row = self._table.current
        if self.mode is Mode.TREE or row is None:
            self._stacks.show_lines("Stacks", lambda _width, _look: [])
            return
        hot = row.hot
        pauses = _pauses_at(hot.frame, self._view.snapshot)

        def make(width: int, look: Look) -> Lines:
            about = line_lines(hot, pauses, width, look)
            stacks = stacks_lines(hot.stacks, hot.total_ns, width, look)
            return [*about, [], *stacks] if about else stacks

        self._stacks.show_lines(f"Stacks of {place(hot.frame)}", make)

    def _show_source(self) -> None:
        frame = self.frame
        source = self._view.extras.source
        snapshot = self._view.snapshot
        if frame is None or snapshot is None or source is None or source.filename != frame.filename:
            # Not chosen, or not read yet: what comes next is looked at anew.
            self._source_at = None
            title = "Source" if frame is None or snapshot is None else f"Source {place(frame)}"
            self._source.show_lines(title, lambda _width, _look: [])
            return
        hot = snapshot.hot
        text = source
        line = self.line_in(source)

        def make(width: int, look: Look) -> Lines:
            return source_lines(text, hot, line, width, look)

        self._source.show_lines(f"Source {place(frame)}   e: edit", make)
        # Follow the cursor, but leave the text where someone scrolled it.
        if self._source_at != (frame.filename, line):
            self._source_at = frame.filename, line
            if line is None:
                self._source.to_top()
            else:
                self._source.centre(line)

    def line_in(self, source: SourceLines) -> int | None:
        """The line of a text that is meant by the cursor: a function is where it is defined."""
        frame = self.frame
        if frame is None:
            return None
        return frame.line if frame.line is not None else _definition(source, frame.function)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Go to the source, to scroll it."""
        event.stop()
        for panel in (self._source, self._stacks):
            if panel.size.width:
                panel.focus()
                return


def _by_function(lines: tuple[HotLine, ...]) -> tuple[HotLine, ...]:
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


def _definition(source: SourceLines, function: str) -> int | None:
    """The line of a function's definition, where its name stands out."""
    name = function.rpartition(".")[2]
    for number, text in enumerate(source.lines, 1):
        if text.lstrip().startswith((f"def {name}(", f"async def {name}(")):
            return number
    return None
