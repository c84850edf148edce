"""ELF files made up for tests: with any sections, of impossible sizes, or as a program that only waits.

In: sections. Out: the bytes of a file, or a file in a directory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEADER_BYTES: Final = 64
SEGMENT_BYTES: Final = 56
SECTION_BYTES: Final = 64
COMPRESSED: Final = 1 << 11
BASE: Final = 0x400000
PAGE: Final = 4096
# pause() for ever: mov eax, 34; syscall; jmp  /  mov x8, 73 (ppoll) with no descriptors; svc; b
_WAITING: Final = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (
        183,
        bytes.fromhex("000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),
    ),
}


@dataclass(frozen=True, slots=True)
class Made:
    """A section: what it has, and what its header claims where that is something else."""

    kind: int
    link: int
    content: bytes
    flags: int = 0
    size: int | None = None
    address: int = 0


def c_library() -> Path:
    """The C library of this process: a real file, usually stripped."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(None, 5)[-1]
        if "/libc.so" in path or "/libc-" in path or "/ld-musl" in path:
            return Path(path)
    raise RuntimeError("this Python has no C library mapped")


def elf(sections: Mapping[str, tuple[int, int, bytes] | Made]) -> bytes:
    """An ELF file of x86-64 with one loaded segment and sections: name -> (type, link, content)."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".text", ".shstrtab"))
    everything: dict[str, tuple[int, int, bytes] | Made] = {
        "": (0, 0, b""),
        ".text": Made(1, 0, b"\x90" * 16, 6),
        **sections,
        ".shstrtab": (3, 0, names),
    }
    at = HEADER_BYTES + SEGMENT_BYTES
    headers, contents = b"", b""
    for name, given in everything.items():
        section = given if isinstance(given, Made) else Made(*given)
        entry_size = 24 if section.kind == 2 else 0
        offset = at + len(contents)
        place = names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        size = len(section.content) if section.size is None else section.size
        headers += struct.pack(
            "<IIQQQQIIQQ", place, section.kind, section.flags, section.address, offset, size, section.link, 1,
            1, entry_size,
        )  # fmt: skip
        contents += section.content
    header = _header(62, 0, at + len(contents), len(everything), len(everything) - 1)
    return header + _segment(5, 0, 0, PAGE) + contents + headers


def _header(machine: int, entry: int, sections_at: int, count: int, names: int, segments: int = 1) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, entry, HEADER_BYTES, sections_at, 0, HEADER_BYTES, SEGMENT_BYTES,
        segments, SECTION_BYTES, count, names,
    )  # fmt: skip


def _segment(flags: int, offset: int, address: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", 1, flags, offset, address, address, size, size, PAGE)


def endless(path: Path, count: int = 1 << 30, sparse_bytes: int = 64 << 30) -> Path:
    """A file whose section table says that it has so many entries, in a hole so large."""
    first = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 120, count, 0, 0, 0, 0)
    at = HEADER_BYTES + SEGMENT_BYTES
    path.write_bytes(_header(62, 0, at, 0, 0) + _segment(5, 0, 0, PAGE) + first)
    os.truncate(path, at + sparse_bytes)
    return path


def waiting_program(path: Path, runtime: bytes, *, sections: bool = True) -> Path:
    """A static program of any name that waits for ever, with `runtime` in a `.PyRuntime` as embedders have.

    Without `sections` there is no section table, as sstrip leaves it.
    """
    machine, code = _WAITING[os.uname().machine]
    data_at = PAGE
    names = b"\0.PyRuntime\0.shstrtab\0"
    names_at = data_at + len(runtime)
    table_at = names_at + len(names)
    headers = bytes(SECTION_BYTES) + b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, 0, 0, 64, 0)
        for name, kind, flags, address, offset, size in (
            (1, 1, 3, BASE + data_at, data_at, len(runtime)),
            (12, 3, 0, 0, names_at, len(names)),
        )
    )
    code_at = HEADER_BYTES + 2 * SEGMENT_BYTES
    head = (
        _header(machine, BASE + code_at, table_at if sections else 0, 3 if sections else 0, 2, 2)
        + _segment(5, 0, BASE, PAGE)
        + _segment(6, data_at, BASE + data_at, len(runtime))
        + code
    )
    path.write_bytes(head.ljust(data_at, b"\0") + runtime + (names + headers if sections else b""))
    path.chmod(0o755)
    return path
