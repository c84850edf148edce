"""Who refers to which function of a file: calls, jumps, addresses taken in code, addresses in data.

In: an ELF file and the extents of its functions. Out: `References`. Nothing is disassembled: wherever a byte
that can be a call's, a jump's or a `lea`'s opcode is followed by a distance that leads exactly to the begin
of a function, it is one. Of random bytes one in half a million does; to be sure, no conclusion hangs on one
reference where there are many. x86-64 only (Intel SDM, volume 2: E8, E9, 0F 8x, REX.W 8D /r with rIP).
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterable, Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.sources.native.ehframe import Extents
from ftdiag.sources.native.elf import SHF_EXECINSTR, SYMBOL_BYTES, Elf, Section, Source, contents

MAX_CODE_BYTES: Final = 32 << 20
"""Code that is searched; an interpreter has 3 MB."""
MAX_CANDIDATES: Final = 4 << 20
"""Places that are tried, some 350,000 in an interpreter; what is beyond them is not seen."""
MAX_REFERENCES: Final = 1 << 20
"""References that are kept, of 60,000."""
MAX_DATA_BYTES: Final = 16 << 20
"""Initial data that is searched for addresses; an interpreter has 0.7 MB."""
MAX_RELOCATIONS: Final = 1 << 19
MAX_NAME_BYTES: Final = 256

_DATA_SECTIONS: Final = (".data.rel.ro", ".data", ".PyRuntime")
_CONSTANTS: Final = ".rodata"
_STUBS: Final = (".plt", ".plt.sec", ".plt.got")
_CALL_OR_JUMP: Final = re.compile(rb"[\xe8\xe9]")
_CONDITIONAL: Final = re.compile(rb"\x0f[\x80-\x8f]")
_ADDRESS: Final = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]")
_JUMP: Final = 0xE9
_INDIRECT: Final = re.compile(rb"\xff\x25")
_DISTANCE: Final = struct.Struct("<i")
_WORD: Final = struct.Struct("<Q")
_RELOCATION: Final = struct.Struct("<QQq")
_R_X86_64_64: Final = 1
_R_X86_64_RELATIVE: Final = 8


@dataclass(frozen=True, slots=True)
class References:
    """What refers to what; functions are numbers of `extents`.

    `callers`, `jumpers`, `takers`: for each function the others that call it, that jump to a place in it, or
    that take its address. `in_data`: those whose address stands in initial data. `importers`: functions that
    call one of another file, by its name. `text_users`: functions that refer to an address in .rodata.
    `words`: initial data, slot -> word, as it will be once the file is loaded at its own addresses.
    """

    extents: Extents
    callers: tuple[frozenset[int], ...]
    jumpers: tuple[frozenset[int], ...]
    takers: tuple[frozenset[int], ...]
    in_data: frozenset[int]
    importers: Mapping[str, frozenset[int]]
    text_users: Mapping[int, frozenset[int]]
    words: Mapping[int, int]

    def users(self, function: int) -> frozenset[int]:
        """All other functions that refer to one."""
        return self.callers[function] | self.jumpers[function] | self.takers[function]


def references(elf: Elf, source: Source, extents: Extents) -> References | None:
    """Search a file's code and data; `None` for a machine whose code is not known. Raises BudgetSpent."""
    if elf.machine != "EM_X86_64":
        return None
    stubs = _imports(elf, source)
    found = _Found(extents, stubs, elf.section(_CONSTANTS))
    room = MAX_CODE_BYTES
    for section in elf.sections:
        if section.flags & SHF_EXECINSTR and section.name not in _STUBS and room > 0:
            code = contents(source, section, room)
            room -= len(code)
            found.search(code, section.address, absolute=elf.first_load_address > 0)
    words = _initial_words(elf, source)
    starts = found.numbers
    return References(
        extents,
        _by_function(found.callers, len(extents)),
        _by_function(found.jumpers, len(extents)),
        _by_function(found.takers, len(extents)),
        frozenset(starts[word] for word in words.values() if word in starts),
        {name: frozenset(users) for name, users in found.importers.items()},
        {address: frozenset(users) for address, users in found.text_users.items()},
        words,
    )


def _by_function(users: Mapping[int, set[int]], count: int) -> tuple[frozenset[int], ...]:
    nobody: frozenset[int] = frozenset()
    return tuple(frozenset(users[one]) if one in users else nobody for one in range(count))


class _Found:
    """What was found so far."""

    def __init__(self, extents: Extents, stubs: Mapping[int, str], constants: Section | None) -> None:
        self.numbers = {start: number for number, start in enumerate(extents.starts)}
        self.callers: dict[int, set[int]] = {}
        self.jumpers: dict[int, set[int]] = {}
        self.takers: dict[int, set[int]] = {}
        self.importers: dict[str, set[int]] = {}
        self.text_users: dict[int, set[int]] = {}
        self._extents = extents
        self._stubs = stubs
        self._constants = (0, 0) if constants is None else (constants.address, constants.size)
        self._first = extents.starts[0]
        self._end = max(extents.ends)
        self._candidates = MAX_CANDIDATES
        self._room = MAX_REFERENCES

    def search(self, code: bytes, base: int, *, absolute: bool) -> None:
        """All functions in code that lies at `base`; `absolute`: addresses stand in it as they are."""
        upper_halves = self._upper_halves() if absolute else ()
        end = base + len(code)
        for user, (start, stop) in enumerate(zip(self._extents.starts, self._extents.ends, strict=True)):
            if base <= start and stop <= end and self._candidates > 0:
                self._search_function(user, code, base, start, stop)
                for upper_half in upper_halves:
                    # It is the third byte of an address that is looked for.
                    for match in upper_half.finditer(code, start - base + 2, stop - base):
                        place = match.start() - 2
                        self._candidates -= 1
                        self._take(user, int.from_bytes(code[place : place + 4], "little"))

    def _search_function(self, user: int, code: bytes, base: int, start: int, stop: int) -> None:
        """Calls, jumps and addresses that are given by their distance."""
        distance, numbers, stubs = _DISTANCE.unpack_from, self.numbers, self._stubs
        first, end, size = self._first, self._end, len(code)
        low, high = start - base, stop - base
        seen = 0
        for match in _CALL_OR_JUMP.finditer(code, low, min(high, size - 4)):
            place = match.start()
            target = base + place + 5 + distance(code, place + 1)[0]
            seen += 1
            if target in numbers:
                # A jump to the begin of another function is its last call.
                self._add(self.callers, numbers[target], user)
            elif target in stubs:
                self._add_named(self.importers, stubs[target], user)
            elif first <= target < end and not start <= target < stop and code[place] == _JUMP:
                self._jump(user, target)
        for match in _CONDITIONAL.finditer(code, low, min(high, size - 5)):
            place = match.start()
            target = base + place + 6 + distance(code, place + 2)[0]
            seen += 1
            if first <= target < end and not start <= target < stop:
                self._jump(user, target)
        for match in _ADDRESS.finditer(code, low, min(high, size - 6)):
            place = match.start()
            seen += 1
            self._take(user, base + place + 7 + distance(code, place + 3)[0])
        self._candidates -= seen

    def _upper_halves(self) -> tuple[re.Pattern[bytes], ...]:
        """What the third and fourth byte of addresses of functions and constants look like."""
        last = max(self._end, sum(self._constants))
        if last >= 1 << 31:
            return ()
        patterns = []
        for high in range(self._first >> 24, (last >> 24) + 1):
            low_third = self._first >> 16 & 0xFF if high == self._first >> 24 else 0
            high_third = last >> 16 & 0xFF if high == last >> 24 else 0xFF
            patterns.append(
                re.compile(
                    b"[%b-%b]%b" % tuple(re.escape(bytes([byte])) for byte in (low_third, high_third, high))
                )
            )
        return tuple(patterns)

    def _add(self, users: dict[int, set[int]], used: int, user: int) -> None:
        if used != user and self._room > 0:
            self._room -= 1
            users.setdefault(used, set()).add(user)

    def _add_named(self, users: dict[str, set[int]], used: str, user: int) -> None:
        if self._room > 0:
            self._room -= 1
            users.setdefault(used, set()).add(user)

    def _jump(self, user: int, place: int) -> None:
        target = self._extents.at(place)
        if target is not None:
            self._add(self.jumpers, target, user)

    def _take(self, user: int, target: int) -> None:
        number = self.numbers.get(target)
        if number is not None:
            self._add(self.takers, number, user)
        elif 0 <= target - self._constants[0] < self._constants[1] and self._room > 0:
            self._room -= 1
            self.text_users.setdefault(target, set()).add(user)


def _imports(elf: Elf, source: Source) -> dict[int, str]:
    """The stubs through which code calls functions by name: address -> name."""
    names_of_slots: dict[int, str] = {}
    section = elf.section(".dynsym")
    if section is None or section.link >= len(elf.sections):
        return {}
    symbols = contents(source, section, MAX_RELOCATIONS * SYMBOL_BYTES)
    names = contents(source, elf.sections[section.link], MAX_DATA_BYTES)
    for slot, information, _ in _relocations(elf, source):
        at = (information >> 32) * SYMBOL_BYTES
        if at and at + 4 <= len(symbols):
            name = int.from_bytes(symbols[at : at + 4], "little")
            end = names.find(b"\0", name, name + MAX_NAME_BYTES)
            if end > name:
                names_of_slots[slot] = names[name:end].decode("utf-8", "backslashreplace")
    stubs = {}
    for kind in _STUBS:
        section = elf.section(kind)
        code = b"" if section is None else contents(source, section, MAX_DATA_BYTES)
        for match in _INDIRECT.finditer(code, 0, max(0, len(code) - 5)):
            assert section is not None
            place = match.start()
            slot = section.address + place + 6 + _DISTANCE.unpack_from(code, place + 2)[0]
            if slot in names_of_slots:
                # endbr64 and a prefix may come before the jump of a stub, which begins at a multiple of 8.
                stubs[section.address + (place & ~7)] = names_of_slots[slot]
    return stubs


def _relocations(elf: Elf, source: Source) -> Iterable[tuple[int, int, int]]:
    """(slot, number of the symbol << 32 | type, addend) (Elf64_Rela)."""
    for name in (".rela.plt", ".rela.dyn"):
        section = elf.section(name)
        if section is not None:
            data = contents(source, section, MAX_RELOCATIONS * _RELOCATION.size)
            yield from _RELOCATION.iter_unpack(data[: len(data) // _RELOCATION.size * _RELOCATION.size])


def _initial_words(elf: Elf, source: Source) -> dict[int, int]:
    """Words of initial data that are not 0, relocated."""
    words: dict[int, int] = {}
    room = MAX_DATA_BYTES
    for name in _DATA_SECTIONS:
        section = elf.section(name)
        if section is None:
            continue
        data = contents(source, section, room)
        room -= len(data)
        column = array("Q")
        column.frombytes(data[: len(data) // 8 * 8])
        words.update((section.address + 8 * index, word) for index, word in enumerate(column) if word)
    section = elf.section(".dynsym")
    symbols = b"" if section is None else contents(source, section, MAX_RELOCATIONS * SYMBOL_BYTES)
    for slot, information, addend in _relocations(elf, source):
        kind = information & 0xFFFF_FFFF
        if kind == _R_X86_64_RELATIVE:
            words[slot] = addend
        elif kind == _R_X86_64_64:
            at = (information >> 32) * SYMBOL_BYTES + 8
            if at + 8 <= len(symbols):
                words[slot] = _WORD.unpack_from(symbols, at)[0] + addend
    return words
