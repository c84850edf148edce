"""Where in the program an object is to be found: from the names of modules, by attributes, keys and indexes.

In: addresses of objects. Out: paths that a person can use: `app.CONFIG.routes['x']`, `app.Pool._shared`,
`limit of app.handler` for a closure's variable.

Found by going through all that modules name, those of the program before those of the standard library, level
by level: dicts, lists, tuples, attributes, classes, cells of functions. It is done in small steps, with a
limit of objects, so that a tick is not late for it. Names are read of what is found only: of thousands of
objects nobody wants to know how they are called. The target runs on: what changes meanwhile is missed.
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from enum import Enum, auto
from typing import Final, NamedTuple

from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject

MAX_MODULES: Final = 4000
MAX_VISITED: Final = 20_000
"""Objects whose inside is looked at in one search."""
MAX_ENTRIES: Final = 500
"""Entries of a container that are looked at."""
MAX_DEPTH: Final = 4
"""Names, keys and indexes of a path behind the module."""
MAX_CHARACTERS: Final = 120
STEP: Final = 48
"""Objects that are looked at in one step: some 2 ms."""
STEP_EVERY_NS: Final = 40_000_000
"""From step to step, so that a search takes a twentieth of a core: who attached waits for it. Ticks between
them are cheap."""
MAX_STEPS: Final = MAX_VISITED // STEP
EARLY_NS: Final = 5_000_000_000
"""Since the first call: so long somebody who attached waits for what is found."""
LATER_EVERY_NS: Final = 5 * STEP_EVERY_NS
"""From step to step after that: new objects that a program contends for do not come to an end."""
SETTLED_NS: Final = 5_000_000_000
"""What is not wanted for so long is not searched for then: objects of a request are gone before that."""
PAUSE_NS: Final = 20_000_000_000
"""After so long what was searched for in vain is searched for again."""
_TPFLAGS_LIST_SUBCLASS: Final = 1 << 25
_TPFLAGS_TUPLE_SUBCLASS: Final = 1 << 26
_TPFLAGS_DICT_SUBCLASS: Final = 1 << 29
_TPFLAGS_TYPE_SUBCLASS: Final = 1 << 31
_TPFLAGS_HEAPTYPE: Final = 1 << 9
_CLOSURE_WORDS: Final = 8
"""PyFunctionObject: func_globals, builtins, name, qualname, code, defaults, kwdefaults, closure
(Include/cpython/funcobject.h)."""
_NEVER: Final = frozenset(("module", "str", "int", "float", "bytes", "NoneType", "bool", "code"))


class _Way(Enum):
    """How one comes to an object from the one that it is in."""

    MODULE = auto()
    ATTRIBUTE = auto()
    ITEM = auto()
    INDEX = auto()
    CELL = auto()


class _Place(NamedTuple):
    """An object that was come to, from where, and how.

    `key` is the address of a name or of a dict's key, an index, or that of a module's name in the search's
    list of modules; `depth` the number of names behind the module.
    """

    address: int
    within: _Place | None
    way: _Way
    key: int
    depth: int


class PathSearch:
    """One search at a time for some objects of a target."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = interpreter.layout
        self._wanted: dict[str, frozenset[int]] = {}
        self._steps: Iterator[None] | None = None
        self._again_ns = 0
        """When what was tried may be tried again."""
        self._next_ns = 0
        """When the next step may be made."""
        self._early_until_ns: int | None = None
        self._rest_ns = 0
        self._names: list[str] = []
        """Of the modules, in the order in which they are gone through."""
        self._tried: set[int] = set()
        """What was searched for lately."""
        self._sought: set[int] = set()
        """What the search that is under way is for; what is found, or wanted no more, goes out of it."""
        self._since_ns: dict[int, int] = {}
        """Since when each has been wanted."""
        self.found: dict[int, str] = {}
        """Address -> path, of what was found of the objects that somebody wants."""

    def want(self, addresses: Collection[int], whose: str = "") -> None:
        """The objects that `whose` is about: to look for, and to keep the paths of."""
        self._wanted[whose] = frozenset(addresses)
        for address in self.found.keys() - frozenset().union(*self._wanted.values()):
            del self.found[address]

    @property
    def due_ns(self) -> int | None:
        """When the next step of a search that is under way is to be made; `None` where none is."""
        return self._next_ns if self._steps is not None else None

    def step(self, now_ns: int) -> None:
        """Go on with a search, or begin one if something is wanted and it is time.

        Raises TargetGone, PermissionRefused.
        """
        if now_ns < self._next_ns:
            return
        if self._early_until_ns is None:
            self._early_until_ns = now_ns + EARLY_NS
        wanted = frozenset().union(*self._wanted.values())
        self._since_ns = {one: self._since_ns.get(one, now_ns) for one in wanted}
        late = now_ns >= self._early_until_ns
        if self._steps is None:
            if not self._begin(now_ns, SETTLED_NS if late else 0):
                return
        else:
            gone = self._sought - wanted
            self._sought -= gone
            self._tried -= gone
        every_ns = LATER_EVERY_NS if late else STEP_EVERY_NS
        self._next_ns = now_ns + every_ns
        self._rest_ns += every_ns  # without a search after this one, for as long as it took
        try:
            if self._sought and self._steps is not None:
                next(self._steps)
                return
        except (StopIteration, MemoryReadError, NotAnObject, struct.error):
            pass
        self._steps = None
        self._next_ns = now_ns + self._rest_ns

    def _begin(self, now_ns: int, settled_ns: int) -> bool:
        """Begin a search for what has been wanted for so long and was not found; whether there is any."""
        if now_ns >= self._again_ns:
            self._tried.clear()
        known = self._tried | self.found.keys()
        sought = {
            one for one, since in self._since_ns.items() if one not in known and now_ns - since >= settled_ns
        }
        if not sought:
            return False
        if not self._tried:
            self._again_ns = now_ns + PAUSE_NS
        self._tried |= sought
        self._sought = sought
        self._steps = self._search(sought)
        self._rest_ns = 0
        return True

    def search(self, addresses: Collection[int]) -> dict[int, str]:
        """The paths of objects, all at once: for tools and tests."""
        self.found.clear()
        for _ in self._search(set(addresses)):
            pass
        return dict(self.found)

    def _search(self, wanted: set[int]) -> Iterator[None]:
        queue: deque[_Place] = deque()
        seen: set[int] = set()
        visited = 0
        modules = self._modules()
        self._names = [name for name, _ in modules]
        for number, (name, namespace) in enumerate(modules):
            into = None if _is_stdlib(name) else queue
            module = _Place(namespace, None, _Way.MODULE, number, 0)
            try:
                for key, value in self._objects.dict_items(namespace)[: 4 * MAX_ENTRIES]:
                    self._came_to(_Place(value, module, _Way.ATTRIBUTE, key, 1), wanted, seen, into)
            except (MemoryReadError, NotAnObject, struct.error):
                continue
            if not wanted:
                return
            if number % STEP == 0:
                yield
        while queue and wanted and visited < MAX_VISITED:
            batch = [queue.popleft() for _ in range(min(STEP, len(queue)))]
            self._objects.look_ahead([one.address for one in batch])
            visited += len(batch)
            for one in batch:
                try:
                    inside = list(self._inside(one))
                except (MemoryReadError, NotAnObject, struct.error):
                    continue
                for address, way, key in inside:
                    self._came_to(_Place(address, one, way, key, one.depth + 1), wanted, seen, queue)
            self._objects.look_ahead(())
            yield

    def _came_to(self, place: _Place, wanted: set[int], seen: set[int], queue: deque[_Place] | None) -> None:
        """An object was come to: note its path if it is wanted, and look into it later."""
        address = place.address
        if address in wanted:
            with suppress(MemoryReadError, NotAnObject, struct.error):
                self.found[address] = self._path(place)[:MAX_CHARACTERS]
                wanted.discard(address)
        if queue is None or place.depth > MAX_DEPTH or len(queue) >= MAX_VISITED or address in seen:
            return
        if address > 4096:
            seen.add(address)
            queue.append(place)

    def _path(self, place: _Place) -> str:
        """What a person calls an object. Raises MemoryReadError, NotAnObject."""
        within = "" if place.within is None else self._path(place.within)
        match place.way:
            case _Way.MODULE:
                return self._names[place.key]
            case _Way.ATTRIBUTE:
                return f"{within}.{self._objects.string(place.key)}"
            case _Way.ITEM:
                return f"{within}[{self._key(place.key)}]"
            case _Way.INDEX:
                return f"{within}[{place.key}]"
            case _Way.CELL:
                return f"{self._objects.string(place.key)} of {within}"

    def _modules(self) -> list[tuple[str, int]]:
        """Names and namespaces of the loaded modules, those of the program first."""
        found: list[tuple[str, int]] = []
        objects = self._objects
        for each in self._interpreter.interpreters():
            if each.id:
                continue
            words = each.address + self._layout.interpreter_imports_modules
            for key, module in objects.dict_items(self._memory.read_word(words))[:MAX_MODULES]:
                try:
                    if objects.type_name(objects.type_of(module)) == "module":
                        found.append((objects.string(key), objects.module_dict(module)))
                except (MemoryReadError, NotAnObject):
                    continue
        return sorted(found, key=lambda one: (_is_stdlib(one[0]), one[0] != "__main__"))

    def _inside(self, one: _Place) -> Iterator[tuple[int, _Way, int]]:
        """(address, way, key) of what an object has inside."""
        objects, layout = self._objects, self._layout
        type_address = objects.type_of(one.address)
        name = objects.type_name(type_address)
        if name in _NEVER:
            return
        flags = objects.flags_of(type_address)
        if flags & _TPFLAGS_DICT_SUBCLASS:
            for key, value in objects.dict_items(one.address)[:MAX_ENTRIES]:
                yield value, _Way.ITEM, key
        elif flags & (_TPFLAGS_LIST_SUBCLASS | _TPFLAGS_TUPLE_SUBCLASS):
            start, place = one.address + layout.tuple_items, layout.tuple_count
            if flags & _TPFLAGS_LIST_SUBCLASS:
                start, place = self._memory.read_word(one.address + layout.list_items), layout.list_count
            count = min(self._memory.read_word(one.address + place), MAX_ENTRIES)
            if count and start:
                words = struct.unpack(f"<{count}Q", self._memory.read(start, 8 * count))
                yield from ((word, _Way.INDEX, number) for number, word in enumerate(words))
        elif flags & _TPFLAGS_TYPE_SUBCLASS:
            own = objects.flags_of(one.address) & _TPFLAGS_HEAPTYPE
            namespace = self._memory.read_word(one.address + layout.type_dict) if own else 0
            if namespace:
                for key, value in objects.dict_items(namespace)[:MAX_ENTRIES]:
                    yield value, _Way.ATTRIBUTE, key
        elif name == "function":
            yield from self._cells(one)
        else:
            for key, value in objects.attribute_items(one.address):
                yield value, _Way.ATTRIBUTE, key

    def _cells(self, one: _Place) -> Iterator[tuple[int, _Way, int]]:
        """The cells of a function, and what is in them."""
        layout = self._layout
        start = one.address + layout.object_size
        words = struct.unpack(f"<{_CLOSURE_WORDS}Q", self._memory.read(start, 8 * _CLOSURE_WORDS))
        code, closure = words[4], words[7]
        if not closure:
            return
        count = min(self._memory.read_word(closure + layout.tuple_count), MAX_ENTRIES)
        cells = struct.unpack(f"<{count}Q", self._memory.read(closure + layout.tuple_items, 8 * count))
        names = self._memory.read_word(code + layout.code_local_names)
        total = self._memory.read_word(names + layout.tuple_count)
        first = names + layout.tuple_items + 8 * (total - count)
        for cell, name in zip(
            cells, struct.unpack(f"<{count}Q", self._memory.read(first, 8 * count)), strict=True
        ):
            yield cell, _Way.CELL, name
            yield self._memory.read_word(cell + layout.object_size), _Way.CELL, name

    def _key(self, key: int) -> str:
        kind = self._objects.type_name(self._objects.type_of(key))
        if kind == "str":
            return repr(self._objects.string(key)[:40])
        if kind == "int":
            try:
                return str(self._objects.integer(key))
            except NotAnObject:
                pass
        return f"a {kind}"


def _is_stdlib(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names and name != "__main__"
