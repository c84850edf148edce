"""A plot of one figure over time, in the characters of a terminal.

In: values, `None` where nothing is known. Out: lines of exact width, the highest first: filled columns with
eighths of a cell where the terminal can draw them, and a rule at the ideal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style

from ftdiag.tui.look import Look

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def resampled(values: Sequence[float | None], width: int) -> list[float | None]:
    """The values stretched or averaged to `width` columns."""
    if not values or width <= 0:
        return []
    count = len(values)
    columns: list[float | None] = []
    for column in range(width):
        begin = column * count // width
        end = max(begin + 1, (column + 1) * count // width)
        known = [value for value in values[begin:end] if value is not None]
        columns.append(sum(known) / len(known) if known else None)
    return columns


def plot_lines(
    values: Sequence[float | None],
    over: Sequence[float | None] | None,
    top: float,
    width: int,
    height: int,
    look: Look,
    styles: tuple[Style, Style],
    rule: float | None = None,
) -> list[list[Segment]]:
    """Columns of `values`; `over`, what stands above each column, in the second style; both up to `top`."""
    columns = resampled(values, width)
    above = resampled(over, width) if over else [None] * width
    top = max(top, 1e-9)
    lines: list[list[Segment]] = []
    rule_row = None if rule is None else min(height - 1, max(0, round((1 - rule / top) * height - 0.5)))
    for row in range(height):
        low = (height - 1 - row) * top / height
        step = top / height
        line: list[Segment] = []
        for column, more in zip(columns, above, strict=True):
            character, style = " ", styles[0]
            if column is not None:
                filled = (column - low) / step
                total = filled if more is None else (column + more - low) / step
                if filled >= 1:
                    character = _cell(1.0, look)
                elif filled > 0 and (total < 0.99 or filled >= 0.5):
                    character = _cell(filled, look)
                elif total > 0.06:
                    character, style = ("+" if look.ascii_only else "░"), styles[1]
            if character == " " and row == rule_row:
                character, style = ("-" if look.ascii_only else "┈"), look.muted
            if line and line[-1].style == style:
                line[-1] = Segment(line[-1].text + character, style)
            else:
                line.append(Segment(character, style))
        lines.append(line)
    return lines


def _cell(share: float, look: Look) -> str:
    if look.ascii_only:
        return "#" if share >= 0.5 else ("." if share > 0.1 else " ")
    return _EIGHTHS[max(0, min(8, round(share * 8)))]


def spark(values: Sequence[float], width: int, look: Look) -> str:
    """One line of shades: shares between 0 and 1 over time."""
    signs = " .:+#" if look.ascii_only else " ▁▃▅▇█"
    most = len(signs) - 1
    return "".join(
        signs[0 if value is None or value <= 0.01 else max(1, min(most, round(value * most)))]
        for value in resampled(list(values), width)
    )
