"""Keys that choose the range of time.

In: keys. Out: another selection, asked of the worker.
"""

from __future__ import annotations

from textual.widgets import Input

from ftdiag.datatypes import replace
from ftdiag.model import Snapshot
from ftdiag.tui.base import CockpitBase
from ftdiag.tui.queries import Answers


class TimeActions(CockpitBase):
    """The part of the application that is about time."""

    def action_pause(self) -> None:
        """Let the picture stand still, or go on. Recording is the sampler's, and goes on."""
        snapshot = self._view.snapshot
        if snapshot is None:
            return
        paused = not self._view.paused
        until = snapshot.t1_ns if paused else None
        self._select(replace(self._request.selection, until_ns=until), paused)

    def action_range(self) -> None:
        """The next length of the presets."""
        self._select(self._request.selection.next_preset)

    def action_move_in_time(self, direction: int) -> None:
        """Half a range back or forward."""
        if self._view.span_ns is not None:
            selection = self._request.selection.moved(direction, self._view.span_ns)
            self._select(selection, self._view.paused and selection.until_ns is not None)

    def action_scale(self, factor: float) -> None:
        """A narrower or wider range; with a cursor in time, around it."""
        if self._view.span_ns is not None:
            around = self._pages.cursor_ns
            self._select(self._request.selection.scaled(factor, self._view.span_ns, around))

    def action_live(self) -> None:
        """Follow the end of the recording again."""
        self._select(self._followed, False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`End` is the tables' unless there is a now to go back to; letters are a field's being typed in."""
        if action == "live":
            return self._request.selection.until_ns is not None and not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def action_compare(self) -> None:
        """Mark the range; on another one, compare."""
        snapshot = self._view.snapshot
        if snapshot is None:
            return
        marked = self._view.marked
        if self._pages.page == "compare" or marked is None or _same_range(marked, snapshot):
            # In place of a baseline, too.
            self._baseline = None
            self._view = replace(self._view, marked=snapshot, answers=Answers())
            self.say("range marked; choose another one ([ ] + - w), then c compares")
            self._pages.show_view(self._view)
            return
        self._go_to("compare")


def _same_range(one: Snapshot, other: Snapshot) -> bool:
    return (one.t0_ns, one.t1_ns) == (other.t0_ns, other.t1_ns)
