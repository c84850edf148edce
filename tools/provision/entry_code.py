"""Makes an executable that holds CPython start as `python` does.

In: the bytes of a linked x86-64 executable that has a `main` of its own (a starter of frozen programs) and
exports CPython's API. Out: the same bytes with another `main` named in the code that the program starts
with. Nothing else of the file changes, so what is looked at in a running process is the interpreter as it
was built.

The start code that the C library's crt1.o adds to each executable hands the address of `main` to
`__libc_start_main` in the register rdi (System V ABI for x86-64; glibc's sysdeps/x86_64/start.S). In an
executable with fixed addresses that is `mov rdi, imm32`: four bytes to replace by the address of
`Py_BytesMain`, which takes the same arguments and is all that `python`'s own `main` calls
(Programs/python.c).
"""

from __future__ import annotations

import struct
from typing import Final

from tools.provision.failures import ProvisioningFailure

WANTED_MAIN: Final = b"Py_BytesMain"
_MOV_RDI: Final = b"\x48\xc7\xc7"
_START_BYTES: Final = 64
"""The start code is shorter than this."""
_FIXED_ADDRESSES: Final = 2  # ET_EXEC
_X86_64: Final = 62  # EM_X86_64
_LOADED: Final = 1  # PT_LOAD
_DYNAMIC_SYMBOLS: Final = 11  # SHT_DYNSYM


def start_as_python(image: bytes) -> bytes:
    """The image with `Py_BytesMain` as its main; raises ProvisioningFailure if it is of another kind."""
    try:
        return _with_main(image, WANTED_MAIN)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ProvisioningFailure(f"the executable is not as expected: {error}") from error


def _with_main(image: bytes, name: bytes) -> bytes:
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit ELF file")
    kind, machine = struct.unpack_from("<HH", image, 16)
    if kind != _FIXED_ADDRESSES or machine != _X86_64:
        raise ValueError("no x86-64 executable with fixed addresses")
    address = _address_of(image, name)
    start = _offset_of(image, struct.unpack_from("<Q", image, 24)[0])
    at = image.find(_MOV_RDI, start, start + _START_BYTES)
    if at < 0:
        raise ValueError("its start code does not name a main function")
    # That what is replaced is an address of code makes sure that this is the instruction that was meant.
    _offset_of(image, struct.unpack_from("<i", image, at + 3)[0])
    changed = bytearray(image)
    struct.pack_into("<i", changed, at + 3, address)
    return bytes(changed)


def _offset_of(image: bytes, address: int) -> int:
    """Where in the file an address lies."""
    table, size, entries = _table(image, 32, 54)
    for index in range(entries):
        kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ", image, table + index * size)
        if kind == _LOADED and start <= address < start + length:
            return int(offset + address - start)
    raise ValueError(f"the address {address:#x} is not in the file")


def _address_of(image: bytes, name: bytes) -> int:
    """The address of an exported function."""
    table, size, entries = _table(image, 40, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + index * size) for index in range(entries)]
    for section in sections:
        if section[1] != _DYNAMIC_SYMBOLS:
            continue
        names = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name_offset, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, at)
            if value and image.startswith(name + b"\0", names + name_offset):
                return int(value)
    raise ValueError(f"it does not export {name.decode()}")


def _table(image: bytes, offset_at: int, size_at: int) -> tuple[int, int, int]:
    """Offset, entry size and number of entries of the program headers or the section headers."""
    offset = struct.unpack_from("<Q", image, offset_at)[0]
    size, entries = struct.unpack_from("<HH", image, size_at)
    return offset, size, entries
