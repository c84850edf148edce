"""Functions without names: a made-up interpreter whose functions call each other, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from elf_files import Made, elf
from ftdiag.sources.native.ehframe import function_extents
from ftdiag.sources.native.elf import BytesSource, read_elf
from ftdiag.sources.native.unnamed import find_unnamed, holds_allocator

CODE: Final = 0x10000
SIZE: Final = 0x40
CONSTANTS: Final = 0x20000
FRAMES: Final = 0x30000
HEADER: Final = 0x34000
RUNTIME: Final = 0x40000
ALLOCATORS: Final = RUNTIME + 0x80
MESSAGE: Final = b"gc: collecting generation %d...\n\0"
VERSION: Final = struct.pack("<Q", 0x030E00F0)

EXPORTED: Final = {
    "PyGC_Collect": 0,
    "_Py_DecRefShared": 1,
    "PyObject_ClearWeakRefs": 2,
    "PyFloat_FromDouble": 5,
    "PyMem_Free": 6,
    "PyObject_Free": 19,
    "PyList_New": 20,
}
"""Functions by number: number n is at CODE + n * SIZE."""
MAIN, COLLECTS = 3, 4
TABLES: Final = range(7, 19)
"""malloc, calloc, realloc, free of the domains raw, mem and object."""
FREES, ELSEWHERE, BOTH, PART = 21, 22, 23, 24
FUNCTIONS: Final = 25


def at(function: int) -> int:
    """Where a function begins."""
    return CODE + SIZE * function


def call(place: int, target: int, opcode: bytes = b"\xe8") -> bytes:
    """A call at a place, or another instruction with a distance of 32 bits at its end."""
    return opcode + struct.pack("<i", target - place - len(opcode) - 4)


JUMP_IF_ZERO: Final = b"\x0f\x84"
LOAD_ADDRESS: Final = b"\x48\x8d\x3d"


def code_of(instructions: Mapping[int, Sequence[tuple[bytes, int]]]) -> bytes:
    """The code of all functions: by function, (opcode, target)."""
    code = b""
    for function in range(FUNCTIONS):
        body = b""
        for opcode, target in instructions.get(function, ()):
            body += call(at(function) + len(body), target, opcode)
        code += body.ljust(SIZE, b"\x90")
    return code


def frames() -> tuple[bytes, bytes]:
    """.eh_frame and .eh_frame_hdr of all functions."""
    data = struct.pack("<IIB7s", 12, 0, 1, b"zR\0\x01\x78\x10\x1b")
    rows = b""
    for function in range(FUNCTIONS):
        place = FRAMES + len(data)
        rows += struct.pack("<ii", at(function) - HEADER, place - HEADER)
        data += struct.pack("<IIiI", 16, len(data) + 4, at(function) - place - 8, SIZE) + bytes(4)
    return data, b"\x01\x1b\x03\x3b" + struct.pack("<iI", 0, FUNCTIONS) + rows


def interpreter(instructions: Mapping[int, Sequence[tuple[bytes, int]]] | None = None) -> bytes:
    """A stripped interpreter whose collector, allocator and parts are as below, or as is said."""
    if instructions is None:
        instructions = {
            0: [(b"\xe8", at(MAIN))],
            MAIN: [(LOAD_ADDRESS, CONSTANTS + 8), (b"\xe8", at(COLLECTS)), (b"\xe8", at(BOTH))],
            20: [(b"\xe8", at(BOTH)), (JUMP_IF_ZERO, at(PART) + 8)],
            19: [(b"\xe8", at(BOTH))],
            TABLES[-1]: [(b"\xe8", at(FREES))],
            COLLECTS: [(b"\xe9", at(ELSEWHERE))],
            FREES: [(b"\xe8", at(ELSEWHERE))],
            1: [(b"\xe8", at(ELSEWHERE))],
        }
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*EXPORTED, "_PyRuntime", "Py_Version"))

    def entry(name: str, kind: int, value: int, size: int) -> bytes:
        place = names.index(b"\0" + name.encode() + b"\0") + 1
        return struct.pack("<IBBHQQ", place, 0x10 | kind, 0, 1, value, size)

    symbols = bytes(24) + b"".join(entry(name, 2, at(number), SIZE) for name, number in EXPORTED.items())
    symbols += entry("_PyRuntime", 1, RUNTIME, 0x200) + entry("Py_Version", 1, CONSTANTS, 8)
    runtime = bytearray(0x200)
    for index, function in enumerate(TABLES):
        place = ALLOCATORS - RUNTIME + 40 * (index // 4) + 8 * (1 + index % 4)
        struct.pack_into("<Q", runtime, place, at(function))
    unwinding, header = frames()
    return elf(
        {
            ".code": Made(1, 0, code_of(instructions), 6, address=CODE),
            ".rodata": Made(1, 0, VERSION + MESSAGE, 2, address=CONSTANTS),
            ".eh_frame": Made(1, 0, unwinding, 2, address=FRAMES),
            ".eh_frame_hdr": Made(1, 0, header, 2, address=HEADER),
            ".PyRuntime": Made(1, 0, bytes(runtime), 3, address=RUNTIME),
            ".dynsym": Made(11, 8, symbols),
            ".dynstr": Made(3, 0, names),
        }
    )


def names_in(data: bytes) -> dict[int, str] | None:
    """The names that were found, by function."""
    source = BytesSource(data)
    image = read_elf(source)
    if image is None:
        return None
    holds_allocator(image, source)
    found = find_unnamed(image, source)
    if found is None:
        return None
    entries, names = found
    return {
        (start - CODE) // SIZE: names[name : names.index(b"\0", name)].decode() for start, _, name in entries
    }


def test_extents_are_those_of_the_unwind_tables() -> None:
    # GIVEN a file with unwind tables
    source = BytesSource(interpreter())
    image = read_elf(source)
    assert image is not None

    # WHEN they are read
    extents = function_extents(image, source)

    # THEN each function is where it is, and between and behind them is nothing
    assert extents is not None
    assert list(extents.starts) == [at(function) for function in range(FUNCTIONS)]
    assert list(extents.ends) == [at(function + 1) for function in range(FUNCTIONS)]
    assert [extents.at(place) for place in (at(0) - 1, at(0), at(1) - 1, at(1), at(FUNCTIONS))] == [
        None, 0, 0, 1, None,
    ]  # fmt: skip


def test_the_collector_is_who_says_so_and_what_mainly_it_calls() -> None:
    # GIVEN a function with the collector's message, one that it alone calls, and one that others call, too
    names = names_in(interpreter())

    # WHEN names are looked for THEN the first two are the collector, and the third has none
    assert names is not None
    assert names[MAIN] == "gc_collect_main"
    assert names[COLLECTS] == f"collector ({at(COLLECTS):#x})"
    assert names[BOTH] == ""


def test_the_allocator_is_what_the_runtime_has_and_what_lies_between() -> None:
    # GIVEN tables of allocators in the runtime, and a function behind another source file that one calls
    names = names_in(interpreter())

    # WHEN names are looked for THEN those of the tables are known, and what only they call there is not
    assert names is not None
    assert [names[function] for function in TABLES] == [
        "_PyMem_RawMalloc", "_PyMem_RawCalloc", "_PyMem_RawRealloc", "_PyMem_RawFree",
        "_PyMem_MiMalloc", "_PyMem_MiCalloc", "_PyMem_MiRealloc", "_PyMem_MiFree",
        "_PyObject_MiMalloc", "_PyObject_MiCalloc", "_PyObject_MiRealloc", "_PyObject_MiFree",
    ]  # fmt: skip
    assert names[FREES] == ""


def test_a_part_that_was_split_off_counts_with_its_function() -> None:
    # GIVEN a function into whose middle one other jumps, and that nobody calls
    names = names_in(interpreter())

    # WHEN names are looked for THEN it is a part of that one; what others call as well is nobody's
    assert names is not None
    assert names[PART] == "PyList_New.cold"
    assert names[ELSEWHERE] == "_Py_brc_queue_object"


def test_other_files_are_left_alone() -> None:
    # GIVEN a file that exports nothing, and an interpreter without unwind tables
    whole = interpreter()
    # WHEN names are looked for THEN nothing is claimed
    assert names_in(elf({})) is None
    assert names_in(whole.replace(b"\x01\x1b\x03\x3b", b"\x01\x1b\x03\xff")) is None
    assert names_in(whole.replace(b"PyGC_Collect", b"PyGC_Xollect")) is None


@given(
    damage=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=12),
)
def test_damaged_files_cost_nothing(damage: list[tuple[int, bytes]]) -> None:
    # GIVEN an interpreter with bytes changed
    data = bytearray(interpreter())
    for place, value in damage:
        start = place % len(data)
        data[start : start + len(value)] = value

    # WHEN names are looked for THEN that ends, with names of functions or without
    names = names_in(bytes(data))
    assert names is None or len(names) <= FUNCTIONS
