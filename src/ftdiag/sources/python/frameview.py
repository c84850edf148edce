"""The variables of one frame, and attributes of the objects that they name: read on demand.

In: a frame as of the last walk, numbers of locals, constants and names as its bytecode has them. Out:
addresses of objects, with what the program calls them. The target runs on: what does not fit together raises
NotAnObject.
"""

from __future__ import annotations

import struct
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.sources.python.interpreter import CurrentLine, InterpreterReader
from ftdiag.sources.python.objects import NotAnObject, word_in

MAX_CLASSES: Final = 16
"""Classes of a method resolution order that are searched for an attribute."""
MAX_LOCALS: Final = 1024

_STACKREF_TAGS: Final = 7
_NOT_OWNED: Final = 3
"""Low bits of a stack reference in a local that the frame does not count (3.14: deferred, or a small int)."""
_TPFLAGS_TYPE_SUBCLASS: Final = 1 << 31
_MEMBER_DEFINITION: Final = 24
"""`d_member` of a member descriptor, behind d_type, d_name, d_qualname (Include/cpython/descrobject.h)."""
_MEMBER_OFFSET: Final = 16
"""`offset` of a PyMemberDef: name, type (Include/descrobject.h)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an instruction put on top of the stack: how the program calls it, its address (0: not known)."""

    name: str
    address: int
    counted: bool = True
    """Whether loading it counts a reference."""


class FrameView:
    """The variables of one frame, read on demand."""

    def __init__(self, interpreter: InterpreterReader, line: CurrentLine, executable: int) -> None:
        self.line = line
        self._executable = executable
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = layout = interpreter.layout
        count = min(len(line.local_names), MAX_LOCALS)
        # All in one read: a frame of another call at this address would have another executable.
        data = self._memory.read(line.frame, layout.frame_localsplus + 8 * count)
        if word_in(data, layout.frame_executable) != executable:
            raise NotAnObject("the frame was left")
        self._locals: tuple[int, ...] = struct.unpack_from(f"<{count}Q", data, layout.frame_localsplus)
        self.instruction = word_in(data, layout.frame_instr_ptr)
        """The address of the instruction that it is at now."""
        # _PyInterpreterFrame: f_globals, f_builtins, f_locals (Include/internal/pycore_frame.h)
        self._globals, self._builtins, self._own = (
            word_in(data, layout.frame_globals + shift) for shift in (0, 8, 16)
        )

    def still_there(self) -> bool:
        """Whether the frame still runs this code: else what it held may have been freed meanwhile."""
        return self._memory.read_word(self.line.frame + self._layout.frame_executable) == self._executable

    @property
    def namespace(self) -> int:
        """Address of the dict that global names are stored in: at the top of a module its own one."""
        return self._own or self._globals

    def word(self, number: int) -> int:
        """The stack reference in a local; 0 if it is not set."""
        return self._locals[number] if number < len(self._locals) else 0

    def on_stack(self, number: int) -> int:
        """The stack reference at a place of the frame's stack."""
        place = self._layout.frame_localsplus + 8 * (len(self.line.local_names) + number)
        return self._memory.read_word(self.line.frame + place)

    def local(self, number: int, *, counted: bool = True) -> Loaded | None:
        """A local variable; `None` if it is not set."""
        if number >= len(self._locals):
            return None
        word = self._locals[number]
        if word & _NOT_OWNED == _NOT_OWNED:  # a small int
            return None
        return Loaded(self.line.local_names[number], word & ~_STACKREF_TAGS, counted)

    def owned_locals(self) -> list[Loaded]:
        """The locals that the frame lets go of when it returns."""
        return [
            Loaded(name, word)
            for name, word in zip(self.line.local_names, self._locals, strict=False)
            if word > 4096 and not word & _NOT_OWNED
        ]

    def cell(self, number: int) -> Loaded | None:
        """What a closure's cell holds (`ob_ref`, the first word behind its header)."""
        cell = self.local(number)
        if cell is None or cell.address <= 4096:
            return None
        value = self._memory.read_word(cell.address + self._layout.object_size)
        return Loaded(f"cell {cell.name}", value)

    def free_cells(self, count: int) -> list[Loaded]:
        """The cells themselves that a closure brings along: entering it counts them."""
        first = max(0, len(self._locals) - count)
        cells = (self.local(number) for number in range(first, len(self._locals)))
        return [Loaded(f"cell {cell.name}", cell.address) for cell in cells if cell is not None]

    def constant(self, number: int) -> Loaded | None:
        """A constant; nearly all are immortal, but for code that was not compiled by an import."""
        address = self._item(self._layout.code_constants, number)
        return None if address is None else Loaded("a constant", address)

    def named(self, number: int, *, local: bool) -> Loaded | None:
        """A global or builtin; with `local` what the body of a class or module finds by name."""
        key = self.name_address(number)
        namespaces = [self._globals, self._builtins]
        if local and self._own:
            namespaces.insert(0, self._own)
        for namespace in namespaces:
            value = self._objects.dict_value(namespace, key)
            if value is not None:
                return Loaded(self._objects.string(key), value)
        return None

    def name_address(self, number: int) -> int:
        """Address of one of `co_names`. Raises NotAnObject."""
        address = self._item(self._layout.code_names, number)
        if address is None:
            raise NotAnObject(f"no name {number}")
        return address

    def _item(self, field: int, number: int) -> int | None:
        layout = self._layout
        table = self._memory.read_word(self.line.code + field)
        if number >= self._memory.read_word(table + layout.tuple_count):
            return None
        return self._memory.read_word(table + layout.tuple_items + 8 * number)


class AttributeReader:
    """Finds attributes of objects by the identity of their names."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = interpreter.layout

    def value(self, base: int, key: int) -> int | None:
        """The value at an attribute of the object at `base`, whose name is the object at `key`.

        As the object, its class or its slots have it; `None` for properties and the like, and where there is
        none. Raises MemoryReadError, NotAnObject, TargetGone, PermissionRefused.
        """
        objects = self._objects
        type_address = objects.type_of(base)
        if objects.type_name(type_address) == "module":
            return objects.dict_value(objects.module_dict(base), key)
        if objects.flags_of(type_address) & _TPFLAGS_TYPE_SUBCLASS:
            return self._in_class(base, key)
        value = objects.attribute_value(base, key)
        if value is not None:
            return value
        value = self._in_class(type_address, key)
        if value is not None and objects.type_name(objects.type_of(value)) == "member_descriptor":
            definition = self._memory.read_word(value + self._layout.object_size + _MEMBER_DEFINITION)
            offset = self._memory.read_word(definition + _MEMBER_OFFSET)
            return self._memory.read_word(base + offset) if 0 < offset < 1 << 16 else None
        return value

    def _in_class(self, type_address: int, key: int) -> int | None:
        layout = self._layout
        order = self._memory.read_word(type_address + layout.type_mro)
        count = min(self._memory.read_word(order + layout.tuple_count), MAX_CLASSES)
        for one in struct.unpack(f"<{count}Q", self._memory.read(order + layout.tuple_items, 8 * count)):
            namespace = self._memory.read_word(one + layout.type_dict)
            if namespace:
                value = self._objects.dict_value(namespace, key)
                if value is not None:
                    return value
        return None

    def in_itself(self, base: int, key: int) -> bool:
        """Whether an object has an attribute itself, in its dict or a slot, and a class in its own.

        Not those of `threading.local` and of proxies, which are found by code. Raises like `value`.
        """
        objects = self._objects
        type_address = objects.type_of(base)
        if objects.flags_of(type_address) & _TPFLAGS_TYPE_SUBCLASS:
            namespace = self._memory.read_word(base + self._layout.type_dict)
            return bool(namespace) and objects.dict_value(namespace, key) is not None
        if objects.attribute_value(base, key) is not None:
            return True
        value = self._in_class(type_address, key)
        return value is not None and objects.type_name(objects.type_of(value)) == "member_descriptor"
