"""The filter: words typed in a field choose the rows of a table, while they are typed.

In: keys. Out: filtered tables; no key is lost or goes elsewhere while the field opens or closes.
"""

from __future__ import annotations

from typing import Any, Final

from textual.events import Event, Key
from textual.timer import Timer
from textual.widgets import Input

from ftdiag.tui.base import CockpitBase
from ftdiag.tui.table import Table

MAX_FILTER_LENGTH: Final = 80
KEYS_KEPT_BACK_S: Final = 1.0
"""At most this long keys wait for one before them that may never arrive: its widget may be gone."""


class FilterField(Input):
    """Where the words of a filter are typed."""

    def __init__(self, words: str, placeholder: str) -> None:
        super().__init__(
            value=words, placeholder=placeholder, max_length=MAX_FILTER_LENGTH, compact=True, id="filter"
        )


class FilterActions(CockpitBase):
    """The part of the application that is about the filter."""

    _kept_back: list[Key] | None = None
    _keeping_ends: Timer | None = None

    def _can_filter(self) -> Table[Any] | None:
        """The table whose rows words would choose; `None` where there is none or they are being typed."""
        if len(self.screen_stack) > 1 or isinstance(self.focused, Input) or self.query(FilterField):
            return None
        return self._pages.current_table()

    async def action_filter(self) -> None:
        """Ask for words; the pane shows what has them while they are typed."""
        table = self._can_filter()
        if table is not None:
            field = FilterField(
                table.filter_text,
                f"filter {table.pane_title.lower()}: words in any column; Enter keeps, Esc clears",
            )
            await self.mount(field)
            self.screen.set_focus(field)
        await self._hand_out_keys()

    async def on_event(self, event: Event) -> None:
        """Keep keys back behind one that opens or closes the filter's field.

        A key goes to what has the focus while the key before it is still on its way up from there. Without
        this, the first letters of words that are typed at once reached the table, and the rest the field.
        """
        if isinstance(event, Key) and not event.is_forwarded:
            if self._kept_back is not None:
                self._kept_back.append(event)
                return
            if self._moves_the_focus(event.key):
                self._kept_back = []
                self._keeping_ends = self.set_timer(KEYS_KEPT_BACK_S, self._hand_out_keys)
        await super().on_event(event)

    def _moves_the_focus(self, key: str) -> bool:
        if isinstance(self.focused, FilterField):
            return key in ("enter", "escape")
        return key == "slash" and self._can_filter() is not None

    async def _hand_out_keys(self) -> None:
        """Let the keys follow that were kept back."""
        if self._keeping_ends is not None:
            self._keeping_ends.stop()
        kept, self._kept_back, self._keeping_ends = self._kept_back or [], None, None
        for key in kept:
            await self.on_event(key)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        table = self._pages.current_table()
        if table is not None and event.input.id == "filter":
            table.set_filter(event.value)

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and go back to the rows."""
        if event.input.id == "filter":
            await self._close_filter(event.input)

    async def _close_filter(self, field: Input) -> None:
        table = self._pages.current_table()
        self.screen.set_focus(table)
        await field.remove()
        await self._hand_out_keys()
