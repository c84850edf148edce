"""A view of one page in the terminal, left with a key or a signal: what the views beside the cockpit share.

In: a panel that a view fills. Out: the screen; `ended_by` is the signal that ended it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType

from ftdiag.tui.lines import LinesPanel
from ftdiag.tui.look import DARK, LIGHT, PLAIN, SIXTEEN, THEMES, Look, locale_is_ascii, look_for, theme_for


class OnePageApp(App[None]):
    """The application: rows to choose from and what is told of them, in one scrolling panel."""

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "ftdiag"
    ENABLE_COMMAND_PALETTE = False

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q,ctrl+c,escape", "leave", "Leave", show=False, priority=True),
        Binding("up,k", "step(-1)", "Up", show=False, priority=True),
        Binding("down,j", "step(1)", "Down", show=False, priority=True),
        Binding("enter", "choose", "Open", show=False, priority=True),
        Binding("T", "light_or_dark", "Light or dark", show=False),
    ]

    def __init__(self, panel_id: str, *, words: str = "", ascii_only: bool | None = None) -> None:
        self.ended_by: int | None = None
        self._words = words
        self._ascii_only = locale_is_ascii() if ascii_only is None else ascii_only
        self._old_handlers: dict[int, Any] = {}
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        for mine in THEMES:
            self.register_theme(mine)
        self.theme = theme_for(self.console.color_system, self.no_color)
        if self._ascii_only or self.theme in (PLAIN, SIXTEEN):
            self.add_class("-no-bars")
        self.panel = LinesPanel("", panel_id)

    @property
    def look(self) -> Look:
        """Styles and signs for this terminal and theme."""
        return look_for(self.theme, self._ascii_only)

    def compose(self) -> ComposeResult:
        """One panel."""
        yield self.panel

    def on_mount(self) -> None:
        """Show it; leave in order when asked to end."""
        self.panel.focus()
        self.show_page()
        if self._words:
            self.say(self._words)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._old_handlers[number] = signal.getsignal(number)
            self._loop_add(number)

    def _loop_add(self, number: int) -> None:
        import asyncio
        import threading

        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(number, self._end_by, number)

    def on_unmount(self) -> None:
        """Give signals back."""
        import asyncio

        for number, handler in self._old_handlers.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)

    def _end_by(self, number: int) -> None:
        self.ended_by = number
        self.exit()

    def action_leave(self) -> None:
        """Leave."""
        self.exit()

    def action_step(self, step: int) -> None:
        """Another row; for a view to say."""
        raise NotImplementedError

    def action_choose(self) -> None:
        """Open what the chosen row is about; for a view to say."""
        raise NotImplementedError

    def action_light_or_dark(self) -> None:
        """The other theme."""
        self.theme = LIGHT if self.theme == DARK else DARK
        self.show_page()

    def say(self, words: str) -> None:
        """A short notice."""
        self.notify(self.look.safe(words), markup=False, timeout=8.0)

    def show_page(self) -> None:
        """Fill the panel; for a view to say."""
        raise NotImplementedError
