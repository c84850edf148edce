"""ELF files: headers, sections, symbols and compressed parts that lie about offsets, sizes and counts."""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from elf_files import c_library
from ftdiag.sources.budget import Budget
from ftdiag.sources.native.elf import FileSource, exported, read_elf
from ftdiag.sources.native.images import read_image
from fuzz.mutation import WORDS, changed_bytes
from fuzz.perfmaps import wrong_in_table

NAMES: Final = (
    b"\0.note.gnu.build-id\0.dynsym\0.symtab\0.gnu_debuglink\0.gnu_debugdata\0.PyRuntime\0.dynstr\0.text\0"
)
COMPRESSED: Final = 0x800  # SHF_COMPRESSED
HEADER_BYTES: Final = 64
SECTION_BYTES: Final = 64
SEGMENT_BYTES: Final = 56


REAL: Final = 0.02
"""The share of mutants of a real library: each takes as long as fifty others."""


class ElfFiles:
    """A small library with every section that is read; fields of it changed, blown up, compressed, sparse.

    Some are the C library of this machine, of which code, unwind tables and relocations are read as well.
    """

    name = "ELF"
    share = 150

    def prepare(self, folder: Path) -> None:
        """A file to write into, and what is changed."""
        self._library = c_library().read_bytes()
        self._path = folder / "library.so"
        inner = [(b".symtab", 2, 0, _symbols(), 3, 24), (b".dynstr", 3, 0, SYMBOL_NAMES, 0, 0)]
        for made_once in (_bomb, _packed_bomb):  # in no mutant's time
            made_once()
        self._packed = lzma.compress(elf_file(inner))

    def attempt(self, chance: Random) -> list[str]:
        """Write a file, then read it in the three ways in which files of a target are read."""
        data = self._real_one(chance) if chance.random() < REAL else self._mutant(chance)
        self._path.write_bytes(data)
        if chance.random() < 0.05:
            os.truncate(self._path, chance.choice((1 << 30, 1 << 36)))
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            source = FileSource(descriptor, Budget(0))
            elf = read_elf(source)
            if elf is not None:
                exported(source, elf, "_PyRuntime")
        finally:
            os.close(descriptor)
        folders = [str(self._path.parent)]
        with open(self._path, "rb") as stream:
            image = read_image(stream, folders, folders, _NoStore(), Budget(0))
        return [] if image is None else wrong_in_table(image.symbols, chance)

    def _real_one(self, chance: Random) -> bytes:
        """Fields of the headers changed, or bytes of one section."""
        if chance.random() < 0.3:
            return self._with_fields(self._library, chance)
        changed = bytearray(self._library)
        begin, count = struct.unpack_from("<Q", changed, 40)[0], struct.unpack_from("<H", changed, 60)[0]
        header = begin + SECTION_BYTES * chance.randrange(1, count)
        offset, size = struct.unpack_from("<QQ", changed, header + 24)
        for _ in range(chance.choice((1, 10, 1000))):
            if 8 <= size <= len(changed) - offset:
                place = offset + chance.randrange(size - 7)
                form, bits = chance.choice((("<Q", 64), ("<I", 32), ("<B", 8)))
                struct.pack_into(form, changed, place, chance.choice(WORDS) % (1 << bits))
        return bytes(changed)

    def _mutant(self, chance: Random) -> bytes:
        link = b"library.so.debug\0\0\0\0" + struct.pack("<I", 0x1234)
        sections = [
            (b".note.gnu.build-id", 7, 2, struct.pack("<III4s", 4, 20, 3, b"GNU\0") + bytes(20), 0, 0),
            (b".dynsym", 11, 2, _symbols(chance), 7, 24),
            (b".symtab", 2, 0, _symbols(chance), 7, 24),
            (b".gnu_debuglink", 1, 0, link, 0, 0),
            (b".gnu_debugdata", 1, 0, chance.choice((self._packed, self._packed[:90], b"junk")), 0, 0),
            (b".PyRuntime", 1, 3, bytes(64), 0, 0),
            (b".dynstr", 3, 2, SYMBOL_NAMES, 0, 0),
            (b".text", 1, 6, bytes(64), 0, 0),
        ]
        if chance.random() < 0.5:
            del sections[2]
        if chance.random() < 0.02:
            place = chance.randrange(len(sections))
            name, kind, flags, _, linked, entry = sections[place]
            content = struct.pack("<IIQQ", 1, 0, chance.choice(WORDS), 1) + _bomb()
            sections[place] = (name, kind, flags | COMPRESSED, content, linked, entry)
        if chance.random() < 0.01:
            sections = [
                (*each[:3], _packed_bomb(), *each[4:]) if each[0] == b".gnu_debugdata" else each
                for each in sections
            ]
        data = elf_file(sections)
        return (
            self._with_fields(data, chance) if chance.random() < 0.8 else changed_bytes(data[:8192], chance)
        )

    @staticmethod
    def _with_fields(data: bytes, chance: Random) -> bytes:
        """Some fields of the headers changed."""
        changed = bytearray(data)
        (begin,) = struct.unpack_from("<Q", data, 40)
        count = struct.unpack_from("<H", data, 60)[0]
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            where = chance.random()
            if where < 0.2:
                place, form = chance.choice(
                    (
                        (24, "<Q"),
                        (32, "<Q"),
                        (40, "<Q"),
                        (54, "<H"),
                        (56, "<H"),
                        (58, "<H"),
                        (60, "<H"),
                        (62, "<H"),
                    )
                )
            elif where < 0.3:
                place, form = HEADER_BYTES + 8 * chance.randrange(SEGMENT_BYTES // 8), "<Q"
            else:
                section = begin + SECTION_BYTES * chance.randrange(count)
                offset, form = chance.choice(
                    (
                        (0, "<I"),
                        (4, "<I"),
                        (8, "<Q"),
                        (16, "<Q"),
                        (24, "<Q"),
                        (32, "<Q"),
                        (40, "<I"),
                        (44, "<I"),
                        (48, "<Q"),
                        (56, "<Q"),
                    )
                )
                place = section + offset
            bits = 8 * struct.calcsize(form)
            (old,) = struct.unpack_from(form, data, place)
            value = chance.choice(
                (chance.choice(WORDS), old + chance.choice((1, -1, 8, 4096)), len(data), old)
            )
            struct.pack_into(form, changed, place, value % (1 << bits))
        return bytes(changed)


class _NoStore:
    def get(self, build_id: str | None, stream: object) -> None:
        """Nothing is kept."""

    def put(self, build_id: str | None, stream: object, image: object) -> None:
        """Nothing is kept."""


@cache
def _bomb() -> bytes:
    """Small, and 64 MiB when it is unpacked."""
    return zlib.compress(bytes(64 << 20), 1)


@cache
def _packed_bomb() -> bytes:
    """As .gnu_debugdata is packed."""
    return lzma.compress(bytes(96 << 20), preset=0)


SYMBOL_NAMES: Final = b"\0alpha\0beta\0_PyRuntime\0" + b"g" * 600 + b"\0"


def _symbols(chance: Random | None = None) -> bytes:
    table = bytes(24)
    for number, name in enumerate((1, 7, 12, 23)):
        value, size = 4096 + 64 * number, 64
        if chance is not None and chance.random() < 0.2:
            value, size, name = (
                chance.choice(WORDS) % (1 << 64),
                chance.choice(WORDS),
                chance.choice((name, 2**31, 50)),
            )
        table += struct.pack("<IBBHQQ", name, 0x12, 0, 8, value % (1 << 64), size % (1 << 64))
    return table


def elf_file(sections: list[tuple[bytes, int, int, bytes, int, int]]) -> bytes:
    """A 64-bit file of (name, type, flags, content, link, size of an entry); the names come first."""
    body = bytearray()
    begin = HEADER_BYTES + SEGMENT_BYTES
    rows = [struct.pack("<IIQQQQIIQQ", *([0] * 10))]
    for name, kind, flags, content, link, entry in [(b"", 3, 0, NAMES, 0, 0), *sections]:
        offset = begin + len(body)
        address = offset if flags & 2 else 0
        rows.append(
            struct.pack(
                "<IIQQQQIIQQ",
                NAMES.index(b"\0" + name + b"\0") + 1 if name else 0,
                kind,
                flags,
                address,
                offset,
                len(content),
                link,
                0,
                8,
                entry,
            )
        )
        body += content + bytes(-len(content) % 8)
    header = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, HEADER_BYTES, begin + len(body), 0, 64, 56, 1, 64, len(rows), 1
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, begin + len(body), begin + len(body), 4096)
    return header + segment + bytes(body) + b"".join(rows)
