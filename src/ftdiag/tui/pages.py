"""The pages between header and keys: which one is shown, what each is fed, what the worker has to find out.

In: a `View`, and the page that a key asks for. Out: painted panes, and the queries of those on the screen.
On a large screen the overview has other panes beside it; the style sheet says where they stand.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.events import DescendantFocus, Resize
from textual.widget import Widget

from ftdiag.datatypes import replace
from ftdiag.model import Finding
from ftdiag.tui.lines import LinesPanel
from ftdiag.tui.pane import PaneBody, on_screen
from ftdiag.tui.panes.overview import finding_key
from ftdiag.tui.panes.registry import PANES
from ftdiag.tui.queries import Query
from ftdiag.tui.source import View
from ftdiag.tui.table import Table

FIRST: Final = PANES[0].name
"""The page that is shown first, and that Esc goes back to at last."""


class AsksForMore(Protocol):
    """The application, as far as pages know it."""

    def ask_for_what_is_shown(self) -> None:
        """The screen shows something else."""


class Pages(Container):
    """All pages."""

    def __init__(self) -> None:
        super().__init__(id="panes")
        self.page = ""
        self.panes: dict[str, PaneBody] = {pane.name: pane.make() for pane in PANES}
        self.thread: int | None = None
        """Index of the thread that was chosen: its page, and the lines that are shown."""
        self.finding: Finding | None = None
        """The finding whose evidence is shown."""
        self._view = View()

    def compose(self) -> ComposeResult:
        """In the order of their keys."""
        yield from self.panes.values()

    # --- which page ------------------------------------------------------------------------------------

    def open(self, page: str) -> None:
        """Show a page and go to its rows."""
        if self.page and self.page != page:
            self.remove_class(f"-page-{self.page}")
            self.panes[self.page].remove_class("-page")
            body = self.panes[page]
            if isinstance(body, LinesPanel):
                body.to_top()
        self.page = page
        self.add_class(f"-page-{page}")
        self.panes[page].add_class("-page")
        if page != FIRST:
            self.remove_class("-zoom")
        self._mark_current(self.panes[page])
        # A pane that was hidden can take the focus only once it is laid out.
        self.call_after_refresh(self._arrived)

    def _arrived(self) -> None:
        self.focus_main()
        self._again()

    def focus_main(self) -> None:
        """To the rows (or the text) of the page."""
        main: Widget = self.current_table() or self.panes[self.page]
        if main.display:
            main.focus()

    def is_detail(self, panel: LinesPanel) -> bool:
        """True for a panel beside a table."""
        return not isinstance(panel, PaneBody)

    def _mark_current(self, current: PaneBody) -> None:
        for pane in self.panes.values():
            pane.set_class(pane is current, "-current")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Know which pane is meant by zoom and filter."""
        for pane in self.panes.values():
            if pane in event.widget.ancestors_with_self:
                self._mark_current(pane)

    def current_table(self) -> Table[Any] | None:
        """The table of the pane that has the focus, or of the page."""
        page = self.panes[self.page].table
        if page is None:
            return None
        current = next((pane.table for pane in self.panes.values() if pane.has_class("-current")), None)
        return current or page

    @property
    def cursor_ns(self) -> int | None:
        """The time under the cursor, where there is one on the screen."""
        shown = (pane.cursor_ns for pane in self.panes.values() if pane.display)
        return next((time for time in shown if time is not None), None)

    # --- what is chosen --------------------------------------------------------------------------------

    def choose(self, table: Table[Any]) -> str | None:
        """The page of the row under the cursor of a table."""
        chosen = next((pane.chosen_page() for pane in self.panes.values() if pane.table is table), None)
        if chosen is None:
            return None
        page, what = chosen
        if isinstance(what, Finding):
            self.finding = what
        elif isinstance(what, int):
            self.thread = what
        return page

    def finding_at_hand(self) -> Finding | None:
        """The finding that is open or under the cursor."""
        if self.page == "evidence":
            return self.finding
        chosen = self.panes[FIRST].chosen_page()
        return chosen[1] if chosen is not None and isinstance(chosen[1], Finding) else None

    def filter_or_not(self, page: str, words: str, label: str | None = None) -> bool:
        """Filter a pane, unless nothing would be left; true if there is something."""
        pane = self.panes[page]
        # A pane that is not on the screen was not fed.
        pane.prepare_to_filter(self._shown(self._view))
        table = pane.table
        if table is None:
            return False
        table.set_filter(words, label)
        if table.rows:
            self.thread = None
            table.move_to(0)
            return True
        table.set_filter("")
        return False

    # --- painting --------------------------------------------------------------------------------------

    def _shown(self, view: View) -> View:
        return replace(view, thread=self.thread, finding=self.finding)

    def show_view(self, view: View) -> None:
        """Feed the panes that are on the screen; the others when they get there."""
        self._view = view
        if view.snapshot is not None and self.finding is not None:
            # The open finding follows the recording.
            key = finding_key(self.finding)
            self.finding = next((f for f in view.snapshot.findings if finding_key(f) == key), self.finding)
        shown = self._shown(view)
        for name, pane in self.panes.items():
            if pane.display or name == self.page:
                pane.show_view(shown)

    # --- what the worker has to find out -----------------------------------------------------------------

    def on_resize(self, _: Resize) -> None:
        """Other panes may be shown, with room for more slices of time."""
        self.call_after_refresh(self._again)

    def _again(self) -> None:
        self.show_view(self._view)
        cast(AsksForMore, self.app).ask_for_what_is_shown()

    def queries(self) -> tuple[Query[Any], ...]:
        """What is on the screen besides the snapshot."""
        shown = (pane for name, pane in self.panes.items() if on_screen(pane) or name == self.page)
        return tuple(dict.fromkeys(query for pane in shown for query in pane.queries()))
