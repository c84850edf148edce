"""Which place a frame is in the middle of updating: whose attribute, which global, whose cell, which item.

In: a thread as of the last walk, the number of one of its frames. Out: the updates that the frame is inside
of by its bytecode, and the `SharedPlace` of one, by the variables that the frame has now.

The frame is read after the walk. A frame that runs another code by then has no place; one that was left and
entered anew in between may have the place of the next call, which is a place that this thread updates there
as well. What only lies on a frame's stack counts while the thread is still inside. Places that are a thread's
own are none: attributes must be in the object itself, so those of `threading.local` and of proxies are not
found.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from ftdiag.errors import MemoryReadError
from ftdiag.model import SharedPlace
from ftdiag.sources.python.codeobjects import CodeObject
from ftdiag.sources.python.frameview import AttributeReader, FrameView
from ftdiag.sources.python.interpreter import CurrentLine, InterpreterReader
from ftdiag.sources.python.maybeupdates import may_update
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.opcodes import OPCODES
from ftdiag.sources.python.updates import MAX_UNITS, Expression, Update, find_updates
from ftdiag.sources.python.walking import PythonThread

MAX_CODES: Final = 20_000
"""Code objects whose updates are remembered."""
MAX_NAMES: Final = 2048
"""Names of a code object that are read."""
NAME_BYTES: Final = 120
"""Of a string that are read at first, with its head: most names are shorter."""
MAX_CHARACTERS: Final = 120
"""Longest name of a place."""
MAX_KEY_CHARACTERS: Final = 32
ACQUIRING: Final = frozenset(("acquire", "acquire_lock", "enter_context", "__enter__", "lock", "LOCK_EX"))
"""Names in a function that may hold a lock without a `with` statement."""
_CONTAINERS: Final = frozenset(
    ("dict", "list", "collections.deque", "bytearray", "array.array", "numpy.ndarray")
)
_TPFLAGS_LIST_SUBCLASS: Final = 1 << 25
_TPFLAGS_DICT_SUBCLASS: Final = 1 << 29
_TPFLAGS_TYPE_SUBCLASS: Final = 1 << 31
_STACKREF_TAGS: Final = 7
_TAGGED_INT: Final = 3
"""Low bits of a stack reference that is a small int and no pointer (Py_INT_TAG, pycore_stackref.h)."""


class CodeUpdates(NamedTuple):
    """What is known of a code object: its updates, and their lines."""

    updates: tuple[Update, ...]
    lines: frozenset[int | None]

    def at(self, unit: int) -> tuple[Update, ...]:
        """The updates that a code unit is inside of."""
        return tuple(update for update in self.updates if update.start <= unit < update.end)


_NOTHING: Final = CodeUpdates((), frozenset())


class _Value(NamedTuple):
    """An object, or a small int where `address` is 0: what the program calls it."""

    address: int
    text: str
    number: int = 0


class UpdatePlaces:
    """Finds updates and their places in one target; none in builds with a GIL."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = interpreter.layout
        self._attributes = AttributeReader(interpreter)
        version = interpreter.layout.version
        self._opcodes = OPCODES.get((version.major, version.minor))
        self._codes: dict[int, tuple[CodeObject, CodeUpdates]] = {}
        self._acquiring: dict[int, bool] = {}
        """By code object, of those of which it was asked."""
        self._modules: dict[int, str] = {}

    @property
    def able(self) -> bool:
        """Whether updates can be found in this target."""
        return self._opcodes is not None and self._layout.free_threaded

    def forget(self) -> None:
        """Code objects were freed: others may lie at their addresses."""
        self._codes.clear()
        self._acquiring.clear()
        self._modules.clear()

    def known(self, code: CodeObject) -> CodeUpdates | None:
        """The updates of a code object, if it was looked at before."""
        found = self._codes.get(code.address)
        return found[1] if found is not None and found[0] is code else None

    def learn(self, code: CodeObject) -> CodeUpdates:
        """Look through a code object. Raises TargetGone, PermissionRefused."""
        found = _NOTHING
        if self._opcodes is not None and code.units <= MAX_UNITS:
            try:
                units = self._memory.read(code.bytecode, 2 * code.units)
                if may_update(units, self._opcodes):
                    updates = find_updates(units, self._opcodes, self._names(code.address))
                    lines = {
                        code.lines.line(unit)
                        for update in updates
                        for unit in range(update.start, update.end)
                    }
                    found = CodeUpdates(updates, frozenset(lines))
            except (MemoryReadError, NotAnObject, struct.error):
                found = _NOTHING
        if len(self._codes) >= MAX_CODES:
            self._codes.clear()
        self._codes[code.address] = code, found
        return found

    def acquires(self, code: CodeObject) -> bool:
        """Whether a function may hold a lock that it did not take by `with`. Raises like `learn`.

        What cannot be read does not, as it has no updates either.
        """
        found = self._acquiring.get(code.address)
        if found is None:
            try:
                found = not ACQUIRING.isdisjoint(self._names(code.address))
            except (MemoryReadError, NotAnObject, struct.error):
                found = False
            if len(self._acquiring) >= MAX_CODES:
                self._acquiring.clear()
            self._acquiring[code.address] = found
        return found

    def _names(self, code: int) -> list[str]:
        """The names that a code object uses."""
        layout = self._layout
        table = self._memory.read_word(code + layout.code_names)
        count = min(self._memory.read_word(table + layout.tuple_count), MAX_NAMES)
        if not count:
            return []
        words = struct.unpack(f"<{count}Q", self._memory.read(table + layout.tuple_items, 8 * count))
        read = self._memory.read_many([(word, NAME_BYTES) for word in words])
        return [self._objects.string(word, data) for word, data in zip(words, read, strict=True)]

    # --- places ---

    def place(self, thread: PythonThread, number: int, update: Update) -> SharedPlace | None:
        """The place that a frame of the thread updates; `None` where it is not known, or nobody else's.

        Raises TargetGone, PermissionRefused.
        """
        line = self._interpreter.current_line(thread, number)
        if line is None:
            return None
        try:
            frame = FrameView(self._interpreter, line, thread.chain[2 * number])
            if update.by_stack and not self._still_inside(frame, thread.chain[2 * number], update):
                return None
            found = self._found(frame, line, update)
            return found if found is not None and frame.still_there() else None
        except (MemoryReadError, NotAnObject, struct.error, IndexError):
            return None

    def _still_inside(self, frame: FrameView, executable: int, update: Update) -> bool:
        now = self._interpreter.code_at((executable, frame.instruction))
        return now is not None and update.start <= now[1] < update.end

    def _found(self, frame: FrameView, line: CurrentLine, update: Update) -> SharedPlace | None:
        match update.kind:
            case "global":
                name = self._objects.string(frame.name_address(update.name))
                module = self._module(frame.namespace)
                return self._place("global", f"{module}.{name}", "module", frame.namespace)
            case "cell":
                return self._cell(frame, line, update.name)
            case "attribute":
                assert update.base is not None
                base = self._value(frame, update.base)
                return None if base is None else self._attribute(frame, base, update.name)
            case _:
                assert update.base is not None
                assert update.key is not None
                container, key = self._value(frame, update.base), self._value(frame, update.key)
                return None if container is None or key is None else self._item(container, key)

    def _place(self, kind: str, name: str, type_name: str, owner: int) -> SharedPlace:
        return SharedPlace(kind, name[:MAX_CHARACTERS], type_name[:MAX_CHARACTERS], owner)

    def _cell(self, frame: FrameView, line: CurrentLine, number: int) -> SharedPlace | None:
        address = frame.word(number) & ~_STACKREF_TAGS
        if self._type_name(address) != "cell":
            return None
        code = self._interpreter.code_at((line.code, line.bytecode))
        outer = "" if code is None else code[0].function.rpartition(".<locals>.")[0]
        name = line.local_names[number]
        return self._place("cell", f"{name} of {outer}" if outer else f"cell {name}", "cell", address)

    def _attribute(self, frame: FrameView, base: _Value, number: int) -> SharedPlace | None:
        """The attribute, where the object itself has it."""
        if not base.address:
            return None
        objects = self._objects
        key = frame.name_address(number)
        name = objects.string(key)
        type_address = objects.type_of(base.address)
        type_name = objects.type_name(type_address)
        if type_name == "module":
            namespace = objects.module_dict(base.address)
            return self._place("global", f"{self._module(namespace)}.{name}", "module", namespace)
        if not self._attributes.in_itself(base.address, key):
            return None
        of_class = objects.flags_of(type_address) & _TPFLAGS_TYPE_SUBCLASS
        called = objects.type_name(base.address) if of_class else type_name
        return self._place("attribute", f"{called.rpartition('.')[2]}.{name}", called, base.address)

    def _item(self, container: _Value, key: _Value) -> SharedPlace | None:
        if not container.address:
            return None
        type_address = self._objects.type_of(container.address)
        type_name = self._objects.type_name(type_address)
        flags = self._objects.flags_of(type_address)
        if not flags & (_TPFLAGS_LIST_SUBCLASS | _TPFLAGS_DICT_SUBCLASS) and type_name not in _CONTAINERS:
            return None
        text = self._key(key)
        return self._place("item", f"{container.text}[{text}]", type_name, container.address)

    def _key(self, key: _Value) -> str:
        """What tells a key from others: its value, or where it lies."""
        if not key.address:
            return str(key.number)
        name = self._type_name(key.address)
        if name == "str":
            text = self._objects.string(key.address)
            if len(text) <= MAX_KEY_CHARACTERS:
                return repr(text)
            told = crc32(text.encode("utf-8", "surrogatepass"))
            return f"{text[:MAX_KEY_CHARACTERS]!r}… of {len(text)}, {told:08x}"
        if name == "int":
            try:
                return str(self._objects.integer(key.address))
            except NotAnObject:
                return f"int at {key.address:#x}"
        return f"{name} at {key.address:#x}"

    def _value(self, frame: FrameView, recipe: Expression) -> _Value | None:
        """What an expression of an update stands for in a frame."""
        match recipe:
            case ("int", number):
                return _Value(0, str(number), number)
            case ("local", number):
                names = frame.line.local_names
                return self._referred(frame.word(number), names[number] if number < len(names) else "?")
            case ("stack", number):
                return self._referred(frame.on_stack(number), "")
            case ("cell", number):
                cell = frame.cell(number)
                return None if cell is None else _Value(cell.address, cell.name.removeprefix("cell "))
            case ("const", number):
                constant = frame.constant(number)
                return None if constant is None else _Value(constant.address, "a constant")
            case ("global", number):
                named = frame.named(number, local=True)
                if named is None:
                    return None
                return _Value(named.address, f"{self._module(frame.namespace)}.{named.name}")
            case ("attr", owner, number):
                base = self._value(frame, owner)
                if base is None or not base.address:
                    return None
                key = frame.name_address(number)
                address = self._attributes.value(base.address, key)
                if not address:
                    return None
                called = self._type_name(base.address)
                called = base.text if called == "module" else called.rpartition(".")[2]
                return _Value(address, f"{called}.{self._objects.string(key)}")
        return None

    def _referred(self, word: int, text: str) -> _Value | None:
        if word & _TAGGED_INT == _TAGGED_INT:
            return _Value(0, text, word >> 2)
        address = word & ~_STACKREF_TAGS
        return _Value(address, text or f"a {self._type_name(address)}") if address > 4096 else None

    def _type_name(self, address: int) -> str:
        return self._objects.type_name(self._objects.type_of(address))

    def _module(self, namespace: int) -> str:
        """The name of the module whose names these are."""
        name = self._modules.get(namespace)
        if name is None:
            found = self._objects.dict_get(namespace, "__name__")
            name = "a module" if found is None else self._objects.string(found)
            if len(self._modules) >= MAX_NAMES:
                self._modules.clear()
            self._modules[namespace] = name
        return name
