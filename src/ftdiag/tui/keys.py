"""Every key of the cockpit, in one table: the line at the bottom and the help are made from it.

In: nothing. Out: the table and the bottom line, whose words can be clicked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.segment import Segment
from textual.events import Click
from textual.strip import Strip
from textual.widget import Widget

from ftdiag.tui.look import look_of


@dataclass(frozen=True, slots=True)
class Key:
    """A key for people. `press` is Textual's name of it; `short` is its word in the bottom line, if any."""

    keys: str
    does: str
    press: str = ""
    short: str = ""


KEYS: Final[tuple[Key, ...]] = (
    Key("q", "quit", "q", "quit"),
    Key("?", "this help; any of ? Esc q closes it", "question_mark", "help"),
    Key("Space, p", "pause and go on; the recording goes on meanwhile", "space", "pause"),
    Key("/", "filter the pane by words: name, state, function, file, lock", "slash", "filter"),
    Key("s, right, l", "sort by the next column", "s", "sort"),
    Key("left, h", "sort by the column before"),
    Key("S", "reverse the order", "S", "reverse"),
    Key("w", "time range: last 10 s, last 60 s, whole recording", "w", "range"),
    Key("Enter", "on a thread: its hot lines; elsewhere: to the details", "enter", "open"),
    Key("Esc", "back: close, leave the details, clear filters", "escape", "back"),
    Key("1, t", "threads"),
    Key("2", "hot lines"),
    Key("3", "locks"),
    Key("Tab, Shift+Tab", "next, previous pane"),
    Key("up, down, k, j", "move"),
    Key("PgUp, PgDn", "move by a screen (also Ctrl+B, Ctrl+F)"),
    Key("Home, End, g, G", "first, last row"),
    Key("z", "show only this pane, or all again", "z", "zoom"),
    Key("T", "light or dark"),
    Key("Ctrl+P", "command palette: themes, screenshot"),
    Key("Ctrl+Z", "suspend; fg brings it back"),
    Key("Mouse", "click a row or a column name; double click opens; wheel"),
)


class KeysLine(Widget):
    """The line at the bottom."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="keys")

    def render_line(self, y: int) -> Strip:
        """The keys that have a word, as many as fit."""
        look = look_of(self)
        width = self.size.width
        base = self.rich_style + look.band
        segments: list[Segment] = []
        left = 0
        for key in self._shown():
            sign = key.keys.partition(",")[0]
            length = len(sign) + len(key.short) + 3
            if left + length > width:
                break
            left += length
            segments += [Segment(f" {sign} ", base + look.strong), Segment(f"{key.short} ", base)]
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: Click) -> None:
        """Press the key whose word was clicked."""
        left = 0
        for key in self._shown():
            left += len(key.keys.partition(",")[0]) + len(key.short) + 3
            if event.x < left:
                self.app.simulate_key(key.press)
                return

    @staticmethod
    def _shown() -> list[Key]:
        return [key for key in KEYS if key.short]
