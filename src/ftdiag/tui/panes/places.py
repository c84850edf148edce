"""Which panes share a place on the screen.

In: a widget. Out: whether its screen is so small that hot lines and locks are shown in turn. The style sheet
says what is shown; this only serves the hints at the panes' titles.
"""

from __future__ import annotations

from textual.widget import Widget


def shares_place(widget: Widget) -> bool:
    """True if hot lines and locks are shown one at a time."""
    screen = widget.screen
    return not (screen.has_class("-tall") or screen.has_class("-wide"))
