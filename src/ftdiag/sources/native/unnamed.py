"""Functions of stripped interpreters and C libraries, found by what refers to them.

In: an ELF file and the functions that it exports. Out: more functions, with names. A stripped file has the
names of exported functions only; of CPython's collector and of mimalloc nearly nothing is exported. What is
known all the same, and where from (`ftdiag.cpython.code` has the facts):

- The tables of allocators in `_PyRuntime` hold the addresses of malloc, calloc, realloc and free of each
  domain. What these call, and is not exported, is the allocator; so is what lies among it.
- The collector's main function is who uses its debug messages. What mainly the collector calls is the
  collector.
- `tp_traverse` of each static type is in its type object, that of others in their slots.
- What yields and parks waits for a lock; what `_Py_DecRefShared` calls hands over objects.
- A function that is only jumped to, and from one other, is a part of that one which the compiler split off.

Names that are ours, not CPython's, say so by the address behind them: "collector (0x60df90)". They stand in
`symbol_classes`. All others keep their extent and have no name. Nothing here runs or believes the file:
whatever it claims, the worst is a wrong name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Set
from typing import Final

from ftdiag.cpython import FACTS, code
from ftdiag.datatypes import dataclass
from ftdiag.model import ThreadState
from ftdiag.sources.native.ehframe import Extents, function_extents
from ftdiag.sources.native.elf import SYMBOL_BYTES, Elf, Source, contents
from ftdiag.sources.native.references import MAX_NAME_BYTES, References, references
from ftdiag.sources.native.symbol_classes import Origin, state_of

PYTHON_MARKS: Final = ("_PyRuntime", "PyGC_Collect", "Py_Version")
"""An image that exports these is an interpreter."""
LIBC_MARKS: Final = ("__libc_start_main", "malloc", "free")
MAX_EXPORTED: Final = 1 << 18
MAX_NAMES_BYTES: Final = 16 << 20
MAX_CONSTANTS_BYTES: Final = 32 << 20
COLLECTOR_REACH: Final = 128
"""Functions around the collector's main one that may be of the same source file, which has 90."""
MAX_RUNTIME_BYTES: Final = 1 << 20
"""Of _PyRuntime, in which the allocators' tables are looked for; it has 360,000 bytes."""
MAX_INSTANCE_BYTES: Final = 4096
"""tp_basicsize of a static type."""

_STT_OBJECT: Final = 1
_STT_FUNC: Final = 2
_STT_GNU_IFUNC: Final = 10
_TYPE_NAME: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]{0,63}\0")


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file exports: functions and data by name, (address, size)."""

    functions: Mapping[str, tuple[int, int]]
    data: Mapping[str, tuple[int, int]]


def find_unnamed(elf: Elf, source: Source) -> tuple[list[tuple[int, int, int]], bytes] | None:
    """All functions of an interpreter or C library that are not exported: (address, size, offset of the name
    in the names); those without a name have an empty one. `None` for other files, and where they cannot be
    told: of other machines, or without unwind tables. Raises BudgetSpent.
    """
    known = _exported(elf, source)
    is_python = _has(known, PYTHON_MARKS)
    if not is_python and not _has(known, LIBC_MARKS):
        return None
    extents = function_extents(elf, source)
    refers = None if extents is None else references(elf, source, extents)
    if extents is None or refers is None:
        return None
    found = _Finder(extents, known)
    if is_python:
        _name_pythons(found, refers, elf, source)
    else:
        _name_mallocs(found, refers)
    found.name_parts(refers)
    return found.entries()


def holds_allocator(elf: Elf, source: Source) -> bool:
    """Whether a file is an interpreter or a C library: it has an allocator, and the former a collector, whose
    functions are not exported. Raises BudgetSpent."""
    known = _exported(elf, source)
    return _has(known, PYTHON_MARKS) or _has(known, LIBC_MARKS)


def _has(known: Exported, marks: tuple[str, ...]) -> bool:
    return all(name in known.functions or name in known.data for name in marks)


class _Finder:
    """The functions of a file, and the names that they were given."""

    def __init__(self, extents: Extents, known: Exported) -> None:
        self.extents = extents
        self.known = known
        self.numbers = {start: number for number, start in enumerate(extents.starts)}
        self.exported: dict[int, str] = {}
        for name, (address, _) in known.functions.items():
            number = self.numbers.get(address)
            if number is not None:
                self.exported[number] = name
        self.names: dict[int, str] = {}
        self._used_by: dict[int, list[int]] = {}

    def used_by(self, user: int, refers: References) -> list[int]:
        """The functions that one refers to."""
        if not self._used_by:
            for function in range(len(self.extents)):
                for one in refers.users(function):
                    self._used_by.setdefault(one, []).append(function)
        return self._used_by.get(user, [])

    def number_of(self, name: str) -> int | None:
        """The number of an exported function."""
        place = self.known.functions.get(name)
        return None if place is None else self.numbers.get(place[0])

    def name(self, function: int, name: str) -> None:
        """Give a function that is not exported a name, unless it has one."""
        if function not in self.exported:
            self.names.setdefault(function, name)

    def label(self, function: int, label: str) -> None:
        """Give it a name of ours."""
        self.name(function, f"{label} ({self.extents.starts[function]:#x})")

    def is_open(self, function: int) -> bool:
        """Whether a function has no name at all yet."""
        return function not in self.exported and function not in self.names

    def name_parts(self, refers: References) -> None:
        """Parts that were split off count with their function."""
        for function in range(len(self.extents)):
            whole = function
            for _ in range(4):  # a part of a part
                if not self.is_open(whole):
                    break
                jumpers = refers.jumpers[whole]
                if (
                    len(jumpers) != 1
                    or refers.callers[whole]
                    or refers.takers[whole]
                    or whole in refers.in_data
                ):
                    break
                (whole,) = jumpers
            name = self.exported.get(whole) or self.names.get(whole)
            if whole != function and name is not None:
                self.names[function] = name if name.endswith((")", ".cold")) else f"{name}.cold"

    def entries(self) -> tuple[list[tuple[int, int, int]], bytes]:
        """As `find_unnamed` gives them."""
        names = bytearray(b"\0")
        found = []
        for function, (start, end) in enumerate(zip(self.extents.starts, self.extents.ends, strict=True)):
            if function in self.exported:
                continue
            name = self.names.get(function)
            found.append((start, end - start, len(names) if name else 0))
            if name:
                names += name.encode("utf-8", "backslashreplace") + b"\0"
        return found, bytes(names)


# --- CPython -----------------------------------------------------------------------------------------


def _name_pythons(found: _Finder, refers: References, elf: Elf, source: Source) -> None:
    section = elf.section(".rodata")
    constants = b"" if section is None else contents(source, section, MAX_CONSTANTS_BYTES)
    base = 0 if section is None else section.address
    free_threaded = found.number_of(code.FREE_THREADED_MARK) is not None
    tables = _name_allocators(found, refers, free_threaded=free_threaded)
    mains = {
        user
        for message in code.COLLECTOR_MESSAGES
        for place in _places(constants, message)
        for user in refers.text_users.get(base + place, ())
    }
    for main in mains:
        found.name(main, code.COLLECTOR)
    traversals = _name_traversals(found, refers, constants, base, free_threaded=free_threaded)
    yielding = refers.importers.get("sched_yield", frozenset()) | _users_of(found, refers, code.YIELD)
    for waiter in yielding & _users_of(found, refers, code.PARK):
        found.name(waiter, code.LOCK_WAIT)
    for waiter in frozenset.intersection(*(_called_by(found, refers, name) for name in code.RAW_MUTEX_USERS)):
        found.label(waiter, "raw mutex")
    for name in code.SHARED_DECREFS:
        for queue in _called_by(found, refers, name):
            found.name(queue, code.HANDOVER)
    collector = _mainly_used_by(found, refers, mains | traversals)
    reached = _called_from(found, refers, tables, without=collector)
    allocator = _among(found, reached, tables)
    # The walk over all heaps is in the allocator's file, but only the collector asks for it.
    collector |= (_called_from(found, refers, collector | mains, without=reached) & allocator) - tables
    for function in collector:
        found.label(function, "collector")
    # Not what it calls in other files: threads contend for the clock of delayed frees (Python/qsbr.c).
    for function in allocator:
        found.label(function, "mimalloc" if free_threaded else "pymalloc")
    close = [one for one in collector for main in mains if abs(one - main) <= COLLECTOR_REACH]
    for function in range(min(close), max(close)) if close else ():
        if found.is_open(function) and refers.users(function) & (collector | mains):
            found.label(function, "collector")


def _name_allocators(found: _Finder, refers: References, *, free_threaded: bool) -> set[int]:
    """Name what the runtime's tables hold; the functions of the domains mem and object."""
    place = found.known.data.get("_PyRuntime")
    if place is None:
        return set()
    names = (
        code.RAW_ALLOCATORS,
        *(code.MIMALLOC_ALLOCATORS if free_threaded else code.PYMALLOC_ALLOCATORS),
    )
    words, numbers, group = refers.words, found.numbers, code.ALLOCATOR_WORDS
    for first in range(place[0], place[0] + min(place[1], MAX_RUNTIME_BYTES), 8):
        if words.get(first + 8) not in numbers:
            continue
        row = [words.get(first + 8 * index, 0) for index in range(group * len(names))]
        if all((word in numbers) is (index % group > 0) for index, word in enumerate(row)):
            break
    else:
        return set()
    named = set()
    for domain, functions in enumerate(names):
        for index, name in enumerate(functions):
            number = numbers[row[domain * group + 1 + index]]
            found.name(number, name)
            if domain:
                named.add(number)
    return named


def _name_traversals(
    found: _Finder, refers: References, constants: bytes, base: int, *, free_threaded: bool
) -> set[int]:
    """Name the functions that visit an object's references, by its type where that is known; all of them."""
    visitors = set()
    words, numbers = refers.words, found.numbers
    layout = _type_layout(found, constants, base, free_threaded=free_threaded)
    for slot, word in words.items():
        number = numbers.get(word)
        if number is None or number in found.exported:
            continue
        if layout is not None:
            name = _traversed_type(words, slot - layout.traverse, layout, constants, base)
            if name is not None:
                found.name(number, f"{name}.tp_traverse")
                visitors.add(number)
                continue
        if words.get(slot - 8) == code.TRAVERSE_SLOT:
            found.label(number, "tp_traverse")
            visitors.add(number)
    for number in _users_of(found, refers, code.DICT_TRAVERSAL):
        found.label(number, "tp_traverse")
        visitors.add(number)
    return visitors


@dataclass(frozen=True, slots=True)
class _TypeLayout:
    """Offsets in PyTypeObject, in bytes."""

    references: int | None
    """Of the count by the owner, which has 32 bits; `None` with the GIL."""
    name: int
    basic_size: int
    flags: int
    traverse: int


def _type_layout(found: _Finder, constants: bytes, base: int, *, free_threaded: bool) -> _TypeLayout | None:
    """That of the image's version, which it exports as a constant; `None` if it is not known."""
    at = found.known.data["Py_Version"][0] - base if "Py_Version" in found.known.data else -1
    if not 0 <= at <= len(constants) - 4:
        return None
    version = int.from_bytes(constants[at : at + 4], "little")
    facts = FACTS.get((version >> 24 & 0xFF, version >> 16 & 0xFF))
    if facts is None:
        return None
    published = facts.expected(free_threaded=free_threaded)
    flags = published["type_object.tp_flags"]
    others = facts.others(free_threaded=free_threaded)
    return _TypeLayout(
        others.get("PyObject.ob_ref_local"),
        published["type_object.tp_name"],
        others["PyTypeObject.tp_basicsize"],
        flags,
        flags + code.TRAVERSE_BEHIND_FLAGS_BYTES,
    )


def _traversed_type(
    words: Mapping[int, int], address: int, layout: _TypeLayout, constants: bytes, base: int
) -> str | None:
    """The name of the type at an address, if there is one that the collector visits."""
    name_at = words.get(address + layout.name, 0) - base
    if layout.references is not None:
        word_at = address + layout.references & ~7
        if words.get(word_at, 0) >> 8 * (address + layout.references - word_at) != code.IMMORTAL:
            return None
    if (
        not 0 <= name_at < len(constants)
        or not words.get(address + layout.flags, 0) >> code.HAVE_GC_BIT & 1
        or not 16 <= words.get(address + layout.basic_size, 0) <= MAX_INSTANCE_BYTES
    ):
        return None
    match = _TYPE_NAME.match(constants, name_at)
    return None if match is None else match[0][:-1].decode("ascii")


# --- the C library -----------------------------------------------------------------------------------


def _name_mallocs(found: _Finder, refers: References) -> None:
    """What mainly malloc and its like call: _int_malloc, sysmalloc and others, which are not exported."""
    roots = {
        number for number, name in found.exported.items() if state_of(name, Origin.LIBC) is ThreadState.ALLOC
    }
    for function in _mainly_used_by(found, refers, roots):
        found.label(function, "malloc")


# --- what calls tell ---------------------------------------------------------------------------------


def _places(text: bytes, wanted: bytes) -> list[int]:
    places: list[int] = []
    at = text.find(wanted)
    while at >= 0 and len(places) < 16:
        places.append(at)
        at = text.find(wanted, at + 1)
    return places


def _called_by(found: _Finder, refers: References, name: str) -> frozenset[int]:
    """Functions that an exported one calls, and that are not exported."""
    caller = found.number_of(name)
    return frozenset(
        function
        for function, callers in enumerate(refers.callers)
        if caller in callers and function not in found.exported
    )


def _users_of(found: _Finder, refers: References, name: str) -> frozenset[int]:
    """Functions that call an exported one, and that are not exported."""
    called = found.number_of(name)
    # Libraries call what they export through a stub.
    users = refers.importers.get(name, frozenset())
    if called is not None:
        users |= refers.callers[called]
    return users - found.exported.keys()


def _mainly_used_by(found: _Finder, refers: References, roots: Set[int]) -> set[int]:
    """Functions of which more than half of those that refer to them are roots or such themselves."""
    chosen: set[int] = set()
    used = dict.fromkeys(_open_functions(found, refers), 0)
    rest = list(roots)
    while rest:
        for function in found.used_by(rest.pop(), refers):
            if function not in used or function in chosen or function in roots:
                continue
            used[function] += 1
            if 2 * used[function] > len(refers.users(function)):
                chosen.add(function)
                rest.append(function)
    return chosen


def _called_from(found: _Finder, refers: References, roots: Set[int], without: Set[int]) -> set[int]:
    """All that is called from roots, by way of functions that are not exported."""
    may = set(_open_functions(found, refers)) - without
    reached, rest = set(roots), list(roots)
    while rest:
        for function in found.used_by(rest.pop(), refers):
            if function in may and function not in reached:
                reached.add(function)
                rest.append(function)
    return reached


def _among(found: _Finder, reached: Set[int], tables: Set[int]) -> set[int]:
    """The allocator's own source file: from the first to the last that was reached or is exported as an
    allocator's, around its tables.

    Functions of a source file stand together; it ends at the latest where something else is exported.
    """
    own: set[int] = set()
    for table in tables:
        if table in own:
            continue
        first = last = table
        for step in (-1, 1):
            function = table
            while 0 <= function < len(found.extents):
                name = found.exported.get(function)
                if name is not None and not name.startswith(code.ALLOCATOR_FILE):
                    break
                if name is not None or function in reached:
                    first, last = min(first, function), max(last, function)
                function += step
        own.update(range(first, last + 1))
    return own


def _open_functions(found: _Finder, refers: References) -> Iterable[int]:
    """Functions without a name whose address is in no table."""
    return (
        function
        for function in range(len(found.extents))
        if found.is_open(function) and function not in refers.in_data
    )


# --- what is exported --------------------------------------------------------------------------------


def _exported(elf: Elf, source: Source) -> Exported:
    functions: dict[str, tuple[int, int]] = {}
    data: dict[str, tuple[int, int]] = {}
    section = elf.section(".dynsym")
    if section is not None and section.link < len(elf.sections):
        symbols = contents(source, section, MAX_EXPORTED * SYMBOL_BYTES)
        names = contents(source, elf.sections[section.link], MAX_NAMES_BYTES)
        for at, kind, _, index, value, size in struct.iter_unpack(
            "<IBBHQQ", symbols[: len(symbols) // SYMBOL_BYTES * SYMBOL_BYTES]
        ):
            end = names.find(b"\0", at, at + MAX_NAME_BYTES)
            if not index or not value or end <= at:
                continue
            kinds = {_STT_OBJECT: data, _STT_FUNC: functions, _STT_GNU_IFUNC: functions}
            table = kinds.get(kind & 0xF)
            if table is not None:
                table[names[at:end].decode("utf-8", "backslashreplace")] = value, size
    return Exported(functions, data)
