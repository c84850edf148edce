"""A scrolling panel of prepared lines: stacks, holders, evidence, help; and how prose becomes lines.

In: a function that makes the lines for a width. Out: those lines, painted only where visible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollDown, ScrollTo, ScrollUp

from ftdiag.tui.look import Look, look_of
from ftdiag.tui.painting import PaintedLines
from ftdiag.tui.safetext import width_of

Lines = list[list[Segment]]

MAX_PROSE: Final = 4000
"""Characters of one text that are looked at; the prose of a rule is shorter by far."""


def wrapped(text: str, width: int, look: Look, most: int | None = None) -> list[str]:
    """Any text as lines of at most `width` cells, broken between words; at most `most` lines."""
    width = max(1, width)
    lines: list[str] = []
    line = ""
    for word in text[:MAX_PROSE].split():
        word = look.cut(word, width)
        if line and width_of(line) + 1 + width_of(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        lines.append(line)
    if most is not None and len(lines) > most:
        last = look.cut(f"{lines[most - 1]} {lines[most]}", width - len(look.ellipsis))
        lines = [*lines[: most - 1], last.removesuffix(look.ellipsis) + look.ellipsis]
    return lines


def prose(text: str, width: int, look: Look, style: Style | None = None, indent: int = 1) -> Lines:
    """A paragraph."""
    margin = Segment(" " * indent)
    return [[margin, Segment(line, style or look.text)] for line in wrapped(text, width - indent - 1, look)]


def numbered(number: int, text: str, width: int, look: Look) -> Lines:
    """A strong entry of a list; the lines after the first are set in below its text."""
    sign = f" {number}. "
    lines = wrapped(text, width - len(sign) - 1, look)
    return [
        [Segment(sign if place == 0 else " " * len(sign), look.strong), Segment(line, look.strong)]
        for place, line in enumerate(lines)
    ]


def heading(text: str, width: int, look: Look) -> Lines:
    """An empty line and a heading."""
    return [[], [Segment(look.cut(f" {text}", width), look.strong)]]


def figure(
    name: str, value: str, width: int, look: Look, style: Style | None = None, room: int = 26
) -> Lines:
    """A named figure: the name at the left, what it is at the right, on more lines where it is long."""
    room = min(room, max(8, width // 3))
    lines: Lines = []
    for number, line in enumerate(wrapped(value, width - room - 3, look) or [""]):
        lines.append(
            [
                Segment(" "),
                look.cell(name if number == 0 else "", room, look.muted),
                Segment(" "),
                Segment(line, style or look.text),
            ]
        )
    return lines


class LinesPanel(PaintedLines, ScrollView, can_focus=True, inherit_bindings=False):
    """The panel; its title takes the first line and does not scroll."""

    ALLOW_SELECT = False

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll(-1)", "Up", show=False),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "Top", show=False),
        Binding("end,G", "edge(1)", "Bottom", show=False),
    ]

    def __init__(self, title: str, panel_id: str) -> None:
        super().__init__(id=panel_id)
        self._title = title
        self._make: Callable[[int, Look], Lines] = lambda _width, _look: []
        self._lines: Lines = []
        self._made_for: tuple[int, Look] | None = None
        self._centred: int | None = None

    def show_lines(self, title: str, make: Callable[[int, Look], Lines]) -> None:
        """Show what `make` returns for the panel's width; it is asked again when that changes."""
        self._title = title
        self._make = make
        self._made_for = None
        self._prepare()
        self._keep_centred()
        self.repaint()

    def to_top(self) -> None:
        """Something else is shown: from its beginning."""
        self._centred = None
        self.scroll_to(y=0, animate=False, force=True)

    def centre(self, line: int) -> None:
        """Keep a line (from 1) in the middle, whatever sizes the panel gets, until somebody scrolls it."""
        self._centred = line
        self._keep_centred()

    def _keep_centred(self) -> None:
        if self._centred is not None and self.size.height:
            # The title takes the first line.
            middle = max(0, self._centred - 1 - self.size.height // 2)
            self.scroll_to(y=middle, animate=False, force=True)

    def on_resize(self, _: Resize) -> None:
        """Make the lines for the new width."""
        self._prepare()
        self._keep_centred()

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """A bar that appears only now was not told of scrolling before."""
        if shown:
            self.vertical_scrollbar.position = self.scroll_y

    def _scrolled_by_hand(self) -> None:
        """Somebody looks elsewhere: stay there."""
        self._centred = None

    def on_mouse_scroll_down(self, _: MouseScrollDown) -> None:
        """The wheel."""
        self._scrolled_by_hand()

    def on_mouse_scroll_up(self, _: MouseScrollUp) -> None:
        """The wheel."""
        self._scrolled_by_hand()

    def on_scroll_to(self, _: ScrollTo) -> None:
        """The bar was dragged."""
        self._scrolled_by_hand()

    def on_scroll_down(self, _: ScrollDown) -> None:
        """A click below the thumb."""
        self._scrolled_by_hand()

    def on_scroll_up(self, _: ScrollUp) -> None:
        """A click above the thumb."""
        self._scrolled_by_hand()

    def _prepare(self) -> None:
        width = self.painted_width
        look = look_of(self)
        if not width or self._made_for == (width, look):
            return
        self._made_for = (width, look)
        self._lines = self._make(width, look)
        size = Size(width, len(self._lines) + 1)
        if size != self.virtual_size:
            self.virtual_size = size

    def action_scroll(self, step: int) -> None:
        """One line."""
        self._scrolled_by_hand()
        self.scroll_to(y=self.scroll_offset.y + step, animate=False)

    def action_page(self, direction: int) -> None:
        """One screen."""
        self.action_scroll(direction * max(1, self.size.height - 2))

    def action_edge(self, direction: int) -> None:
        """To the top or the bottom."""
        self._scrolled_by_hand()
        self.scroll_to(y=0 if direction < 0 else len(self._lines), animate=False)

    def painted_line(self, y: int, width: int) -> tuple[list[Segment], Style | None]:
        """The title or a line."""
        look = look_of(self)
        self._prepare()
        if y == 0:
            style = look.title_focused if self.has_focus else look.title
            return [look.cell(f" {self._title}", width)], style
        position = self.scroll_offset.y + y - 1
        return self._lines[position] if position < len(self._lines) else [], None
