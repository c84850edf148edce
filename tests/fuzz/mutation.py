"""What mutants are made with: values at the edges of their ranges, and changes of bytes and JSON.

In: a `random.Random` with a seed, so that every mutant can be made again. Out: changed copies.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

MARKUP: Final = "<img src=x onerror=alert(1)>\"'></script><script>alert(2)</script>"
ESCAPES: Final = "\x1b]0;title\x07\x1b[2J\x9b31m\r\n\u202e\u2066evil\u200b[bold red]m[/]\u2028"
TEXTS: Final = (
    MARKUP,
    ESCAPES,
    "",
    "A" * 5000,
    "\ud800",
    "%s%n{0}",
    "=cmd|calc",
    "\0",
    "../../etc/passwd",
    "\U000e0041",
    "[link=http://x]y[/link]",
    "NaN0",
    "-1",
)
NUMBERS: Final = (
    0,
    -1,
    1,
    2,
    7,
    8,
    255,
    2**12,
    2**16,
    2**20 - 1,
    2**20,
    10**9,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32,
    2**53 + 1,
    2**60,
    2**62,
    2**62 + 1,
    -(2**62),
    2**63 - 1,
    -(2**63),
)
WORDS: Final = (
    *(number for number in NUMBERS if number >= 0),
    16,
    24,
    32,
    64,
    2**24 - 8,
    2**24,
    2**40,
    2**63,
    2**64 - 8,
    2**64 - 1,
)
"""Numbers of 64 bits without a sign: addresses, sizes, counts."""
JSON_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    [],
    {},
    "x",
    1.5,
    -1.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e308,
    5e-324,
    10**30,
    -(10**30),
    [[], [], []],
    {"a": 1},
)
PIECES: Final = (
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\0",
    b'"',
    b"{",
    b"[",
    b"1e999",
    b"-9",
    b"99999999999999999999999",
    b"NaN",
    b"Infinity",
    b"\\ud800",
    b"\x1b[2J",
    MARKUP.encode(),
    b"[[" * 2000,
    b"\r",
    b"\x85",
)


def changed_bytes(data: bytes, chance: Random, pieces: tuple[bytes, ...] = PIECES) -> bytes:
    """A copy with bytes changed, left out, doubled, put in, or cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not changed:
            break
        place = chance.randrange(len(changed))
        match chance.randrange(7):
            case 0:
                changed[place] = chance.randrange(256)
            case 1:
                del changed[place : place + chance.randrange(1, 30)]
            case 2:
                begin = chance.randrange(len(changed))
                changed[place:place] = changed[begin : begin + chance.randrange(1, 60)]
            case 3:
                changed[place:place] = chance.choice(pieces)
            case 4:
                del changed[place:]
            case 5:
                changed[place:place] = str(chance.choice(NUMBERS)).encode()
            case _:
                changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


LARGEST_TEXT = 16 << 20
"""Of what is there a thousand times."""


def changed_json(value: Any, chance: Random) -> Any:
    """The value with one thing in it changed: a number, a text, a type, something gone or there too often."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        how = chance.random()
        if how < 0.1:
            return {other: kept for other, kept in value.items() if other != key}
        if how < 0.2:
            return {**value, chance.choice(TEXTS): value[key]}
        return {**value, key: changed_json(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        if chance.random() < 0.1:
            times = chance.choice((0, 2, 1000))
            # A thousand times a large thing would be time of ours, not of who reads it.
            return value * (times if times * len(json_text(value)) < LARGEST_TEXT else 2)
        return [*value[:place], changed_json(value[place], chance), *value[place + 1 :]]
    if isinstance(value, str) and chance.random() < 0.6:
        return chance.choice(TEXTS)
    if isinstance(value, int | float) and chance.random() < 0.6:
        return chance.choice(NUMBERS)
    if chance.random() < 0.05:
        nested: list[Any] = []
        for _ in range(chance.choice((10, 900, 3000))):
            nested = [nested]
        return nested
    return chance.choice(JSON_VALUES)


def json_text(value: Any) -> str:
    """As JSON; what is nested deeper than Python's own encoder goes, as many brackets."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 100_000
