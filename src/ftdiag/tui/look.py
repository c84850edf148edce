"""How everything looks, defined once: themes, the colour-blind-safe palette, and the signs of each state.

In: the environment (colours, locale). Out: a `Look`: styles and signs that the widgets ask for by meaning.
Every state has a sign of its own besides its colour, so the bars read without colour, and in ASCII.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Final, Protocol, cast

from rich.color import Color, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme
from textual.widget import Widget

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import Severity, ThreadState
from ftdiag.tui.safetext import cut, cut_start, pad, safe_text, width_of
from ftdiag.wording.states import STATE_COLOURS

DARK: Final = "ftdiag-dark"
LIGHT: Final = "ftdiag-light"
SIXTEEN: Final = "ftdiag-16"
PLAIN: Final = "ftdiag-plain"

_UNICODE_SIGNS: Final[Mapping[ThreadState, str]] = {
    ThreadState.ON_CPU: "▇",
    ThreadState.WORK: "█",
    ThreadState.ATOMIC: "▓",
    ThreadState.SPIN: "▒",
    ThreadState.ALLOC: "▄",
    ThreadState.GC: "▚",
    ThreadState.RUNNABLE: "░",
    ThreadState.IDLE: "·",
}
_ASCII_SIGNS: Final[Mapping[ThreadState, str]] = {
    ThreadState.ON_CPU: "#",
    ThreadState.WORK: "=",
    ThreadState.ATOMIC: "a",
    ThreadState.SPIN: "s",
    ThreadState.ALLOC: "m",
    ThreadState.GC: "c",
    ThreadState.RUNNABLE: "+",
    ThreadState.LOCK: "L",
    ThreadState.OBJECT_LOCK: "O",
    ThreadState.RUNTIME_LOCK: "R",
    ThreadState.NATIVE_LOCK: "N",
    ThreadState.STOPPED: "S",
    ThreadState.GIL: "G",
    ThreadState.IO: "I",
    ThreadState.SLEEP: "z",
    ThreadState.IDLE: ".",
    ThreadState.HALTED: "H",
    ThreadState.UNKNOWN: "?",
}

# These are drawn as a sign in their colour; the others are letters on a ground of their colour.
_DRAWN: Final = frozenset(_UNICODE_SIGNS)

THEMES: Final[tuple[Theme, ...]] = (
    Theme(
        name=DARK,
        primary="#56b4e9",
        secondary="#009e73",
        accent="#e69f00",
        warning="#e69f00",
        error="#d55e00",
        success="#009e73",
        foreground="#d8dee4",
        background="#0f1317",
        surface="#0f1317",
        panel="#1c232a",
        dark=True,
    ),
    Theme(
        name=LIGHT,
        primary="#005c91",
        secondary="#00694e",
        accent="#8f4700",
        warning="#8f4700",
        error="#a03400",
        success="#00694e",
        foreground="#1b2127",
        background="#f7f8f9",
        surface="#f7f8f9",
        panel="#e4e8ec",
        dark=False,
    ),
    # Textual's own for native colours; ours so that the palette below goes with them.
    *(replace(BUILTIN_THEMES["ansi-dark"], name=name) for name in (SIXTEEN, PLAIN)),
)


@dataclass(frozen=True, slots=True)
class Look:
    """Styles and signs by meaning. `ascii_only` when the terminal's locale has nothing else."""

    ascii_only: bool
    text: Style
    muted: Style
    strong: Style
    accent: Style
    good: Style
    warning: Style
    error: Style
    title: Style
    title_focused: Style
    column_head: Style
    column_sorted: Style
    cursor: Style
    cursor_blurred: Style
    band: Style
    state_styles: Mapping[ThreadState, Style]

    @property
    def blends(self) -> bool:
        """Whether two colours may share a cell: with all colours, in Unicode."""
        colour = self.state_styles[ThreadState.WORK].color
        return not self.ascii_only and colour is not None and colour.type is ColorType.TRUECOLOR

    def colour(self, state: ThreadState | None) -> Color | None:
        """The colour of a state as a ground; `None` for the widget's own."""
        if state is None:
            return None
        style = self.state_styles[state]
        return style.bgcolor or style.color

    @property
    def ellipsis(self) -> str:
        """The sign of text cut off."""
        return ".." if self.ascii_only else "…"

    @property
    def pointer(self) -> str:
        """The sign before the row under the cursor."""
        return ">" if self.ascii_only else "▸"

    @property
    def dot(self) -> str:
        """What stands between the parts of a line."""
        return "|" if self.ascii_only else "│"

    def arrow(self, descending: bool) -> str:
        """The sign of the sort order."""
        if self.ascii_only:
            return "v" if descending else "^"
        return "▾" if descending else "▴"

    def sign(self, state: ThreadState) -> str:
        """The character that stands for a state."""
        if self.ascii_only:
            return _ASCII_SIGNS[state]
        return _UNICODE_SIGNS.get(state) or _ASCII_SIGNS[state]

    def severity(self, severity: Severity) -> Style:
        """The style of a finding's severity."""
        return {Severity.CRITICAL: self.error, Severity.WARNING: self.warning}.get(severity, self.accent)

    def safe(self, text: str) -> str:
        """Text of the target as it may be shown on this terminal."""
        return safe_text(text, ascii_only=self.ascii_only)

    def cell(self, text: str, width: int, style: Style | None = None, *, right: bool = False) -> Segment:
        """Any text as a segment of exactly `width` cells."""
        return Segment(pad(self.safe(text), width, right=right, ellipsis=self.ellipsis), style)

    def cut(self, text: str, width: int) -> str:
        """Any text made safe and cut at its end."""
        return cut(self.safe(text), width, self.ellipsis)

    def cut_middle(self, text: str, width: int) -> str:
        """Any text made safe and cut in its middle: beginnings and numbers at the end stay."""
        text = self.safe(text)
        if width_of(text) <= width:
            return text
        end = max(0, (width - width_of(self.ellipsis)) // 2)
        tail = cut_start(text, end + width_of(self.ellipsis), self.ellipsis)
        return (
            cut(text, width - width_of(tail) + width_of(self.ellipsis), self.ellipsis).removesuffix(
                self.ellipsis
            )
            + tail
        )

    def cut_start(self, text: str, width: int) -> str:
        """Any text made safe and cut at its start."""
        return cut_start(self.safe(text), width, self.ellipsis)


class HasLook(Protocol):
    """The application, as far as widgets know it."""

    @property
    def look(self) -> Look:
        """How to paint now."""


def look_of(widget: Widget) -> Look:
    """The look of the application a widget is in."""
    return cast(HasLook, widget.app).look


@cache
def look_for(theme: str, ascii_only: bool) -> Look:
    """The look that goes with a theme; a theme that is not ours gets the dark one."""
    if theme == PLAIN:
        return _plain_look(ascii_only)
    if theme == SIXTEEN:
        return _sixteen_look(ascii_only)
    return _true_colour_look(ascii_only, dark=theme != LIGHT)


def _true_colour_look(ascii_only: bool, dark: bool) -> Look:
    def pick(on_dark: str, on_light: str) -> str:
        return on_dark if dark else on_light

    letter = pick("#0b0e11", "#14181c")
    states: dict[ThreadState, Style] = {}
    for state, (on_dark, on_light, _) in STATE_COLOURS.items():
        colour = pick(on_dark, on_light)
        if state in _DRAWN:
            states[state] = Style(color=colour)
        else:
            states[state] = Style(color=letter, bgcolor=colour)
    muted = pick("#9da8b2", "#56606a")
    panel = pick("#1c232a", "#e4e8ec")
    return Look(
        ascii_only=ascii_only,
        text=Style(color=pick("#d8dee4", "#1b2127")),
        muted=Style(color=muted),
        strong=Style(color=pick("#ffffff", "#000000"), bold=True),
        accent=Style(color=pick("#56b4e9", "#005c91")),
        good=Style(color=pick("#2fbf93", "#00694e")),
        warning=Style(color=pick("#e69f00", "#8f4700"), bold=True),
        error=Style(color=pick("#ff8a4c", "#a03400"), bold=True),
        title=Style(color=pick("#b8c2cc", "#3b444d"), bgcolor=panel),
        title_focused=Style(color=pick("#0f1317", "#ffffff"), bgcolor=pick("#56b4e9", "#005c91"), bold=True),
        column_head=Style(color=muted),
        column_sorted=Style(color=pick("#56b4e9", "#005c91"), bold=True),
        cursor=Style(bgcolor=pick("#2c3d4d", "#d7e6f1")),
        cursor_blurred=Style(bgcolor=pick("#1c232a", "#e4e8ec")),
        band=Style(color=pick("#b8c2cc", "#3b444d"), bgcolor=panel),
        state_styles=states,
    )


def _sixteen_look(ascii_only: bool) -> Look:
    states = {
        state: Style(color=colour, reverse=False)
        if state in _DRAWN
        else Style(color="black", bgcolor=colour, reverse=False)
        for state, (_, _, colour) in STATE_COLOURS.items()
    }
    return Look(
        ascii_only=ascii_only,
        text=Style(),
        muted=Style(),
        strong=Style(bold=True),
        accent=Style(color="cyan"),
        good=Style(color="green"),
        warning=Style(color="yellow", bold=True),
        error=Style(color="red", bold=True),
        title=Style(underline=True),
        title_focused=Style(reverse=True, bold=True),
        column_head=Style(bold=True),
        column_sorted=Style(bold=True, color="cyan"),
        cursor=Style(reverse=True),
        cursor_blurred=Style(bold=True),
        band=Style(reverse=True),
        state_styles=states,
    )


def _plain_look(ascii_only: bool) -> Look:
    not_reversed = Style(reverse=False)
    return Look(
        ascii_only=ascii_only,
        text=Style(),
        muted=Style(),
        strong=Style(bold=True),
        accent=Style(bold=True),
        good=Style(),
        warning=Style(bold=True),
        error=Style(bold=True),
        title=Style(underline=True),
        title_focused=Style(reverse=True, bold=True),
        column_head=Style(bold=True),
        column_sorted=Style(bold=True, underline=True),
        cursor=Style(reverse=True),
        cursor_blurred=Style(bold=True),
        band=Style(reverse=True),
        state_styles=dict.fromkeys(ThreadState, not_reversed),
    )


def locale_is_ascii(environment: Mapping[str, str] | None = None) -> bool:
    """True if the terminal's locale asks for ASCII.

    CPython turns the C locale into UTF-8 for itself (PEP 538 sets LC_CTYPE), which says nothing about the
    terminal; so LC_CTYPE=C.UTF-8 beside LANG=C counts as C. Without any setting UTF-8 is taken: bare
    containers have none, and the terminals in front of them draw it.
    """
    environment = os.environ if environment is None else environment
    everything = environment.get("LC_ALL", "")
    types = environment.get("LC_CTYPE", "")
    language = environment.get("LANG", "")
    if not everything and types.upper() in ("C.UTF-8", "C.UTF8", "UTF-8") and language in ("C", "POSIX"):
        return True
    chosen = everything or types or language
    if not chosen:
        return False
    return "utf" not in chosen.lower()


def background_is_light(environment: Mapping[str, str] | None = None) -> bool:
    """True if the terminal says that its background is light (COLORFGBG, set by rxvt, konsole and others)."""
    environment = os.environ if environment is None else environment
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return background in ("7", "15")


def theme_for(color_system: str | None, no_color: bool) -> str:
    """The theme to start with on a terminal."""
    if no_color:
        return PLAIN
    if color_system in (None, "standard", "windows"):
        return SIXTEEN
    return LIGHT if background_is_light() else DARK
