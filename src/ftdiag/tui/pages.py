"""The pages between header and keys: which one is shown, what each is fed, what the worker has to find out.

In: a `View`, and the page that a key asks for. Out: painted panes, and `Wants`. On a large screen the
overview has other panes beside it; the style sheet says where they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.events import DescendantFocus, Resize

from ftdiag.model import Finding, Snapshot, ThreadMetrics
from ftdiag.tui.lines import Lines, LinesPanel
from ftdiag.tui.look import Look
from ftdiag.tui.panes.compare import compare_lines
from ftdiag.tui.panes.evidence import evidence_lines, leads_to
from ftdiag.tui.panes.hot import HotPane, Mode
from ftdiag.tui.panes.locks import LocksPane
from ftdiag.tui.panes.memory import memory_lines
from ftdiag.tui.panes.overview import OverviewPane, finding_key
from ftdiag.tui.panes.scaling import scaling_lines
from ftdiag.tui.panes.thread import thread_lines, thread_title
from ftdiag.tui.panes.threads import ThreadsPane
from ftdiag.tui.panes.trust import quality_lines
from ftdiag.tui.source import View, Wants
from ftdiag.tui.table import Table

MAIN_PAGES: Final = {
    "overview": "overview",
    "threads": "threads",
    "locks": "locks",
    "hot": "hot code",
    "scaling": "scaling",
    "memory": "memory",
    "quality": "quality",
}
_PANE_WORDS: Final = {"locks": "the lock", "hot": "the line", "threads": "the thread"}


class AsksForMore(Protocol):
    """The application, as far as pages know it."""

    def ask_for_what_is_shown(self) -> None:
        """The screen shows something else."""


class Pages(Container):
    """All pages."""

    def __init__(self) -> None:
        super().__init__(id="panes")
        self.page = ""
        self.overview = OverviewPane()
        self.threads = ThreadsPane()
        self.locks = LocksPane()
        self.hot = HotPane()
        self.thread: int | None = None
        """Index of the thread that was chosen: its page, and the lines that are shown."""
        self.finding: Finding | None = None
        """The finding whose evidence is shown."""
        self._view = View()
        self._panels = {
            name: LinesPanel(title, name)
            for name, title in (
                ("scaling", "5 Scaling"),
                ("memory", "6 Memory"),
                ("quality", "7 Quality"),
                ("finding", "Evidence"),
                ("thread", "Thread"),
                ("compare", "Compare"),
            )
        }

    def compose(self) -> ComposeResult:
        """In the order of their keys."""
        yield self.overview
        yield self.threads
        yield self.hot
        yield self.locks
        yield from self._panels.values()

    # --- which page ------------------------------------------------------------------------------------

    def open(self, page: str) -> None:
        """Show a page and go to its rows."""
        if self.page and self.page != page:
            self.remove_class(f"-page-{self.page}")
            if page in self._panels:
                self._panels[page].to_top()
        self.page = page
        self.add_class(f"-page-{page}")
        if page != "overview":
            self.remove_class("-zoom")
        self._mark_current(page)
        # A pane that was hidden can take the focus only once it is laid out.
        self.call_after_refresh(self._arrived)

    def _arrived(self) -> None:
        self.focus_main()
        self._again()

    def focus_main(self) -> None:
        """To the rows (or the text) of the page."""
        main = self.current_table() or self._panels.get(self.page)
        if main is not None and main.display:
            main.focus()

    def is_detail(self, panel: LinesPanel) -> bool:
        """True for a panel beside a table."""
        return panel not in self._panels.values()

    def _mark_current(self, name: str) -> None:
        for pane in (self.overview, self.threads, self.locks, self.hot):
            pane.set_class(pane.id == name, "-current")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Know which pane is meant by zoom and filter."""
        for pane in (self.overview, self.threads, self.locks, self.hot):
            if pane in event.widget.ancestors_with_self:
                self._mark_current(pane.id or "")

    def current_table(self) -> Table[Any] | None:
        """The table of the pane that has the focus, or of the page."""
        if self.page in self._panels:
            return None
        tables: dict[str, Table[Any]] = {
            "overview": self.overview.findings,
            "threads": self.threads,
            "locks": self.locks.query_one(Table),
            "hot": self.hot.table,
        }
        for pane in (self.overview, self.threads, self.locks, self.hot):
            if pane.has_class("-current"):
                return tables[pane.id or ""]
        return tables.get(self.page)

    @property
    def cursor_ns(self) -> int | None:
        """The time under the cursor, where there is one on the screen."""
        return self.threads.cursor_ns if self.threads.lanes_shown and self.threads.display else None

    # --- what is chosen --------------------------------------------------------------------------------

    def choose(self, table: Table[Any]) -> str | None:
        """The page of the row under the cursor."""
        if table is self.overview.findings and self.overview.findings.current is not None:
            self.finding = self.overview.findings.current.finding
            return "finding"
        if table is self.threads and self.threads.current is not None:
            self.thread = self.threads.current.thread.info.index
            return "thread"
        return None

    def finding_at_hand(self) -> Finding | None:
        """The finding that is open or under the cursor."""
        if self.page == "finding":
            return self.finding
        row = self.overview.findings.current
        return row.finding if row is not None else None

    def filter_or_not(self, pane: str, words: str) -> bool:
        """Filter a pane, unless nothing would be left; true if there is something."""
        tables: dict[str, Table[Any]] = {
            "threads": self.threads,
            "locks": self.locks.query_one(Table),
            "hot": self.hot.table,
        }
        # A pane that is not on the screen was not fed.
        if pane == "threads":
            self.threads.show_view(self._view)
        elif pane == "locks":
            self.locks.show_view(self._view)
        elif pane == "hot":
            self.thread = None
            self.hot.show_lines_of_all(self._view)
            tables["hot"] = self.hot.table
        table = tables[pane]
        table.set_filter(words)
        if table.rows:
            table.move_to(0)
            return True
        table.set_filter("")
        return False

    def chosen_thread(self) -> ThreadMetrics | None:
        """The thread that was chosen, if it is in the range."""
        snapshot = self._view.snapshot
        if snapshot is None or self.thread is None:
            return None
        return next((thread for thread in snapshot.threads if thread.info.index == self.thread), None)

    # --- painting --------------------------------------------------------------------------------------

    def show_view(self, view: View) -> None:
        """Feed the panes that are on the screen; the others when they get there."""
        self._view = view
        if view.snapshot is not None and self.finding is not None:
            # The open finding follows the recording.
            key = finding_key(self.finding)
            self.finding = next((f for f in view.snapshot.findings if finding_key(f) == key), self.finding)
        if self.overview.display:
            self.overview.show_view(view)
        if self.threads.display:
            self.threads.show_view(view)
        if self.locks.display:
            self.locks.show_view(view)
        if self.hot.display:
            self.hot.show_view(view, self.chosen_thread())
        if self.page in self._panels:
            self._show_panel(view)

    def _show_panel(self, view: View) -> None:
        snapshot = view.snapshot
        panel = self._panels[self.page]
        if snapshot is None:
            panel.show_lines(MAIN_PAGES.get(self.page, "").capitalize() or "No data yet", _no_data)
            return
        simple: dict[str, tuple[str, Callable[[Snapshot, int, Look], Lines]]] = {
            "scaling": ("5 Scaling", partial(scaling_lines, view.extras.scaling)),
            "memory": ("6 Memory", memory_lines),
            "quality": ("7 Quality", quality_lines),
        }
        start = view.span_ns[0] if view.span_ns is not None else snapshot.t0_ns
        if self.page in simple:
            title, make = simple[self.page]
            panel.show_lines(title, lambda width, look: make(snapshot, width, look))
        elif self.page == "finding" and self.finding is not None:
            finding = self.finding
            ways = leads_to(finding)
            there = finding_key(finding) in {finding_key(each) for each in snapshot.findings}
            title = "Evidence" if there else "Evidence (gone from this range)"
            if ways:
                title += f"   Enter: {_PANE_WORDS[ways[0][0]]}; y: copy; Esc: back"
            panel.show_lines(title, lambda width, look: evidence_lines(finding, width, look))
        elif self.page == "thread":
            self._show_thread(panel, view, start)
        elif self.page == "compare" and view.marked is not None:
            marked = view.marked
            panel.show_lines(
                "Compare two ranges" if view.extras.drifted is None else "Against the baseline",
                lambda width, look: compare_lines(marked, snapshot, start, width, look, view.extras.drifted),
            )

    def _show_thread(self, panel: LinesPanel, view: View, start_ns: int) -> None:
        thread, history = self.chosen_thread(), view.extras.history
        if thread is None:
            panel.show_lines("Thread", _not_in_range)
            return
        counted = view.snapshot is None or view.snapshot.imported is None
        panel.show_lines(
            f"Thread {thread_title(thread)}   4: its lines; Esc: back",
            lambda width, look: thread_lines(thread, history, start_ns, width, look, counted=counted),
        )

    # --- what the worker has to find out -----------------------------------------------------------------

    def on_resize(self, _: Resize) -> None:
        """Other panes may be shown, with room for more slices of time."""
        self.call_after_refresh(self._again)

    def _again(self) -> None:
        self.show_view(self._view)
        cast(AsksForMore, self.app).ask_for_what_is_shown()

    def wants(self) -> Wants:
        """What is on the screen besides the snapshot."""
        history = 0
        if self.page == "thread":
            # Room for a scroll bar or not: then the same is asked before and after one appears.
            history = max(10, self.size.width - 4)
        frame = self.hot.frame if self.page == "hot" else None
        return Wants(
            timeline=self.size.width if self.page == "overview" else 0,
            lanes=self.threads.lane_slices if self.threads.display else 0,
            history=history,
            history_of=self.thread if history else None,
            functions=self.hot.display and self.hot.mode is Mode.FUNCTIONS,
            tree=self.hot.display and self.hot.mode is Mode.TREE,
            waits=self.page == "locks",
            scaling=self.page == "scaling",
            source=frame.filename if frame is not None else None,
        )


def _no_data(width: int, look: Look) -> Lines:
    return [muted_line("no data yet", width, look)]


def _not_in_range(width: int, look: Look) -> Lines:
    return [muted_line("this thread was not there in this range", width, look)]


def muted_line(words: str, width: int, look: Look) -> list[Any]:
    """One muted line."""
    return [look.cell(f" {words}", width, look.muted)]
