"""Bytecode taken apart, as far as naming what a line touches needs it.

In: code units as they lie in memory, specialised or not. Out: `Instruction`s with the opcode of their family
and their whole argument.

Specialisation replaces opcodes and fills inline caches, but never changes an argument; so the argument with
the family's base opcode says what the compiler wrote. The numbers are facts of each version
(`ftdiag.cpython`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from ftdiag.cpython import FACTS, ByVersion
from ftdiag.cpython.facts import Opcodes
from ftdiag.datatypes import dataclass


class Instruction(NamedTuple):
    """One instruction: the name of its base opcode ("" where naming needs none) and its argument."""

    name: str
    argument: int


@dataclass(frozen=True, slots=True)
class OpcodeTable:
    """One version's opcodes: those that are looked at by number, all specialised ones by their base.

    `caches` are the code units of inline cache behind a base opcode. From `first_opaque` on, and for those in
    `opaque`, the original opcode is kept elsewhere (INSTRUMENTED_*, ENTER_EXECUTOR).
    """

    names: Mapping[int, str]
    specialised: Mapping[int, int]
    caches: Mapping[int, int]
    extended: int
    first_opaque: int
    opaque: frozenset[int] = frozenset()
    effect: Callable[[str, int], int | None] = lambda name, argument: None
    """What an instruction adds to the stack if it does not jump (`Opcodes.effect`)."""

    def numbers_of(self, *names: str) -> frozenset[int]:
        """All opcodes that do what these do, specialised or not."""
        bases = {number for number, name in self.names.items() if name in names}
        return frozenset(bases | {number for number, base in self.specialised.items() if base in bases})

    def decode(self, units: bytes) -> Iterator[Instruction]:
        """The instructions from the beginning of `units` on; ends early where an opcode is hidden."""
        return (instruction for _, _, instruction in self.located(units))

    def located(self, units: bytes) -> Iterator[tuple[int, int, Instruction]]:
        """(first code unit, the one behind its caches, instruction), as `decode`."""
        argument = 0
        position = start = 0
        while position + 1 < len(units):
            opcode, low = units[position], units[position + 1]
            position += 2
            argument = (argument << 8 | low) & 0xFFFF_FFFF
            if opcode == self.extended:
                continue
            if opcode >= self.first_opaque or opcode in self.opaque:
                return
            opcode = self.specialised.get(opcode, opcode)
            position += 2 * self.caches.get(opcode, 0)
            yield start // 2, position // 2, Instruction(self.names.get(opcode, ""), argument)
            argument = 0
            start = position


_AS: Final[Mapping[str, str]] = {
    "LOAD_FAST_CHECK": "LOAD_FAST",
    "NOT_TAKEN": "NOP",
    "RETURN_CONST": "RETURN_VALUE",
}
"""Opcodes that do what another one does, as far as names are concerned."""


def _table(facts: Opcodes) -> OpcodeTable:
    numbers = facts.numbers
    return OpcodeTable(
        names={number: _AS.get(name, name) for name, number in numbers.items()},
        specialised={
            member: numbers[base] for base, members in facts.specialised.items() for member in members
        },
        caches={numbers[name]: units for name, units in facts.caches.items()},
        extended=numbers["EXTENDED_ARG"],
        first_opaque=facts.first_instrumented,
        opaque=frozenset({numbers["ENTER_EXECUTOR"]}),
        effect=facts.effect,
    )


OPCODES: Final[Mapping[tuple[int, int], OpcodeTable]] = ByVersion(
    lambda version: _table(FACTS[version].opcodes)
)
"""(major, minor) -> the table."""
