"""Text of a target made harmless: it chooses its thread names, file names and command line.

In: any string. Out: the same with everything visible that could move a cursor, hide or reorder text.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_TEXT: Final = 500
"""Longest text of a target in a report; longer ones are cut in the middle."""

# Control, format (bidi overrides, zero width), surrogate, private use, unassigned; line separators.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, *, ascii_only: bool = False, limit: int = MAX_TEXT) -> str:
    """`text` on one line, with escapes such as \\x1b or \\u202e for what would not show as itself.

    `ascii_only` is for terminals that cannot show more (the C locale).
    """
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-(limit // 2) :]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character, ascii_only) for character in text)


def _escaped(character: str, ascii_only: bool) -> str:
    if character.isascii():
        harmless = character.isprintable()
    else:
        harmless = not ascii_only and unicodedata.category(character) not in _INVISIBLE
    if harmless:
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
