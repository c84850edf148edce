"""Keys that go to panes and pages, and back.

In: keys, rows that are chosen. Out: another page.
"""

from __future__ import annotations

from textual.widgets import Input

from ftdiag.tui.actions.filter import FilterActions
from ftdiag.tui.lines import LinesPanel
from ftdiag.tui.pages import FIRST
from ftdiag.tui.panes.evidence import leads_to
from ftdiag.tui.table import Table


class PlaceActions(FilterActions):
    """The part of the application that is about where one is."""

    def action_pane(self, name: str) -> None:
        """Show a pane and go to it."""
        if self._pages.page == "evidence" and self._pages.finding is not None:
            # From a finding every pane is filtered by what it speaks of.
            for pane, words, label in leads_to(self._pages.finding):
                if pane == name:
                    self._pages.filter_or_not(pane, words, label)
        elif self._pages.page != "thread":
            # From a thread's page the hot code is that thread's.
            self._pages.thread = None
        self._trail.clear()
        self._pages.open(name)
        self._paint(self._view)

    def action_follow(self) -> None:
        """Enter on a finding's evidence: the pane it speaks of, filtered."""
        finding = self._pages.finding
        if self._pages.page != "evidence" or finding is None:
            return
        for pane, words, label in leads_to(finding):
            if self._pages.filter_or_not(pane, words, label):
                self._go_to(pane)
                return
        self.say("this finding speaks of no thread, lock or line that is in this range")

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Enter on a finding or a thread: its page."""
        page = self._pages.choose(event.table)
        if page is not None:
            self._go_to(page)

    def on_table_moved(self, _: Table.Moved) -> None:
        """The cursor may be on a line of another file."""
        self.ask_for_what_is_shown()

    async def action_step_back(self) -> None:
        """Undo the latest narrowing: the pane's filter, details, the chosen thread, the page, zoom."""
        focused = self.focused
        table = self._pages.current_table()
        if isinstance(focused, Input) and focused.id == "filter":
            if table is not None:
                table.set_filter("")
            await self._close_filter(focused)
        elif isinstance(focused, LinesPanel) and self._pages.is_detail(focused):
            self._pages.focus_main()
        elif table is not None and table.filter_text and not self._trail:
            table.set_filter("")
        elif self._pages.page == "hot" and self._pages.thread is not None and not self._trail:
            self._pages.thread = None
            self._paint(self._view)
        elif self._trail:
            if table is not None:
                table.set_filter("")
            self._pages.open(self._trail.pop())
            self._paint(self._view)
        elif self._pages.has_class("-zoom"):
            self._pages.remove_class("-zoom")
        elif any(other.filter_text for other in self.query(Table)):
            for other in self.query(Table):
                other.set_filter("")
        elif self._pages.page != FIRST:
            self._pages.thread = None
            self._pages.open(FIRST)
            self._paint(self._view)

    def action_zoom(self) -> None:
        """One pane alone, or all."""
        self._pages.toggle_class("-zoom")

    async def action_in_pane(self, name: str, action: str) -> None:
        """A key of one pane, from anywhere: go there, and do it."""
        if self._pages.page != name:
            self.action_pane(name)
        await self.run_action(action, self._pages.panes[name])
