"""Whether a function can be in the middle of updating something: at first sight, for `updates`.

In: code units, specialised or not. Out: whether something is stored that may have been loaded before. Seven
of eight functions of a web framework store nothing of that kind, and going through one takes a hundred times
as long.
"""

from __future__ import annotations

from typing import Final

from ftdiag.sources.python.opcodes import OpcodeTable

SUBSCRIPT: Final = 26
"""Argument of BINARY_OP that stands for `[]` (NB_SUBSCR, 3.14 and later: Include/opcode.h)."""
_KINDS: Final = {
    "A": ("STORE_ATTR",),
    "a": ("LOAD_ATTR",),
    "G": ("STORE_GLOBAL", "STORE_NAME"),
    "g": ("LOAD_GLOBAL",),
    "n": ("LOAD_NAME",),
    "D": ("STORE_DEREF",),
    "d": ("LOAD_DEREF",),
    "I": ("STORE_SUBSCR",),
    "i": ("BINARY_SUBSCR", "CONTAINS_OP"),
    "o": ("BINARY_OP",),
}
"""Stores, and in small letters the loads that are before one in an update."""


def may_update(units: bytes, table: OpcodeTable) -> bool:
    """Whether there can be an update: something is stored that may have been loaded before.

    Arguments are compared by their last bits, so that extended ones do not matter; what lies in inline caches
    may look like an instruction.
    """
    loaded: set[tuple[str, int]] = set()
    for kind, argument in zip(units[0::2].translate(_kinds_of(table)), units[1::2], strict=False):
        if not kind:
            continue
        match chr(kind):
            case "a":
                loaded.add(("A", argument >> 1))
                if argument & 1:
                    loaded.add(("I", 0))  # d[k] = d.get(k) + 1
            case "g":
                loaded.add(("G", argument >> 1))
            case "n":
                loaded.add(("G", argument & 0x7F))
            case "d":
                loaded.add(("D", argument))
            case "i":
                loaded.add(("I", 0))
            case "o":
                if argument == SUBSCRIPT:
                    loaded.add(("I", 0))
            case "D":
                if ("D", argument) in loaded:
                    return True
            case "I":
                if ("I", 0) in loaded:
                    return True
            case store:
                if (store, argument & 0x7F) in loaded:
                    return True
    return False


_kinds: dict[int, tuple[OpcodeTable, bytes]] = {}


def _kinds_of(table: OpcodeTable) -> bytes:
    """Opcode -> the letter of its kind, 0 where there is none."""
    known = _kinds.get(id(table))
    if known is None or known[0] is not table:
        kinds = bytearray(256)
        for letter, names in _KINDS.items():
            for number in table.numbers_of(*names):
                kinds[number] = ord(letter)
        known = _kinds[id(table)] = table, bytes(kinds)
    return known[1]
