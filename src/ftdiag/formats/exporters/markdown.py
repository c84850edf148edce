"""The report as Markdown, for a ticket or a pull request.

In: the material of a range. Out: UTF-8 text: the answer, findings with their remedies and code, and the
report's sections, in the report's own words. What a target chose is escaped, so that no name becomes markup
or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Final

from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.material import Material
from ftdiag.reports.escaping import markdown
from ftdiag.reports.text import LineKind, lines

NAME: Final = "markdown"
ENDING: Final = ".md"
NEEDS: Final = Needs.SNAPSHOT
EXTRA: Final = None
_UNBROKEN: Final = 1_000_000
"""Columns of the report: each sentence is one line, and whoever shows it breaks it."""
_CODE_INDENT: Final = 8


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the text; no notes."""
    for line in _lines(material):
        out.write(f"{line}\n".encode("utf-8", "backslashreplace"))
    return ()


def _lines(material: Material) -> Iterator[str]:
    code: list[str] = []
    for line in lines(material.snapshot, _UNBROKEN):
        indent = len(line.text) - len(line.text.lstrip())
        if line.kind is LineKind.DETAIL and indent >= _CODE_INDENT:
            code.append(line.text[_CODE_INDENT:])
            continue
        yield from _block(code)
        code = []
        words = markdown(line.text.strip())
        if line.kind is LineKind.ANSWER:
            yield f"**{words}**"
        elif line.kind is LineKind.HEADING:
            yield f"### {words}"
            yield ""
        elif line.kind is LineKind.ITEM:
            yield f"- {words}"
        elif line.kind is LineKind.DETAIL:
            yield f"  - {words}"
        else:
            yield ""
    yield from _block(code)
    yield ""
    origin = material.origin()
    yield f"<sub>{markdown(origin['made_by'])}, recording {markdown(origin['recording'])}</sub>"


def _block(code: list[str]) -> Iterator[str]:
    """Lines of code, fenced by more backticks than are in them."""
    if not code:
        return
    longest = max((len(run) for line in code for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield ""
    yield f"    {fence}python"
    for line in code:
        yield f"    {line}".rstrip()
    yield f"    {fence}"
    yield ""
