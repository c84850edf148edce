"""The cockpit: the application that shows a recording, live or finished.

In: a `SnapshotSource`. Out: the screen. A worker thread asks the source for a snapshot, one a refresh, and
posts it as one frozen message; widgets only paint what they are given. Nothing else touches the source.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.segment import Segment
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import get_current_worker

from ftdiag.errors import FtdiagError
from ftdiag.model import Snapshot, ThreadMetrics
from ftdiag.tui.header import Header
from ftdiag.tui.keys import KeysLine
from ftdiag.tui.lines import LinesPanel
from ftdiag.tui.look import (
    DARK,
    LIGHT,
    PLAIN,
    SIXTEEN,
    THEMES,
    Look,
    locale_is_ascii,
    look_for,
    look_of,
    theme_for,
)
from ftdiag.tui.panes.hot import HotPane, HotTable
from ftdiag.tui.panes.locks import LocksPane, LocksTable
from ftdiag.tui.panes.threads import ThreadsPane
from ftdiag.tui.source import SnapshotSource, TimeRange, View
from ftdiag.tui.table import Table

REFRESH_SECONDS: Final = 1.0
"""A window of a recording is a second long; asking more often finds nothing new."""
MAX_FILTER_LENGTH: Final = 80
ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Request:
    """What the worker is to show: a range, and where time stands still while paused."""

    range: TimeRange
    until_ns: int | None


class Refreshed(Message):
    """A new snapshot, or `None` while nothing is recorded yet."""

    def __init__(self, snapshot: Snapshot | None, live: bool, request: Request) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.live = live
        self.request = request


class RefreshFailed(Message):
    """The source could not be read this time; what is on the screen stays."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class TooSmall(Widget):
    """The one line of a terminal that has no room for more."""

    def __init__(self) -> None:
        super().__init__(id="too-small")

    def render_line(self, y: int) -> Strip:
        """What there is and what is needed, as much as fits."""
        size = self.app.size
        words = f"terminal too small: {size.width}x{size.height}, needs 60x15"
        return Strip([Segment(look_of(self).cut(words, self.size.width), self.rich_style)])


class CockpitApp(App[None]):
    """The application."""

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "ftdiag"
    ENABLE_COMMAND_PALETTE = True
    # Textual declares these two as instance variables, so they cannot be ClassVar here.
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"),
        (60, "-slim"),
        (76, "-normal"),
        (160, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (15, "-short"), (30, "-tall")]  # noqa: RUF012

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q", "quit", "Quit", show=False, priority=False),
        Binding("ctrl+c", "quit", "Quit", show=False),
        Binding("space,p", "pause", "Pause", show=False),
        Binding("slash", "filter", "Filter", show=False),
        Binding("escape", "step_back", "Back", show=False),
        Binding("w", "range", "Time range", show=False),
        Binding("1,t", "pane('threads')", "Threads", show=False),
        Binding("2", "pane('hot')", "Hot lines", show=False),
        Binding("3", "pane('locks')", "Locks", show=False),
        Binding("z", "zoom", "Zoom", show=False),
        Binding("T", "light_or_dark", "Light or dark", show=False),
        Binding("question_mark", "help", "Help", show=False),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False),
    ]

    def __init__(
        self,
        source: SnapshotSource,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        ascii_only: bool | None = None,
        theme: str | None = None,
    ) -> None:
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._ascii_only = locale_is_ascii() if ascii_only is None else ascii_only
        self._wake = threading.Event()
        self._stopping = False
        # Set before the application exists: its first paint already asks for the look.
        self._view = View(live=source.live, range=TimeRange.LAST_60_S if source.live else TimeRange.WHOLE)
        self._request = Request(self._view.range, None)
        self._thread: int | None = None
        self._old_handlers: dict[signal.Signals, Any] = {}
        self.ended_by: signal.Signals | None = None
        """The signal that ended it, for the exit status."""
        # With NO_COLOR and native colours Textual removes colours altogether, instead of using greys.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        for mine in THEMES:
            self.register_theme(mine)
        self.theme = theme or theme_for(self.console.color_system, self.no_color)
        if self._ascii_only or self.theme in (PLAIN, SIXTEEN):
            # Scroll bars are drawn with colours and block characters; the position is in the title anyway.
            self.add_class("-no-bars")
        self._threads = ThreadsPane()
        self._hot = HotPane()
        self._locks = LocksPane()

    # --- what it looks like ----------------------------------------------------------------------------

    @property
    def look(self) -> Look:
        """Styles and signs for this terminal and theme."""
        return look_for(self.theme, self._ascii_only)

    @property
    def view(self) -> View:
        """What is on the screen."""
        return self._view

    def compose(self) -> ComposeResult:
        """Header, panes, keys."""
        yield TooSmall()
        yield Header()
        with Container(id="panes"):
            yield self._threads
            yield self._hot
            yield self._locks
        yield KeysLine()

    def on_mount(self) -> None:
        """Start reading."""
        self._threads.focus()
        self._feed()
        self._take_signals()

    def on_unmount(self) -> None:
        """Let the worker go."""
        self._stopping = True
        self._wake.set()
        self._give_signals_back()

    def _take_signals(self) -> None:
        """Leave in order when asked to end or when the terminal goes away, so that it is restored."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in ENDING_SIGNALS:
            self._old_handlers[number] = signal.getsignal(number)
            loop.add_signal_handler(number, self._end_by, number)

    def _end_by(self, number: signal.Signals) -> None:
        self.ended_by = number
        self.exit()

    def _give_signals_back(self) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._old_handlers.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
        self._old_handlers.clear()

    # --- the worker ------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="feed")
    def _feed(self) -> None:
        """Refresh and post, until the end. The only place that calls the source."""
        worker = get_current_worker()
        answered: Request | None = None
        while not (self._stopping or worker.is_cancelled):
            request = self._request
            try:
                changed = self._source.refresh()
                if changed or request != answered:
                    self.post_message(Refreshed(self._take(request), self._source.live, request))
                    answered = request
            except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
                self.post_message(RefreshFailed(_one_line(error)))
                # With the next try it is asked again even if nothing is new by then.
                answered = None
            self._wake.wait(self._refresh_seconds if self._source.live or answered is None else None)
            self._wake.clear()
        self._source.close()

    def _take(self, request: Request) -> Snapshot | None:
        span_ns = self._source.span_ns()
        if span_ns is None:
            return None
        return self._source.snapshot(*request.range.bounds_ns(span_ns, request.until_ns))

    def _ask(self, request: Request) -> None:
        """Have the worker show something else, now."""
        self._request = request
        self._wake.set()

    def on_refreshed(self, message: Refreshed) -> None:
        """Paint the snapshot, unless something else was asked for meanwhile."""
        if message.request != self._request:
            return
        if self._view.snapshot is None and not self.is_headless:
            # All that was imported and mounted stays to the end. Left to the collector, its full passes
            # over it take longer (60 to 90 ms, every half minute or so) than anything else here.
            gc.freeze()
        self._paint(
            replace(
                self._view,
                snapshot=message.snapshot,
                live=message.live,
                range=message.request.range,
                error=None,
            )
        )

    def on_refresh_failed(self, message: RefreshFailed) -> None:
        """Say it in one line and go on."""
        what = "cannot be read" if self._view.snapshot is None else "refresh failed, the data below stays"
        view = replace(self._view, error=f"{what}: {message.words}")
        self._view = view
        self.query_one(Header).show_view(view)

    def _paint(self, view: View) -> None:
        self._view = view
        if not self.is_running:
            return
        self.screen_stack[0].query_one(Header).show_view(view)
        self._threads.show_view(view)
        locks = len(view.snapshot.locks) if view.snapshot else 0
        self._hot.show_view(view, self._chosen_thread())
        self._locks.show_view(view)
        self._panes.set_class(locks > 0, "-has-locks")

    @property
    def _panes(self) -> Container:
        return self.screen_stack[0].query_one("#panes", Container)

    def _chosen_thread(self) -> ThreadMetrics | None:
        """The thread whose hot lines are shown; when it is not in the range, those of all."""
        snapshot = self._view.snapshot
        if snapshot is None or self._thread is None:
            return None
        return next((thread for thread in snapshot.threads if thread.info.index == self._thread), None)

    # --- keys ------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Let the picture stand still, or go on. Recording is the sampler's, and goes on."""
        snapshot = self._view.snapshot
        if snapshot is None:
            return
        paused = not self._view.paused
        view = replace(self._view, paused=paused)
        self._view = view
        self.query_one(Header).show_view(view)
        self._ask(replace(self._request, until_ns=snapshot.t1_ns if paused else None))

    def action_range(self) -> None:
        """The next range of time."""
        view = replace(self._view, range=self._request.range.next)
        self._view = view
        self.query_one(Header).show_view(view)
        self._ask(replace(self._request, range=view.range))

    def action_pane(self, name: str) -> None:
        """Show a pane and go to it."""
        panes = self._panes
        if name in ("hot", "locks"):
            panes.set_class(name == "locks", "-below-locks")
        targets: dict[str, Widget] = {
            "threads": self._threads,
            "hot": self._hot.query_one(HotTable),
            "locks": self._locks.query_one(LocksTable),
        }
        target = targets[name]
        self._mark_current(name)
        # A pane that was hidden can take the focus only once it is laid out.
        self.call_after_refresh(target.focus)

    def _mark_current(self, name: str) -> None:
        for pane in (self._threads, self._hot, self._locks):
            pane.set_class(pane.id == name, "-current")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Know which pane is meant by zoom and filter."""
        for pane in (self._threads, self._hot, self._locks):
            if pane in event.widget.ancestors_with_self:
                self._mark_current(pane.id or "")

    def action_zoom(self) -> None:
        """One pane alone, or all."""
        self._panes.toggle_class("-zoom")

    def action_light_or_dark(self) -> None:
        """The other theme; without 256 colours there is only one."""
        if self.theme in (DARK, LIGHT):
            self.theme = LIGHT if self.theme == DARK else DARK

    def action_help(self) -> None:
        """Show the keys."""
        # Not needed for the first picture.
        from ftdiag.tui.help import HelpScreen

        self.push_screen(HelpScreen())

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Enter on a thread: its hot lines."""
        row = self._threads.current
        if event.table is self._threads and row is not None:
            self._thread = row.thread.info.index
            self._paint(self._view)
            self.action_pane("hot")

    async def action_step_back(self) -> None:
        """Undo the latest narrowing: details, the pane's filter, the chosen thread, any filter, zoom."""
        focused = self.focused
        if isinstance(focused, Input) and focused.id == "filter":
            await self._close_filter(focused)
            self._current_table().set_filter("")
            return
        if isinstance(focused, LinesPanel):
            self.action_pane("locks" if focused.id == "parties" else "hot")
            return
        table = self._current_table()
        if table.filter_text:
            table.set_filter("")
        elif self._thread is not None:
            self._thread = None
            self._paint(self._view)
            self.action_pane("threads")
        elif self._panes.has_class("-zoom"):
            self._panes.remove_class("-zoom")
        else:
            for other in self.query(Table):
                other.set_filter("")

    # --- the filter ------------------------------------------------------------------------------------

    def _current_table(self) -> Table[object]:
        for pane in (self._hot, self._locks):
            if pane.has_class("-current"):
                return pane.query_one(Table)
        return self._threads  # type: ignore[return-value]

    def action_filter(self) -> None:
        """Ask for words; the pane shows what has them while they are typed."""
        if self.query("#filter"):
            return
        table = self._current_table()
        field = Input(
            value=table.filter_text,
            placeholder=f"filter {table.pane_title.lower()}: words in any column; Enter keeps, Esc clears",
            max_length=MAX_FILTER_LENGTH,
            compact=True,
            id="filter",
        )
        self.mount(field)
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self._current_table().set_filter(event.value)

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and go back to the rows."""
        await self._close_filter(event.input)

    async def _close_filter(self, field: Input) -> None:
        table = self._current_table()
        await field.remove()
        table.focus()


def _one_line(error: Exception) -> str:
    """An error as one line for the header."""
    words = str(error).strip().splitlines()
    reason = words[0] if words else type(error).__name__
    if not isinstance(error, FtdiagError):
        reason = f"{type(error).__name__}: {reason}"
    return reason
