"""What findings about a program's shape have in common: where its busiest thread works.

In: a thread of the facts. Out: its line.
"""

from __future__ import annotations

from ftdiag.model import Frame, HotLine, StateGroup, ThreadMetrics
from ftdiag.rules.library import caller


def busiest_line(thread: ThreadMetrics) -> Frame | None:
    """The program's line at which a thread is on a core most."""
    if not thread.hot:
        return None
    line = max(thread.hot, key=lambda each: (_on_cpu(each), each.total_ns))
    return caller(line) if _on_cpu(line) > 0 else None


def _on_cpu(line: HotLine) -> float:
    return sum(spent for state, spent in line.states_ns.items() if state.group is StateGroup.ON_CPU)
