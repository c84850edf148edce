"""The line at the bottom: the panes, the one that is shown marked, and the most useful keys.

In: the tables of panes and keys. Out: one line, whose words can be clicked.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.segment import Segment
from textual.events import Click
from textual.strip import Strip
from textual.widget import Widget

from ftdiag.tui.keys import KEYS
from ftdiag.tui.look import look_of
from ftdiag.tui.panes.registry import MAIN_PANES


class KeysLine(Widget):
    """The line at the bottom."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._page = ""

    def show_page(self, page: str) -> None:
        """Mark the pane that is shown."""
        if page != self._page:
            self._page = page
            self.refresh()

    def _words(self) -> Iterator[tuple[str, str, str, bool]]:
        """The key to press, its sign and its word, and whether it is where one is."""
        for pane in MAIN_PANES:
            yield pane.key, pane.key, pane.short, pane.name == self._page
        for key in KEYS:
            if key.short:
                yield key.press.partition(",")[0], key.keys.partition(",")[0], key.short, False

    def render_line(self, y: int) -> Strip:
        """The panes, then the keys that have a word, as many as fit."""
        look = look_of(self)
        width = self.size.width
        base = self.rich_style + look.band
        segments: list[Segment] = []
        left = 0
        for _, sign, word, here in self._words():
            length = len(sign) + len(word) + 3
            if left + length > width:
                break
            left += length
            if here:
                segments.append(Segment(f" {sign} {word} ", base + look.title_focused))
            else:
                segments += [Segment(f" {sign} ", base + look.strong), Segment(f"{word} ", base)]
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: Click) -> None:
        """Press the key whose word was clicked."""
        left = 0
        for press, sign, word, _ in self._words():
            left += len(sign) + len(word) + 3
            if event.x < left:
                self.app.simulate_key(press)
                return
