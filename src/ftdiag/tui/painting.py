"""Widgets that paint their lines themselves: a line that is what it was is not drawn again.

In: a widget that says what stands on each of its lines. Out: strips for Textual, and the lines it must draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from ftdiag.tui.look import look_of
from ftdiag.tui.safetext import width_of

if TYPE_CHECKING:
    from typing import Self

    from textual.widget import Widget as _Painted
else:
    _Painted = object


def filled(segments: Iterable[Segment], width: int, ground: Style) -> list[Segment]:
    """The segments on a ground, `width` cells long; neighbours of one style are one segment."""
    done: list[Segment] = []
    length = 0
    before: Style | None = None
    for text, own, _ in segments:
        style = ground if own is None else ground + own
        length += width_of(text)
        if style is before or style == before:
            done[-1] = Segment(done[-1].text + text, style)
        else:
            done.append(Segment(text, style))
        before = style
    if length < width:
        done.append(Segment(" " * (width - length), ground))
    elif length > width:
        done = list(Strip(done, length).crop(0, width))
    return done


class PaintedLines(_Painted):
    """Mixed into a widget: `refresh` paints all of it anew, `repaint` only the lines that are others now.

    Textual climbs through all parents to find the widget's own style; that is done once for a paint, not for
    each line.
    """

    _strips: dict[int, Strip] | None = None
    """What was painted, by line; `None` before the first paint."""
    _painted_for: tuple[object, ...] = ()
    _ground: Style = Style()
    _just_looked: bool = False
    """Whether `repaint` has looked at what lines depend on for the paint that it asked for."""

    def painted_line(self, y: int, width: int) -> tuple[Iterable[Segment], Style | None]:
        """What stands on line `y`, and what is added to the widget's own style there."""
        raise NotImplementedError

    @property
    def painted_width(self) -> int:
        """Cells of a line, without a scroll bar."""
        return self.scrollable_content_region.width

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """As of any widget."""
        if repaint and self._strips:
            self._strips.clear()
        self._just_looked = False
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def repaint(self) -> None:
        """Draw the lines that are not what they were."""
        before, height = self._strips, self.size.height
        if not before or not height or not self._as_before():
            self.refresh()
            return
        width = self.painted_width
        strips: dict[int, Strip] = {}
        changed: list[Region] = []
        for y in range(height):
            made, was = self._made(y, width), before.get(y)
            if was is not None and was == made:
                strips[y] = was
                continue
            strips[y] = made
            if changed and changed[-1].bottom == y:
                changed[-1] = changed[-1].grow((0, 0, 1, 0))
            else:
                changed.append(Region(0, y, self.size.width, 1))
        self._strips = strips
        self._just_looked = True
        if changed:
            super().refresh(*changed)

    def _as_before(self) -> bool:
        """Whether what lines depend on besides their content is what it was when they were painted."""
        self._ground = self.rich_style
        now = self.size, self.painted_width, self.has_focus, self._ground, look_of(self)
        if now == self._painted_for:
            return True
        self._painted_for = now
        return False

    def _made(self, y: int, width: int) -> Strip:
        segments, own = self.painted_line(y, width)
        return Strip(filled(segments, width, self._ground if own is None else self._ground + own), width)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Paint part of it."""
        if not (self._just_looked or self._as_before()) or self._strips is None:
            self._strips = {}
        self._just_looked = False
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Line `y` of what is on the screen."""
        if self._strips is None:
            self._strips = {}
        strip = self._strips.get(y)
        if strip is None:
            strip = self._strips[y] = self._made(y, self.painted_width)
        return strip
