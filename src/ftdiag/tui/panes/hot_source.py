"""What is known of a line: its source with the heat of each line and whether that is what runs, shared
objects, pauses, machine code.

In: source text, hot lines and pauses. Out: lines for panels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rich.segment import Segment

from ftdiag.model import (
    Frame,
    HotLine,
    Pauses,
    Snapshot,
    ThreadState,
)
from ftdiag.tui.lines import Lines, wrapped
from ftdiag.tui.look import Look
from ftdiag.tui.sourcetext import SourceLines
from ftdiag.wording.locks import spun_for_words
from ftdiag.wording.objects import object_words
from ftdiag.wording.units import percent, plural, seconds

USER_HZ: Final = 100
"""Unit of a process' start in /proc/PID/stat (man 5 proc; 100 on all machines that are read)."""


def source_lines(
    source: SourceLines, hot: tuple[HotLine, ...], line: int | None, width: int, look: Look
) -> Lines:
    """The text with its heat: share of the file's hottest line, dominant cause, number, text."""
    if not source.lines:
        return [
            [],
            [Segment(" "), Segment(look.cut(source.why or "source not available", width - 2), look.muted)],
        ]
    heat: dict[int, HotLine] = {}
    for each in hot:
        if each.frame.filename == source.filename and each.frame.line is not None:
            heat[each.frame.line] = each
    total = sum(each.total_ns for each in hot) or 1.0
    lines: Lines = []
    number_width = len(str(len(source.lines)))
    for number, text in enumerate(source.lines, 1):
        known = heat.get(number)
        here = number == line
        gutter = [Segment("      ")]
        if known is not None:
            cause = max(
                known.states_ns, key=lambda state: known.states_ns[state], default=ThreadState.UNKNOWN
            )
            gutter = [
                look.cell(f"{100 * known.total_ns / total:.0f}%", 4, look.strong, right=True),
                Segment(" "),
                Segment(look.sign(cause), look.state_styles[cause]),
            ]
        mark = look.pointer if here else " "
        style = look.strong if here else look.text if known is not None else look.muted
        lines.append(
            [
                *gutter,
                Segment(mark, look.accent),
                look.cell(str(number), number_width, look.muted, right=True),
                Segment(" "),
                Segment(look.cut(text, max(0, width - 8 - number_width)), style),
            ]
        )
    return lines


def other_text(source: SourceLines, snapshot: Snapshot) -> str | None:
    """Why a text is not, or may not be, what runs; `None` where nothing says so.

    Code that ran is neither a blank line nor a comment, is in a function of its name, and was not written
    after the program began.
    """
    lines = source.lines
    for hot in snapshot.hot:
        frame = hot.frame
        if frame.filename != source.filename or frame.line is None or not lines:
            continue
        if frame.line > len(lines):
            return f"not the text that runs: it has no line {frame.line}"
        text = lines[frame.line - 1].strip()
        if not text or text.startswith("#"):
            return f"not the text that runs: line {frame.line} is {'a comment' if text else 'blank'} here"
        name = frame.function.rpartition(".")[2]
        if name.isidentifier() and not any(
            re.match(rf"\s*(?:(?:async\s+)?def|class)\s+{name}\b", each) for each in lines
        ):
            return f"not the text that runs: no {name} is defined in it"
    changed_ns = source.changed_unix_ns
    if changed_ns is not None and changed_ns > _began_unix_ns(snapshot):
        return "may not be the text that runs: written after the program began"
    return None


def _began_unix_ns(snapshot: Snapshot) -> int:
    """When the program began, or where that is not known, the recording."""
    settings, ticks = snapshot.settings, snapshot.target.start_ticks
    age_ns = settings.started_ns - ticks * 1_000_000_000 // USER_HZ if ticks else 0
    return settings.started_unix_ns - max(0, age_ns)


MAX_SHARED: Final = 8
"""Objects named of one line, symbols of machine code, and places of pauses."""
SAID_SHARE: Final = 0.005


def line_lines(hot: HotLine, pauses: Sequence[Pauses], width: int, look: Look) -> Lines:
    """What is known of a line besides its stacks: shared objects, machine code, pauses asked for there."""
    lines: Lines = []

    def block(title: str, entries: list[str]) -> None:
        if entries:
            lines.append([Segment(look.cut(f" {title}", width), look.strong)])
            for entry in entries[:MAX_SHARED]:
                for number, text in enumerate(wrapped(entry, width - 4, look, most=3)):
                    lines.append([Segment("   " if number == 0 else "     "), Segment(text, look.text)])

    block(
        "shared by threads here",
        [object_words(each) for each in hot.shared],
    )
    block("threads spin here for", spun_for_words(hot))
    block("threads spin here for locks that they hold themselves", list(hot.own_locks))
    block(
        "pauses asked for here",
        [
            f"{each.count}{f' for {each.reason}' if each.reason else ''}: {seconds(each.total_ns)} in all, "
            f"{plural(each.threads_max, 'thread')} stopped"
            for each in pauses
        ],
    )
    block(
        "machine code, share of its time on a core",
        [f"{percent(share)} {symbol}" for symbol, share in hot.native if share >= SAID_SHARE],
    )
    return lines


def pauses_at(frame: Frame, snapshot: Snapshot | None) -> list[Pauses]:
    """Pauses that were asked for at a line (or in a function, where the line is none)."""
    if snapshot is None:
        return []
    return [
        each
        for each in snapshot.pauses
        if each.stack
        and (each.stack[0].filename, each.stack[0].function) == (frame.filename, frame.function)
        and frame.line in (None, each.stack[0].line)
    ]


def definition(source: SourceLines, function: str) -> int | None:
    """The line of a function's definition, where its name stands out."""
    name = function.rpartition(".")[2]
    for number, text in enumerate(source.lines, 1):
        if text.lstrip().startswith((f"def {name}(", f"async def {name}(")):
            return number
    return None
