"""Line numbers of bytecode: the location table of code objects (PEP 626, Objects/locations.md in CPython).

In: `co_linetable` bytes and the first line. Out: for every code unit its line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from ftdiag.sources.compiled import COMPILED, tick

_NO_LOCATION: Final = 15
_LONG: Final = 14
_NO_COLUMNS: Final = 13
_ONE_LINE_FIRST: Final = 10
_VARINT_BYTES: Final = 6
"""Bytes of the longest number in a table: 32 bits, six in each byte."""
_MAX_LINE: Final = (1 << 31) - 1


class LineTable:
    """Lines of one code object, from its location table.

    A damaged table ends early: units behind the damage have no line.
    """

    __slots__ = ("_lines", "_starts", "_units")

    def __init__(self, table: bytes, first_line: int) -> None:
        decode = tick.line_table if COMPILED else line_table
        self._starts, self._lines, self._units = decode(table, first_line)

    @property
    def units(self) -> int:
        """Code units that the table accounts for."""
        return self._units

    def line(self, unit: int) -> int | None:
        """Line of the code unit (bytecode offset / 2), or `None` where there is none."""
        if not 0 <= unit < self._units:
            return None
        place = bisect_right(self._starts, unit) - 1
        return self._lines[place] if place >= 0 else None

    def ranges(self, line: int) -> list[tuple[int, int]]:
        """The code units [start, end) of a line; an instruction never reaches beyond such a range."""
        ends = [*self._starts[1:], self._units]
        return [
            (start, end)
            for start, end, found in zip(self._starts, ends, self._lines, strict=True)
            if found == line
        ]


def line_table(table: bytes, first_line: int) -> tuple[list[int], list[int | None], int]:
    """The first units of runs of one line, their lines, and the number of units; as in `tick/places.c`."""
    starts: list[int] = []
    lines: list[int | None] = []
    total = 0
    for units, line in _entries(table, first_line):
        if not lines or lines[-1] != line:
            starts.append(total)
            lines.append(line)
        total += units
    return starts, lines, total


def _entries(table: bytes, first_line: int) -> Iterator[tuple[int, int | None]]:
    """(number of code units, line) of every entry up to the end or the first damage."""
    line = first_line
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
            delta = _signed_varint(table[position + 1 : min(end, position + 1 + _VARINT_BYTES)])
            if delta is None:
                return
            line += delta
        elif code >= _ONE_LINE_FIRST and code != _NO_LOCATION:
            line += code - _ONE_LINE_FIRST
        if not 0 <= line <= _MAX_LINE:
            return
        yield (head & 7) + 1, None if code == _NO_LOCATION else line
        position = end


def _signed_varint(data: bytes) -> int | None:
    """The number that begins `data`; `None` if it has no end."""
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x3F) << 6 * place
        if not byte & 0x40:
            return -(value >> 1) if value & 1 else value >> 1
    return None
