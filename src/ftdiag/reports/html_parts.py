"""Pieces of the HTML report: tables, stacks, folded parts, and text of the target made harmless.

In: values, text. Out: HTML.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ftdiag.model import (
    Frame,
    Stack,
)
from ftdiag.reports.escaping import visible
from ftdiag.wording import units
from ftdiag.wording.places import frame_words

SHOWN_FRAMES: Final = 24


def table_of(names: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; the columns in `numbers` are set to the right."""
    classes = [' class="n"' if place in numbers else "" for place in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(names, classes, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def rest_of(left: int, noun: str, nouns: str | None = None) -> Iterator[str]:
    if left > 0:
        more = units.plural(left, f"more {noun}", None if nouns is None else f"more {nouns}")
        yield f'<p class="soft">and {more}</p>'


def counted(heading: str, shown: int, present: int) -> str:
    return f"{heading} ({shown} of {present:,} shown)" if present > shown else heading


def stack_of(stack: Stack) -> str:
    frames = "<br>".join(place_of(frame) for frame in stack[:SHOWN_FRAMES])
    more = len(stack) - SHOWN_FRAMES
    return f'<div class="place">{frames}{f"<br>and {more:,} outer frames" if more > 0 else ""}</div>'


def place_of(frame: Frame) -> str:
    return escape(frame_text(frame))


def frame_text(frame: Frame) -> str:
    """A place that is not escaped yet."""
    return frame_words(frame, visible)


def safe(text: str, limit: int = 500) -> str:
    """A text of the target, on one line, harmless and escaped."""
    return escape(visible(text, limit=limit))


def code_of(text: str) -> str:
    """Code that may have several lines."""
    return "\n".join(safe(line) for line in text.splitlines()[:60])


def escape(text: str) -> str:
    return html.escape(text, quote=True)
