"""The objects whose own locks threads wait for: type, path, who made them, how they are counted.

In: addresses of objects, and at how many looks their locks were waited for. Out: rows for the window, each by
the address of the lock. What is waited for at one or two looks is left out: such objects are soon gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.errors import MemoryReadError, TargetGone
from ftdiag.model import NO_LINE, Confidence, SharedObject
from ftdiag.sources.python.counting import OBJECT_MUTEX_OFFSET, counted
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.paths import PathSearch

MAX_OBJECTS: Final = 16
"""Objects of a window that are told of, those that are waited for most."""
LEAST_LOOKS: Final = 3
"""Looks of a window at which an object's lock has to be waited for."""


class LockObjects:
    """Tells of one target's objects; of none in builds without locks of objects."""

    def __init__(self, interpreter: InterpreterReader, paths: PathSearch) -> None:
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._able = interpreter.layout.free_threaded
        self._paths = paths

    def window(self, waited_for: Mapping[int, int]) -> tuple[tuple[int, SharedObject], ...]:
        """Takes in objects whose locks were waited for, with the number of looks at which they were.

        Returns (NO_LINE, object) whose name is the address of its lock, "0x7f...". Raises TargetGone,
        PermissionRefused.
        """
        if not self._able:
            return ()
        most = sorted(waited_for, key=lambda owner: -waited_for[owner])[:MAX_OBJECTS]
        rows: list[tuple[int, SharedObject]] = []
        for owner in most:
            if waited_for[owner] < LEAST_LOOKS:
                break
            try:
                one = counted(self._memory, self._objects, owner)
            except (MemoryReadError, NotAnObject, TargetGone):
                continue  # gone by now, or all of it: its last window is written all the same
            facts = replace(one.facts, path=self._paths.found.get(owner))
            name = f"{owner + OBJECT_MUTEX_OFFSET:#x}"
            rows.append((NO_LINE, SharedObject(name, one.type_name, Confidence.KNOWN, facts)))
        self._paths.want([one.facts.address for _, one in rows if one.facts is not None], "locks")
        return tuple(rows)
