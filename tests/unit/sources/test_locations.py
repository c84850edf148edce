"""Line tables against what this Python's own compiler says, over real code; and damaged ones."""

from __future__ import annotations

import sysconfig
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.sources import _tick
from ftdiag.sources.python.locations import LineTable, line_table

LIBRARY = Path(sysconfig.get_path("stdlib"))
FILES = sorted(LIBRARY.glob("*.py"))[::3] + sorted((LIBRARY / "asyncio").glob("*.py"))


def code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code object and all those in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


def lines_of(code: types.CodeType) -> list[int | None]:
    """What the interpreter says: the line of every code unit."""
    lines: list[int | None] = [None] * (len(code.co_code) // 2)
    for start, end, line in code.co_lines():
        lines[start // 2 : end // 2] = [line] * ((end - start) // 2)
    return lines


@pytest.mark.parametrize("part", range(4))
def test_lines_of_the_standard_library(part: int) -> None:
    # GIVEN code objects of many real files
    checked = 0
    for path in FILES[part::4]:
        module = compile(path.read_bytes(), str(path), "exec")
        for code in code_objects(module):
            # WHEN the location table is read
            table = LineTable(code.co_linetable, code.co_firstlineno)

            # THEN every code unit has the line that the interpreter says
            expected = lines_of(code)
            assert [table.line(unit) for unit in range(len(expected))] == expected, code
            checked += 1
    assert checked > 300


def test_units_outside_have_no_line() -> None:
    # GIVEN the table of a small function
    code = compile("x = 1\ny = 2\n", "f", "exec")
    table = LineTable(code.co_linetable, code.co_firstlineno)

    # WHEN units before and behind it are asked for, THEN there is no line
    assert table.line(-1) is None
    assert table.line(len(code.co_code) // 2) is None
    assert table.line(1 << 40) is None


def test_lines_that_go_back_and_far() -> None:
    # GIVEN a comprehension over several lines and a call far below
    source = (
        "def f(a):\n    return [\n        x\n        for x in a\n        if x\n    ]"
        + "\n" * 3000
        + "f(\n  [1])\n"
    )
    for code in code_objects(compile(source, "f", "exec")):
        # WHEN and THEN: as the interpreter says
        table = LineTable(code.co_linetable, code.co_firstlineno)
        assert [table.line(unit) for unit in range(len(lines_of(code)))] == lines_of(code)


def test_empty_table_has_no_lines() -> None:
    # GIVEN no table, WHEN asked, THEN there is no line
    assert LineTable(b"", 1).line(0) is None


@given(st.binary(max_size=200), st.integers(-(2**31), 2**31 - 1))
def test_random_tables_never_raise(table: bytes, first_line: int) -> None:
    # GIVEN bytes that are no table
    # WHEN lines are read, THEN they are numbers or missing
    lines = LineTable(table, first_line)
    assert all(line is None or isinstance(line, int) for line in map(lines.line, range(-2, 600, 7)))


@given(st.data())
def test_damaged_tables_never_raise(data: st.DataObject) -> None:
    # GIVEN a real table with bytes changed and its end cut off
    code = lines_of.__code__
    table = bytearray(code.co_linetable)
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(table) - 1), st.integers(0, 255)))):
        table[place] = value
    cut = data.draw(st.integers(0, len(table)))

    # WHEN lines are read, THEN they are numbers or missing
    lines = LineTable(bytes(table[:cut]), code.co_firstlineno)
    for unit in range(len(code.co_code)):
        lines.line(unit)


def test_huge_table_takes_bounded_time_and_numbers_stay_small() -> None:
    # GIVEN a table of a megabyte that is one endless varint, and one of very many entries
    for table in (b"\xf0" + b"\x7f" * (1 << 20), b"\xd9\x7f\x7f\x7f\x7f\x01" * 100_000):
        # WHEN it is read
        start = time.process_time()
        lines = LineTable(table, 1)
        last = lines.line(0)

        # THEN it took no unreasonable time, and no line is a number beyond all files
        assert time.process_time() - start < 5
        assert last is None or abs(last) < 1 << 31


@given(st.binary(max_size=200), st.integers(-(2**31), 2**31 - 1))
def test_both_decoders_agree_on_damaged_tables(table: bytes, first_line: int) -> None:
    assert _tick.line_table(table, first_line) == line_table(table, first_line)


@given(
    st.lists(
        st.integers(0x80, 0xFF).flatmap(
            lambda head: st.binary(max_size=9).map(
                lambda rest: bytes([head, *(byte & 0x7F for byte in rest)])
            )
        ),
        max_size=20,
    ),
    st.integers(0, 1000),
)
def test_both_decoders_agree_on_tables(entries: list[bytes], first_line: int) -> None:
    table = b"".join(entries)
    assert _tick.line_table(table, first_line) == line_table(table, first_line)
