"""How much of a line's machine code is in functions of certain names.

In: hot lines with native samples, patterns of names. Out: shares.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final

from ftdiag.model import HotLine

SYMBOL_SHARE: Final = 0.03
"""A function of machine code with this share of a line's samples decides whose its atomics are. Measured:
making and freeing C objects 4-25 %, setting class attributes 9-12 %, super() 8 %, imports 10 %."""
NEIGHBOUR_SHARE: Final = SYMBOL_SHARE / 3
"""Enough where another line of the function has the whole share."""
_LETTERS: Final = {"?": r"\w", "*": r"\w*"}


@functools.cache
def pattern_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """Names as a pattern; `?` stands for one letter of them, `*` for any number."""
    return re.compile("|".join("".join(_LETTERS.get(c, re.escape(c)) for c in name) for name in names))


def symbol_share(line: HotLine, pattern: re.Pattern[str], most: int | None = None) -> float:
    """Share of a line's native samples in functions of that name (compilers add suffixes: .part.0).

    With `most`, only its first so many functions count.
    """
    return sum(part for symbol, part in line.native[:most] if pattern.fullmatch(symbol.partition(".")[0]))


def may_be_same(one: str, other: str) -> bool:
    """Whether a name exists that two patterns of `pattern_of` both fit."""
    reached = {(0, 0)}
    seen: set[tuple[int, int]] = set()
    while reached:
        at = reached.pop()
        if at == (len(one), len(other)):
            return True
        if at in seen:
            continue
        seen.add(at)
        reached.update(_steps(one, other, *at))
    return False


def _steps(one: str, other: str, first: int, second: int) -> Iterable[tuple[int, int]]:
    """Where in both patterns a name may stand after one more letter, or after none."""
    mine = one[first : first + 1]
    theirs = other[second : second + 1]
    if mine == "*":
        yield first + 1, second
    if theirs == "*":
        yield first, second + 1
    if mine and theirs and (mine == theirs or "?" in (mine, theirs) or "*" in (mine, theirs)):
        yield first + (mine != "*"), second + (theirs != "*")
