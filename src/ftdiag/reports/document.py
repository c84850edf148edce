"""Sections of sentences and tables as text, Markdown or HTML: what reports of sweeps and comparisons are
made of.

In: `Section`s, whose texts may come from anybody. Out: lines of text, Markdown, or HTML parts in which all
of it is made visible and escaped.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len

from ftdiag.datatypes import dataclass
from ftdiag.reports.escaping import markdown, visible

MAX_SENTENCE: Final = 2000
MAX_CELL: Final = 300
GAP: Final = "  "
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE: Final = """ :root{color-scheme:light dark;--back:#fff;--text:#1c2126;--soft:#5b6670;--line:#d7dde2}
@media (prefers-color-scheme:dark){:root{--back:#15191d;--text:#e6eaee;--soft:#9aa6b1;--line:#333c44}}
body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--back);color:var(--text); font:15px/1.5
system-ui,sans-serif} h1{font-size:1.35rem;margin:0 0 .4rem}h2{font-size:1.1rem;margin:2rem 0
.6rem;border-bottom:1px solid var(--line)} p{margin:.3rem 0}table{border-collapse:collapse;font-size:.92em}
th,td{text-align:left;vertical-align:top;padding:.25rem .7rem;border-bottom:1px solid var(--line);
overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap}
svg{display:block;width:100%;height:auto;max-width:60rem;background:#fff;border-radius:4px}
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under headings; all columns but those named in `words` are figures, set to the right."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading ("" for none), sentences, and a table below them."""

    heading: str
    sentences: tuple[str, ...] = ()
    table: Table | None = None
    after: tuple[str, ...] = ()
    """Sentences below the table."""


def amount(value: float) -> str:
    """A figure with four digits that count: "14,280", "3.142", "0.001234"."""
    if not 1000 <= abs(value) < 1e15:
        return f"{value:.4g}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return f"{round(value / step) * step:,.0f}"


# --- text ----------------------------------------------------------------------------------------------


def text_lines(sections: Sequence[Section], width: int, *, ascii_only: bool = False) -> Iterator[str]:
    """Plain lines; sentences are wrapped, tables are as wide as they are."""
    for number, section in enumerate(sections):
        if number:
            yield ""
        if section.heading:
            yield visible(section.heading, ascii_only=ascii_only)
        indent = "  " if section.heading else ""
        for sentence in section.sentences:
            yield from _wrapped(sentence, width, indent, ascii_only)
        if section.table is not None:
            yield from _text_table(section.table, width, indent, ascii_only)
        for sentence in section.after:
            yield from _wrapped(sentence, width, indent, ascii_only)


def _wrapped(sentence: str, width: int, indent: str, ascii_only: bool) -> list[str]:
    shown = visible(sentence, ascii_only=ascii_only, limit=MAX_SENTENCE)
    return textwrap.wrap(
        shown, max(20, width), initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    ) or [""]


def _text_table(table: Table, width: int, indent: str, ascii_only: bool) -> Iterator[str]:
    rows = [table.headings, *table.rows]
    cells = [[visible(cell, ascii_only=ascii_only, limit=MAX_CELL) for cell in row] for row in rows]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(table.headings))]
    # What is too wide is taken from the widest column of words, which is wrapped onto more lines.
    spare = len(indent) + sum(widths) + len(GAP) * (len(widths) - 1) - width
    if spare > 0 and table.words:
        widest = max(table.words, key=lambda column: widths[column])
        widths[widest] = max(12, widths[widest] - spare)
    for row in cells:
        parts = [
            textwrap.wrap(cell, widths[column], break_on_hyphens=False) or [""]
            if column in table.words
            else [cell]
            for column, cell in enumerate(row)
        ]
        for line in range(max(map(len, parts))):
            shown = [
                _filled(part[line] if line < len(part) else "", widths[column], column in table.words)
                for column, part in enumerate(parts)
            ]
            yield (indent + GAP.join(shown)).rstrip()


def _filled(text: str, width: int, left: bool) -> str:
    room = " " * max(0, width - cell_len(text))
    return text + room if left else room + text


# --- Markdown ------------------------------------------------------------------------------------------


def markdown_lines(title: str, sections: Sequence[Section]) -> Iterator[str]:
    """Markdown for the summary of a job: a heading, and the same below it."""
    yield f"## {_marked(title)}"
    for section in sections:
        yield ""
        if section.heading:
            yield f"### {_marked(section.heading)}"
            yield ""
        for sentence in section.sentences:
            yield _marked(sentence, MAX_SENTENCE)
            yield ""
        if section.table is not None:
            headings = section.table.headings
            yield f"| {' | '.join(_marked(each) for each in headings)} |"
            words = section.table.words
            yield f"|{'|'.join(':--' if column in words else '--:' for column in range(len(headings)))}|"
            for row in section.table.rows:
                yield f"| {' | '.join(_marked(cell, MAX_CELL) for cell in row)} |"
            yield ""
        for sentence in section.after:
            yield _marked(sentence, MAX_SENTENCE)
            yield ""


def _marked(text: str, limit: int = MAX_CELL) -> str:
    return markdown(visible(text, limit=limit))


# --- HTML ----------------------------------------------------------------------------------------------


def html_document(title: str, sections: Sequence[Section], pictures: Sequence[str] = ()) -> str:
    """A whole document in ASCII; `pictures` are SVG that was made here, and stand above the sections."""
    body = "\n".join(_html_parts(title, sections, pictures))
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    return document.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _html_parts(title: str, sections: Sequence[Section], pictures: Sequence[str]) -> Iterator[str]:
    yield f"<header><h1>{_escaped(title)}</h1></header>\n<main>"
    yield from pictures
    yield from html_sections(sections)
    yield "</main>"


def html_sections(sections: Sequence[Section]) -> Iterator[str]:
    """Sections as parts of a page."""
    for section in sections:
        yield "<section>"
        if section.heading:
            yield f"<h2>{_escaped(section.heading)}</h2>"
        for sentence in section.sentences:
            yield f"<p>{_escaped(sentence, MAX_SENTENCE)}</p>"
        if section.table is not None:
            yield _html_table(section.table)
        for sentence in section.after:
            yield f"<p>{_escaped(sentence, MAX_SENTENCE)}</p>"
        yield "</section>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        made = "".join(
            f"<{tag}{'' if column in table.words else ' class=n'}>{_escaped(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{made}</tr>"

    body = "\n".join(row(each, "td") for each in table.rows)
    return f"<table>\n<thead>{row(table.headings, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _escaped(text: str, limit: int = MAX_CELL) -> str:
    return html.escape(visible(text, limit=limit))
