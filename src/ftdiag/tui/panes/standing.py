"""Threads that do not go on: which, and since when, for the panes that mark them.

In: a session. Out: the answer to `Standing`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.datatypes import dataclass
from ftdiag.tui.queries import Query, Range


@dataclass(frozen=True, slots=True)
class Standing(Query["Mapping[int, float]"]):
    """Threads of deadlocks, and stuck ones, by index: for how long they have not moved, in ns."""

    def answer(self, of: Range) -> Mapping[int, float]:
        """Ask the session."""
        return of.session.standing_threads()
