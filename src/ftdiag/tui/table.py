"""A table that paints only the rows on the screen, sorts, filters, and keeps its cursor on the same row.

In: rows (any frozen value with a key) and a description of their columns. Out: lines of segments. What a
refresh costs depends on the height of the screen, not on the number of rows, except for the sorting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView

from ftdiag.datatypes import dataclass
from ftdiag.tui.look import Look, look_of
from ftdiag.tui.painting import PaintedLines

RowT = TypeVar("RowT")

HEAD_LINES = 2
"""Lines above the rows: the title and the names of the columns."""
POINTER_WIDTH = 1
GAP = 1
"""Cells between columns."""
CLEARLY = 0.1
"""A row changes its rank when its figure is this part of itself away from the one that it had when ranked."""
LEAST_CHANGE = 0.005
"""Or this part of the largest figure, where that is more."""


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """A column: how to sort by it, and how to paint a cell of exactly the given width.

    It is `least` cells wide and takes spare room up to `most`, in proportion to `grow`. When the table is
    narrow, columns with the highest `dispensable` go first; those with 0 stay.
    """

    key: str
    title: str
    least: int
    sort: Callable[[RowT], Any]
    paint: Callable[[RowT, int, Look], list[Segment]]
    most: int | None = None
    grow: int = 0
    dispensable: int = 0
    right: bool = False
    descending: bool = False


def text_column(
    key: str,
    title: str,
    least: int,
    text: Callable[[RowT], str],
    *,
    sort: Callable[[RowT], Any] | None = None,
    style: Callable[[RowT, Look], Style | None] | None = None,
    most: int | None = None,
    grow: int = 0,
    dispensable: int = 0,
    right: bool = False,
    descending: bool = False,
) -> Column[RowT]:
    """A column of plain text, sorted by that text unless told otherwise."""

    def paint(row: RowT, width: int, look: Look) -> list[Segment]:
        return [look.cell(text(row), width, style(row, look) if style else None, right=right)]

    return Column(
        key=key,
        title=title,
        least=least,
        sort=sort or (lambda row: text(row).casefold()),
        paint=paint,
        most=most,
        grow=grow,
        dispensable=dispensable,
        right=right,
        descending=descending,
    )


def fit_columns(columns: Sequence[Column[RowT]], width: int) -> list[tuple[Column[RowT], int]]:
    """The columns that fit, with their widths; together with the gaps they fill at most `width` cells."""
    kept = list(columns)
    while len(kept) > 1 and _least_width(kept) > width:
        worst = max(kept, key=lambda column: column.dispensable)
        if worst.dispensable == 0:
            break
        kept.remove(worst)
    widths = {column.key: column.least for column in kept}
    spare = width - _least_width(kept)
    while spare > 0:
        hungry = [c for c in kept if c.grow and (c.most is None or widths[c.key] < c.most)]
        if not hungry:
            break
        share = max(1, spare // sum(column.grow for column in hungry))
        for column in hungry:
            more = min(share * column.grow, spare)
            if column.most is not None:
                more = min(more, column.most - widths[column.key])
            widths[column.key] += more
            spare -= more
            if spare == 0:
                break
    # Columns that can't go, on a table too narrow for them: what is over the edge is not painted.
    return [(column, widths[column.key]) for column in kept]


def _least_width(columns: Sequence[Column[RowT]]) -> int:
    return POINTER_WIDTH + sum(column.least for column in columns) + GAP * (len(columns) - 1)


def _figure(value: Any) -> float | None:
    """The figure that a row is sorted by; of several the first one, of a text none."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


class Table(PaintedLines, ScrollView, Generic[RowT], can_focus=True, inherit_bindings=False):
    """The table. Subclasses say what a row's key and searchable text are.

    Longer than 300 lines, because a widget of Textual has its keys, messages and painting in one class.
    """

    ALLOW_SELECT = False

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("left,h", "aside(-1)", "Sort by the column to the left", show=False),
        Binding("right,l", "aside(1)", "Sort by the column to the right", show=False),
        Binding("s", "sort_step(1)", "Sort by the next column", show=False),
        Binding("S", "sort_reverse", "Reverse the order", show=False),
        Binding("enter", "choose", "Choose", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row, or that row's values are new."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

    class Chosen(Message):
        """Enter or a second click on the row under the cursor."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

    def __init__(
        self, number: str, name: str, columns: Sequence[Column[RowT]], sort_by: str, table_id: str
    ) -> None:
        super().__init__(id=table_id)
        self.number = number
        self.pane_title = name
        self.columns = list(columns)
        self.filter_text = ""
        self.filter_label = ""
        """What the filter is called on the screen, where that is not its text."""
        self.empty_text = "no data yet"
        self._sort = next(column for column in columns if column.key == sort_by)
        self._descending = self._sort.descending
        self._all: Sequence[RowT] = ()
        self._rows: list[RowT] = []
        self._cursor = 0
        self._held_key: Hashable = None
        self._ranked: dict[Hashable, tuple[float, int]] = {}
        """Of each row the figure by which it was ranked, as a part of the largest, and its place then."""
        self._fitted: list[tuple[Column[RowT], int]] = []
        self._fitted_width = -1

    # --- what a subclass says ----------------------------------------------------------------------

    def key_of(self, row: RowT) -> Hashable:
        """What stays the same of a row from refresh to refresh."""
        raise NotImplementedError

    def searched_text(self, row: RowT) -> str:
        """The text in which the filter looks."""
        raise NotImplementedError

    def head_of(self, key: str, cells: int, look: Look) -> Segment | None:
        """What stands above a column instead of its title."""
        return None

    def caption(self, width: int, look: Look) -> list[Segment]:
        """What stands at the right of the title, at most `width` cells."""
        return []

    # --- rows ----------------------------------------------------------------------------------------

    def show_rows(self, rows: Sequence[RowT]) -> None:
        """Take the rows of a new snapshot; sort, filter and cursor stay."""
        self._all = rows
        self._arrange()

    @property
    def rows(self) -> Sequence[RowT]:
        """The rows in the order of the screen, without those that the filter hides."""
        return self._rows

    @property
    def shown_count(self) -> int:
        """How many of all the filter shows."""
        return len(self._rows)

    @property
    def current(self) -> RowT | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def cursor_row(self) -> int:
        """Position of the cursor."""
        return self._cursor

    @property
    def sorted_by(self) -> tuple[str, bool]:
        """Key of the sort column, and whether the largest is first."""
        return self._sort.key, self._descending

    def set_filter(self, text: str, label: str | None = None) -> None:
        """Show only rows that contain every word of the text, which is called `label` on the screen."""
        self.filter_label = text if label is None else label
        if text != self.filter_text:
            self.filter_text = text
            self._arrange()

    def _arrange(self) -> None:
        rows = list(self._all)
        words = self.filter_text.casefold().split()
        if words:
            rows = [row for row in rows if all(word in self.searched_text(row).casefold() for word in words)]
        self._rows = rows = self.arranged(rows)
        # The cursor stays at the top until someone moves it; then it follows its row.
        if self._held_key is not None:
            held = self._held_key
            position = next((i for i, row in enumerate(rows) if self.key_of(row) == held), None)
            if position is not None:
                self._cursor = position
        self._cursor = max(0, min(self._cursor, len(rows) - 1))
        self._fit_height()
        self._keep_cursor_visible()
        self.repaint()
        self.post_message(self.Moved(self))

    def arranged(self, rows: list[RowT]) -> list[RowT]:
        """The rows in their order."""
        return self.in_order(rows)

    def in_order(self, rows: list[RowT]) -> list[RowT]:
        """Sorted; rows whose figures hardly changed since the last refresh keep their places."""
        sort = self._sort.sort
        rows = sorted(rows, key=sort, reverse=self._descending)
        figures = [_figure(sort(row)) for row in rows]
        most = max((abs(figure) for figure in figures if figure is not None), default=0.0)
        if not most or any(figure is None for figure in figures):
            self._ranked = {}
            return rows
        ranked: list[tuple[float, int, RowT]] = []
        for place, (row, figure) in enumerate(zip(rows, figures, strict=True)):
            part = (figure or 0.0) / most
            held, before = self._ranked.get(self.key_of(row), (part, len(rows) + place))
            if abs(part - held) > max(CLEARLY * abs(held), LEAST_CHANGE):
                held = part
            ranked.append((-held if self._descending else held, before, row))
        ranked.sort(key=lambda one: one[:2])
        self._ranked = {
            self.key_of(row): (-held if self._descending else held, place)
            for place, (held, _, row) in enumerate(ranked)
        }
        return [row for _, _, row in ranked]

    # --- moving and sorting ----------------------------------------------------------------------------

    def move_to(self, position: int) -> None:
        """Put the cursor on a row."""
        if not self._rows:
            return
        self._cursor = max(0, min(position, len(self._rows) - 1))
        # At the top nothing is held: the first row is followed, whichever it is.
        self._held_key = self.key_of(self._rows[self._cursor]) if self._cursor else None
        self._keep_cursor_visible()
        self.repaint()
        self.post_message(self.Moved(self))

    def action_move(self, step: int) -> None:
        """One row up or down."""
        self.move_to(self._cursor + step)

    def action_page(self, direction: int) -> None:
        """One screen of rows up or down."""
        self.move_to(self._cursor + direction * max(1, self._visible_rows() - 1))

    def action_edge(self, direction: int) -> None:
        """To the first or the last row."""
        self.move_to(0 if direction < 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        """Tell the pane that this row is meant."""
        if self._rows:
            self.post_message(self.Chosen(self))

    def sort_on(self, column: Column[RowT]) -> None:
        """Sort by a column, exactly; by the same one again: the other way round."""
        self._ranked = {}
        if column is self._sort:
            self._descending = not self._descending
        else:
            self._sort = column
            self._descending = column.descending
        self._arrange()

    def action_sort_step(self, step: int) -> None:
        """Sort by the next column that is on the screen."""
        columns = [column for column, _ in self._fitted] or self.columns
        position = columns.index(self._sort) if self._sort in columns else -step
        self.sort_on(columns[(position + step) % len(columns)])

    def action_aside(self, step: int) -> None:
        """Left and right go through the columns, unless a subclass has another use for them."""
        self.action_sort_step(step)

    def set_columns(self, columns: Sequence[Column[RowT]]) -> None:
        """Show other columns; the order stays if its column is still there."""
        self.columns = list(columns)
        key = self._sort.key
        self._sort = next((column for column in columns if column.key == key), columns[0])
        self._fitted_width = -1
        self._arrange()

    def column_cells(self, key: str) -> tuple[int, int] | None:
        """Where a column is on the screen: its left edge and width; `None` where it has no room."""
        self._fit_width(self.painted_width)
        left = POINTER_WIDTH
        for column, width in self._fitted:
            if column.key == key:
                return left, width
            left += width + GAP
        return None

    def action_sort_reverse(self) -> None:
        """The same column the other way round."""
        self.sort_on(self._sort)

    def on_click(self, event: Click) -> None:
        """A column's name sorts by it, a row takes the cursor, the row under the cursor is chosen."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == HEAD_LINES - 1:
            column = self._column_at(offset.x)
            if column is not None:
                self.sort_on(column)
        elif offset.y >= HEAD_LINES:
            position = self.scroll_offset.y + offset.y - HEAD_LINES
            if position >= len(self._rows):
                return
            if position == self._cursor and event.chain > 1:
                self.action_choose()
            else:
                self.move_to(position)

    def _column_at(self, x: int) -> Column[RowT] | None:
        left = POINTER_WIDTH
        for column, width in self._fitted:
            if left <= x < left + width + GAP:
                return column
            left += width + GAP
        return None

    # --- geometry --------------------------------------------------------------------------------------

    def on_resize(self, _: Resize) -> None:
        """Fit the columns anew."""
        self._fit_width(self.painted_width)
        self._fit_height()
        self._keep_cursor_visible()

    def _fit_width(self, width: int) -> None:
        # Also asked while painting: a scroll bar that comes or goes changes the width without a resize.
        if width != self._fitted_width:
            self._fitted_width = width
            self._fitted = fit_columns(self.columns, width)

    def _fit_height(self) -> None:
        size = Size(self.size.width, len(self._rows) + HEAD_LINES)
        if size != self.virtual_size:
            self.virtual_size = size

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """A bar that appears only now was not told of scrolling before."""
        if shown:
            self.vertical_scrollbar.position = self.scroll_y

    def _visible_rows(self) -> int:
        return max(1, self.size.height - HEAD_LINES)

    def _keep_cursor_visible(self) -> None:
        if not self.size.height:
            return
        top = self.scroll_offset.y
        visible = self._visible_rows()
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False, force=True)

    # --- painting --------------------------------------------------------------------------------------

    def painted_line(self, y: int, width: int) -> tuple[list[Segment], Style | None]:
        """Title, names of the columns, or a row."""
        look = look_of(self)
        self._fit_width(width)
        if y == 0:
            return self._title_line(width, look), look.title
        if y < HEAD_LINES:
            return self._head_line(look), None
        position = self.scroll_offset.y + y - HEAD_LINES
        if position < len(self._rows):
            return self._row_line(position, look)
        if not self._rows and y == HEAD_LINES:
            return [look.cell(f" {self._why_empty()}", width, look.muted)], None
        return [], None

    def _why_empty(self) -> str:
        if self._all and self.filter_text:
            return f"nothing matches '{self.filter_label}' (Esc shows all)"
        return self.empty_text

    def _title_line(self, width: int, look: Look) -> list[Segment]:
        style = look.title_focused if self.has_focus else look.title
        count = str(len(self._all))
        if self.shown_count != len(self._all):
            count = f"{self.shown_count} of {count}"
        title = (
            f" {self.number} {self.pane_title} {count} " if self.number else f" {self.pane_title} {count} "
        )
        if self.filter_text:
            title += f"/{look.safe(self.filter_label)} "
        title = look.cut(title, width)
        head = Segment(title, style)
        rest = width - head.cell_length
        tail = [Segment(" ", look.title), *self.caption(max(0, rest - 1), look)]
        tail = [Segment(text, look.title if style is None else look.title + style) for text, style, _ in tail]
        return [head, *tail]

    def _head_line(self, look: Look) -> list[Segment]:
        segments = [Segment(" " * POINTER_WIDTH)]
        for column, cells in self._fitted:
            chosen = column is self._sort
            title = column.title + look.arrow(self._descending) if chosen else column.title
            style = look.column_sorted if chosen else look.column_head
            segments.append(
                self.head_of(column.key, cells, look) or look.cell(title, cells, style, right=column.right)
            )
            segments.append(Segment(" " * GAP))
        return segments

    def _row_line(self, position: int, look: Look) -> tuple[list[Segment], Style | None]:
        row = self._rows[position]
        under_cursor = position == self._cursor
        base = (look.cursor if self.has_focus else look.cursor_blurred) if under_cursor else None
        segments = [Segment(look.pointer if under_cursor else " ", look.accent if under_cursor else None)]
        for column, cells in self._fitted:
            segments += column.paint(row, cells, look)
            segments.append(Segment(" " * GAP))
        return segments, base
