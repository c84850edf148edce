"""memray from the cockpit: a dialog that says what it costs and asks, and what is needed to attach it.

In: a `MemoryControl`, which the command provides. Out: a screen that is dismissed with yes or no.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from ftdiag.tui.lines import Lines, LinesPanel, prose
from ftdiag.tui.look import Look


class MemoryControl(Protocol):
    """Attaches memray to the process that is looked at. Calls may take a second: none is the screen's own."""

    duration_s: float

    @property
    def busy(self) -> bool:
        """Whether it is attached or about to be, or what it wrote is still read."""

    def price(self) -> tuple[str, ...]:
        """What it costs, in sentences. Raises FtdiagError: it cannot be attached, and why."""

    def attach(self) -> None:
        """Begin."""

    def poll(self) -> str | None:
        """One line on how far it is, the last one once; `None` when there is nothing to say."""


class MemoryDialog(ModalScreen[bool]):
    """What attaching costs; Enter or y attaches, anything else that closes does not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Attach", show=False),
        Binding("n,escape,q,A", "answer(False)", "Do not attach", show=False),
    ]

    def __init__(self, price: tuple[str, ...], duration_s: float) -> None:
        super().__init__()
        self._price = price
        self._duration_s = duration_s

    def compose(self) -> ComposeResult:
        """One panel."""
        yield LinesPanel("memray", "memray-dialog")

    def on_mount(self) -> None:
        """Fill it."""
        panel = self.query_one("#memray-dialog", LinesPanel)
        panel.show_lines(f"Attach memray for {self._duration_s:g} s?   y: yes; n, Esc: no", self._lines)
        panel.focus()

    def _lines(self, width: int, look: Look) -> Lines:
        lines: Lines = []
        for sentence in self._price:
            lines += [*prose(sentence, width, look), []]
        lines += prose("y or Enter attaches it, n or Esc does not.", width, look, look.strong)
        return lines

    def action_answer(self, yes: bool) -> None:
        """Back to the panes."""
        self.dismiss(yes)
