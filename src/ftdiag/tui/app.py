"""The cockpit: the application that shows a recording, live or finished.

In: a `SnapshotSource`. Out: the screen. What the keys do is in `actions`, what feeds the screen in `base`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.segment import Segment
from textual.app import ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from ftdiag.tui.actions.files import FileActions
from ftdiag.tui.actions.memray import MemrayActions
from ftdiag.tui.actions.places import PlaceActions
from ftdiag.tui.actions.predict import PredictActions
from ftdiag.tui.actions.time import TimeActions
from ftdiag.tui.header import Header
from ftdiag.tui.keys import KEYS, bindings
from ftdiag.tui.keysline import KeysLine
from ftdiag.tui.look import DARK, LIGHT, PLAIN, SIXTEEN, THEMES, locale_is_ascii, look_of, theme_for
from ftdiag.tui.memory import MemoryControl
from ftdiag.tui.pages import FIRST
from ftdiag.tui.panes.registry import MAIN_PANES, PANES, pane_bindings
from ftdiag.tui.queries import BaselineControl
from ftdiag.tui.saving import Saver
from ftdiag.tui.source import SnapshotSource
from ftdiag.tui.sourcetext import SourceFiles, SourceText

REFRESH_SECONDS: Final = 1.0
"""A window of a recording is a second long; asking more often finds nothing new."""
ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class TooSmall(Widget):
    """The one line of a terminal that has no room for more."""

    def __init__(self) -> None:
        super().__init__(id="too-small")

    def render_line(self, y: int) -> Strip:
        """What there is and what is needed, as much as fits."""
        size = self.app.size
        words = f"terminal too small: {size.width}x{size.height}, needs 60x15"
        return Strip([Segment(look_of(self).cut(words, self.size.width), self.rich_style)])


class CockpitApp(TimeActions, PlaceActions, FileActions, MemrayActions, PredictActions):
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

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS), *pane_bindings()]

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
        self._old_handlers: dict[signal.Signals, Any] = {}
        self.ended_by: signal.Signals | None = None
        """The signal that ended it, for the exit status."""
        super().__init__(
            source,
            refresh_seconds=refresh_seconds,
            ascii_only=locale_is_ascii() if ascii_only is None else ascii_only,
            texts=SourceFiles() if texts is None else texts,
            saver=saver or Saver(),
            memory=memory,
            on_first_data=on_first_data,
            baseline=baseline,
            # With NO_COLOR and native colours Textual removes colours altogether, instead of using greys.
            ansi_color=True if "NO_COLOR" in os.environ else None,
        )
        for mine in THEMES:
            self.register_theme(mine)
        self.theme = theme or theme_for(self.console.color_system, self.no_color)
        if self._ascii_only:
            # Textual's own widgets draw borders and a magnifying glass.
            self.add_class("-ascii")
        if self._ascii_only or self.theme in (PLAIN, SIXTEEN):
            # Scroll bars are drawn with colours and block characters; the position is in the title anyway.
            self.add_class("-no-bars")

    # --- what it looks like ----------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Header, pages, keys."""
        yield TooSmall()
        yield Header()
        yield self._pages
        yield KeysLine()

    def action_command_palette(self) -> None:
        """The command palette, without the one sign in it that is not ASCII where there is nothing else."""
        if not self._ascii_only:
            super().action_command_palette()
        elif not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder="Search for commands", id="--command-palette"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: what the keys do, and pictures; no themes that are not ours."""
        for pane in MAIN_PANES:
            yield SystemCommand(
                f"Show {pane.title.lower()}",
                f"{pane.key}: {pane.about}",
                partial(self.action_pane, pane.name),
            )
        for key in (*KEYS, *(key for pane in PANES for key in pane.keys)):
            if key.palette:
                yield SystemCommand(
                    key.palette, f"{key.keys}: {key.does}", partial(self.run_action, key.action)
                )
        for name, export in self._saver.exports.items():
            yield SystemCommand(
                f"Export as {name}", f"This range, {export.words}", partial(self.action_export, name)
            )
        yield SystemCommand(
            "Screenshot", "This screen as SVG, in the current directory", self.action_save_screen
        )

    def on_mount(self) -> None:
        """Start reading."""
        self._pages.open(FIRST if self._baseline is None else "compare")
        self.query_one(Header).show_view(self._view)
        # Suspended, the shell had the screen: what came meanwhile would be drawn alone.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(), immediate=True)
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

    def action_light_or_dark(self) -> None:
        """The other theme; without 256 colours there is only one."""
        if self.theme in (DARK, LIGHT):
            self.theme = LIGHT if self.theme == DARK else DARK

    def action_help(self) -> None:
        """Show the keys."""
        # Not needed for the first picture.
        from ftdiag.tui.help import HelpScreen

        self.push_screen(HelpScreen())
