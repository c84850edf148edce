"""Line numbers of bytecode: the location table of code objects (PEP 626, Objects/locations.md in CPython).

In: `co_linetable` bytes and the first line. Out: for every code unit its line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

_NO_LOCATION: Final = 15
_LONG: Final = 14
_NO_COLUMNS: Final = 13
_ONE_LINE_FIRST: Final = 10


class LineTable:
    """Lines of one code object, from its location table.

    A damaged table ends early: units behind the damage have no line.
    """

    __slots__ = ("_lines", "_starts", "_units")

    def __init__(self, table: bytes, first_line: int) -> None:
        self._starts: list[int] = []
        self._lines: list[int | None] = []
        self._units = 0
        for start, line in _entries(table, first_line):
            if not self._lines or self._lines[-1] != line:
                self._starts.append(start)
                self._lines.append(line)
        self._units = sum((byte & 7) + 1 for byte in table if byte & 0x80)

    def line(self, unit: int) -> int | None:
        """Line of the code unit (bytecode offset / 2), or `None` where there is none."""
        if not 0 <= unit < self._units:
            return None
        place = bisect_right(self._starts, unit) - 1
        return self._lines[place] if place >= 0 else None


def _entries(table: bytes, first_line: int) -> Iterator[tuple[int, int | None]]:
    """(first code unit, line) of every entry."""
    line = first_line
    unit = 0
    position = 0
    while position < len(table):
        head = table[position]
        if not head & 0x80:
            return
        code = head >> 3 & 15
        end = position + 1
        while end < len(table) and not table[end] & 0x80:
            end += 1
        if code in (_LONG, _NO_COLUMNS):
            line += _signed_varint(table, position + 1, end)
        elif code >= _ONE_LINE_FIRST and code != _NO_LOCATION:
            line += code - _ONE_LINE_FIRST
        yield unit, None if code == _NO_LOCATION else line
        unit += (head & 7) + 1
        position = end


def _signed_varint(table: bytes, position: int, end: int) -> int:
    value = 0
    for shift, byte in enumerate(table[position:end]):
        value |= (byte & 0x3F) << 6 * shift
        if not byte & 0x40:
            break
    return -(value >> 1) if value & 1 else value >> 1
