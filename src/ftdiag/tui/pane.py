"""What a pane is: its key, its words, and the widget that shows a view.

In: nothing. Out: the description that a pane's module gives of itself (`Pane`), and what its widget is asked.
A module of `ftdiag.tui.panes` has one `PANE`; the registry names the modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.widget import Widget

from ftdiag.datatypes import dataclass
from ftdiag.tui.keys import Key
from ftdiag.tui.lines import Lines, LinesPanel
from ftdiag.tui.look import Look
from ftdiag.tui.queries import Query
from ftdiag.tui.source import View
from ftdiag.tui.table import Table


def on_screen(widget: Widget) -> bool:
    """Whether a widget is shown: neither it nor what it stands in is hidden."""
    return all(each.display for each in widget.ancestors_with_self if isinstance(each, Widget))


class PaneBody(Widget):
    """The widget of a pane, as far as the pages know it."""

    def show_view(self, view: View) -> None:
        """Paint another view."""
        raise NotImplementedError

    def queries(self) -> tuple[Query[Any], ...]:
        """What is shown besides the snapshot, asked while the pane is on the screen."""
        return ()

    @property
    def table(self) -> Table[Any] | None:
        """The table whose rows the pane is about; `None` for text."""
        return None

    @property
    def cursor_ns(self) -> int | None:
        """The time under the cursor, where there is one."""
        return None

    def prepare_to_filter(self, view: View) -> None:
        """Have the rows of a view, also where the pane is not on the screen."""
        self.show_view(view)

    def chosen_page(self) -> tuple[str, object] | None:
        """The page of the row under the cursor, and what it is of."""
        return None


@dataclass(frozen=True, slots=True)
class Pane:
    """A pane: a page of its own, maybe one that also stands beside the overview.

    `key` goes to it, `also` does so too; `short` is its word in the line of panes. `keys` are its own: from
    elsewhere they go to the pane first.
    """

    name: str
    title: str
    make: Callable[[], PaneBody]
    key: str = ""
    also: str = ""
    short: str = ""
    about: str = ""
    keys: tuple[Key, ...] = ()

    @property
    def heading(self) -> str:
        """Its title with its key."""
        return f"{self.key} {self.title}".strip()


class TextPane(LinesPanel, PaneBody):
    """A pane that is text made of a view."""

    def __init__(
        self,
        name: str,
        title: str,
        make: Callable[[View, int, Look], Lines],
        *,
        title_of: Callable[[View], str] | None = None,
        queries: Callable[[int], tuple[Query[Any], ...]] = lambda width: (),
    ) -> None:
        """`queries` gets the width of the screen."""
        super().__init__(title, name)
        self._own_title = title
        self._make_lines = make
        self._title_of = title_of
        self._asks = queries

    def show_view(self, view: View) -> None:
        """The text of the view."""
        title = self._own_title if self._title_of is None else self._title_of(view)

        def make(width: int, look: Look) -> Lines:
            if view.snapshot is None:
                return [[look.cell(f" {view.waiting}", width, look.muted)]]
            return self._make_lines(view, width, look)

        self.show_lines(title, make)

    def queries(self) -> tuple[Query[Any], ...]:
        """As told."""
        return self._asks(self.app.size.width)
