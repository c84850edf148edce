"""Which locks a frame holds through `with` statements, proven by its bytecode.

In: a code object's exception table and bytecode. Out: where on the frame's stack the context managers of
the `with` blocks around an instruction lie.

Why this is a proof: the compiler protects the body of a `with` statement, and nothing else, by an entry of
the exception table whose handler begins with PUSH_EXC_INFO, WITH_EXCEPT_START. The entry's depth says how
much of the stack is kept for the handler, and its top is what the handler calls: the context manager's
`__exit__`. So an instruction in that range runs after `__enter__` returned and before `__exit__` is called.
Format of the table: Objects/exception_handling_notes.txt (InternalDocs/exception_handling.md) of CPython.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ftdiag.datatypes import dataclass

MAX_NESTING: Final = 64
"""Handlers around one instruction that are followed (the compiler allows 20 static blocks)."""


@dataclass(frozen=True, slots=True)
class HandlerRange:
    """One entry: code units [start, end) are protected by the handler at `target` with `depth` kept."""

    start: int
    end: int
    target: int
    depth: int


def parse_exception_table(table: bytes) -> list[HandlerRange]:
    """The entries of a `co_exceptiontable`; a damaged table ends early. Positions are code units."""
    numbers = list(_varints(table))
    return [
        HandlerRange(start, start + length, target, depth_and_lasti >> 1)
        for start, length, target, depth_and_lasti in zip(
            numbers[0::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=False
        )
    ]


def _varints(table: bytes) -> Iterator[int]:
    value = 0
    for byte in table:
        value = value << 6 | byte & 0x3F
        if not byte & 0x40:
            yield value
            value = 0


def with_depths(
    ranges: list[HandlerRange], unit: int, bytecode: bytes, with_handler: bytes
) -> tuple[int, ...]:
    """Stack depths of the `with` blocks around code unit `unit`, innermost first.

    `bytecode` are the code units as bytes, `with_handler` the two opcodes that a with handler begins with.
    The depth d means that the block's exit is at index d - 1 of the frame's stack.
    """
    depths = []
    seen: set[int] = set()
    for _ in range(MAX_NESTING):
        entry = next((entry for entry in ranges if entry.start <= unit < entry.end), None)
        if entry is None or entry.target in seen:
            break
        seen.add(entry.target)
        handler = bytecode[2 * entry.target : 2 * entry.target + 4]
        if handler[0:4:2] == with_handler and entry.depth > 0:
            depths.append(entry.depth)
        unit = entry.target
    return tuple(depths)
