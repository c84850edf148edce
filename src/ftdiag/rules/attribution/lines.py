"""What findings about a program's shape have in common: where its busiest thread works.

In: a thread of the facts. Out: its line.
"""

from __future__ import annotations

from typing import Final

from ftdiag.model import PROGRAM, Frame, HotLine, Stack, StateGroup, ThreadMetrics
from ftdiag.rules.attribution.frames import program_frame
from ftdiag.rules.attribution.libraries import is_loop
from ftdiag.rules.base import Facts

OWN_SHARE: Final = 0.2
"""Share of a thread's time on a core from which on the program's own function is named."""


def own_busiest_line(facts: Facts, thread: ThreadMetrics) -> Frame | None:
    """The line of the program's own code inside a thread's event loop that the loop is on a core for most.

    Of the function that most time is spent in, inclusive of what it calls, the hottest line. Where the
    program's own code is a small part of it, the busiest line, whoever wrote it.
    """
    spent: dict[tuple[str, str], dict[Frame, float]] = {}
    whole = 0.0
    for line in thread.hot:
        time = _on_cpu(line)
        whole += time
        own = own_frame(facts, line.stacks[0][0] if line.stacks else (line.frame,))
        if own is not None:
            lines = spent.setdefault((own.filename, own.function), {})
            lines[own] = lines.get(own, 0.0) + time
    if spent:
        lines = max(spent.values(), key=lambda each: sum(each.values()))
        if sum(lines.values()) >= OWN_SHARE * whole:
            return max(lines, key=lambda each: lines[each])
    return busiest_line(thread)


def own_frame(facts: Facts, stack: Stack) -> Frame | None:
    """The innermost frame of the program's own code that an event loop, or nobody, called."""
    for frame in stack:
        if is_loop(frame):
            return None
        if facts.target.whose(frame.filename) == PROGRAM:
            return frame
    return None


def busiest_line(thread: ThreadMetrics) -> Frame | None:
    """The program's line at which a thread is on a core most."""
    if not thread.hot:
        return None
    line = max(thread.hot, key=lambda each: (_on_cpu(each), each.total_ns))
    return caller(line) if _on_cpu(line) > 0 else None


def _on_cpu(line: HotLine) -> float:
    return sum(spent for state, spent in line.states_ns.items() if state.group is StateGroup.ON_CPU)


def caller(line: HotLine) -> Frame:
    """The line of the program that is inside the library at a hot line."""
    frame = program_frame(line.stacks[0][0]) if line.stacks else None
    return line.frame if frame is None else frame
