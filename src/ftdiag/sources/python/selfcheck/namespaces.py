"""Types and dicts: where a process keeps its names.

In: an inspection of a process. Out: judgements of fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.selfcheck.inspection import MAX_TABLE, Inspection, Judgement, Wrong

MAX_STRINGS: Final = 200
_WORD: Final = struct.Struct("<Q")
_TPFLAGS_DICT_SUBCLASS: Final = 1 << 29
_TPFLAGS_READY: Final = 1 << 12


class Namespaces(Inspection):
    """Checks of types and dicts."""

    def namespaces(self) -> None:
        """Three dicts of the interpreter prove the head of objects and of types."""
        fields = (
            "interpreter_state.sysdict",
            "interpreter_state.builtins",
            "interpreter_state.imports_modules",
        )
        needed = "runtime_state.interpreters_head"

        def named(field: str) -> str | None:
            try:
                return self._type_name(self._at(self._interpreter, field))
            except (MemoryReadError, NotAnObject):
                return None

        def circle() -> str:
            for field in fields:
                try:
                    kind = self._at(self._at(self._interpreter, field), "pyobject.ob_type")
                    metatype = self._at(kind, "pyobject.ob_type")
                    if self._at(metatype, "pyobject.ob_type") == metatype and metatype != kind:
                        return "the type of types is its own"
                except MemoryReadError:
                    continue
            raise Wrong("no type there whose type is its own type")

        def name() -> str:
            for field in fields:
                if named(field) == "dict":
                    return '"dict"'
            raise Wrong(f"{named(fields[0])!r} instead of 'dict'")

        self._judge("pyobject.ob_type", needed, circle)
        self._judge("type_object.tp_name", f"{needed} pyobject.ob_type", name)

        def is_dict(field: str) -> Callable[[], str]:
            def check() -> str:
                if named(field) != "dict":
                    raise Wrong("no dict lies there")
                return "a dict"

            return check

        for field in fields:
            self._judge(field, f"{needed} pyobject.ob_type type_object.tp_name", is_dict(field))

    def types(self) -> None:
        needed = "pyobject.ob_type interpreter_state.sysdict"

        def flags() -> str:
            found = self._at(self._dict_type(), "type_object.tp_flags")
            if found >> 24 != _TPFLAGS_DICT_SUBCLASS >> 24 or not found & _TPFLAGS_READY:
                raise Wrong(f"{found:#x} are not the flags of dict")
            return "those of dict"

        def representation() -> str:
            found = self._at(self._dict_type(), "type_object.tp_repr")
            if not self._is_code_address(found):
                raise Wrong(f"{found:#x} is no function")
            return "a function"

        def size() -> str:
            found = self._at(self._dict_type(), "PyTypeObject.tp_basicsize")
            if found != self._values["dict_object.size"]:
                metatype = self._at(self._dict_type(), "pyobject.ob_type")
                whole = self._at(metatype, "PyTypeObject.tp_basicsize")
                if whole > self._values["type_object.size"] and whole < 4096:
                    return "that of type"
                raise Wrong(f"a dict would have {found} bytes")
            return f"a dict has {found} bytes"

        def dict_size() -> str:
            found = self._at(self._dict_type(), "PyTypeObject.tp_basicsize")
            if found != self._values["dict_object.size"]:
                raise Wrong(f"dict says {found}")
            return "as dict says itself"

        self._judge("type_object.tp_flags", needed, flags)
        self._judge("type_object.tp_repr", needed, representation)
        self._judge("PyTypeObject.tp_basicsize type_object.tp_basicsize", needed, size)
        self._judge("dict_object.size", f"{needed} PyTypeObject.tp_basicsize", dict_size)

    def dicts(self) -> None:
        """The keys of `sys.__dict__` are strings whose length and data prove each other."""
        needed = "interpreter_state.sysdict pyobject.ob_type type_object.tp_name type_object.tp_flags"

        def address() -> int:
            return self._at(self._interpreter, "interpreter_state.sysdict")

        def keys() -> str:
            table = self._at(address(), "dict_object.ma_keys")
            head = self._memory.read(table, 32)
            count = _WORD.unpack_from(head, 24)[0]
            if head[10] > 2 or head[9] > 40 or not 0 < count < MAX_TABLE:
                raise Wrong("no table of keys lies there")
            return f"a table of {count} keys"

        def values() -> str:
            found = self._at(address(), "dict_object.ma_values")
            if found:
                raise Wrong(f"{found:#x} would be values of their own, which sys.__dict__ has not")
            return "null, as in sys.__dict__"

        self._judge("dict_object.ma_keys", needed, keys)
        self._judge("dict_object.ma_values", f"{needed} dict_object.ma_keys", values)
        needed += " dict_object.ma_keys dict_object.ma_values"
        layout = self._layout

        def strings() -> Iterable[tuple[int, bytes]]:
            for key, _ in self._objects.dict_items(address())[:MAX_STRINGS]:
                data = self._memory.read_up_to(key, layout.unicode_ascii_data + 256)
                yield key, data

        def shape() -> str:
            count = 0
            for _, data in strings():
                (state,) = struct.unpack_from("<I", data, layout.unicode_state)
                kind, compact, ascii_only = (
                    state >> layout.unicode_kind_shift + shift for shift in (0, 3, 4)
                )
                if kind & 7 != 1 or not compact & 1 or not ascii_only & 1:
                    raise Wrong(f"{state:#x} is not the state of a compact ASCII string")
                count += 1
            return f"{count} compact ASCII strings"

        def lengths() -> list[tuple[int, int]]:
            found = []
            for _, data in strings():
                (length,) = _WORD.unpack_from(data, layout.unicode_length)
                found.append((length, len(data[layout.unicode_ascii_data :].split(b"\0", 1)[0])))
            return found

        def data() -> str:
            off = {length - text for length, text in lengths() if length > 16 or text > 16}
            if len(off) == 1 and 0 not in off:
                raise Wrong(f"text begins {off.pop()} bytes off")
            return "text that ends where its length says"

        def length() -> str:
            wrong = [pair for pair in lengths() if pair[0] != pair[1]]
            if wrong:
                raise Wrong(f"length {wrong[0][0]} of {wrong[0][1]} characters")
            return "that of the text"

        self._judge("unicode_object.state UNICODE_KIND_BIT", needed, shape)
        self._judge("unicode_object.asciiobject_size", needed, data)
        self._judge("unicode_object.length", f"{needed} unicode_object.asciiobject_size", length)
        needed += " unicode_object.state unicode_object.asciiobject_size unicode_object.length"
        self._tell_namespaces_apart(needed)
        if all(self._good(name) for name in needed.split()):
            try:
                for key, value in self._objects.dict_items(address()):
                    self._sys.setdefault(self._objects.string(key), value)
            except (MemoryReadError, NotAnObject):
                pass

    def _tell_namespaces_apart(self, needed: str) -> None:
        """Each of the three dicts has a name that the others have not: they lie side by side."""
        for field, name in (
            ("interpreter_state.sysdict", "hexversion"),
            ("interpreter_state.builtins", "ZeroDivisionError"),
            ("interpreter_state.imports_modules", "builtins"),
        ):
            others = [one for one in needed.split() if one != "interpreter_state.sysdict"]
            if not self._good(field) or not all(map(self._good, others)):
                continue
            try:
                found = self._objects.dict_get(self._at(self._interpreter, field), name)
            except (MemoryReadError, NotAnObject):
                continue
            if found is None:
                self._found[field] = Judgement.WRONG, f"a dict without {name!r}"
            else:
                self._found[field] = Judgement.RIGHT, f"a dict with {name!r}"

    def orders(self) -> None:
        """The method resolution order of dict, for which tuples have to be right."""
        needed = "pyobject.ob_type interpreter_state.sysdict type_object.tp_name tuple_object.ob_item"

        def order() -> str:
            kind = self._dict_type()
            bases = self._at(kind, "PyTypeObject.tp_mro")
            if self._type_name(bases) != "tuple" or self._at(bases, "tuple_object.ob_item") != kind:
                raise Wrong("it is not a tuple that begins with the type itself")
            return "a tuple that begins with the type itself"

        self._judge("PyTypeObject.tp_mro", needed, order)
