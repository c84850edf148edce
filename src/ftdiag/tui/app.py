"""The cockpit: the application that shows a recording, live or finished.

In: a `SnapshotSource`. Out: the screen. A worker thread asks the source for a snapshot, one a refresh, and
posts it as one frozen message; widgets only paint what they are given. Nothing else touches the source.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.segment import Segment
from textual import work
from textual.app import App, ComposeResult, SuspendNotSupported, SystemCommand
from textual.binding import Binding, BindingType
from textual.events import Event, Key
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import get_current_worker

from ftdiag import confined
from ftdiag.datatypes import dataclass, replace
from ftdiag.errors import FtdiagError
from ftdiag.model import Finding, Snapshot
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
from ftdiag.tui.memory import MemoryControl, MemoryDialog
from ftdiag.tui.pages import MAIN_PAGES, Pages
from ftdiag.tui.panes.evidence import finding_text, leads_to
from ftdiag.tui.saving import Saver, copy_path, report_path, write_text
from ftdiag.tui.source import BaselineControl, Extras, Selection, SnapshotSource, View, Wants
from ftdiag.tui.sourcetext import SourceFiles, SourceText
from ftdiag.tui.table import Table
from ftdiag.wording.predictions import prediction_sentences

REFRESH_SECONDS: Final = 1.0
"""A window of a recording is a second long; asking more often finds nothing new."""
FIRST_LENGTH_NS: Final = 60_000_000_000
"""The range that a live session shows first."""
NOTHING: Final = Wants()
MAX_FILTER_LENGTH: Final = 80
NOTICE_S: Final = 4.0
LONG_NOTICE_S: Final = 12.0
"""What takes longer to read."""
MEMRAY_POLL_S: Final = 0.3
MAX_TRAIL: Final = 8
"""Pages that Esc goes back to."""
KEYS_KEPT_BACK_S: Final = 1.0
"""At most this long keys wait for one before them that may never arrive: its widget may be gone."""
ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Request:
    """What the worker is to show: a range of time, and what of it is on the screen."""

    selection: Selection
    wants: Wants = NOTHING


class Refreshed(Message):
    """A new snapshot, or `None` while nothing is recorded yet, and what else the screen asked for."""

    def __init__(
        self,
        snapshot: Snapshot | None,
        extras: Extras,
        live: bool,
        span_ns: tuple[int, int] | None,
        request: Request,
        failure: str | None = None,
    ) -> None:
        super().__init__()
        self.failure = failure
        self.snapshot = snapshot
        self.extras = extras
        self.live = live
        self.span_ns = span_ns
        self.request = request


class RefreshFailed(Message):
    """The source could not be read this time; what is on the screen stays."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class Predicted(Message):
    """What a replay without the cause of a finding said."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class Saved(Message):
    """A file was written, or could not be."""

    def __init__(self, words: str, *, failed: bool = False) -> None:
        super().__init__()
        self.words = words
        self.failed = failed


class TooSmall(Widget):
    """The one line of a terminal that has no room for more."""

    def __init__(self) -> None:
        super().__init__(id="too-small")

    def render_line(self, y: int) -> Strip:
        """What there is and what is needed, as much as fits."""
        size = self.app.size
        words = f"terminal too small: {size.width}x{size.height}, needs 60x15"
        return Strip([Segment(look_of(self).cut(words, self.size.width), self.rich_style)])


class FilterField(Input):
    """Where the words of a filter are typed."""

    def __init__(self, words: str, placeholder: str) -> None:
        super().__init__(
            value=words, placeholder=placeholder, max_length=MAX_FILTER_LENGTH, compact=True, id="filter"
        )


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
        Binding("left_square_bracket", "move_in_time(-1)", "Back in time", show=False),
        Binding("right_square_bracket", "move_in_time(1)", "Forward in time", show=False),
        Binding("plus,equals_sign,right_curly_bracket", "scale(0.5)", "Narrower", show=False),
        Binding("minus,left_curly_bracket", "scale(2.0)", "Wider", show=False),
        Binding("0", "live", "Back to now", show=False),
        # The tables use it too: it is taken from them only while there is something to go back to.
        Binding("end", "live", "Back to now", show=False, priority=True),
        Binding("1", "pane('overview')", "Overview", show=False),
        Binding("2,t", "pane('threads')", "Threads", show=False),
        Binding("3", "pane('locks')", "Locks", show=False),
        Binding("4", "pane('hot')", "Hot code", show=False),
        Binding("5", "pane('scaling')", "Scaling", show=False),
        Binding("6", "pane('memory')", "Memory", show=False),
        Binding("7", "pane('quality')", "Quality", show=False),
        Binding("v", "lanes", "Lanes over time", show=False),
        Binding("m", "mode", "Kind of hot code", show=False),
        Binding("x", "pick_state", "Sort by a state", show=False),
        Binding("e", "edit", "Edit", show=False),
        Binding("M", "memray", "Attach memray", show=False),
        Binding("c", "compare", "Mark, compare", show=False),
        Binding("y", "copy", "Copy the finding", show=False),
        Binding("W", "predict", "What fixing it would bring", show=False),
        Binding("o", "save('txt')", "Save a report", show=False),
        Binding("J", "save('json')", "Save a report as JSON", show=False),
        Binding("H", "save('html')", "Save a report as HTML", show=False),
        Binding("R", "save_recording", "Save the recording", show=False),
        Binding("enter", "follow", "Follow", show=False),
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
        texts: SourceText | None = None,
        saver: Saver | None = None,
        memory: MemoryControl | None = None,
        on_first_data: Callable[[], None] | None = None,
        baseline: BaselineControl | None = None,
    ) -> None:
        """`on_first_data` is called once, when the first data are on the screen.

        With a `baseline` the view begins with what is not as it was there.
        """
        self._source = source
        self._on_first_data = on_first_data
        self._texts = SourceFiles() if texts is None else texts
        self._saver = saver or Saver()
        self._memory = memory
        self._memory_words: str | None = None
        self._refresh_seconds = refresh_seconds
        self._ascii_only = locale_is_ascii() if ascii_only is None else ascii_only
        self._wake = threading.Event()
        self._stopping = False
        # Set before the application exists: its first paint already asks for the look.
        selection = Selection(FIRST_LENGTH_NS) if source.live else Selection()
        self._baseline = baseline
        marked = None if baseline is None else baseline.snapshot
        self._view = View(live=source.live, selection=selection, marked=marked)
        self._request = Request(selection)
        self._to_replay: Finding | None = None
        """The finding that is to be replayed without its cause, by the worker."""
        # What "back to now" goes back to.
        self._followed = selection
        self._painted: Request | None = None
        self._trail: list[str] = []
        self._kept_back: list[Key] | None = None
        self._keeping_ends: Timer | None = None
        self._old_handlers: dict[signal.Signals, Any] = {}
        self.ended_by: signal.Signals | None = None
        """The signal that ended it, for the exit status."""
        # With NO_COLOR and native colours Textual removes colours altogether, instead of using greys.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        for mine in THEMES:
            self.register_theme(mine)
        self.theme = theme or theme_for(self.console.color_system, self.no_color)
        if self._ascii_only:
            # Textual's own widgets draw borders and a magnifying glass.
            self.add_class("-ascii")
        if self._ascii_only or self.theme in (PLAIN, SIXTEEN):
            # Scroll bars are drawn with colours and block characters; the position is in the title anyway.
            self.add_class("-no-bars")
        self._pages = Pages()

    # --- what it looks like ----------------------------------------------------------------------------

    @property
    def look(self) -> Look:
        """Styles and signs for this terminal and theme."""
        return look_for(self.theme, self._ascii_only)

    @property
    def view(self) -> View:
        """What is on the screen."""
        return self._view

    @property
    def settled(self) -> bool:
        """True when what is on the screen is all that was asked for."""
        return self._view.snapshot is not None and self._painted == self._request

    def compose(self) -> ComposeResult:
        """Header, pages, keys."""
        yield TooSmall()
        yield Header()
        yield self._pages
        yield KeysLine()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: what the keys do, and pictures; no themes that are not ours."""
        for name, words in MAIN_PAGES.items():
            yield SystemCommand(f"Show {words}", f"Go to {words}", partial(self.action_pane, name))
        yield SystemCommand("Pause or go on", "The recording goes on meanwhile", self.action_pause)
        yield SystemCommand("Back to now", "Follow the recording's end", self.action_live)
        yield SystemCommand("Attach memray", "Which lines allocate; says the price, asks", self.action_memray)
        yield SystemCommand("Light or dark", "The other theme", self.action_light_or_dark)
        yield SystemCommand("Keys", "Every key, and what the signs mean", self.action_help)
        for ending, name in (("txt", "text"), ("json", "JSON"), ("html", "HTML")):
            yield SystemCommand(
                f"Save a report as {name}",
                f"This range as {name}, in the current directory",
                partial(self.action_save, ending),
            )
        yield SystemCommand(
            "Save the recording", "A copy of all so far, for ftdiag open", self.action_save_recording
        )
        yield SystemCommand("Screenshot", "This screen as an SVG file", self.deliver_screenshot)
        yield SystemCommand("Quit", "Leave the cockpit", self.action_quit)

    def on_mount(self) -> None:
        """Start reading."""
        self._pages.open("overview" if self._baseline is None else "compare")
        self.query_one(Header).show_view(self._view)
        self._feed()
        if self._memory is not None and self._memory.busy:
            self._follow_memray(begin=False)
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
        snapshot: Snapshot | None = None
        while not (self._stopping or worker.is_cancelled):
            request = self._request
            try:
                changed = self._source.refresh()
                if changed or request != answered:
                    # Another pane or cursor asks for more of the same range: its snapshot is there already.
                    if changed or answered is None or request.selection != answered.selection:
                        snapshot = self._take(request.selection)
                    extras = self._answers(request, snapshot)
                    span = self._source.span_ns() if snapshot is not None else None
                    live, failure = self._source.live, self._source.failure
                    self.post_message(Refreshed(snapshot, extras, live, span, request, failure))
                    answered = request
                self._replay(request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
                self.post_message(RefreshFailed(_one_line(error)))
                # With the next try it is asked again even if nothing is new by then.
                answered = None
            if request == self._request:
                self._wake.wait(self._refresh_seconds if self._source.live or answered is None else None)
            self._wake.clear()
        self._source.close()

    def _replay(self, request: Request) -> None:
        """What fixing the finding that was asked about would bring."""
        finding, self._to_replay = self._to_replay, None
        queries, span = self._source.queries, self._source.span_ns()
        if finding is None or queries is None or span is None:
            return
        prediction = queries.predicted(finding, *request.selection.bounds_ns(span))
        self.post_message(Predicted("\n".join(prediction_sentences(prediction))))

    def _take(self, selection: Selection) -> Snapshot | None:
        span_ns = self._source.span_ns()
        if span_ns is None:
            return None
        return self._source.snapshot(*selection.bounds_ns(span_ns))

    def _answers(self, request: Request, snapshot: Snapshot | None) -> Extras:
        """What the screen wants besides the snapshot."""
        wants, queries, span = request.wants, self._source.queries, self._source.span_ns()
        if snapshot is None or queries is None or span is None:
            return Extras()
        bounds = request.selection.bounds_ns(span)
        history = None
        if wants.history_of is not None and wants.history:
            history = queries.history(wants.history_of, *bounds, wants.history)
        source = None
        if wants.source is not None:
            alive = self._source.watches and self._source.live and snapshot.end is None
            source = self._texts.read(wants.source, snapshot.target.pid if alive else None)
        waits = tuple(queries.wait_graph()) if wants.waits else None
        baseline = self._baseline
        return Extras(
            timeline=queries.timeline(*bounds, wants.timeline) if wants.timeline else None,
            lanes=queries.lanes(*bounds, wants.lanes) if wants.lanes else None,
            history=history,
            functions=queries.hot_functions(*bounds) if wants.functions else None,
            tree=queries.call_tree(*bounds) if wants.tree else None,
            waits=waits,
            scaling=queries.scaling(*bounds) if wants.scaling else None,
            deadlocks=queries.deadlocks_among(waits) if waits is not None else None,
            source=source,
            drifted=None if baseline is None else baseline.drifted(snapshot),
        )

    def _ask(self, request: Request) -> None:
        """Have the worker show something else, now."""
        if request != self._request:
            self._request = request
            self._wake.set()

    def _select(self, selection: Selection, paused: bool | None = None) -> None:
        """Another range; said at once, shown when it is there."""
        if selection.until_ns is None:
            self._followed = selection
        view = replace(
            self._view, selection=selection, paused=self._view.paused if paused is None else paused
        )
        self._view = view
        self.query_one(Header).show_view(view)
        self._ask(replace(self._request, selection=selection))

    def ask_for_what_is_shown(self) -> None:
        """The screen shows something else of the same range."""
        self._ask(replace(self._request, wants=self._pages.wants()))

    def on_refreshed(self, message: Refreshed) -> None:
        """Paint the snapshot, unless something else was asked for meanwhile."""
        if message.request.selection != self._request.selection:
            return
        if self._view.snapshot is None and not self.is_headless:
            # All that was imported and mounted stays to the end. Left to the collector, its full passes
            # over it take longer (60 to 90 ms, every half minute or so) than anything else here.
            gc.freeze()
        if message.snapshot is not None and self._on_first_data is not None:
            self.call_after_refresh(self._on_first_data)
            self._on_first_data = None
        self._painted = message.request
        self._paint(
            replace(
                self._view,
                snapshot=message.snapshot,
                extras=message.extras,
                live=message.live,
                span_ns=message.span_ns,
                selection=message.request.selection,
                error=message.failure,
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
        self._pages.show_view(view)
        self.ask_for_what_is_shown()

    # --- keys: time ------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Let the picture stand still, or go on. Recording is the sampler's, and goes on."""
        snapshot = self._view.snapshot
        if snapshot is None:
            return
        paused = not self._view.paused
        until = snapshot.t1_ns if paused else None
        self._select(replace(self._request.selection, until_ns=until), paused)

    def action_range(self) -> None:
        """The next length of the presets."""
        self._select(self._request.selection.next_preset)

    def action_move_in_time(self, direction: int) -> None:
        """Half a range back or forward."""
        if self._view.span_ns is not None:
            selection = self._request.selection.moved(direction, self._view.span_ns)
            self._select(selection, self._view.paused and selection.until_ns is not None)

    def action_scale(self, factor: float) -> None:
        """A narrower or wider range; with a cursor in time, around it."""
        if self._view.span_ns is not None:
            around = self._pages.cursor_ns
            self._select(self._request.selection.scaled(factor, self._view.span_ns, around))

    def action_live(self) -> None:
        """Follow the end of the recording again."""
        self._select(self._followed, False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`End` is the tables' unless there is a now to go back to; letters are a field's being typed in."""
        if action == "live":
            return self._request.selection.until_ns is not None and not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def action_compare(self) -> None:
        """Mark the range; on another one, compare."""
        snapshot = self._view.snapshot
        if snapshot is None:
            return
        marked = self._view.marked
        if self._pages.page == "compare" or marked is None or _same_range(marked, snapshot):
            # In place of a baseline, too.
            self._baseline = None
            self._view = replace(self._view, marked=snapshot, extras=replace(self._view.extras, drifted=None))
            self.say("range marked; choose another one ([ ] + - w), then c compares")
            self._pages.show_view(self._view)
            return
        self._go_to("compare")

    # --- keys: places ----------------------------------------------------------------------------------

    def action_pane(self, name: str) -> None:
        """Show a pane and go to it."""
        if self._pages.page == "finding" and self._pages.finding is not None:
            # From a finding every pane is filtered by what it speaks of.
            for pane, words in leads_to(self._pages.finding):
                if pane == name:
                    self._pages.filter_or_not(pane, words)
        elif self._pages.page != "thread":
            # From a thread's page the hot code is that thread's.
            self._pages.thread = None
        self._trail.clear()
        self._pages.open(name)
        self._paint(self._view)

    def _go_to(self, page: str) -> None:
        """Show a page from which Esc comes back here."""
        if self._pages.page != page:
            self._trail = [*self._trail[-MAX_TRAIL:], self._pages.page]
        self._pages.open(page)
        self._paint(self._view)

    def action_follow(self) -> None:
        """Enter on a finding's evidence: the pane it speaks of, filtered."""
        finding = self._pages.finding
        if self._pages.page != "finding" or finding is None:
            return
        for pane, words in leads_to(finding):
            if self._pages.filter_or_not(pane, words):
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
        elif self._pages.page != "overview":
            self._pages.thread = None
            self._pages.open("overview")
            self._paint(self._view)

    def action_zoom(self) -> None:
        """One pane alone, or all."""
        self._pages.toggle_class("-zoom")

    def action_lanes(self) -> None:
        """Go to the lanes of threads."""
        self.action_pane("threads")
        self._pages.threads.action_lanes()

    def action_mode(self) -> None:
        """Go to the hot code."""
        self.action_pane("hot")

    def action_pick_state(self) -> None:
        """Go to the hot code."""
        self.action_pane("hot")

    # --- keys: the rest --------------------------------------------------------------------------------

    def say(self, words: str, *, alarm: bool = False, seconds: float = NOTICE_S) -> None:
        """A short notice that goes away."""
        text = "\n".join(self.look.safe(line) for line in words.splitlines())
        self.notify(text, markup=False, severity="warning" if alarm else "information", timeout=seconds)

    def action_copy(self) -> None:
        """The finding as text, to the terminal's clipboard (OSC 52)."""
        finding = self._pages.finding_at_hand()
        if finding is None:
            self.say("no finding to copy")
            return
        self.copy_to_clipboard(finding_text(finding))
        self.say("finding copied (if the terminal allows OSC 52)")

    def action_predict(self) -> None:
        """What fixing the finding would bring: a replay of the range without its cause, in the background."""
        finding = self._pages.finding_at_hand()
        if finding is None:
            self.say("no finding here: 1 shows them")
            return
        if self._source.queries is None:
            self.say("nothing can be replayed here", alarm=True)
            return
        self._to_replay = finding
        self._wake.set()
        self.say(f"replaying without {finding.rule_id} ...")

    def on_predicted(self, event: Predicted) -> None:
        """Say it."""
        self.say(event.words, seconds=LONG_NOTICE_S)

    def action_save(self, ending: str = "txt") -> None:
        """A report of the range, in the current directory."""
        snapshot, make = self._view.snapshot, self._saver.reports.get(ending)
        if snapshot is None or make is None:
            self.say("nothing to save here", alarm=True)
            return
        path = report_path(snapshot, self._view.span_ns, ending)
        self._save(path, lambda: write_text(path, make(snapshot)))

    def action_save_recording(self) -> None:
        """A copy of the recording, in the current directory; a recording that grows goes on."""
        snapshot, span_ns, copy = self._view.snapshot, self._view.span_ns, self._saver.copy_recording
        if snapshot is None or span_ns is None or copy is None:
            self.say("nothing to save here", alarm=True)
            return
        path = copy_path(snapshot, span_ns)
        self._save(path, partial(copy, path))

    @work(thread=True, group="save")
    def _save(self, path: Path, write: Callable[[], None]) -> None:
        """Write a file, which may take a while, and tell."""
        try:
            write()
        except FtdiagError as error:
            self.post_message(Saved("\n".join(filter(None, (error.what, error.hint))), failed=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
            self.post_message(Saved(f"{path} is not written: {_one_line(error)}", failed=True))
        else:
            self.post_message(Saved(f"saved {path}"))

    def on_saved(self, event: Saved) -> None:
        """Say how it went."""
        self.say(event.words, alarm=event.failed, seconds=LONG_NOTICE_S if event.failed else NOTICE_S)

    def action_edit(self) -> None:
        """The line under the cursor in the editor."""
        frame = self._pages.hot.frame
        source = self._view.extras.source
        if self._pages.page != "hot" or frame is None:
            self.say("go to a line of the hot code (4) first")
            return
        if source is None or source.path is None or source.filename != frame.filename:
            self.say(source.why if source is not None and source.why else "source not available", alarm=True)
            return
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            line = self._pages.hot.line_in(source) or 1
            refused = confined.editor_refused(source.path)
            if refused is not None:
                self.say(f"{refused}: {source.path}:{line}", alarm=True, seconds=LONG_NOTICE_S)
                return
            command = [*shlex.split(editor), f"+{line}", source.path]
            with self.suspend():
                confined.edit(command, source.path)
        except SuspendNotSupported:
            self.say("this terminal cannot be handed to an editor", alarm=True)
        except (OSError, ValueError) as error:
            self.say(f"{editor} does not run: {error}", alarm=True)
        self.refresh()

    # --- memray ------------------------------------------------------------------------------------------

    def action_memray(self) -> None:
        """Say what attaching memray costs, and ask; if it is attached, how far it is."""
        if self._memory_words is not None:
            self.say(self._memory_words)
        elif self._memory is None or not self._view.live:
            self.say("memray can be attached to a running process only: ftdiag attach PID", alarm=True)
        else:
            self._memory_words = "checking whether memray can be attached"
            self.say(self._memory_words)
            self._price_memray()

    @work(thread=True, exclusive=True, group="memray")
    def _price_memray(self) -> None:
        """Ask what it costs; takes a second."""
        assert self._memory is not None
        try:
            price = self._memory.price()
        except FtdiagError as error:
            self.call_from_thread(self._refuse_memray, "\n".join(filter(None, (error.what, error.hint))))
        except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
            self.call_from_thread(self._refuse_memray, f"memray: {_one_line(error)}")
        else:
            self.call_from_thread(self._ask_for_memray, price)

    def _refuse_memray(self, words: str) -> None:
        self._memory_words = None
        self.say(words, alarm=True, seconds=LONG_NOTICE_S)

    def _ask_for_memray(self, price: tuple[str, ...]) -> None:
        assert self._memory is not None

        def answered(yes: bool | None) -> None:
            self._memory_words = None
            if yes:
                self._follow_memray(begin=True)

        self.push_screen(MemoryDialog(price, self._memory.duration_s), answered)

    @work(thread=True, exclusive=True, group="memray")
    def _follow_memray(self, *, begin: bool) -> None:
        """Attach it, and say how it goes. The only place that calls it from here on."""
        assert self._memory is not None
        try:
            if begin:
                self._memory.attach()
            while not self._stopping:
                words = self._memory.poll()
                over = words is None or not self._memory.busy
                self.call_from_thread(self._hear_of_memray, words, over)
                if over:
                    return
                time.sleep(MEMRAY_POLL_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
            if not self._stopping:
                self.call_from_thread(self._hear_of_memray, f"memray: {_one_line(error)}", True)

    def _hear_of_memray(self, words: str | None, over: bool) -> None:
        """Tell what is new: each phase once, the end for longer."""
        before, self._memory_words = self._memory_words, None if over else words
        if words is None:
            return
        if over:
            self.say(words, seconds=LONG_NOTICE_S)
        elif before is None or before.partition(":")[0] != words.partition(":")[0]:
            self.say(words)

    def action_light_or_dark(self) -> None:
        """The other theme; without 256 colours there is only one."""
        if self.theme in (DARK, LIGHT):
            self.theme = LIGHT if self.theme == DARK else DARK

    def action_help(self) -> None:
        """Show the keys."""
        # Not needed for the first picture.
        from ftdiag.tui.help import HelpScreen

        self.push_screen(HelpScreen())

    # --- the filter ------------------------------------------------------------------------------------

    def _can_filter(self) -> Table[Any] | None:
        """The table whose rows words would choose; `None` where there is none or they are being typed."""
        if len(self.screen_stack) > 1 or isinstance(self.focused, Input) or self.query(FilterField):
            return None
        return self._pages.current_table()

    async def action_filter(self) -> None:
        """Ask for words; the pane shows what has them while they are typed."""
        table = self._can_filter()
        if table is not None:
            field = FilterField(
                table.filter_text,
                f"filter {table.pane_title.lower()}: words in any column; Enter keeps, Esc clears",
            )
            await self.mount(field)
            self.screen.set_focus(field)
        await self._hand_out_keys()

    async def on_event(self, event: Event) -> None:
        """Keep keys back behind one that opens or closes the filter's field.

        A key goes to what has the focus while the key before it is still on its way up from there. Without
        this, the first letters of words that are typed at once reached the table, and the rest the field.
        """
        if isinstance(event, Key) and not event.is_forwarded:
            if self._kept_back is not None:
                self._kept_back.append(event)
                return
            if self._moves_the_focus(event.key):
                self._kept_back = []
                self._keeping_ends = self.set_timer(KEYS_KEPT_BACK_S, self._hand_out_keys)
        await super().on_event(event)

    def _moves_the_focus(self, key: str) -> bool:
        if isinstance(self.focused, FilterField):
            return key in ("enter", "escape")
        return key == "slash" and self._can_filter() is not None

    async def _hand_out_keys(self) -> None:
        """Let the keys follow that were kept back."""
        if self._keeping_ends is not None:
            self._keeping_ends.stop()
        kept, self._kept_back, self._keeping_ends = self._kept_back or [], None, None
        for key in kept:
            await self.on_event(key)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        table = self._pages.current_table()
        if table is not None and event.input.id == "filter":
            table.set_filter(event.value)

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and go back to the rows."""
        if event.input.id == "filter":
            await self._close_filter(event.input)

    async def _close_filter(self, field: Input) -> None:
        table = self._pages.current_table()
        self.screen.set_focus(table)
        await field.remove()
        await self._hand_out_keys()


def _same_range(one: Snapshot, other: Snapshot) -> bool:
    return (one.t0_ns, one.t1_ns) == (other.t0_ns, other.t1_ns)


def _one_line(error: Exception) -> str:
    """An error as one line for the header."""
    words = str(error).strip().splitlines()
    reason = words[0] if words else type(error).__name__
    if not isinstance(error, FtdiagError):
        reason = f"{type(error).__name__}: {reason}"
    return reason
