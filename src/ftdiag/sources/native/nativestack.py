"""Which library a thread is in that waits inside the C library: the first return address outside of that.

In: stack pointer and instruction of a blocked system call. Out: "libxml2.so.2: xmlDictLookup". Return
addresses are found as unwinding for exceptions finds them, by the C library's own .eh_frame, and not guessed
from what lies on the stack: where the tables do not say it, or need a register that is not known, there is
no answer. Only frames of the C library are unwound, so that only its tables are read.
Facts: DWARF 4, 6.4.2 (call frame instructions); System V ABI for x86-64 (register numbers).
"""

from __future__ import annotations

import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.errors import FtdiagError
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.native.elf import Source, contents, read_elf
from ftdiag.sources.native.symbol_classes import Origin, base_name, origin_of
from ftdiag.sources.native.symbols import CodeMap

MAX_FRAMES: Final = 12
"""Of the C library, between a system call and who called it; three are usual."""
MAX_TABLE_BYTES: Final = 4 << 20
MAX_INSTRUCTIONS: Final = 512
"""Call frame instructions of a function."""
MAPS_AGAIN_S: Final = 1.0
"""So long mappings are taken as they are once they were read again for nothing: an address at which there is
nothing was none, because the thread has gone on."""
MAX_KNOWN: Final = 4096
"""Places whose answer is remembered."""

_RBP, _RSP, _RETURN = 6, 7, 16
_KEPT: Final = frozenset({3, 6, 12, 13, 14, 15})
"""rbx, rbp, r12 to r15: what a function gives back as it got them."""
_ROW: Final = struct.Struct("<ii")
_TABLE_FORM: Final = b"\x01\x1b\x03\x3b"


@dataclass(slots=True)
class Rules:
    """How to find a caller's registers: the frame's address as register + offset, others relative to that."""

    register: int = _RSP
    offset: int = 8
    saved: dict[int, int] = field(default_factory=dict)


class UnwindTables:
    """The call frame information of one file. `segments` are those of its headers."""

    def __init__(
        self,
        header: bytes,
        header_address: int,
        frames: bytes,
        frames_address: int,
        segments: tuple[tuple[int, int, int], ...],
    ) -> None:
        self._segments = segments
        self._frames = frames
        self._frames_address = frames_address
        rows: list[tuple[int, int]] = []
        if header[:4] == _TABLE_FORM:
            count = min(int.from_bytes(header[8:12], "little"), (len(header) - 12) // _ROW.size)
            rows = list(_ROW.iter_unpack(header[12 : 12 + count * _ROW.size]))
        self._starts = [header_address + start for start, _ in rows]
        self._entries = [header_address + at - frames_address for _, at in rows]

    def rules_at(self, offset: int) -> Rules | None:
        """The rules at an offset in the file; `None` where there are none, or some of another kind."""
        address = next(
            (begin + offset - at for at, begin, size in self._segments if at <= offset < at + size), -1
        )
        index = bisect_right(self._starts, address) - 1
        if index < 0 or self._entries[index] < 0:
            return None
        try:
            return self._rules(self._entries[index], address)
        except (IndexError, struct.error, ValueError):
            return None  # damaged, or of a form that is not read here

    def _rules(self, at: int, address: int) -> Rules | None:
        data = self._frames
        length, distance, offset, size = struct.unpack_from("<IIiI", data, at)
        start = self._frames_address + at + 8 + offset
        if not start <= address < start + size:
            return None
        common = at + 4 - distance
        if common < 0:
            return None
        (common_length,) = struct.unpack_from("<I", data, common)
        end = data.index(b"\0", common + 9)
        augmentation = data[common + 9 : end]
        if data[common + 8] != 1 or augmentation != b"zR":
            return None  # signal frames, personalities
        reader = _Reader(data, end + 1)
        code_factor, data_factor, return_register = reader.unsigned(), reader.signed(), reader.unsigned()
        skipped = reader.unsigned()
        if return_register != _RETURN or data[reader.at : reader.at + 1] != b"\x1b":
            return None
        rules = Rules()
        begin = _Reader(data, reader.at + skipped, common + 4 + common_length)
        if not _run(begin, rules, None, start, address, code_factor, data_factor):
            return None
        initial = Rules(rules.register, rules.offset, dict(rules.saved))
        own = _Reader(data, at + 16, at + 4 + length)
        own.at += own.unsigned()
        return rules if _run(own, rules, initial, start, address, code_factor, data_factor) else None


class _Reader:
    """Numbers one after the other. Raises IndexError at the end."""

    def __init__(self, data: bytes, at: int, end: int | None = None) -> None:
        self._data = data
        self.at = at
        self.end = len(data) if end is None else min(end, len(data))

    def byte(self) -> int:
        if self.at >= self.end:
            raise IndexError("cut short")
        self.at += 1
        return self._data[self.at - 1]

    def number(self, size: int) -> int:
        self.at += size
        if self.at > self.end:
            raise IndexError("cut short")
        return int.from_bytes(self._data[self.at - size : self.at], "little")

    def unsigned(self) -> int:
        """LEB128, of at most 9 bytes."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise ValueError("a number that is too long")

    def signed(self) -> int:
        """LEB128 with a sign."""
        begin = self.at
        value = self.unsigned()
        bits = 7 * (self.at - begin)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _run(
    reader: _Reader,
    rules: Rules,
    initial: Rules | None,
    place: int,
    address: int,
    code_factor: int,
    data_factor: int,
) -> bool:
    """Follow call frame instructions up to an address; whether all of them were understood."""
    kept: list[Rules] = []
    for _ in range(MAX_INSTRUCTIONS):
        if reader.at >= reader.end:
            return True
        byte = reader.byte()
        kind, low = byte >> 6, byte & 0x3F
        if kind == 1 or byte in (2, 3, 4):  # DW_CFA_advance_loc*
            place += code_factor * (low if kind == 1 else reader.number(1 << (byte - 2)))
            if place > address:
                return True
        elif kind == 2:  # DW_CFA_offset
            rules.saved[low] = reader.unsigned() * data_factor
        elif kind == 3 or byte in (6, 7, 8):  # DW_CFA_restore*, undefined, same_value
            register = low if kind == 3 else reader.unsigned()
            rules.saved.pop(register, None)
            if byte not in (7, 8) and initial is not None and register in initial.saved:
                rules.saved[register] = initial.saved[register]
        elif byte == 0x0C:  # DW_CFA_def_cfa
            rules.register, rules.offset = reader.unsigned(), reader.unsigned()
        elif byte == 0x0D:  # DW_CFA_def_cfa_register
            rules.register = reader.unsigned()
        elif byte == 0x0E:  # DW_CFA_def_cfa_offset
            rules.offset = reader.unsigned()
        elif byte == 0x0A:  # DW_CFA_remember_state
            kept.append(Rules(rules.register, rules.offset, dict(rules.saved)))
        elif byte == 0x0B and kept:  # DW_CFA_restore_state
            before = kept.pop()
            rules.register, rules.offset, rules.saved = before.register, before.offset, before.saved
        elif byte == 0x2E:  # DW_CFA_GNU_args_size
            reader.unsigned()
        elif byte != 0:  # expressions and others
            return False
    return False


class NativeCallers:
    """Says of blocked threads of one process which library they wait in."""

    def __init__(
        self,
        pid: int,
        memory: RemoteMemory,
        python_image: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._maps_again_s = 0.0
        self._pid = pid
        self._memory = memory
        self._python_image = python_image
        self._mapped: CodeMap | None = None
        self._tables: dict[tuple[str, int], UnwindTables | None] = {}
        self._known: dict[tuple[int, int, int], str | None] = {}

    @property
    def _code(self) -> CodeMap:
        if self._mapped is None:  # most programs never ask
            self._mapped = CodeMap(self._pid)
        return self._mapped

    def library(self, stack: int, stack_pointer: int, instruction: int) -> str | None:
        """File and function that wait, for a thread at a Python stack; `None` where it cannot be told.

        What was told once of the same three is told again.
        """
        key = stack, stack_pointer, instruction
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._find(stack_pointer, instruction)
        return self._known[key]

    def _find(self, stack_pointer: int, instruction: int) -> str | None:
        for place in self._return_addresses(stack_pointer, instruction):
            mapping = self._code.mapping_at(place)
            if mapping is None and self._clock() >= self._maps_again_s:
                if self._code.reload():
                    mapping = self._code.mapping_at(place)
                if mapping is None:
                    self._maps_again_s = self._clock() + MAPS_AGAIN_S
            if mapping is None or not mapping.is_file:
                return None
            origin = origin_of(mapping.path, self._python_image)
            if origin is Origin.LIBC:
                continue
            if mapping.path == self._python_image:
                return None  # the interpreter waits for something of its own
            # The call is before the address that it returns to.
            found = self._code.place(place - 1)
            file = mapping.path.removesuffix(" (deleted)").rsplit("/", 1)[-1]
            return file if found is None or found.name is None else f"{file}: {base_name(found.name)}"
        return None

    def _return_addresses(self, stack_pointer: int, instruction: int) -> Iterator[int]:
        """The instruction, and where it returns to, as long as that is in the C library."""
        registers: dict[int, int] = {_RSP: stack_pointer}
        yield instruction
        # At a system call the address is behind the instruction, as return addresses are behind calls.
        place = instruction
        for _ in range(MAX_FRAMES):
            rules = self._rules_at(place - 1)
            if rules is None or rules.register not in registers:
                return
            frame = registers[rules.register] + rules.offset
            try:
                place = self._memory.read_word(frame + rules.saved.get(_RETURN, -8))
                for register, offset in rules.saved.items():
                    if register in _KEPT:
                        registers[register] = self._memory.read_word(frame + offset)
            except FtdiagError:
                return
            registers[_RSP] = frame
            yield place

    def _rules_at(self, place: int) -> Rules | None:
        mapping = self._code.mapping_at(place)
        if mapping is None or not mapping.is_file:
            return None
        key = mapping.path, mapping.inode
        if key not in self._tables:
            self._tables[key] = self._code.read_file(mapping, _tables_of)
        tables = self._tables[key]
        return None if tables is None else tables.rules_at(place - mapping.start + mapping.offset)


def _tables_of(source: Source) -> UnwindTables | None:
    elf = read_elf(source)
    header, frames = (None, None) if elf is None else (elf.section(".eh_frame_hdr"), elf.section(".eh_frame"))
    if elf is None or elf.machine != "EM_X86_64" or header is None or frames is None:
        return None
    return UnwindTables(
        contents(source, header, MAX_TABLE_BYTES),
        header.address,
        contents(source, frames, MAX_TABLE_BYTES),
        frames.address,
        elf.segments,
    )
