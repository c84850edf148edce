"""Places in the source in words: files, lines, functions.

In: frames. Out: plain text. A row shows "cache.py:88 in Cache.put", a sentence "Cache.put (cache.py:88)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from ftdiag.model import Frame, HotLine, Stack
from ftdiag.wording import Shown

MAX_NAME: Final = 120
"""Longest name put into a sentence; longer ones are cut."""
_VOWELS: Final = tuple("aeioAEIO")
"""Letters at which names of types mostly begin with a vowel's sound: not u, as in ufunc and UUID."""
_LIBRARY: Final = re.compile(r"^.*/(?:site-packages|dist-packages|lib/python3\.[0-9]+t?)/(?=.)")


def short(text: str) -> str:
    """`text`, cut where it is too long for a sentence."""
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."


def an(kind: str) -> str:
    """A kind of thing with its article: "an Event", "a list", "a ufunc"."""
    return f"{'an' if kind[:1] in _VOWELS else 'a'} {kind}"


def short_file(filename: str) -> str:
    """A file of the standard library or of an installed package without its folder."""
    found = _LIBRARY.search(filename)
    return filename[found.end() :] if found else filename


def place(frame: Frame | None) -> str:
    """ "cache.py:88": the file's name alone and the line."""
    if frame is None:
        return "an unknown place"
    name = short(PurePosixPath(frame.filename).name or frame.filename)
    return name if frame.line is None else f"{name}:{frame.line}"


def long_place(frame: Frame) -> str:
    """The whole path and the line, for columns that cut at the start."""
    return frame.filename if frame.line is None else f"{frame.filename}:{frame.line}"


def place_and_function(frame: Frame) -> str:
    """ "cache.py:88 in Cache.put": for a row that is narrow."""
    return f"{place(frame)} in {frame.function}"


def frame_words(frame: Frame, shown: Shown = str) -> str:
    """ "app/cache.py:88 in Cache.put": for a row, the path as far as it tells something."""
    line = "" if frame.line is None else f":{frame.line}"
    return f"{shown(short_file(frame.filename))}{line} in {shown(frame.function)}"


def at_words(stack: Stack, shown: Shown = str) -> str:
    """ " at app/cache.py:88 in Cache.put", with its space; nothing without a stack."""
    return f" at {frame_words(stack[0], shown)}" if stack else ""


def place_in(frame: Frame | None) -> str:
    """ "Cache.put (cache.py:88)": for a sentence."""
    if frame is None:
        return "an unknown place"
    function = frame.function
    return place(frame) if not function or function == "<module>" else f"{short(function)} ({place(frame)})"


def places(lines: Iterable[HotLine], limit: int = 3) -> str:
    """The first lines by name."""
    named = [place_in(line.frame) for line in lines]
    more = len(named) - limit
    text = ", ".join(named[:limit])
    return f"{text} and {more} more" if more > 0 else text
