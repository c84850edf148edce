"""The hot code pane: thread-time by line, function or as a call tree; source and stacks of what is chosen.

In: a `View`, in which a thread may be chosen. Out: tables with a panel of source text and one of stacks.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

from textual.app import ComposeResult
from textual.containers import Container

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    Frame,
    HotLine,
)
from ftdiag.tui.keys import Key
from ftdiag.tui.lines import Lines, LinesPanel
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, PaneBody, on_screen
from ftdiag.tui.panes.call_tree import TreeTable, tree_rows
from ftdiag.tui.panes.hot_lines import HotTable, by_function, hot_row
from ftdiag.tui.panes.hot_source import definition, line_lines, other_text, pauses_at, source_lines
from ftdiag.tui.panes.stacks import stacks_lines
from ftdiag.tui.queries import Query, Range
from ftdiag.tui.source import View
from ftdiag.tui.sourcetext import SourceLines
from ftdiag.tui.table import Table
from ftdiag.wording.places import place
from ftdiag.wording.states import BAR_ORDER
from ftdiag.wording.threads import thread_name

if TYPE_CHECKING:
    from ftdiag.session import CallNode


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
class Functions(Query[tuple[HotLine, ...]]):
    """Functions by thread-time."""

    def answer(self, of: Range) -> tuple[HotLine, ...]:
        """Ask the session."""
        return of.session.hot_functions(of.t0_ns, of.t1_ns)


@dataclass(frozen=True, slots=True)
class Calls(Query["tuple[CallNode, ...]"]):
    """Who calls whom."""

    def answer(self, of: Range) -> tuple[CallNode, ...]:
        """Ask the session."""
        return of.session.call_tree(of.t0_ns, of.t1_ns)


@dataclass(frozen=True, slots=True)
class TextOf(Query[SourceLines]):
    """The text of a source file."""

    filename: str

    def answer(self, of: Range) -> SourceLines:
        """Read it."""
        return of.texts.read(self.filename, of.pid)


class HotPane(Container, PaneBody):
    """The tables, and below them the source and the stacks of the row under the cursor."""

    def __init__(self) -> None:
        super().__init__(id="hot")
        self._table = HotTable()
        self._tree = TreeTable()
        self._source = LinesPanel("Source", "source")
        self._stacks = LinesPanel("Stacks", "stacks")
        self._view = View()
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

    def queries(self) -> tuple[Query[Any], ...]:
        """Functions or the tree, where these are shown; the source of the line under the cursor."""
        asked: list[Query[Any]] = []
        if self.mode is Mode.FUNCTIONS:
            asked.append(Functions())
        elif self.mode is Mode.TREE:
            asked.append(Calls())
        frame = self.frame
        if frame is not None and on_screen(self._source):
            asked.append(TextOf(frame.filename))
        return tuple(asked)

    def prepare_to_filter(self, view: View) -> None:
        """The lines of all threads, whatever was shown."""
        if self.mode is not Mode.LINES:
            self.mode = Mode.LINES
            self.set_class(False, "-tree")
            self._table.pane_title = "Hot lines"
        self.show_view(replace(view, thread=None))

    @property
    def source_at_hand(self) -> tuple[Frame, SourceLines | None] | None:
        """The line (or function) under the cursor, and its source as far as it was read."""
        frame = self.frame
        if frame is None:
            return None
        source = self._view.answers.of(TextOf)
        return frame, source if source is not None and source.filename == frame.filename else None

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
        self.show_view(self._view)
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
        self.show_view(self._view)

    def show_view(self, view: View) -> None:
        """Take the lines of a view: all, or those of the thread that was chosen."""
        self._view = view
        thread, snapshot = view.chosen_thread, view.snapshot
        self._table.scope = "" if thread is None else thread_name(thread.info)
        self._table.empty_text = "no Python lines in this range" if snapshot else view.waiting
        self._tree.empty_text = (
            "reading ..." if view.answers.of(Calls) is None else "no Python functions in this range"
        )
        if snapshot is None:
            self._table.show_rows([])
            self._tree.show_rows([])
            return
        if self.mode is Mode.TREE:
            self._tree.show_rows(tree_rows(view.answers.of(Calls) or ()))
            return
        lines = snapshot.hot if thread is None else thread.hot
        if self.mode is Mode.FUNCTIONS:
            lines = view.answers.of(Functions) or () if thread is None else by_function(lines)
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
        pauses = pauses_at(hot.frame, self._view.snapshot)

        def make(width: int, look: Look) -> Lines:
            about = line_lines(hot, pauses, width, look)
            stacks = stacks_lines(hot.stacks, hot.total_ns, width, look)
            return [*about, [], *stacks] if about else stacks

        self._stacks.show_lines(f"Stacks of {place(hot.frame)}", make)

    def _show_source(self) -> None:
        frame = self.frame
        source = self._view.answers.of(TextOf)
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

        doubt = other_text(source, snapshot)
        self._source.show_lines(f"Source {place(frame)}   {doubt or 'e: edit'}", make)
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
        return frame.line if frame.line is not None else definition(source, frame.function)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Go to the source, to scroll it."""
        event.stop()
        for panel in (self._source, self._stacks):
            if panel.size.width:
                panel.focus()
                return


PANE: Final = Pane(
    "hot",
    "Hot code",
    HotPane,
    "4",
    short="Code",
    about="hot code: lines, functions, call tree, source",
    keys=(
        Key("m", "hot code: lines, functions, call tree", "m", "in_pane('hot', 'mode')"),
        Key(
            "x", "hot code: sort by the time in one state, then the next", "x", "in_pane('hot', 'pick_state')"
        ),
        Key("e", "hot code: open the line in $VISUAL or $EDITOR", "e", "edit"),
    ),
)
