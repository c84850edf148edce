"""Text of a target made harmless: it chooses its thread names, file names and command line.

In: any string, or a value for JSON. Out: the same with everything visible that could move a cursor, hide or
reorder text. All that ftdiag prints goes through here: field by field where it is put together (`visible`),
and once more where it is printed (`harmless`, `json_text`).
"""

from __future__ import annotations

import functools
import html
import json
import re
import unicodedata
from typing import Final

MAX_TEXT: Final = 500
"""Longest text of a target in a report; longer ones are cut in the middle."""

# Control, format (bidi overrides, zero width), surrogate, private use, unassigned; line separators.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS: Final = re.compile(r"([\\`*_{}\[\]()+|!~$]|:(?=//))")
_MENTIONS: Final = re.compile(r"(?<=[@#])(?=\w)|(?<=www)(?=\.)")
_NOT_PLAIN: Final = re.compile(r"[^\x20-\x7e]")
_NEITHER_PLAIN_NOR_LAYOUT: Final = re.compile(r"[^\x20-\x7e\n\t]")


def visible(text: str, *, ascii_only: bool = False, limit: int = MAX_TEXT) -> str:
    """`text` on one line, with escapes such as \\x1b or \\u202e for what would not show as itself.

    `ascii_only` is for terminals that cannot show more (the C locale).
    """
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-(limit // 2) :]}"
    return _NOT_PLAIN.sub(lambda found: _escaped(found[0], ascii_only), text)


def harmless(text: str, *, ascii_only: bool = False) -> str:
    """`text` with its line feeds and tabs, and escapes for everything else that would not show as itself."""
    return _NEITHER_PLAIN_NOR_LAYOUT.sub(lambda found: _escaped(found[0], ascii_only), text)


def json_text(value: object, *, only_ascii: bool = False) -> str:
    """A value as JSON on one line; what would not show as itself is written as \\u escapes (RFC 8259)."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=only_ascii)
    return _NOT_PLAIN.sub(lambda found: _escaped_in_json(found[0]), text)


def markdown(text: str) -> str:
    """`text` without meaning for Markdown: no HTML, link or emphasis, no mention of a person or a ticket."""
    plain = _MARKS.sub(r"\\\1", html.escape(text, quote=False))
    return _MENTIONS.sub("&#8203;", plain)


@functools.lru_cache(maxsize=4096)
def _escaped(character: str, ascii_only: bool) -> str:
    if _shows(character, ascii_only):
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@functools.lru_cache(maxsize=4096)
def _escaped_in_json(character: str) -> str:
    return character if _shows(character, False) else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def _shows(character: str, ascii_only: bool) -> bool:
    if character.isascii():
        return character.isprintable()
    return not ascii_only and unicodedata.category(character) not in _INVISIBLE
