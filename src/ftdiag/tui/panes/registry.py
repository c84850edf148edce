"""All panes, in the order of their keys.

In: the modules named here. Out: their `PANE`s. A new pane is a module of this package and a name in `NAMES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from textual.binding import Binding

from ftdiag.tui.keys import bindings
from ftdiag.tui.pane import Pane

NAMES: Final = (
    "overview",
    "threads",
    "locks",
    "hot",
    "scaling",
    "memory",
    "quality",
    "bottlenecks",
    "evidence",
    "thread",
    "compare",
)
PANES: Final[tuple[Pane, ...]] = tuple(import_module(f"ftdiag.tui.panes.{name}").PANE for name in NAMES)
MAIN_PANES: Final = tuple(pane for pane in PANES if pane.key)
"""Those that a key goes to; the others are of something that was chosen."""


def pane_bindings() -> list[Binding]:
    """The keys that go to panes, and those that belong to one."""
    made = [
        Binding(f"{pane.key},{pane.also}".strip(","), f"pane('{pane.name}')", pane.title, show=False)
        for pane in MAIN_PANES
    ]
    return made + [binding for pane in PANES for binding in bindings(pane.keys)]
