"""Every pane on terminals that have little: sixteen colours, no colour, nothing but ASCII."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from rich.color import Color, ColorType
from rich.segment import Segment
from syrupy.assertion import SnapshotAssertion

from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import PLAIN, SIXTEEN, look_for
from tui.driving import driving
from tui.pictures import RangedSource
from tui.test_pictures import LARGE, MIDDLE, SMALL, all_panes, crowd

SIZES = pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE], ids=["80x24", "120x40", "200x60"])
NATIVE = (ColorType.DEFAULT, ColorType.STANDARD)
Lines = list[list[Segment]]


class Terminal(CockpitApp):
    """A cockpit whose terminal becomes another one while it runs."""

    seen_as = SIXTEEN, False
    """The theme, and whether there is nothing but ASCII."""

    def lines(self, theme: str, ascii_only: bool) -> Lines:
        """The screen as it goes to such a terminal."""
        self.seen_as = theme, ascii_only
        for widget in self.screen.walk_children():
            widget.refresh()
        return [list(strip) for strip in self.screen._compositor.render_strips()]


@pytest.fixture(autouse=True)
def other_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look follows the terminal, not the theme: both native themes have one style sheet."""
    monkeypatch.setattr("tui.driving.CockpitApp", Terminal)
    monkeypatch.setattr(Terminal, "look", property(lambda self: look_for(*self.seen_as)))


async def every_pane(
    size: tuple[int, int], theme: str, ascii_only: bool, look_at: Callable[[str, Terminal], None]
) -> None:
    """Walk through all panes."""
    source = RangedSource(crowd())
    Terminal.seen_as = theme, ascii_only
    async with driving(source, size, theme=theme, ascii_only=ascii_only) as (app, pilot):
        assert isinstance(app, Terminal)
        async for name in all_panes(app, pilot):
            look_at(name, app)


def text_of(lines: Lines) -> list[str]:
    """Without styles."""
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def colours(lines: Lines) -> Iterator[tuple[str, Color]]:
    """What is painted in which colour."""
    for line in lines:
        for segment in line:
            for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                if colour is not None:
                    yield segment.text.strip(), colour


@SIZES
async def test_every_pane(snapshot: SnapshotAssertion, size: tuple[int, int]) -> None:
    captured: list[str] = []

    def look_at(name: str, app: Terminal) -> None:
        lines = app.lines(SIXTEEN, False)
        # THEN it uses no other colour; what is Textual's own has others, which Rich makes the nearest of 16
        if name != "palette":
            assert {seen for seen in colours(lines) if seen[1].type not in NATIVE} == set(), name
        # AND none where there is none, where the same stands in the same places
        plain = app.lines(PLAIN, False)
        assert text_of(plain) == text_of(lines), name
        if name != "palette":
            assert {seen for seen in colours(plain) if seen[1].type is not ColorType.DEFAULT} == set(), name
            # AND with ASCII alone no other sign
            assert [line for line in text_of(app.lines(PLAIN, True)) if not line.isascii()] == [], name
        captured.extend([f"=== {name}", *text_of(lines)])
        app.lines(SIXTEEN, False)

    # GIVEN a terminal with its own sixteen colours WHEN all panes are walked through
    await every_pane(size, SIXTEEN, False, look_at)
    assert "\n".join(captured) == snapshot


async def test_every_pane_as_no_color_and_the_locale_say(
    snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured: list[str] = []

    def look_at(name: str, app: Terminal) -> None:
        lines = app.lines(PLAIN, True)
        # THEN there is no colour, and no other sign, not even in what is Textual's own
        assert {seen for seen in colours(lines) if seen[1].type is not ColorType.DEFAULT} == set(), name
        assert [line for line in text_of(lines) if not line.isascii()] == [], name
        captured.extend([f"=== {name}", *text_of(lines)])

    # GIVEN NO_COLOR, and a locale without other signs WHEN all panes are walked through
    monkeypatch.setenv("NO_COLOR", "1")
    await every_pane(SMALL, PLAIN, True, look_at)
    assert "\n".join(captured) == snapshot
