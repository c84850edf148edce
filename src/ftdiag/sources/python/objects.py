"""Reading Python objects out of a process's memory: strings, dicts, attributes, type names.

In: addresses of objects in the target, its `Layout`. Out: Python values and further addresses.
Every read can be wrong, because the target runs on: results are bounded, and what does not look like the
expected object raises `NotAnObject` (or gives `None` where the docstring says so).
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Final

from ftdiag.errors import FtdiagError, MemoryReadError
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import Layout

MAX_STRING_CHARACTERS: Final = 4096
"""Longer strings are cut; names and paths of real programs are shorter."""
MAX_BYTES_OBJECT: Final = 1 << 22
"""Longest bytes object that is read (line and exception tables of generated code can be long)."""
MAX_DICT_ENTRIES: Final = 1 << 17
"""Entries of a dict that are read."""
MAX_ATTRIBUTE_NAMES: Final = 20_000
"""Names of attributes that are remembered."""
MAX_SEARCHED_ENTRIES: Final = 20_000
"""Entries of a dict that is searched for one key."""
MAX_TYPE_NAMES: Final = 20_000
"""Type names that are remembered."""
TYPE_NAME_BYTES: Final = 256

# Include/internal/pycore_dict.h, struct _dictkeysobject (the same in 3.13, 3.14 and 3.15; dk_mutex of
# free-threaded builds sits in what is padding elsewhere).
_KEYS_HEADER: Final = struct.Struct("<q B B B x I q q")
_KEYS_HEADER_BYTES: Final = 32
_MAX_INLINE_VALUES: Final = 255
"""Their number is a byte."""
_DICT_KEYS_GENERAL: Final = 0
_DICT_KEYS_UNICODE: Final = 1
_DICT_KEYS_SPLIT: Final = 2
# struct _dictvalues: capacity, size, embedded, valid, padding, values[]
_VALUES_HEADER_BYTES: Final = 8

# Include/object.h
_TPFLAGS_INLINE_VALUES: Final = 1 << 2
_TPFLAGS_MANAGED_DICT: Final = 1 << 4
_TPFLAGS_HEAPTYPE: Final = 1 << 9
_TPFLAGS_LONG_SUBCLASS: Final = 1 << 24
_TPFLAGS_BYTES_SUBCLASS: Final = 1 << 27
_TPFLAGS_UNICODE_SUBCLASS: Final = 1 << 28
_TPFLAGS_DICT_SUBCLASS: Final = 1 << 29

_WORD: Final = struct.Struct("<Q")


class NotAnObject(FtdiagError):
    """What lies at an address is not the kind of object that was expected there."""


def word_in(data: bytes, offset: int, size: int = 8) -> int:
    """The unsigned word at an offset that the target published, which may be any. Raises NotAnObject."""
    if offset + size > len(data):
        raise NotAnObject(f"no field at {offset}")
    return int.from_bytes(data[offset : offset + size], "little")


class ObjectReader:
    """Reads objects of one target. Type names and flags are cached by address."""

    def __init__(self, memory: RemoteMemory, layout: Layout) -> None:
        self._memory = memory
        self._layout = layout
        self._type_names: dict[int, str] = {}
        self._type_flags: dict[int, int] = {}
        self._ahead: dict[int, tuple[int, int]] = {}
        """Object -> its type, and the dict of its attributes if it is of a type that has one."""
        self._attribute_names: dict[int, str] = {}
        self._inline: dict[int, tuple[int, int]] = {}
        """Type -> the size of its instances and its shared keys."""

    def look_ahead(self, addresses: Collection[int]) -> None:
        """Read the heads of many objects in one system call; they stand until the next call."""
        before, behind = self._layout.managed_dict, self._layout.object_type
        size = behind + 8 - before
        read = self._memory.read_many([(address + before, size) for address in addresses])
        self._ahead = {
            address: (_WORD.unpack_from(data, behind - before)[0], _WORD.unpack_from(data)[0])
            for address, data in zip(addresses, read, strict=True)
            if data is not None
        }

    def type_of(self, address: int) -> int:
        """Address of the type of the object at `address`. Raises MemoryReadError."""
        ahead = self._ahead.get(address)
        if ahead is not None:
            return ahead[0]
        return self._memory.read_word(address + self._layout.object_type)

    def type_name(self, type_address: int) -> str:
        """`tp_name` of a type: "list", "_thread.lock", the bare class name of a Python class.

        Raises NotAnObject when it is no printable name, MemoryReadError.
        """
        name = self._type_names.get(type_address)
        if name is None:
            name_address = self._memory.read_word(type_address + self._layout.type_name)
            raw = self._memory.read_up_to(name_address, TYPE_NAME_BYTES).split(b"\0", 1)[0]
            name = raw.decode("utf-8", "replace")
            if not name or not name.isprintable():
                raise NotAnObject(f"no type at {type_address:#x}")
            if len(self._type_names) >= MAX_TYPE_NAMES:
                self._type_names.clear()
            self._type_names[type_address] = name
        return name

    def forget_types(self) -> None:
        """Drop the caches: heap types can be freed and their addresses reused."""
        self._type_names.clear()
        self._type_flags.clear()

    def forget_names(self) -> None:
        """Drop the names of attributes: strings and types can be freed and their addresses reused."""
        self._attribute_names.clear()
        self._inline.clear()

    def flags_of(self, type_address: int) -> int:
        """`tp_flags` of a type. Raises MemoryReadError."""
        flags = self._type_flags.get(type_address)
        if flags is None:
            flags = self._memory.read_word(type_address + self._layout.type_flags)
            if len(self._type_flags) >= MAX_TYPE_NAMES:
                self._type_flags.clear()
            self._type_flags[type_address] = flags
        return flags

    def string(self, address: int, data: bytes | None = None) -> str:
        """The value of a `str` (`data`: its beginning), cut. Raises NotAnObject, MemoryReadError."""
        layout = self._layout
        data = data or self._memory.read_up_to(address, layout.unicode_compact_data + 192)
        if len(data) < layout.unicode_compact_data:
            raise NotAnObject(f"no str at {address:#x}")
        type_address = word_in(data, layout.object_type)
        if not self.flags_of(type_address) & _TPFLAGS_UNICODE_SUBCLASS:
            raise NotAnObject(f"no str at {address:#x}")
        return self._decode_string(address, data)

    def _decode_string(self, address: int, data: bytes) -> str:
        layout = self._layout
        length = word_in(data, layout.unicode_length)
        state = word_in(data, layout.unicode_state, 4)
        kind = state >> layout.unicode_kind_shift & 7
        compact = state >> layout.unicode_kind_shift + 3 & 1
        ascii_only = state >> layout.unicode_kind_shift + 4 & 1
        if kind not in (1, 2, 4) or not compact or length >> 40:
            raise NotAnObject(f"no compact str at {address:#x}")
        start = layout.unicode_ascii_data if ascii_only else layout.unicode_compact_data
        size = min(length, MAX_STRING_CHARACTERS) * kind
        raw = data[start : start + size]
        if len(raw) < size:
            raw = self._memory.read(address + start, size)
        encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind]
        return raw.decode(encoding, "replace")

    def bytes_object(self, address: int, data: bytes | None = None) -> bytes:
        """The value of a `bytes` (`data`: its beginning). Raises NotAnObject (also when it is too long),
        MemoryReadError."""
        layout = self._layout
        data = data or self._memory.read_up_to(address, layout.bytes_data + 480)
        if len(data) < layout.bytes_data:
            raise NotAnObject(f"no bytes at {address:#x}")
        type_address = word_in(data, layout.object_type)
        count = word_in(data, layout.bytes_count)
        if not self.flags_of(type_address) & _TPFLAGS_BYTES_SUBCLASS or count > MAX_BYTES_OBJECT:
            raise NotAnObject(f"no bytes at {address:#x}")
        value = data[layout.bytes_data : layout.bytes_data + count]
        if len(value) < count:
            value = self._memory.read(address + layout.bytes_data, count)
        return value

    def integer(self, address: int) -> int:
        """The value of a non-negative `int` below 2**90. Raises NotAnObject, MemoryReadError."""
        layout = self._layout
        data = self._memory.read_up_to(address, layout.long_digits + 12)
        if len(data) < layout.long_digits + 4:
            raise NotAnObject(f"no int at {address:#x}")
        type_address = word_in(data, layout.object_type)
        tag = word_in(data, layout.long_tag)
        # Include/internal/pycore_long.h: sign in the low 2 bits (0 positive, 1 zero), digit count from bit 3.
        digits, sign = tag >> 3, tag & 3
        if not self.flags_of(type_address) & _TPFLAGS_LONG_SUBCLASS or sign == 2 or digits > 3:
            raise NotAnObject(f"no small int at {address:#x}")
        if sign == 1:
            return 0
        data = data[layout.long_digits :]
        if len(data) < 4 * digits:
            raise NotAnObject(f"no int at {address:#x}")
        return sum(digit << 30 * place for place, digit in enumerate(struct.unpack_from(f"<{digits}I", data)))

    def dict_items(self, address: int) -> list[tuple[int, int]]:
        """(key address, value address) of every entry of a `dict`.

        Raises NotAnObject, MemoryReadError.
        """
        layout = self._layout
        data = self._memory.read(address, layout.dict_values + 8)
        type_address = word_in(data, layout.object_type)
        if not self.flags_of(type_address) & _TPFLAGS_DICT_SUBCLASS:
            raise NotAnObject(f"no dict at {address:#x}")
        keys = word_in(data, layout.dict_keys)
        values = word_in(data, layout.dict_values)
        entries = self._key_entries(keys)
        if not values:
            return [(key, value) for key, value in entries if key and value]
        slots = self._values(values, len(entries))
        return [(key, value) for (key, _), value in zip(entries, slots, strict=False) if key and value]

    def _key_entries(self, keys: int, limit: int = MAX_DICT_ENTRIES) -> list[tuple[int, int]]:
        """(key, value) words of a PyDictKeysObject; the values are 0 for shared keys."""
        header = self._memory.read(keys, _KEYS_HEADER_BYTES)
        _, _, log2_index_bytes, kind, _, _, count = _KEYS_HEADER.unpack_from(header)
        if kind > _DICT_KEYS_SPLIT or log2_index_bytes > 40 or not 0 <= count <= limit:
            raise NotAnObject(f"no dict keys at {keys:#x}")
        if count == 0:
            return []
        first = keys + _KEYS_HEADER_BYTES + (1 << log2_index_bytes)
        if kind == _DICT_KEYS_GENERAL:
            words = struct.unpack(f"<{3 * count}Q", self._memory.read(first, 24 * count))
            return list(zip(words[1::3], words[2::3], strict=True))
        words = struct.unpack(f"<{2 * count}Q", self._memory.read(first, 16 * count))
        return list(zip(words[0::2], words[1::2], strict=True))

    def _values(self, values: int, limit: int) -> tuple[int, ...]:
        capacity = self._memory.read(values, 4)[0]
        count = min(capacity, limit)
        if count == 0:
            return ()
        return struct.unpack(f"<{count}Q", self._memory.read(values + _VALUES_HEADER_BYTES, 8 * count))

    def dict_get(self, address: int, name: str) -> int | None:
        """Address of the value under the str key `name`; `None` if absent. Raises like `dict_items`."""
        for key, value in self.dict_items(address):
            if self._is_string(key, name):
                return value
        return None

    def dict_value(self, address: int, key: int) -> int | None:
        """Address of the value under the key object at address `key`; `None` if absent.

        By identity, as names in code are the very objects that namespaces have as keys (interned). Cheap, and
        for at most MAX_SEARCHED_ENTRIES entries. Raises NotAnObject, MemoryReadError.
        """
        layout = self._layout
        data = self._memory.read(address, layout.dict_values + 8)
        type_address = word_in(data, layout.object_type)
        if not self.flags_of(type_address) & _TPFLAGS_DICT_SUBCLASS:
            raise NotAnObject(f"no dict at {address:#x}")
        keys = word_in(data, layout.dict_keys)
        values = word_in(data, layout.dict_values)
        return self._value_of(keys, values, key)

    def _value_of(self, keys: int, values: int, key: int) -> int | None:
        """The value under a key: in the keys object itself, or at its place in `values` where there are."""
        entries = self._key_entries(keys, MAX_SEARCHED_ENTRIES)
        place = next((place for place, entry in enumerate(entries) if entry[0] == key), None)
        if place is None:
            return None
        if not values:
            return entries[place][1] or None
        slots = self._values(values, len(entries))
        return (slots[place] or None) if place < len(slots) else None

    def _is_string(self, address: int, expected: str) -> bool:
        try:
            return self.string(address) == expected
        except (NotAnObject, MemoryReadError):
            return False

    def module_dict(self, module: int) -> int:
        """Address of a module's `__dict__` (`md_dict`, first field of PyModuleObject, moduleobject.h)."""
        return self._memory.read_word(module + self._layout.object_size)

    def attribute(self, instance: int, name: str) -> int | None:
        """Address of an instance attribute (of its `__dict__` or inline values); `None` if it has none.

        Only for instances of Python classes. Raises NotAnObject, MemoryReadError.
        """
        return self.attributes(instance).get(name)

    def attributes(self, instance: int) -> dict[str, int]:
        """Name -> address of value for all instance attributes. Raises NotAnObject, MemoryReadError."""
        return self._named(self.attribute_items(instance))

    def attribute_items(self, instance: int) -> list[tuple[int, int]]:
        """(address of name, address of value) of all instance attributes. Raises like `attributes`."""
        dictionary, keys, values = self._attribute_tables(instance)
        if dictionary:
            return self.dict_items(dictionary)
        if not values:
            return []
        entries = self._key_entries(keys)
        slots = self._values(values, len(entries))
        return [(key, value) for (key, _), value in zip(entries, slots, strict=False) if key and value]

    def attribute_that_is(self, instance: int, targets: Collection[int]) -> str | None:
        """Name of the first instance attribute whose value is at one of these addresses.

        Raises NotAnObject, MemoryReadError.
        """
        _, _, values = self._attribute_tables(instance)
        if values and not any(value in targets for value in self._values(values, _MAX_INLINE_VALUES)):
            return None  # nearly always, and known without reading the names
        for key, value in self.attribute_items(instance):
            if value in targets:
                for name in self._named([(key, value)]):
                    return name
        return None

    def attribute_value(self, instance: int, key: int) -> int | None:
        """Address of the instance attribute whose name is the object at `key`; like `dict_value`."""
        dictionary, keys, values = self._attribute_tables(instance)
        if dictionary:
            return self.dict_value(dictionary, key)
        return self._value_of(keys, values, key) if values else None

    def _attribute_tables(self, instance: int) -> tuple[int, int, int]:
        """(dict, 0, 0) of an instance whose attributes lie in a dict, (0, keys, inline values), or zeros."""
        layout = self._layout
        type_address = self.type_of(instance)
        flags = self.flags_of(type_address)
        if not flags & _TPFLAGS_MANAGED_DICT:
            return 0, 0, 0
        ahead = self._ahead.get(instance)
        dictionary = self._memory.read_word(instance + layout.managed_dict) if ahead is None else ahead[1]
        if dictionary:
            return dictionary, 0, 0
        if not flags & _TPFLAGS_INLINE_VALUES or not flags & _TPFLAGS_HEAPTYPE:
            return 0, 0, 0
        known = self._inline.get(type_address)
        if known is None:
            basic_size = self._memory.read_word(type_address + layout.type_basic_size)
            known = basic_size, self._memory.read_word(type_address + layout.type_cached_keys)
            if len(self._inline) >= MAX_TYPE_NAMES:
                self._inline.clear()
            self._inline[type_address] = known
        basic_size, keys = known
        if basic_size > 1 << 16 or not keys:
            return 0, 0, 0
        values = instance + basic_size
        if not self._memory.read(values, 4)[3]:  # `valid`
            return 0, 0, 0
        return 0, keys, values

    def _named(self, items: list[tuple[int, int]]) -> dict[str, int]:
        named = {}
        for key, value in items:
            name = self._attribute_names.get(key)
            if name is None:
                try:
                    name = self.string(key)
                except (NotAnObject, MemoryReadError):
                    continue
                if len(self._attribute_names) >= MAX_ATTRIBUTE_NAMES:
                    self._attribute_names.clear()
                self._attribute_names[key] = name
            named[name] = value
        return named
