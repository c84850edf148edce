"""What a capture of memray says: totals, lines and threads that allocate.

In: a snapshot. Out: lines for the memory pane.
"""

from __future__ import annotations

from typing import Final

from rich.segment import Segment

from ftdiag.model import Allocations, LineAllocations, Snapshot
from ftdiag.tui.lines import Lines, figure, heading, prose
from ftdiag.tui.look import Look
from ftdiag.wording.places import long_place, place
from ftdiag.wording.units import percent, plural, seconds, size

MAX_LINES: Final = 40
MAX_THREADS: Final = 12
_CELLS: Final = (("alloc/s", 9), ("temp", 6), ("bytes/s", 11), ("at peak", 11), ("not freed", 11))
"""Columns of numbers with their widths, before the place."""
_NARROW: Final = 90
"""Below this width, the columns of the heap are left out."""


def allocation_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """All that is known of allocations; how to get it where nothing is."""
    capture = snapshot.allocations
    if capture is None:
        words = "not known: A attaches memray for a while (live), --memory joins a capture"
        return [
            *heading("What lines allocate", width, look),
            *prose(words, width, look, look.muted),
        ]
    lines: Lines = heading("What lines allocate, by memray", width, look)
    form = ", aggregated" if capture.aggregated else ""
    cut = ", cut short" if capture.cut_short else ""
    lines += figure("capture", f"{seconds(capture.duration_ns)}{form}{cut}", width, look)
    if not capture.python_allocators:
        lines += figure(
            "", "without Python's own objects, which malloc does not make", width, look, look.muted
        )
    lines += figure("allocations", _rate_words(capture), width, look, look.strong)
    if capture.peak_bytes is not None:
        lines += figure("largest heap", size(capture.peak_bytes), width, look)
    if capture.left_bytes is not None:
        lines += figure("not freed", size(capture.left_bytes), width, look)
    for name, why in capture.not_measured.items():
        lines += figure(name.replace("_", " "), f"not measured: {why}", width, look, look.muted)
    lines += prose(
        "Rates are those of a program that memray slows down: lower bounds.", width, look, look.muted
    )
    lines.append([])
    lines += _table(capture, width, look)
    lines += _threads(capture, width, look)
    return lines


def _rate_words(capture: Allocations) -> str:
    rate = capture.per_second(capture.count)
    if rate is None or capture.count is None:
        return "not measured"
    share = percent(capture.temporary / capture.count) if capture.count and capture.temporary else "0 %"
    bytes_words = size(capture.per_second(capture.size_bytes))
    return f"{rate:,.0f} per second, {share} temporary; {bytes_words} per second"


def _table(capture: Allocations, width: int, look: Look) -> Lines:
    cells = _CELLS if width >= _NARROW else _CELLS[:3]
    rest = max(10, width - 2 - sum(cell for _, cell in cells) - len(cells))
    head = [Segment(" ")]
    for name, cell in cells:
        head += [look.cell(name, cell, look.column_head, right=True), Segment(" ")]
    lines: Lines = [[*head, look.cell("file:line function", rest, look.column_head)]]
    for line in capture.lines[:MAX_LINES]:
        row = [Segment(" ")]
        for text, (_, cell) in zip(_figures(line, capture), cells, strict=False):
            row += [look.cell(text, cell, look.text, right=True), Segment(" ")]
        where = f"{long_place(line.frame)} {line.frame.function}"
        if len(where) > rest:
            where = f"{place(line.frame)} {line.frame.function}"
        lines.append([*row, look.cell(look.safe(where), rest, look.text)])
    more = len(capture.lines) - MAX_LINES + capture.lines_left_out
    if more > 0:
        lines.append([Segment(f" and {plural(more, 'line')} more", look.muted)])
    return lines


def _figures(line: LineAllocations, capture: Allocations) -> tuple[str, ...]:
    rate = capture.per_second(line.count)
    share = percent(line.temporary / line.count) if line.count and line.temporary is not None else ""
    return (
        "" if rate is None else f"{rate:,.0f}" if rate < 99_999.5 else f"{rate / 1e6:.2f} M",
        share,
        "" if line.size_bytes is None else size(capture.per_second(line.size_bytes)),
        size(line.peak_bytes) if line.peak_bytes else "",
        size(line.left_bytes) if line.left_bytes else "",
    )


def _threads(capture: Allocations, width: int, look: Look) -> Lines:
    lines = heading("Threads that allocate (memray's own numbers)", width, look)
    for thread in capture.threads[:MAX_THREADS]:
        rate = capture.per_second(thread.count)
        words = [] if rate is None else [f"{rate:,.0f} allocations per second"]
        if thread.left_bytes:
            words.append(f"{size(thread.left_bytes)} not freed")
        name = look.safe(thread.name) if thread.name else "without a name"
        lines += figure(f"{thread.number}  {name}", ", ".join(words) or "nothing left", width, look)
    return lines
