"""Bytecode of CPython 3.13 to 3.15 taken apart, as far as naming what a line touches needs it.

In: code units as they lie in memory, specialised or not. Out: `Instruction`s with the opcode of their family
and their whole argument.

Specialisation replaces opcodes and fills inline caches, but never changes an argument; so the argument with
the family's base opcode says what the compiler wrote. Numbers: Include/opcode_ids.h, caches:
Include/internal/pycore_opcode_metadata.h (_PyOpcode_Caches, _PyOpcode_Deopt) of each version. They do not
change within a minor version: the magic number of .pyc files stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

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

    def decode(self, units: bytes) -> Iterator[Instruction]:
        """The instructions from the beginning of `units` on; ends early where an opcode is hidden."""
        argument = 0
        position = 0
        while position + 1 < len(units):
            opcode, low = units[position], units[position + 1]
            position += 2
            argument = (argument << 8 | low) & 0xFFFF_FFFF
            if opcode == self.extended:
                continue
            if opcode >= self.first_opaque or opcode in self.opaque:
                return
            opcode = self.specialised.get(opcode, opcode)
            yield Instruction(self.names.get(opcode, ""), argument)
            argument = 0
            position += 2 * self.caches.get(opcode, 0)


def _specialised(ranges: Mapping[int, tuple[tuple[int, int], ...]]) -> dict[int, int]:
    return {
        number: base
        for base, spans in ranges.items()
        for first, last in spans
        for number in range(first, last + 1)
    }


_3_13: Final = OpcodeTable(
    names={
        19: "GET_ITER", 30: "NOP", 34: "PUSH_NULL", 36: "RETURN_VALUE", 61: "COPY", 62: "COPY_FREE_VARS",
        82: "LOAD_ATTR", 83: "LOAD_CONST", 84: "LOAD_DEREF", 85: "LOAD_FAST", 87: "LOAD_FAST",
        88: "LOAD_FAST_LOAD_FAST", 91: "LOAD_GLOBAL", 92: "LOAD_NAME", 103: "RETURN_VALUE",
        111: "STORE_FAST_LOAD_FAST",
    },
    specialised=_specialised(
        {
            45: ((3, 3), (150, 156)),  # BINARY_OP
            5: ((157, 161),),  # BINARY_SUBSCR
            53: ((162, 181),),  # CALL
            58: ((182, 184),),  # COMPARE_OP
            59: ((185, 186),),  # CONTAINS_OP
            72: ((187, 190),),  # FOR_ITER
            82: ((191, 202),),  # LOAD_ATTR
            91: ((203, 204),),  # LOAD_GLOBAL
            93: ((205, 206),),  # LOAD_SUPER_ATTR
            149: ((207, 207),),  # RESUME
            104: ((208, 208),),  # SEND
            108: ((209, 211),),  # STORE_ATTR
            39: ((212, 213),),  # STORE_SUBSCR
            40: ((214, 219),),  # TO_BOOL
            117: ((220, 222),),  # UNPACK_SEQUENCE
        }
    ),
    caches={
        91: 4, 45: 1, 117: 1, 58: 1, 59: 1, 5: 1, 72: 1, 93: 1, 82: 9, 108: 4, 53: 3, 39: 1, 104: 1, 77: 1,
        40: 3, 100: 1, 97: 1, 98: 1, 99: 1,
    },
    extended=71,
    first_opaque=236,
    opaque=frozenset({70}),
)  # fmt: skip

_3_14: Final = OpcodeTable(
    names={
        16: "GET_ITER", 27: "NOP", 28: "NOP", 33: "PUSH_NULL", 35: "RETURN_VALUE", 59: "COPY",
        60: "COPY_FREE_VARS", 80: "LOAD_ATTR", 82: "LOAD_CONST", 83: "LOAD_DEREF", 84: "LOAD_FAST",
        86: "LOAD_FAST_BORROW", 87: "LOAD_FAST_BORROW_LOAD_FAST_BORROW", 88: "LOAD_FAST",
        89: "LOAD_FAST_LOAD_FAST", 92: "LOAD_GLOBAL", 93: "LOAD_NAME", 113: "STORE_FAST_LOAD_FAST",
    },
    specialised=_specialised(
        {
            44: ((3, 3), (129, 142)),  # BINARY_OP
            52: ((143, 150), (154, 165)),  # CALL
            55: ((151, 153),),  # CALL_KW
            56: ((166, 168),),  # COMPARE_OP
            57: ((169, 170),),  # CONTAINS_OP
            70: ((171, 174),),  # FOR_ITER
            75: ((175, 176),),  # JUMP_BACKWARD
            80: ((177, 189),),  # LOAD_ATTR
            82: ((190, 191),),  # LOAD_CONST
            92: ((192, 193),),  # LOAD_GLOBAL
            96: ((194, 195),),  # LOAD_SUPER_ATTR
            128: ((196, 196),),  # RESUME
            106: ((197, 197),),  # SEND
            110: ((198, 200),),  # STORE_ATTR
            38: ((201, 202),),  # STORE_SUBSCR
            39: ((203, 208),),  # TO_BOOL
            119: ((209, 211),),  # UNPACK_SEQUENCE
        }
    ),
    caches={
        92: 4, 44: 5, 119: 1, 56: 1, 57: 1, 70: 1, 96: 1, 80: 9, 110: 4, 52: 3, 55: 3, 38: 1, 106: 1, 75: 1,
        39: 3, 103: 1, 100: 1, 101: 1, 102: 1,
    },
    extended=69,
    first_opaque=234,
)  # fmt: skip

_3_15: Final = OpcodeTable(
    names={
        70: "GET_ITER", 25: "NOP", 26: "NOP", 31: "PUSH_NULL", 33: "RETURN_VALUE", 57: "COPY",
        58: "COPY_FREE_VARS", 79: "LOAD_ATTR", 81: "LOAD_CONST", 82: "LOAD_DEREF", 83: "LOAD_FAST",
        85: "LOAD_FAST_BORROW", 86: "LOAD_FAST_BORROW_LOAD_FAST_BORROW", 87: "LOAD_FAST",
        88: "LOAD_FAST_LOAD_FAST", 91: "LOAD_GLOBAL", 92: "LOAD_NAME", 112: "STORE_FAST_LOAD_FAST",
    },
    specialised=_specialised(
        {
            42: ((3, 3), (129, 143)),  # BINARY_OP
            50: ((144, 150), (153, 153), (157, 168)),  # CALL
            4: ((151, 152),),  # CALL_FUNCTION_EX
            53: ((154, 156),),  # CALL_KW
            54: ((169, 171),),  # COMPARE_OP
            55: ((172, 173),),  # CONTAINS_OP
            68: ((174, 178),),  # FOR_ITER
            70: ((179, 180),),  # GET_ITER
            74: ((181, 182),),  # JUMP_BACKWARD
            79: ((183, 195),),  # LOAD_ATTR
            91: ((196, 197),),  # LOAD_GLOBAL
            95: ((198, 199),),  # LOAD_SUPER_ATTR
            128: ((200, 201),),  # RESUME
            105: ((202, 204),),  # SEND
            109: ((205, 207),),  # STORE_ATTR
            36: ((208, 209),),  # STORE_SUBSCR
            37: ((210, 215),),  # TO_BOOL
            118: ((216, 218),),  # UNPACK_SEQUENCE
        }
    ),
    caches={
        91: 4, 42: 5, 118: 1, 54: 1, 55: 1, 68: 1, 70: 1, 95: 1, 79: 9, 109: 4, 50: 3, 53: 3, 4: 1, 36: 1,
        105: 1, 74: 1, 37: 3, 102: 1, 99: 1, 100: 1, 101: 1, 128: 1,
    },
    extended=67,
    first_opaque=233,
)  # fmt: skip

OPCODES: Final[Mapping[tuple[int, int], OpcodeTable]] = {(3, 13): _3_13, (3, 14): _3_14, (3, 15): _3_15}
"""(major, minor) -> the table. A version without one gets no names."""
