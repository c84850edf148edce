"""A made-up CPython process, built in memory word by word, for tests of what reads real ones.

In: names, lines and shapes (also impossible ones). Out: `FakeMemory`, which answers reads like the kernel,
and addresses of the objects that were laid into it.

What a build publishes in `_Py_DebugOffsets` was captured from real ones (`debug_offsets/`, by
`python3 -m tools.cpython_facts capture`): the tables under test are not tested against themselves.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from ftdiag.errors import TargetGone
from ftdiag.model import Frame
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import Layout, parse_layout
from ftdiag.sources.python.runtime import Runtime

PAGE: Final = 4096

CAPTURED: Final = Path(__file__).parent / "debug_offsets"
BUILDS: Final = tuple(sorted(path.stem for path in CAPTURED.glob("*.hex")))
"""Builds whose `_Py_DebugOffsets` was captured: the name is the version, with a "t" if it is
free-threaded."""


@cache
def _captured(build: str) -> bytes:
    return bytes.fromhex((CAPTURED / f"{build}.hex").read_text())


def debug_offsets(build: str, *, version_hex: int | None = None, cookie: bytes = b"xdebugpy") -> bytes:
    """The bytes of `_Py_DebugOffsets` as the named build publishes them."""
    data = _captured(build)
    version, free_threaded = struct.unpack_from("<QQ", data, 8)
    header = struct.pack("<8sQQ", cookie, version if version_hex is None else version_hex, free_threaded)
    # Something else follows it in memory, as in real ones.
    return header + data[len(header) :] + b"\x11" * 400


def layout_of(build: str) -> Layout:
    """The layout of the named build."""
    return parse_layout(debug_offsets(build))


class FakeMemory(RemoteMemory):
    """Memory made of ranges of bytes, which answers like process_vm_readv does.

    Ranges are transferred in order up to the first that is not readable to its end; `calls` and
    `transferred` count, so that tests can bound the work.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.pages: dict[int, bytearray] = {}
        self.calls = 0
        self.transferred = 0
        self.gone = False

    def write(self, address: int, data: bytes) -> None:
        """Make these bytes readable, with the rest of their pages as zeros."""
        while data:
            page, offset = address & -PAGE, address % PAGE
            part = data[: PAGE - offset]
            self.pages.setdefault(page, bytearray(PAGE))[offset : offset + len(part)] = part
            address += len(part)
            data = data[len(part) :]

    def write_word(self, address: int, value: int) -> None:
        """Eight bytes, little-endian."""
        self.write(address, struct.pack("<Q", value & (1 << 64) - 1))

    def _transfer(self, vectors: array[int], count: int, total: int) -> int:
        self.calls += 1
        if self.gone:
            raise TargetGone("process 0 has ended")
        done = 0
        for place in range(count):
            address, size = vectors[2 * place], vectors[2 * place + 1]
            while size:
                page = self.pages.get(address & -PAGE)
                if page is None:
                    self.transferred += done
                    return done
                part = page[address % PAGE : address % PAGE + size]
                self._buffer[done : done + len(part)] = part
                done += len(part)
                address += len(part)
                size -= len(part)
        assert done == total
        self.transferred += done
        return done


class Sink:
    """Gives ids to frames and stacks, and gives them back."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.stacks: dict[int, tuple[Frame, ...]] = {}

    def intern_frame(self, frame: Frame) -> int:
        """The next number."""
        self.frames.append(frame)
        return len(self.frames) - 1

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """The next number that is not reserved."""
        self.stacks[100 + len(self.stacks)] = tuple(self.frames[number] for number in frame_ids)
        return 99 + len(self.stacks)

    def names(self, stack: int) -> list[str]:
        """Function names of a stack, root first."""
        return [frame.function for frame in self.stacks[stack]]


TYPE_FLAGS: Final = {
    "str": 1 << 28,
    "bytes": 1 << 27,
    "int": 1 << 24,
    "dict": 1 << 29,
    "list": 1 << 25,
}


class FakeProcess:
    """Builds the memory of a CPython process. Every method lays something down and returns its address."""

    def __init__(self, build: str = "3.13.5t") -> None:
        self.layout = layout_of(build)
        self.compiled = True
        """Whether the compiled walker is to follow its frames."""
        self.memory = FakeMemory()
        self._next = 0x7F00_0000_0000
        self._types: dict[str, int] = {}
        self._interpreters: list[int] = []
        offsets = debug_offsets(build)
        self.runtime_address = self.allocate(PAGE)
        self.memory.write(self.runtime_address, offsets)
        self.runtime = Runtime(self.runtime_address, self.layout, "/fake/python", 0x400000)

    def allocate(self, size: int) -> int:
        """Address of fresh zeros."""
        address = self._next
        self._next += size + 63 & -64
        self.memory.write(address, bytes(size))
        return address

    def put(self, data: bytes) -> int:
        """Address of a copy of `data`."""
        address = self.allocate(len(data))
        self.memory.write(address, data)
        return address

    def type(self, name: str, flags: int | None = None) -> int:
        """A type object."""
        if name not in self._types or flags is not None:
            address = self.allocate(1024)
            self.memory.write_word(address + self.layout.type_name, self.put(name.encode() + b"\0"))
            self.memory.write_word(
                address + self.layout.type_flags, TYPE_FLAGS.get(name, 0) if flags is None else flags
            )
            self._types[name] = address
        return self._types[name]

    def object(self, type_name: str, size: int) -> int:
        """An object of `size` bytes in all."""
        address = self.allocate(size)
        self.memory.write_word(address + self.layout.object_type, self.type(type_name))
        return address

    def string(self, value: str, *, kind: int | None = None, length: int | None = None) -> int:
        """A str; `kind` and `length` can be made to lie."""
        layout = self.layout
        widest = max(map(ord, value), default=0)
        real_kind = 1 if widest < 0x100 else 2 if widest < 0x10000 else 4
        ascii_only = widest < 0x80
        encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[real_kind]
        data = value.encode(encoding, "surrogatepass")
        start = layout.unicode_ascii_data if ascii_only else layout.unicode_compact_data
        address = self.object("str", start + len(data) + real_kind)
        shift = layout.unicode_kind_shift
        state = (real_kind if kind is None else kind) << shift | 1 << shift + 3 | ascii_only << shift + 4
        self.memory.write_word(address + layout.unicode_length, len(value) if length is None else length)
        self.memory.write(address + layout.unicode_state, struct.pack("<I", state))
        self.memory.write(address + start, data)
        return address

    def bytes(self, value: bytes, *, count: int | None = None) -> int:
        """A bytes object; `count` can be made to lie."""
        address = self.object("bytes", self.layout.bytes_data + len(value) + 1)
        self.memory.write_word(address + self.layout.bytes_count, len(value) if count is None else count)
        self.memory.write(address + self.layout.bytes_data, value)
        return address

    def integer(self, value: int) -> int:
        """An int from 0 to 2**90 - 1."""
        digits = []
        rest = value
        while rest:
            digits.append(rest & (1 << 30) - 1)
            rest >>= 30
        address = self.object("int", self.layout.long_digits + 12)
        self.memory.write_word(address + self.layout.long_tag, len(digits) << 3 | (not digits))
        self.memory.write(address + self.layout.long_digits, struct.pack(f"<{len(digits)}I", *digits))
        return address

    def dict(self, items: Mapping[int, int], *, general: bool = True, count: int | None = None) -> int:
        """A dict of object addresses; `count` (of entries in use) can be made to lie."""
        words = [
            word for key, value in items.items() for word in ((7, key, value) if general else (key, value))
        ]
        keys = self.put(
            struct.pack(
                "<qBBBxIqq", 1, 3, 3, 0 if general else 1, 0, 0, len(items) if count is None else count
            )
            + bytes(8)
            + struct.pack(f"<{len(words)}Q", *words)
        )
        address = self.object("dict", self.layout.dict_values + 8)
        self.memory.write_word(address + self.layout.dict_keys, keys)
        return address

    def code(
        self, function: str = "work", filename: str = "/app/work.py", *, units: int = 50, first_line: int = 10
    ) -> int:
        """A code object whose every code unit has the next line (location entries of one unit, +1 each)."""
        layout = self.layout
        table = bytes([0x80 | 10 << 3, 0]) + bytes([0x80 | 11 << 3, 0]) * (units - 1)
        address = self.object("code", layout.code_bytecode + 2 * units)
        for offset, value in (
            (layout.code_units, units),
            (layout.code_filename, self.string(filename)),
            (layout.code_qualname, self.string(function)),
            (layout.code_linetable, self.bytes(table)),
            (layout.code_exception_table, self.bytes(b"")),
        ):
            self.memory.write_word(address + offset, value)
        self.memory.write(address + layout.code_first_line, struct.pack("<i", first_line))
        return address

    def chunk(self, size: int = 16 * 1024, previous: int = 0) -> int:
        """A data stack chunk."""
        self._next = self._next + PAGE - 1 & -PAGE
        address = self.allocate(size)
        self.memory.write(address, struct.pack("<QQQ", previous, size, 0))
        return address

    def frame(
        self, address: int, code: int, *, previous: int = 0, unit: int = 0, owner: int = 0, tag: int = 0
    ) -> int:
        """A frame at a place of the caller's choice."""
        layout = self.layout
        self.memory.write_word(address + layout.frame_executable, code | tag)
        self.memory.write_word(address + layout.frame_previous, previous)
        self.memory.write_word(
            address + layout.frame_instr_ptr, code + layout.code_bytecode + 2 * unit if code else 0
        )
        self.memory.write(address + layout.frame_owner, bytes([owner]))
        return address

    def stack(self, functions: Sequence[str], chunk: int | None = None) -> tuple[int, int]:
        """Frames for the functions, root first, in a chunk: (leaf frame, chunk)."""
        place = chunk = self.chunk() if chunk is None else chunk
        place += 64
        previous = 0
        for function in functions:
            previous = self.frame(place, self.code(function), previous=previous, unit=5)
            place += self.layout.frame_size + 64
        return previous, chunk

    def thread(
        self, frame: int = 0, chunk: int = 0, *, native_id: int = 1000, ident: int = 77, following: int = 0
    ) -> int:
        """A thread state."""
        layout = self.layout
        address = self.allocate(max(layout.thread_size, layout.thread_datastack_chunk + 8))
        for offset, value in (
            (layout.thread_current_frame, frame),
            (layout.thread_native_id, native_id),
            (layout.thread_ident, ident),
            (layout.thread_datastack_chunk, chunk),
            (layout.thread_next, following),
        ):
            self.memory.write_word(address + offset, value)
        return address

    def interpreter(self, first_thread: int = 0, *, number: int = 0, modules: int = 0) -> int:
        """An interpreter state, linked before those that are there."""
        layout = self.layout
        head = self.runtime_address + layout.runtime_interpreters_head
        address = self.allocate(32 * 1024)
        following = self.memory.read_word(head)
        for offset, value in (
            (layout.interpreter_id, number),
            (layout.interpreter_next, following),
            (layout.interpreter_threads_head, first_thread),
            (layout.interpreter_imports_modules, modules),
        ):
            self.memory.write_word(address + offset, value)
        self.memory.write_word(head, address)
        return address
