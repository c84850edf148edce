"""Values that are known without reading them: of `sys`, of `threading`.

In: an inspection of a process. Out: judgements of fields.
"""

from __future__ import annotations

import struct
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.layouts import (
    parse_version,
)
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.selfcheck.inspection import MAX_TABLE, Inspection, Wrong

_LARGEST_FLOAT: Final = 1.7976931348623157e308
"""`sys.float_info.max` of IEEE 754 doubles."""


class Values(Inspection):
    """Checks of numbers, strings, sequences and locks."""

    def values_in_sys(self) -> None:
        """Values of known name: numbers, tuples, lists and sets."""
        self._integers()
        self._sequences()

        def table() -> str:
            names = self._sys["stdlib_module_names"]
            used = self._at(names, "set_object.used")
            mask = self._at(names, "set_object.mask")
            entries = self._at(names, "set_object.table")
            if not 100 < used <= mask < MAX_TABLE or mask & mask + 1:
                raise Wrong(f"{used} of {mask + 1} entries are in use")
            found = self._memory.read(entries, 16 * (mask + 1))
            words = [
                self._objects.string(word) for word in struct.unpack(f"<{2 * mask + 2}Q", found)[0::2] if word
            ]
            if "threading" not in words:
                raise Wrong("sys.stdlib_module_names does not name threading")
            return f"sys.stdlib_module_names, {used} of them"

        def numbers() -> str:
            names = self._sys["stdlib_module_names"]
            used, mask = self._at(names, "set_object.used"), self._at(names, "set_object.mask")
            if not 100 < used <= mask < MAX_TABLE or mask & mask + 1:
                raise Wrong(f"{used} of {mask + 1} entries would be in use")
            return f"sys.stdlib_module_names has {used}"

        if "stdlib_module_names" in self._sys:
            self._judge("set_object.used set_object.mask", "unicode_object.length", numbers)
            self._judge("set_object.table", "unicode_object.length set_object.used set_object.mask", table)

    def _integers(self) -> None:
        needed = "unicode_object.length dict_object.ma_keys type_object.tp_flags"
        if "hexversion" not in self._sys:
            return
        number = self._sys["hexversion"]

        def tag() -> str:
            found = self._at(number, "long_object.lv_tag")
            if found != 1 << 3:
                raise Wrong(f"{found:#x} is not the tag of one positive digit")
            return "one digit, positive"

        def digits() -> str:
            found = self._objects.integer(number)
            if parse_version(found) != self._version:
                raise Wrong(f"sys.hexversion would be {found:#x}")
            return f"sys.hexversion is {found:#x}"

        self._judge("long_object.lv_tag", needed, tag)
        self._judge("long_object.ob_digit", f"{needed} long_object.lv_tag", digits)

    def _sequences(self) -> None:
        needed = "unicode_object.length dict_object.ma_keys"
        if not {"version_info", "path", "float_info"} <= self._sys.keys():
            return

        def count() -> str:
            found = self._at(self._sys["version_info"], "tuple_object.ob_size")
            if found != 5:
                raise Wrong(f"sys.version_info would have {found} items")
            return "sys.version_info has 5 items"

        def items() -> str:
            first = self._sys["version_info"] + self._values["tuple_object.ob_item"]
            found = [self._objects.integer(self._word(first + 8 * place)) for place in range(3)]
            if found != [self._version.major, self._version.minor, self._version.micro]:
                raise Wrong(f"sys.version_info would begin with {found}")
            return f"sys.version_info begins with {found}"

        def floating() -> str:
            largest = self._at(self._sys["float_info"], "tuple_object.ob_item")
            value = struct.unpack("<d", self._memory.read(largest + self._values["float_object.ob_fval"], 8))[
                0
            ]
            if value != _LARGEST_FLOAT:
                raise Wrong(f"sys.float_info.max would be {value}")
            return f"sys.float_info.max is {value}"

        def list_size() -> str:
            found = self._at(self._sys["path"], "list_object.ob_size")
            if not 0 < found < 10_000:
                raise Wrong(f"sys.path would have {found} items")
            return f"sys.path has {found} items"

        def list_items() -> str:
            word = self._word(self._at(self._sys["path"], "list_object.ob_item"))
            return f"sys.path begins with {self._objects.string(word)!r}"

        self._judge("tuple_object.ob_size", needed, count)
        self._judge("tuple_object.ob_item", f"{needed} long_object.ob_digit long_object.lv_tag", items)
        self._judge("float_object.ob_fval", f"{needed} tuple_object.ob_item", floating)
        self._judge("list_object.ob_size", needed, list_size)
        self._judge("list_object.ob_item", needed, list_items)

    def threading(self) -> None:
        """The main thread's name and a lock of the module `threading`."""
        needed = (
            "interpreter_state.imports_modules unicode_object.length dict_object.ma_keys type_object.tp_flags"
        )
        if any(not self._good(name) for name in needed.split()):
            return
        try:
            modules = self._at(self._interpreter, "interpreter_state.imports_modules")
            module = self._objects.dict_get(modules, "threading")
        except (MemoryReadError, NotAnObject):
            return
        if module is None:
            return

        def namespace() -> str:
            if self._type_name(self._at(module, "PyModuleObject.md_dict")) != "dict":
                raise Wrong("no dict lies there")
            return "the dict of threading"

        self._judge("PyModuleObject.md_dict", needed, namespace)
        needed += " PyModuleObject.md_dict"

        def variable(name: str) -> int:
            found = self._objects.dict_get(self._at(module, "PyModuleObject.md_dict"), name)
            if found is None:
                raise Wrong(f"threading.{name} is not there")
            return found

        def name() -> str:
            names = []
            for _, thread in self._objects.dict_items(variable("_active")):
                attribute = self._objects.attribute(thread, "_name")
                if attribute is not None:
                    names.append(self._objects.string(attribute))
            if not names:
                raise Wrong("no thread of threading._active has a name")
            return f"{', '.join(names[:4])}"

        attributes = "MANAGED_DICT_OFFSET PyHeapTypeObject.ht_cached_keys heap_type_object.ht_cached_keys"
        self._judge(f"{attributes} PyDictValues.values", f"{needed} PyTypeObject.tp_basicsize", name)

        def lock() -> str:
            found = variable("_active_limbo_lock")
            kind = self._type_name(found)
            state = self._memory.read(found + self._layout.object_size, 1)[0]
            if kind not in ("_thread.lock", "_thread.RLock") or (kind == "_thread.lock" and state > 3):
                raise Wrong(f"a {kind} whose mutex is {state:#x}")
            return f"a {kind} follows its head: threading._active_limbo_lock"

        self._judge("pyobject.size", needed, lock)
