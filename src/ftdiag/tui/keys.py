"""Every key of the cockpit, in one table: the line at the bottom and the help are made from it.

In: nothing. Out: the table and the bottom line, whose words can be clicked.
"""

from __future__ import annotations

from typing import Final

from rich.segment import Segment
from textual.events import Click
from textual.strip import Strip
from textual.widget import Widget

from ftdiag.datatypes import dataclass
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
    Key("Enter", "open: a finding's evidence, a thread, a lock, a line", "enter", "open"),
    Key("Esc", "back: close, leave the details, clear filters", "escape", "back"),
    Key("s", "sort by the next column", "s", "sort"),
    Key("[, ]", "half a range back, forward; live sessions too", "left_square_bracket", "back in time"),
    Key("w", "time range: last 10 s, last 60 s, whole recording", "w", "range"),
    Key("1", "overview: the answer, cores, findings"),
    Key("2, t", "threads"),
    Key("3", "locks: waiters, holders, who waits now"),
    Key("4", "hot code: lines, functions, call tree, source"),
    Key("5", "scaling: ideal against actual, chain of factors"),
    Key("6", "memory"),
    Key("7", "quality: misses, gaps, what is not measured"),
    Key("v", "threads: what each did over time, or bars again"),
    Key("m", "hot code: lines, functions, call tree"),
    Key("x", "hot code: sort by the time in one state, then the next"),
    Key("e", "hot code: open the line in $VISUAL or $EDITOR"),
    Key("M", "which lines allocate: memray for 10 s; it asks first"),
    Key("+, }", "a narrower range; with a cursor in time, around it"),
    Key("-, {", "a wider range"),
    Key("0, End", "back to now, if paused or rewound"),
    Key("c", "mark this range; on another one: compare the two"),
    Key("W", "what fixing the finding would bring, by a replay"),
    Key("y", "copy the finding as text"),
    Key("o, J, H", "save a report of this range: as text, JSON, HTML"),
    Key("R", "save a copy of the recording so far"),
    Key("S", "reverse the order"),
    Key("right, left, l, h", "sort by the next column, the one before; in time: move"),
    Key("Tab, Shift+Tab", "next, previous pane"),
    Key("up, down, k, j", "move"),
    Key("PgUp, PgDn", "move by a screen (also Ctrl+B, Ctrl+F)"),
    Key("Home, End, g, G", "first, last row"),
    Key("z", "show only this pane, or all again"),
    Key("T", "light or dark"),
    Key("Ctrl+P", "command palette: panes, screenshot"),
    Key("Ctrl+Z", "suspend; fg brings it back"),
    Key("Mouse", "click a row or a column name; double click opens; wheel"),
)


def _sign(key: Key) -> str:
    return key.keys.partition(",")[0]


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
            sign = _sign(key)
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
            left += len(_sign(key)) + len(key.short) + 3
            if event.x < left:
                self.app.simulate_key(key.press)
                return

    @staticmethod
    def _shown() -> list[Key]:
        return [key for key in KEYS if key.short]
