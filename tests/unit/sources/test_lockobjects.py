"""The objects whose own locks are waited for: which are told of, and with which path."""

from __future__ import annotations

import struct

from fake_process import FakeProcess, Sink
from ftdiag.model import NO_LINE, Counting
from ftdiag.sources.python.counting import HEADER, OBJECT_MUTEX_OFFSET
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.lockobjects import LEAST_LOOKS, MAX_OBJECTS, LockObjects
from ftdiag.sources.python.paths import PathSearch

METATYPE_FLAG = 1 << 31


class Scene:
    """Objects of a process, what looks at them, and their search."""

    def __init__(self) -> None:
        self.process = FakeProcess("3.14.9t")
        reader = InterpreterReader(self.process.memory, self.process.runtime, Sink())
        self.paths = PathSearch(reader)
        self.locks = LockObjects(reader, self.paths)

    def object(self, type_name: str, owner: int) -> int:
        """An object of a real type that this thread made and another one counts, too."""
        memory, layout = self.process.memory, self.process.layout
        kind = self.process.type(type_name)
        memory.write_word(kind + layout.object_type, self.process.type("type", METATYPE_FLAG))
        return self.process.put(HEADER.pack(owner, 0, 0, 0, 1, 1 << 2, kind))


def test_objects_that_are_waited_for_are_told_of_and_searched_for() -> None:
    # GIVEN a list whose lock is waited for often, a dict at one look, and an address of nothing
    scene = Scene()
    orders, passing = scene.object("list", 77), scene.object("dict", 78)
    looks = {orders: LEAST_LOOKS, passing: LEAST_LOOKS - 1, 0x10: 50}
    # WHEN a window ends THEN the list is told of, by its lock's address, and searched for
    ((line, one),) = scene.locks.window(looks)
    assert (line, one.name, one.type_name) == (NO_LINE, f"{orders + OBJECT_MUTEX_OFFSET:#x}", "list")
    assert one.facts is not None
    assert (one.facts.address, one.facts.owner, one.facts.counting) == (orders, 77, Counting.SHARED)
    assert one.facts.path is None
    # WHEN its path was found THEN the next window has it, for as long as it is waited for
    scene.paths.found[orders] = "app.ORDERS"
    ((_, one),) = scene.locks.window(looks)
    assert one.facts is not None
    assert one.facts.path == "app.ORDERS"
    assert scene.locks.window({}) == ()
    assert scene.paths.found == {}


def test_those_that_are_waited_for_most_are_told_of() -> None:
    # GIVEN more objects than are told of in a window
    scene = Scene()
    many = {scene.object("list", 1): LEAST_LOOKS + number for number in range(MAX_OBJECTS + 5)}
    # WHEN the window ends THEN those with most waits are
    told = scene.locks.window(many)
    most = sorted(many, key=lambda each: -many[each])[:MAX_OBJECTS]
    assert [one.facts.address for _, one in told if one.facts is not None] == most


def test_an_object_in_whose_place_is_none_is_left_out() -> None:
    # GIVEN a list in whose place something else lies by now
    scene = Scene()
    orders = scene.object("list", 1)
    scene.process.memory.write(orders, struct.pack("<4Q", 1, 2, 3, 4))
    # WHEN the window ends THEN it is not told of
    assert scene.locks.window({orders: 9}) == ()
