"""Whether the table of counts that threads hand to each other lies where it is expected.

In: an address in an interpreter, and memory. Out: yes or no. Builds of one version differ in what lies before
that table (optimised 3.14.9t and 3.15.1t have 328 and 312 bytes more there than headers say), and publish
fields only before and far behind it. The table itself tells: it is an array of lists, of which nearly all are
empty at any time, and the head of an empty list points to itself, both ways.
"""

from __future__ import annotations

import struct
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.kernel.memory import RemoteMemory

BUCKET_BYTES: Final = 24
"""struct _brc_bucket: a mutex, and the head of a list, two pointers (Include/internal/pycore_brc.h)."""
MAX_INTERPRETERS: Final = 1000
"""Interpreters whose layout is remembered."""
_HEAD: Final = 8
_FEWEST_EMPTY: Final = 16
"""So many heads that point to themselves, at this distance, are nowhere else."""
_MOST_CHANGING: Final = 4
"""Lists that get or lose a member while they are read."""


def counts_are_at(memory: RemoteMemory, address: int, size: int) -> bool:
    """Whether an array of lists of `size` bytes begins there."""
    try:
        data = memory.read(address, size)
    except MemoryReadError:
        return False
    empty = changing = 0
    for place in range(0, size - BUCKET_BYTES + 1, BUCKET_BYTES):
        head = address + place + _HEAD
        following, before = struct.unpack_from("<QQ", data, place + _HEAD)
        if not following or not before:
            return False
        # Of a list with members neither end points to its head.
        empty += following == before == head
        changing += (following == head) is not (before == head)
    return empty >= _FEWEST_EMPTY and changing <= _MOST_CHANGING


class MovedLocks:
    """Locks of interpreters that lie elsewhere than in other builds, where they are found to lie so.

    `expected` has begin and size relative to an interpreter, and name; the first is the table of counts. That
    is looked at once an interpreter: it is there from its begin on.
    """

    def __init__(self, memory: RemoteMemory, expected: tuple[tuple[int, int, str], ...]) -> None:
        self._memory = memory
        self._expected = expected
        self._found: dict[int, tuple[tuple[int, int, str], ...]] = {}

    def of(self, interpreter: int) -> tuple[tuple[int, int, str], ...]:
        """Those of an interpreter, as they were expected; none where they lie as in other builds."""
        if interpreter not in self._found:
            expected = self._expected
            there = expected and counts_are_at(self._memory, interpreter + expected[0][0], expected[0][1])
            if len(self._found) >= MAX_INTERPRETERS:
                self._found.clear()
            self._found[interpreter] = expected if there else ()
        return self._found[interpreter]
