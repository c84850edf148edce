"""The question before a recording goes away that nobody has kept.

In: how long the recording is. Out: a screen that is dismissed with "keep", "discard", or `None`: stay.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from ftdiag.tui.lines import Lines, LinesPanel, prose
from ftdiag.tui.look import Look


class LeaveDialog(ModalScreen[str]):
    """Keep the recording, discard it, or stay; leaving twice discards it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # The panel has keys of its own.
        Binding("k,enter", "answer('keep')", "Keep", show=False, priority=True),
        Binding("d,q,ctrl+q,ctrl+c", "answer('discard')", "Discard", show=False),
        Binding("escape", "stay", "Stay", show=False),
    ]

    def __init__(self, length: str) -> None:
        super().__init__()
        self._length = length

    def compose(self) -> ComposeResult:
        """One panel."""
        yield LinesPanel("Leave", "leave-dialog")

    def on_mount(self) -> None:
        """Fill it."""
        panel = self.query_one("#leave-dialog", LinesPanel)
        panel.show_lines("Keep the recording?   (k)eep  (d)iscard  Esc: stay", self._lines)
        panel.focus()

    def _lines(self, width: int, look: Look) -> Lines:
        words = f"{self._length} were recorded into a temporary file, which goes away with the cockpit."
        return [
            *prose(words, width, look),
            [],
            *prose("k or Enter copies it into the current directory, for ftdiag open.", width, look),
            *prose("d or q leaves without it.", width, look),
        ]

    def action_answer(self, what: str) -> None:
        """Leave."""
        self.dismiss(what)

    def action_stay(self) -> None:
        """Back to the panes."""
        self.dismiss(None)
