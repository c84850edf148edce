"""What a table of facts about one minor version of CPython holds.

In: nothing; the modules v3_13, v3_14, ... fill it. Out: the types `Facts`, `Opcodes` and `ByHand`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdiag.datatypes import dataclass

Row = tuple[str, int | None, int | None]
"""A name, its value in free-threaded builds, and in builds with the GIL; `None` where they have no such
thing."""


@dataclass(frozen=True, slots=True)
class Opcodes:
    """Numbers of all opcodes that the compiler writes, with all families that were specialised.

    `specialised` are the numbers that stand for a family member, by the name of its base opcode; `caches`
    are the code units of inline cache behind one. From `first_instrumented` on the original opcode is kept
    elsewhere. From Include/opcode_ids.h and pycore_opcode_metadata.h, as the module `opcode` tells them.
    `effects` are what an opcode adds to the stack: one number, those for the arguments 0 and 1 where it grows
    evenly with the argument, else those for the arguments 0 to 3, of which the argument's lowest bits choose.
    """

    numbers: Mapping[str, int]
    specialised: Mapping[str, tuple[int, ...]]
    caches: Mapping[str, int]
    first_instrumented: int
    effects: Mapping[str, tuple[int, ...]]

    def effect(self, name: str, argument: int) -> int | None:
        """What an instruction adds to the stack if it does not jump; `None` where that is not known."""
        known = self.effects.get(name)
        if not known:
            return None
        if len(known) == 2:
            return known[0] + argument * (known[1] - known[0])
        return known[argument & 3] if len(known) > 1 else known[0]


@dataclass(frozen=True, slots=True)
class ByHand:
    """What no installed header holds: read in CPython's sources, and tried on `verified_on`.

    - `with_keeps_exit_method`: whether a `with` statement keeps the bound `__exit__` on the stack
      (BEFORE_WITH), or the context manager itself above the unbound function (LOAD_SPECIAL).
      Python/bytecodes.c.
    - `rlock_is_semaphore`: whether an RLock is {PyThread_type_lock, owner, count}, whose count is from 1 on
      while it is held, or a _PyRecursiveMutex {mutex, owner, further acquisitions}. Modules/_threadmodule.c.
    - `defers_global_loads`: whether specialised loads of globals and of attributes of modules and classes
      switch the object to deferred reference counting. Python/specialize.c.
    """

    verified_on: tuple[str, ...]
    with_keeps_exit_method: bool
    rlock_is_semaphore: bool
    defers_global_loads: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """One minor version. `headers` and `interpreter` are the versions that the table was made from.

    `published` are the fields of `_Py_DebugOffsets` in their order, with the values of those headers;
    `unpublished` are offsets, sizes and constants that the readers need besides; `waits` the functions of its
    standard library in which threads wait, of those in `waits`.
    """

    version: tuple[int, int]
    headers: str
    interpreter: str
    published: tuple[Row, ...]
    unpublished: tuple[Row, ...]
    opcodes: Opcodes
    waits: tuple[tuple[str, str], ...]

    def expected(self, *, free_threaded: bool) -> dict[str, int]:
        """Field of `_Py_DebugOffsets` -> its value in the headers, in order."""
        return _column(self.published, free_threaded=free_threaded)

    def others(self, *, free_threaded: bool) -> dict[str, int]:
        """The unpublished facts that such a build has."""
        return _column(self.unpublished, free_threaded=free_threaded)


def _column(rows: tuple[Row, ...], *, free_threaded: bool) -> dict[str, int]:
    return {
        name: value for name, free, locked in rows if (value := free if free_threaded else locked) is not None
    }
