"""The cockpit without its keys: what is shown, what is asked of the worker, and the worker.

In: a `SnapshotSource`. Out: snapshots, one a refresh, posted as one frozen message; widgets only paint what
they are given. Nothing but the worker touches the source.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from textual import work
from textual.app import App
from textual.message import Message
from textual.worker import get_current_worker

from ftdiag.datatypes import dataclass, replace
from ftdiag.errors import FtdiagError
from ftdiag.model import Finding, Snapshot
from ftdiag.tui.header import Header
from ftdiag.tui.keysline import KeysLine
from ftdiag.tui.look import Look, look_for
from ftdiag.tui.memory import MemoryControl
from ftdiag.tui.pages import Pages
from ftdiag.tui.queries import Answers, BaselineControl, Query, Range, answered
from ftdiag.tui.saving import Saver
from ftdiag.tui.source import Selection, SnapshotSource, View
from ftdiag.tui.sourcetext import SourceText
from ftdiag.wording.predictions import prediction_sentences

FIRST_LENGTH_NS: Final = 60_000_000_000
"""The range that a live session shows first."""
YOUNG_OBJECTS: Final = 20_000
"""New objects after which the collector looks through them: some megabytes."""
MAX_TRAIL: Final = 8
"""Pages that Esc goes back to."""
NOTICE_S: Final = 4.0
LONG_NOTICE_S: Final = 12.0
"""What takes longer to read."""
FIRST_GLIMPSE_S: Final = 0.3
"""So long after a long range is begun to be read there is a picture of what is read of it so far."""
GLIMPSE_EVERY_S: Final = 1.0
"""At most so often there is another."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the worker is to show: a range of time, and what of it is on the screen."""

    selection: Selection
    queries: tuple[Query[Any], ...] = ()


class Refreshed(Message):
    """A new snapshot, or `None` while nothing is recorded yet, and what else the screen asked for."""

    def __init__(
        self,
        snapshot: Snapshot | None,
        answers: Answers,
        live: bool,
        span_ns: tuple[int, int] | None,
        request: Request,
        failure: str | None = None,
        read_ratio: float | None = None,
    ) -> None:
        super().__init__()
        self.failure = failure
        self.read_ratio = read_ratio
        self.snapshot = snapshot
        self.answers = answers
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


class CockpitBase(App[None]):
    """What is shown and how it gets there."""

    def __init__(
        self,
        source: SnapshotSource,
        *,
        refresh_seconds: float,
        ascii_only: bool,
        texts: SourceText,
        saver: Saver,
        memory: MemoryControl | None,
        on_first_data: Callable[[], None] | None,
        baseline: BaselineControl | None,
        ansi_color: bool | None,
    ) -> None:
        self._source = source
        self._on_first_data = on_first_data
        self._texts = texts
        self._saver = saver
        self._memory = memory
        self._memory_words: str | None = None
        self._refresh_seconds = refresh_seconds
        self._ascii_only = ascii_only
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
        super().__init__(ansi_color=ansi_color)
        self._pages = Pages()

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

    def say(self, words: str, *, alarm: bool = False, seconds: float = NOTICE_S) -> None:
        """A short notice that goes away."""
        text = "\n".join(self.look.safe(line) for line in words.splitlines())
        self.notify(text, markup=False, severity="warning" if alarm else "information", timeout=seconds)

    def _go_to(self, page: str) -> None:
        """Show a page from which Esc comes back here."""
        if self._pages.page != page:
            self._trail = [*self._trail[-MAX_TRAIL:], self._pages.page]
        self._pages.open(page)
        self._paint(self._view)

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
                        if not self._read(request):
                            continue
                        snapshot = self._take(request.selection)
                    answers = self._answers(request, snapshot)
                    span = self._source.span_ns() if snapshot is not None else None
                    live, failure = self._source.live, self._source.failure
                    self.post_message(Refreshed(snapshot, answers, live, span, request, failure))
                    answered = request
                self._replay(request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
                self.post_message(RefreshFailed(one_line(error)))
                # With the next try it is asked again even if nothing is new by then.
                answered = None
            if request == self._request:
                self._wake.wait(self._refresh_seconds if self._source.live or answered is None else None)
            self._wake.clear()
        self._source.close()

    def _read(self, request: Request) -> bool:
        """Read the range, with pictures of what is read so far where that takes long.

        False if something else is asked for meanwhile.
        """
        session, span = self._source.session, self._source.span_ns()
        if session is None or span is None or self._source.live:
            return True
        next_s = time.monotonic() + FIRST_GLIMPSE_S
        for share, glimpse in session.reading(*request.selection.bounds_ns(span)):
            if self._stopping or request.selection != self._request.selection:
                return False
            begun_s = time.monotonic()
            if begun_s >= next_s and share < 1.0:
                answers = Answers()
                self.post_message(Refreshed(glimpse(), answers, False, span, request, None, share))
                # A tenth of the time at most goes into pictures that do not last.
                next_s = time.monotonic() + max(GLIMPSE_EVERY_S, 9 * (time.monotonic() - begun_s))
        return True

    def _take(self, selection: Selection) -> Snapshot | None:
        span_ns = self._source.span_ns()
        if span_ns is None:
            return None
        return self._source.snapshot(*selection.bounds_ns(span_ns))

    def _replay(self, request: Request) -> None:
        """What fixing the finding that was asked about would bring."""
        finding, self._to_replay = self._to_replay, None
        session, span = self._source.session, self._source.span_ns()
        if finding is None or session is None or span is None:
            return
        prediction = session.predicted(finding, *request.selection.bounds_ns(span))
        self.post_message(Predicted("\n".join(prediction_sentences(prediction))))

    def _answers(self, request: Request, snapshot: Snapshot | None) -> Answers:
        """What the screen wants besides the snapshot."""
        session, span = self._source.session, self._source.span_ns()
        if snapshot is None or session is None or span is None:
            return Answers()
        alive = self._source.watches and self._source.live and snapshot.end is None
        pid = snapshot.target.pid if alive else None
        bounds = request.selection.bounds_ns(span)
        return answered(request.queries, Range(session, snapshot, *bounds, self._texts, pid, self._baseline))

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
        self.screen_stack[0].query_one(Header).show_view(view)
        self._ask(replace(self._request, selection=selection))

    def ask_for_what_is_shown(self) -> None:
        """The screen shows something else of the same range."""
        self._ask(replace(self._request, queries=self._pages.queries()))

    def on_refreshed(self, message: Refreshed) -> None:
        """Paint the snapshot, unless something else was asked for meanwhile."""
        if message.request.selection != self._request.selection:
            return
        if self._view.snapshot is None:
            self._has_begun()
        if message.snapshot is not None and self._on_first_data is not None:
            self.call_after_refresh(self._on_first_data)
            self._on_first_data = None
        self._painted = message.request if message.read_ratio is None else None
        self._paint(
            replace(
                self._view,
                snapshot=message.snapshot,
                answers=message.answers,
                live=message.live,
                span_ns=message.span_ns,
                selection=message.request.selection,
                error=message.failure,
                read_ratio=message.read_ratio,
            )
        )

    def _has_begun(self) -> None:
        """Whoever started the application may have stopped the collector of garbage so far."""
        if not self.is_headless:
            collect_seldom()

    def on_refresh_failed(self, message: RefreshFailed) -> None:
        """Say it in one line and go on."""
        if self._view.snapshot is None:
            self._has_begun()
        what = "cannot be read" if self._view.snapshot is None else "refresh failed, the data below stays"
        view = replace(self._view, error=f"{what}: {message.words}")
        self._view = view
        # Another screen may be above the panes, and at the end there is none.
        for header in self.screen_stack[0].query(Header):
            header.show_view(view)

    def _paint(self, view: View) -> None:
        self._view = view
        if not self.is_running:
            return
        self.screen_stack[0].query_one(Header).show_view(view)
        self._pages.show_view(view)
        self.screen_stack[0].query_one(KeysLine).show_page(self._pages.page)
        self.ask_for_what_is_shown()


def collect_seldom() -> None:
    """Have the collector look through what comes from now on, about once a refresh.

    All that was imported and mounted stays to the end: full passes over it take longer (60 to 90 ms, every
    half minute or so) than anything else here. A refresh makes some ten thousand objects, hardly any of them
    in circles; 20 passes over those that are young were a twentieth of it.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    gc.enable()


def one_line(error: Exception) -> str:
    """An error as one line for the header."""
    words = str(error).strip().splitlines()
    reason = words[0] if words else type(error).__name__
    if not isinstance(error, FtdiagError):
        reason = f"{type(error).__name__}: {reason}"
    return reason
