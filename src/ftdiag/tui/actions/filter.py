"""The filter: words typed in a field choose the rows of a table, while they are typed.

In: keys. Out: filtered tables; no key is lost or goes elsewhere while the field opens or closes.
"""

from __future__ import annotations

from typing import Any, Final

from textual.events import Event, Key
from textual.message_pump import MessagePump
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from ftdiag.tui.base import CockpitBase
from ftdiag.tui.table import Table

MAX_FILTER_LENGTH: Final = 80
KEYS_KEPT_BACK_S: Final = 1.0
"""After so long it is asked whether the key before them can still arrive: its widget may be gone."""


TAKEN_FOR_LONG: Final = 3
"""So many times in a row a key must seem to be lost."""


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
    _taken_for_long = 0
    _kept_for: tuple[Key, Widget | None] | None = None
    """The key that they wait for, and where it went."""

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
                table.filter_text if table.filter_label == table.filter_text else "",
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
                self._kept_for, self._taken_for_long = (event, self.focused), 0
                self._keeping_ends = self.set_interval(KEYS_KEPT_BACK_S, self._give_up_waiting)
        await super().on_event(event)

    def _moves_the_focus(self, key: str) -> bool:
        if isinstance(self.focused, FilterField):
            return key in ("enter", "escape")
        return key == "slash" and self._can_filter() is not None

    async def _give_up_waiting(self) -> None:
        """Hand keys out if nobody will: on a busy machine a key may take seconds, and is still on its way."""
        if self._kept_for is None:
            return
        key, there = self._kept_for
        if there is None or not (there.is_attached and there.is_running):
            await self._hand_out_keys()
            return
        # Whether somebody took it on its way Textual tells by no public name; what follows from it may still
        # be in a queue.
        pumps: list[MessagePump] = [there, *there.ancestors, self]
        taken = key._stop_propagation and not any(pump.message_queue_size for pump in pumps)
        self._taken_for_long = self._taken_for_long + 1 if taken else 0
        if self._taken_for_long > TAKEN_FOR_LONG:
            await self._hand_out_keys()

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
