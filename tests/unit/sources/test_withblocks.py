"""Exception tables of real and of damaged code: how many `with` blocks are around an instruction."""

from __future__ import annotations

import dis
import opcode
import textwrap
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.sources.python.withblocks import MAX_NESTING, HandlerRange, parse_exception_table, with_depths

WITH_HANDLER = bytes((opcode.opmap["PUSH_EXC_INFO"], opcode.opmap["WITH_EXCEPT_START"]))


def code_of(source: str) -> CodeType:
    """The code of the function `work` in the source."""
    scope: dict[str, object] = {}
    exec(textwrap.dedent(source), scope)
    code = scope["work"].__code__  # type: ignore[attr-defined]
    assert isinstance(code, CodeType)
    return code


def depths_at(code: CodeType, called: str) -> tuple[int, ...]:
    """Depths of the blocks around the call of a function of that name."""
    ranges = parse_exception_table(code.co_exceptiontable)
    found = False
    for instruction in dis.get_instructions(code):
        found |= instruction.argval == called
        if found and instruction.opname == "CALL":
            return with_depths(ranges, instruction.offset // 2, code.co_code, WITH_HANDLER)
    raise AssertionError(called)


@pytest.mark.parametrize(
    ("source", "blocks"),
    [
        ("def work():\n rest()", 0),
        ("def work():\n with a:\n  rest()", 1),
        ("def work():\n with a as x, b, c as y:\n  rest()", 3),
        ("def work():\n with a:\n  with b:\n   for _ in x:\n    with c:\n     rest()", 3),
        ("def work():\n try:\n  with a:\n   try:\n    rest()\n   finally:\n    b()\n finally:\n  b()", 1),
        ("def work():\n with a:\n  try:\n   done()\n  except E:\n   with b:\n    rest()", 2),
        ("def work():\n with a:\n  try:\n   done()\n  finally:\n   with b:\n    rest()", 2),
        ("def work():\n try:\n  with a:\n   done()\n finally:\n  rest()", 0),
        ("def work():\n with a:\n  done()\n rest()", 0),
        ("def work():\n with a:\n  while x:\n   with b:\n    break\n  rest()", 1),
        ("def work():\n with make(rest()):\n  done()", 0),
        ("def work():\n with a:\n  with make(rest()):\n   done()", 1),
        ("def work():\n with a:\n  yield rest()", 1),
        ("async def work():\n with a:\n  await rest()", 1),
        ("async def work():\n async with a:\n  with b:\n   rest()", 2),
    ],
)
def test_blocks_around_an_instruction(source: str, blocks: int) -> None:
    # GIVEN code with so many blocks around a call
    # WHEN the exception table is asked, THEN it says as many, each at a place of its own, innermost first
    depths = depths_at(code_of(source), "rest")
    assert len(depths) == blocks
    assert sorted(set(depths), reverse=True) == list(depths)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 2000))
def test_damaged_tables(table: bytes, bytecode: bytes, unit: int) -> None:
    # GIVEN any bytes as a table and as code
    # WHEN they are read, THEN that ends, within bounds
    ranges = parse_exception_table(table)
    assert len(ranges) <= len(table) // 4
    assert len(with_depths(ranges, unit, bytecode, WITH_HANDLER)) <= MAX_NESTING


def test_handlers_that_lead_to_each_other() -> None:
    # GIVEN handlers in a circle
    ranges = [HandlerRange(0, 10, 12, 1), HandlerRange(10, 20, 2, 2)]
    bytecode = WITH_HANDLER[:1] + b"\0" + WITH_HANDLER[1:] + b"\0"
    # WHEN they are followed, THEN that ends
    assert with_depths(ranges, 5, bytecode * 20, WITH_HANDLER) in ((1, 2), (1,), ())
