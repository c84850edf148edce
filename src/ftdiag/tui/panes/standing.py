"""Threads that do not go on: which, and since when, for the panes that mark them.

In: a session. Out: the answer to `Standing`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.datatypes import dataclass
from ftdiag.tui.queries import Query, Range


@dataclass(frozen=True, slots=True)
class Standing(Query["Mapping[int, float]"]):
    """Threads of deadlocks, and stuck ones, by index: for how long they have not moved, in ns.

    Asked of the session only where a finding is about a thread: it looks at every tick of the last seconds.
    """

    def answer(self, of: Range) -> Mapping[int, float]:
        """Ask the session."""
        if not any("thread" in finding.subject for finding in of.snapshot.findings):
            return {}
        since = {each.thread.index: each.since_ns for each in of.session.stuck_threads()}
        for circle in of.session.deadlocks_among(tuple(of.session.wait_graph())):
            stood = min(edge.since_ns for edge in circle)
            since.update({edge.waiter.index: stood for edge in circle})
        return since
