"""Text of the target, made safe for a terminal.

In: any string a target could hold: names, paths, summaries. Out: text of known width without control
characters, escapes, bidirectional overrides or invisible characters. Nothing here knows markup, and what it
returns is only ever put in segments, which are not parsed.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from rich.cells import cell_len, get_character_cell_size

MAX_CHARACTERS: Final = 400
"""No more of one string is ever looked at: longer than any line on a screen."""
MAX_MARKS: Final = 2
"""Combining marks kept on one character; real scripts need no more."""
CACHED_STRINGS: Final = 8192
"""Bound of the cache of cleaned strings: names and paths come again at every refresh."""

# Control, format (bidi, zero width), surrogate, private, unassigned, line and paragraph separators.
_ESCAPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def safe_text(text: str, *, ascii_only: bool = False) -> str:
    """One line of printable text: what is dangerous or invisible becomes its `\\xNN` escape."""
    cut_off = len(text) > MAX_CHARACTERS
    safe = _clean(text[:MAX_CHARACTERS], ascii_only)
    if cut_off:
        return safe + (".." if ascii_only else "…")
    return safe


@lru_cache(maxsize=CACHED_STRINGS)
def _clean(text: str, ascii_only: bool) -> str:
    if text.isascii():
        if text.isprintable():
            return text
    else:
        text = unicodedata.normalize("NFC", text)
    out: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if ascii_only and not character.isascii():
            out.append(_escape(character))
        elif category in ("Mn", "Me"):
            marks += 1
            drawable = out and marks <= MAX_MARKS and not _changes_width(character)
            out.append(character if drawable else _escape(character))
            continue
        elif category == "Zs":
            out.append(" ")
        elif (
            category in _ESCAPED_CATEGORIES
            or _changes_width(character)
            or get_character_cell_size(character) == 0
        ):
            out.append(_escape(character))
        else:
            out.append(character)
        marks = 0
    return "".join(out)


def _changes_width(character: str) -> bool:
    """Characters on whose width terminals disagree: variation selectors, skin tones, flag letters."""
    code = ord(character)
    return (
        0xFE00 <= code <= 0xFE0F
        or 0xE0100 <= code <= 0xE01EF
        or 0x1F3FB <= code <= 0x1F3FF
        or 0x1F1E6 <= code <= 0x1F1FF
    )


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def width_of(text: str) -> int:
    """Cells that safe text takes."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """Safe text cut at the end to at most `width` cells."""
    if width_of(text) <= width:
        return text
    room = width - len(ellipsis)
    if room <= 0:
        return ellipsis[: max(0, width)]
    return _take(text, room) + ellipsis


def cut_start(text: str, width: int, ellipsis: str = "…") -> str:
    """Safe text cut at its start: of a path the end says more."""
    if width_of(text) <= width:
        return text
    room = width - len(ellipsis)
    if room <= 0:
        return ellipsis[: max(0, width)]
    tail = text[-room:]
    while width_of(tail) > room:
        tail = tail[1:]
    return ellipsis + tail


def _take(text: str, room: int) -> str:
    if text.isascii():
        return text[:room]
    head = text[:room]
    while cell_len(head) > room:
        head = head[:-1]
    return head


def pad(text: str, width: int, *, right: bool = False, ellipsis: str = "…") -> str:
    """Safe text of exactly `width` cells."""
    text = cut(text, width, ellipsis)
    spaces = " " * (width - width_of(text))
    return spaces + text if right else text + spaces
