"""Call stacks as lines: the commonest of a hot line, of a holder, of a waiter.

In: stacks with their thread-time. Out: lines for a `LinesPanel`; bounded in number and depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style

from ftdiag.model import Frame, Stack
from ftdiag.tui.lines import Lines
from ftdiag.tui.look import Look
from ftdiag.tui.safetext import width_of
from ftdiag.wording.places import place
from ftdiag.wording.units import percent, seconds

MAX_STACKS: Final = 8
"""Stacks shown; the rest is counted."""
MAX_FRAMES: Final = 100
"""Frames shown of one stack; deep recursion is counted, not listed."""


def frame_line(frame: Frame, width: int, look: Look, style: Style, indent: str = "  ") -> list[Segment]:
    """One frame: function, and file and line right behind it, the function cut first."""
    where = look.cut_start(place(frame), max(8, width // 2))
    room = width - len(indent) - width_of(where) - 1
    function = look.cut(frame.function, max(0, room))
    return [Segment(indent), Segment(function, style), Segment(" "), Segment(where, look.muted)]


def stack_lines(stack: Stack, width: int, look: Look, indent: str = "  ") -> Lines:
    """The frames of a stack, innermost first."""
    if not stack:
        return [[Segment(indent), Segment(look.cut("no Python frames", width - 2), look.muted)]]
    lines = [
        frame_line(frame, width, look, look.strong if depth == 0 else look.text, indent)
        for depth, frame in enumerate(stack[:MAX_FRAMES])
    ]
    if len(stack) > MAX_FRAMES:
        lines.append([Segment(f"{indent}{len(stack) - MAX_FRAMES} more frames", look.muted)])
    return lines


def stacks_lines(stacks: Sequence[tuple[Stack, float]], total_ns: float, width: int, look: Look) -> Lines:
    """Several stacks, each under its share of `total_ns`."""
    lines: Lines = []
    for stack, time_ns in stacks[:MAX_STACKS]:
        if lines:
            lines.append([])
        share = percent(time_ns / total_ns) if total_ns > 0 else ""
        lines.append([Segment(look.cut(f" {share}  {seconds(time_ns)}", width), look.accent)])
        lines += stack_lines(stack, width, look)
    if len(stacks) > MAX_STACKS:
        lines += [[], [Segment(look.cut(f" {len(stacks) - MAX_STACKS} more stacks", width), look.muted)]]
    if not lines:
        lines.append([Segment(look.cut(" no stacks kept", width), look.muted)])
    return lines
