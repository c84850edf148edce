"""What the program calls its locks.

In: frames of the threads that wait, objects of the target. Out: names, which stay the same for all waiters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject, ObjectReader
from ftdiag.sources.python.walking import PythonThread

MAX_LOCKS: Final = 20_000
"""Locks that are remembered; the table starts anew beyond."""
MAX_SEARCHES: Final = 3
"""Waiters whose frames are searched for a lock's name when it is first waited for; some do not have one.

After that it is one in each of the seconds in which it is tried again.
"""
MAX_SEARCH_PAUSE_S: Final = 32
"""Seconds between the seconds in which a name is looked for that was never found."""
MAX_NAMED_FRAMES: Final = 8
MAX_NAMED_VALUES: Final = 64
MAX_GLOBALS: Final = 4000
MAX_LABEL_CHARACTERS: Final = 60
STACKREF_TAGS: Final = 7
_TPFLAGS_TYPE_SUBCLASS: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class _Label:
    """What a lock is called, and how that can be checked later: `container`'s `name` is the lock.

    `container` is an instance or a dict of globals; 0 for the name of a local variable, which proves nothing
    once the frame is gone.
    """

    text: str
    container: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of an object in a frame: `text` for people; `container`'s `attribute` where it is one.

    `goes_on`: it is the frame's `self` that is meant, which may have a name further out.
    """

    text: str
    container: int = 0
    attribute: str = ""
    goes_on: bool = False


class _Searches:
    """How often a lock was searched for a name in vain: the longer that is so, the rarer it is tried."""

    __slots__ = ("again", "left", "pause")

    def __init__(self) -> None:
        self.left = MAX_SEARCHES
        self.pause = 1
        self.again = 0

    def allowed(self, second: int) -> bool:
        """Whether to search in this second; counts it."""
        if not self.left:
            if second < self.again:
                return False
            self.left = 1
        self.left -= 1
        if not self.left:
            self.again = second + self.pause
            self.pause = min(2 * self.pause, MAX_SEARCH_PAUSE_S)
        return True


def type_name_of(objects: ObjectReader, address: int) -> str | None:
    """Type name of an object, or `None` if there is no object: its type must be a type."""
    if address <= 4096:
        return None
    try:
        type_address = objects.type_of(address)
        if type_address <= 4096 or type_address % 8:
            return None
        metatype = objects.type_of(type_address)
        if not objects.flags_of(metatype) & _TPFLAGS_TYPE_SUBCLASS:
            return None
        return objects.type_name(type_address)
    except (MemoryReadError, NotAnObject):
        return None


def words_of_frame(interpreter: InterpreterReader, thread: PythonThread, number: int) -> Iterable[int]:
    """Pointers in a frame's locals and stack, without their tags."""
    return (word & ~STACKREF_TAGS for word in interpreter.frame_words(thread, number) if word > 4096)


class LockNames:
    """What the program calls its locks: searched for in the frames that wait for them, and remembered."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._objects = interpreter.objects
        self._labels: dict[tuple[int, str], _Label] = {}
        self._former_labels: dict[tuple[int, str], _Label] = {}
        self._searches: dict[int, _Searches] = {}
        self._searched: set[int] = set()
        """Objects that have no name for what is looked for: outer frames have the same `self` and globals."""
        self._searched_inside: set[int] = set()
        """Those whose attributes have none either."""
        self._seconds = 0

    def begin_second(self) -> None:
        """A second is over: what was searched for in vain may be searched for again."""
        self._seconds += 1

    def forget(self, owner: int, type_name: str | None) -> None:
        """Nobody waits for the lock of this owner any more: its name is looked up anew next time."""
        self._searches.pop(owner, None)
        if type_name is None:
            return
        label = self._labels.pop((owner, type_name), None)
        if label is not None and label.container:
            if len(self._former_labels) >= MAX_LOCKS:
                self._former_labels.clear()
            self._former_labels[owner, type_name] = label

    def label(self, owner: int, type_name: str, thread: PythonThread | None) -> str | None:
        """What the program calls the object: remembered, so that it stays the same for all waiters."""
        place = owner, type_name
        known = self._labels.get(place)
        if known is None and thread is not None:
            searches = self._searches.get(owner)
            if searches is None:
                if len(self._searches) >= MAX_LOCKS:
                    self._searches.clear()
                searches = self._searches[owner] = _Searches()
            if not searches.allowed(self._seconds):
                return None
            known = self._find_label(owner, thread)
            former = self._former_labels.pop(place, None)
            if (
                former is not None
                and former != known
                and self._is_called(owner, former.container, former.name)
            ):
                known = former
            if known is None and type_name == "type":
                known = self._class_name(owner)
            if known is not None:
                if len(self._labels) >= MAX_LOCKS:
                    self._labels.clear()
                self._labels[place] = known
        return None if known is None else known.text

    def _is_called(self, owner: int, container: int, name: str) -> bool:
        """Whether an object's attribute, or a global variable, is that lock (still)."""
        if not container:
            return False
        try:
            if type_name_of(self._objects, container) == "dict":
                return self._objects.dict_get(container, name) == owner
            return self._attributes(container).get(name) == owner
        except (MemoryReadError, NotAnObject):
            return False

    def _class_name(self, owner: int) -> _Label | None:
        try:
            return _Label(f"class {self._objects.type_name(owner)}")
        except (MemoryReadError, NotAnObject):
            return None

    def _find_label(self, owner: int, thread: PythonThread) -> _Label | None:
        """Search the waiting frames for a name of the object, from the leaf outwards.

        The lock of a Condition in a Queue is found as `Condition._lock`, then `Queue.mutex`, then as what the
        program calls that queue. Of what names the lock itself the outermost stands in brackets, behind the
        next name of what it belongs to: further out it is what many other objects belong to as well.
        """
        targets = {owner}
        self._search_anew()
        own: _Name | None = None
        outer = ""
        first: _Name | None = None
        for number in range(min(len(thread.frames), MAX_NAMED_FRAMES)):
            found = self._name_in_frame(thread, number, targets)
            if found is None:
                if first is not None:
                    break
                continue
            first = first or found
            if found.text and (own is None or self._is_called(owner, found.container, found.attribute)):
                own, outer = found, ""
            elif found.text != (own.text if own else ""):
                outer = outer or found.text
            if outer or not found.goes_on:
                break
            targets.add(found.container)
            self._search_anew()
        if own is None or first is None:
            return None
        text = f"{outer} ({own.text})"
        if not outer or len(text) > MAX_LABEL_CHARACTERS:
            text = own.text[:MAX_LABEL_CHARACTERS]
        return _Label(text, first.container, first.attribute)

    def _search_anew(self) -> None:
        self._searched.clear()
        self._searched_inside.clear()

    def _name_in_frame(self, thread: PythonThread, number: int, targets: set[int]) -> _Name | None:
        """A name for one of the targets in a frame."""
        self._objects.look_ahead(tuple(words_of_frame(self._interpreter, thread, number)))
        variables = self._interpreter.local_variables(thread, number)[:MAX_NAMED_VALUES]
        self._objects.look_ahead([value for _, value in variables])
        try:
            return self._name_among(variables, thread, number, targets)
        finally:
            self._objects.look_ahead(())

    def _name_among(
        self, variables: Sequence[tuple[str, int]], thread: PythonThread, number: int, targets: set[int]
    ) -> _Name | None:
        """A name for one of the targets: a variable of a frame, an attribute of one, or a global."""
        for name, value in variables:
            if name == "self" and value not in targets:
                attribute = self._attribute_that_is(value, targets)
                if attribute is not None:
                    type_name = type_name_of(self._objects, value) or "?"
                    return _Name(f"{type_name}.{attribute}", value, attribute, goes_on=True)
        for name, value in variables:
            if value in targets and name != "self":
                return _Name(name)
        for name, value in variables:
            attribute = self._attribute_that_is(value, targets) if value not in targets else None
            if attribute is not None:
                return _Name(f"{name}.{attribute}", value, attribute)
        name_elsewhere = self._global_that_is(thread, number, targets) or self._nested_attribute(
            variables, targets
        )
        if name_elsewhere is None and any(name == "self" and value in targets for name, value in variables):
            return _Name("", goes_on=True)  # a method of the object: its caller may know it
        return name_elsewhere

    def _nested_attribute(self, variables: Sequence[tuple[str, int]], targets: set[int]) -> _Name | None:
        """`self.cache.lock`: one level deeper than the attributes of `self`."""
        for name, value in variables:
            if name != "self" or value in self._searched_inside:
                continue
            self._searched_inside.add(value)
            inside = list(self._attributes(value).items())[:MAX_NAMED_VALUES]
            self._objects.look_ahead([inner for _, inner in inside])
            for attribute, inner in inside:
                deeper = self._attribute_that_is(inner, targets)
                if deeper is not None:
                    return _Name(
                        f"{type_name_of(self._objects, value) or name}.{attribute}.{deeper}", inner, deeper
                    )
        return None

    def _attributes(self, instance: int) -> dict[str, int]:
        try:
            return self._objects.attributes(instance)
        except (MemoryReadError, NotAnObject):
            return {}

    def _attribute_that_is(self, instance: int, targets: set[int]) -> str | None:
        if instance in self._searched:
            return None
        try:
            name = self._objects.attribute_that_is(instance, targets)
        except (MemoryReadError, NotAnObject):
            name = None
        if name is None:
            self._searched.add(instance)
        return name

    def _global_that_is(self, thread: PythonThread, number: int, targets: set[int]) -> _Name | None:
        address = self._interpreter.globals_of(thread, number)
        if address is None or address in self._searched:
            return None
        self._searched.add(address)
        try:
            if address in targets:
                return _Name("module globals")
            for key, value in self._objects.dict_items(address)[:MAX_GLOBALS]:
                if value in targets:
                    name = self._objects.string(key)
                    return _Name(name, address, name)
        except (MemoryReadError, NotAnObject):
            return None
        return None
