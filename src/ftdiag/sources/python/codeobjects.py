"""Code objects of a process: what turns an instruction's address into a function and a line.

In: remote memory, addresses that frames of threads have. Out: `CodeObject`s, kept until they are replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import Layout
from ftdiag.sources.python.locations import LineTable
from ftdiag.sources.python.objects import NotAnObject, ObjectReader, word_in
from ftdiag.sources.python.withblocks import HandlerRange, parse_exception_table, with_depths

MAX_CODE_OBJECTS: Final = 50_000
MAX_CODE_UNITS: Final = 1 << 24
MAX_LINE_TABLE_BYTES: Final = 1 << 20
"""Of a location table; what comes behind has no line. A module of 100,000 lines has 400 KB."""
MAX_EXCEPTION_TABLE_BYTES: Final = 1 << 18
PART_BYTES: Final = 256
"""Of a string or table of a code object that are read at first: most are shorter."""
FIRST_COPIES: Final = 14
"""Copies of a function's bytecode that are read together with their number."""
MAX_COPIES: Final = 65_536
"""Threads' own copies of a function's bytecode that are looked at."""
MAX_LOCALS: Final = 1024
"""Local variables of a function whose names are read."""


class CodeObject:
    """A code object: what is needed to turn an instruction address into a frame."""

    __slots__ = (
        "address",
        "bytecode",
        "copies",
        "filename",
        "fingerprint",
        "function",
        "handlers",
        "header",
        "lines",
        "local_count",
        "local_names",
        "stack_size",
        "units",
    )

    def __init__(
        self,
        address: int,
        fingerprint: tuple[bytes, ...],
        filename: str,
        function: str,
        lines: LineTable,
        units: int,
    ) -> None:
        self.address = address
        self.fingerprint = fingerprint
        self.filename = filename
        self.function = function
        self.lines = lines
        self.units = units
        self.bytecode = 0
        self.header = b""
        """All before its bytecode, as it was last read."""
        self.copies: tuple[int, ...] = ()
        self.handlers: list[HandlerRange] = []
        self.local_count = 0
        self.local_names: list[str] | None = None
        self.stack_size = 0


class CodeObjects:
    """The code objects of one process that were met.

    Raises TargetGone and PermissionRefused from any method; other memory that cannot be read is a code object
    that is not there.
    """

    def __init__(
        self, memory: RemoteMemory, layout: Layout, objects: ObjectReader, forgotten: Callable[[], None]
    ) -> None:
        """`forgotten` is called when any of them is no longer what it was."""
        self.memory = memory
        self.layout = layout
        self.objects = objects
        self._forgotten = forgotten
        self._codes: dict[int, CodeObject] = {}
        self._types: set[int] = set()
        words = [
            layout.object_type,
            layout.code_units,
            layout.code_first_line,
            layout.code_filename,
            layout.code_qualname,
            layout.code_linetable,
            *(() if layout.code_tlbc is None else (layout.code_tlbc,)),
        ]
        self._telling = [slice(offset, offset + 8) for offset in words]
        """Where a code object has what it is told by."""

    def at(self, address: int) -> CodeObject | None:
        """The code object at an address; `None` if there is none."""
        code = self._codes.get(address)
        if code is None:
            try:
                code = self._read_code(address)
            except (MemoryReadError, NotAnObject):
                return None
            if len(self._codes) >= MAX_CODE_OBJECTS:
                self._codes.clear()
                self._forgotten()
            self._codes[address] = code
        return code

    def known(self, address: int) -> CodeObject | None:
        """The code object at an address, if it was met."""
        return self._codes.get(address)

    def unit(self, code: CodeObject, instruction: int) -> int | None:
        """Index of the code unit at an instruction address: in the shared or in a thread's own bytecode."""
        span = 2 * code.units
        for refreshed in (False, True):
            for start in (code.bytecode, *code.copies):
                if start <= instruction < start + span:
                    return (instruction - start) // 2
            if refreshed or self.layout.code_tlbc is None:
                return None
            code.copies = self._bytecode_copies(code)
        return None

    def local_names(self, code: CodeObject) -> list[str]:
        """The names of a code object's local variables, in their order; none where they cannot be read."""
        if code.local_names is None:
            code.local_names = self._local_names(code)
        return code.local_names

    def _local_names(self, code: CodeObject) -> list[str]:
        layout = self.layout
        try:
            names = self.memory.read_word(code.address + layout.code_local_names)
            count = min(code.local_count, self.memory.read_word(names + layout.tuple_count), MAX_LOCALS)
            words = struct.unpack(f"<{count}Q", self.memory.read(names + layout.tuple_items, 8 * count))
            return [self.objects.string(word) for word in words]
        except (MemoryReadError, NotAnObject):
            return []

    def local_place(self, code: CodeObject, name: str) -> int | None:
        """Offset from a frame's address of a local variable; `None` where the code has none of that name."""
        names = self.local_names(code)
        return self.layout.frame_localsplus + 8 * names.index(name) if name in names else None

    def exit_offsets(self, code: CodeObject, unit: int) -> tuple[int, ...]:
        """Offsets from a frame's address of the stack slots of the `with` blocks around a code unit."""
        if not any(entry.start <= unit < entry.end for entry in code.handlers):
            return ()
        try:
            bytecode = self.memory.read(code.bytecode, 2 * code.units)
        except MemoryReadError:
            return ()
        depths = with_depths(code.handlers, unit, bytecode, self.layout.with_handler)
        stack = self.layout.frame_localsplus + 8 * code.local_count
        return tuple(stack + 8 * (depth - 1) for depth in depths)

    def recheck(self) -> int:
        """Drop code objects that are gone or replaced; return how many. Called about once a second.

        A freed code object's address can be reused by another one; without this check its old name would
        go on. All are compared in a few batched reads.
        """
        if not self._codes:
            return 0
        codes = list(self._codes.values())
        size = self.layout.code_bytecode
        stale = []
        headers = self.memory.read_many([(code.address, size) for code in codes])
        for code, data in zip(codes, headers, strict=True):
            if data == code.header:
                continue  # most are as they were in every byte, which is soon told
            if data is None or self._fingerprint(data) != code.fingerprint:
                stale.append(code.address)
            else:
                code.header = data
        for address in stale:
            del self._codes[address]
        if stale:
            self._forgotten()
            self.objects.forget_types()
        return len(stale)

    def _read_code(self, address: int) -> CodeObject:
        layout = self.layout
        data = self.memory.read(address, layout.code_bytecode)
        type_address = _word(data, layout.object_type)
        if type_address not in self._types:
            if self.objects.type_name(type_address) != "code":
                raise NotAnObject(f"no code object at {address:#x}")
            self._types.add(type_address)
        units = _word(data, layout.code_units)
        first_line = _int_in(data, layout.code_first_line)
        if not 0 < units <= MAX_CODE_UNITS:
            raise NotAnObject(f"no code object at {address:#x}")
        filename, qualname, lines, exceptions = (
            _word(data, at)
            for at in (
                layout.code_filename,
                layout.code_qualname,
                layout.code_linetable,
                layout.code_exception_table,
            )
        )
        # All at once; what lies at the end of a mapping is read again by itself.
        parts = self.memory.read_many([(at, PART_BYTES) for at in (filename, qualname, lines, exceptions)])
        objects = self.objects
        code = CodeObject(
            address,
            self._fingerprint(data),
            objects.string(filename, parts[0]),
            objects.string(qualname, parts[1]),
            LineTable(objects.bytes_object(lines, parts[2])[:MAX_LINE_TABLE_BYTES], first_line),
            units,
        )
        code.bytecode = address + layout.code_bytecode
        code.header = data
        code.local_count = _int_in(data, layout.code_local_count)
        code.stack_size = _int_in(data, layout.code_stack_size)
        if not 0 <= code.local_count <= MAX_CODE_UNITS or not 0 <= code.stack_size <= MAX_CODE_UNITS:
            raise NotAnObject(f"no code object at {address:#x}")
        code.handlers = parse_exception_table(
            objects.bytes_object(exceptions, parts[3])[:MAX_EXCEPTION_TABLE_BYTES]
        )
        if self.memory.budget is not None:
            self.memory.budget.check()
        return code

    def _fingerprint(self, data: bytes) -> tuple[bytes, ...]:
        """The words that tell one code object from another that was made at the same address later."""
        return tuple([data[part] for part in self._telling])

    def _bytecode_copies(self, code: CodeObject) -> tuple[int, ...]:
        """Start addresses of the thread-local copies: _PyCodeArray {size, entries[]} (cpython/code.h)."""
        assert self.layout.code_tlbc is not None
        try:
            table = self.memory.read_word(code.address + self.layout.code_tlbc)
            data = self.memory.read_up_to(table, 8 + 8 * FIRST_COPIES)
            size = word_in(data, 0)
            if not 0 < size <= MAX_COPIES:
                return ()
            if len(data) < 8 + 8 * size:
                data = self.memory.read(table, 8 + 8 * size)
            entries = struct.unpack_from(f"<{size}Q", data, 8)
        except (MemoryReadError, NotAnObject):
            return ()
        return tuple(entry for entry in entries if entry and entry != code.bytecode)


def _int_in(data: bytes, offset: int) -> int:
    """The C int at an offset that the target published, which may be any. Raises NotAnObject."""
    value = word_in(data, offset, 4)
    return value - (value >> 31 << 32)


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")
