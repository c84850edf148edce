"""The help: every key, what the words mean, and the signs of the bars.

In: the tables of keys and states. Out: an overlay.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from ftdiag.tui.keys import KEYS
from ftdiag.tui.lines import Lines, LinesPanel, figure
from ftdiag.tui.look import Look
from ftdiag.tui.panes.registry import MAIN_PANES, PANES
from ftdiag.wording.glossary import GLOSSARY
from ftdiag.wording.states import BAR_ORDER, STATE_MEANINGS, STATE_NAMES

KEY_WIDTH = 18
FIRST_KEYS = 10
"""Keys that come before the panes: those that one needs first."""
STATE_WIDTH = 20
COLUMNS = (
    ("lost", "of a finding: cores lost to its cause alone (upper bound)"),
    ("CPU%, RQ%", "of a thread's life: on a core; in the run queue, waiting for one"),
    ("-", "not measured; quality (7) says why"),
    ("total, self", "of a function: with all that it calls; in itself"),
    ("marks", "below the time line: ! a finding began; the sign of a pause"),
)
"""Columns whose name does not say it all."""


def every_key() -> list[tuple[str, str]]:
    """Keys and what they do: those one needs first, those to panes, each pane's own, the others."""
    first, others = KEYS[:FIRST_KEYS], KEYS[FIRST_KEYS:]
    panes = [(", ".join(filter(None, (pane.key, pane.also))), pane.about) for pane in MAIN_PANES]
    own = [key for pane in PANES for key in pane.keys]
    return [
        *((key.keys, key.does) for key in first),
        *panes,
        *((key.keys, key.does) for key in (*own, *others)),
    ]


def help_lines(width: int, look: Look) -> Lines:
    """The text of the help at a width."""
    lines: Lines = []
    for keys, does in every_key():
        lines.append(
            [
                Segment(" "),
                look.cell(keys, KEY_WIDTH, look.accent),
                Segment(" "),
                Segment(look.cut(does, max(0, width - KEY_WIDTH - 2)), look.text),
            ]
        )
    lines.append([])
    for column, meaning in COLUMNS:
        lines.append(
            [
                Segment(" "),
                look.cell(column, KEY_WIDTH, look.accent),
                Segment(" "),
                Segment(look.cut(meaning, max(0, width - KEY_WIDTH - 2)), look.text),
            ]
        )
    lines.append([])
    lines.append([Segment(" What the bars of a thread's or a line's time are made of", look.strong)])
    for state in BAR_ORDER:
        word, meaning = STATE_NAMES[state], STATE_MEANINGS[state]
        lines.append(
            [
                Segment(" "),
                Segment(look.sign(state) * 2, look.state_styles[state]),
                Segment(" "),
                look.cell(word, STATE_WIDTH, look.accent),
                Segment(" "),
                Segment(look.cut(meaning, max(0, width - STATE_WIDTH - 5)), look.text),
            ]
        )
    lines.append([])
    lines.append([Segment(" Words", look.strong)])
    for word, meaning in GLOSSARY.items():
        lines += figure(word, meaning, width, look, room=KEY_WIDTH)
    return lines


class HelpScreen(ModalScreen[None]):
    """The overlay; it scrolls where the terminal is small."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,space,enter", "close", "Close", show=False),
    ]

    def compose(self) -> ComposeResult:
        """One panel."""
        yield LinesPanel("Keys", "help")

    def on_mount(self) -> None:
        """Fill it."""
        panel = self.query_one("#help", LinesPanel)
        panel.show_lines("Keys   (Esc closes, arrows scroll)", help_lines)
        panel.focus()

    def action_close(self) -> None:
        """Back to the panes."""
        self.dismiss(None)
