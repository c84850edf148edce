"""Lengths of instructions, what atomic ones change: beside a disassembler, on real code and on any bytes."""

from __future__ import annotations

import os

import capstone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import c_library
from ftdiag.sources.native.elf import FileSource, contents, read_elf
from ftdiag.sources.native.x86 import Operand, decode

DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
COMPARED_BYTES = 100_000


def one(code: bytes) -> tuple[int, str, str] | None:
    """(length, mnemonic, operands) of the first instruction, as the disassembler has it."""
    return next(((size, name, rest) for _, size, name, rest in DISASSEMBLER.disasm_lite(code, 0, 1)), None)


def is_atomic(mnemonic: str, operands: str) -> bool:
    """Whether an instruction is atomic by its name."""
    return mnemonic.startswith(("lock ", "xacquire lock", "xrelease lock")) or (
        mnemonic.endswith("xchg") and "[" in operands and not mnemonic.startswith("cmpxchg")
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the C library has no code of x86-64")
def test_the_c_library() -> None:
    # GIVEN code of the C library, from everywhere in it
    with open(c_library(), "rb") as stream:
        source = FileSource(stream.fileno(), None)
        elf = read_elf(source)
        assert elf is not None
        section = elf.section(".text")
        assert section is not None
        code = contents(source, section, 1 << 24)
    for start in (0, len(code) // 4, len(code) // 2, len(code) - COMPARED_BYTES):
        # WHEN each instruction is decoded THEN it is as long as the disassembler says, and atomic where it is
        piece = code[start : start + COMPARED_BYTES]
        for at, size, name, operands in DISASSEMBLER.disasm_lite(piece, 0):
            found = decode(piece, at)
            assert found is not None, piece[at : at + size].hex()
            assert (found.length, found.atomic) == (size, is_atomic(name, operands)), f"{name} {operands}"


@pytest.mark.parametrize(
    ("code", "operand"),
    [
        ("f0480fc11d10000000", Operand("rip", None, 1, 16)),  # lock xadd [rip+16], rbx
        ("f04c018cf5f8ffffff", Operand("rbp", "rsi", 8, -8)),  # lock add [rbp+rsi*8-8], r9
        ("f0410fb14424f0", Operand("r12", None, 1, -16)),  # lock cmpxchg [r12-16], eax
        ("f041830424ff", Operand("r12", None, 1, 0)),  # lock add dword [r12], -1
        ("f0ff042510000000", Operand(None, None, 1, 16)),  # lock inc dword [16]
        ("f00fc709", Operand("rcx", None, 1, 0)),  # lock cmpxchg8b [rcx]
        ("f06483042510000000ff", None),  # lock add dword fs:[16], -1: a thread's own
        ("f067830001", None),  # lock add dword [eax], 1
    ],
)
def test_what_an_atomic_instruction_changes(code: str, operand: Operand | None) -> None:
    # GIVEN an atomic instruction WHEN decoded THEN its memory is told, if it is not a thread's own
    data = bytes.fromhex(code)
    found = decode(data + b"\x90" * 8)
    assert found is not None
    assert (found.length, found.atomic) == (len(data), True)
    assert found.operand == operand


@pytest.mark.parametrize(
    "code",
    [
        "48b81122334455667788",  # movabs rax, 0x8877665544332211
        "48a11122334455667788",  # movabs rax, [0x8877665544332211]
        "66b81122",  # mov ax, 0x2211
        "66c7001122",  # mov word [rax], 0x2211
        "c8100001",  # enter 16, 1
        "f6c101",  # test cl, 1
        "f7d9",  # neg ecx
        "66f7c11122",  # test cx, 0x2211
        "660f3a0fc108",  # palignr xmm0, xmm1, 8
        "c5f877",  # vzeroupper
        "c5fd70c14e",  # vpshufd ymm0, ymm1, 0x4e
        "c4e37d39c101",  # vextracti128 xmm1, ymm0, 1
        "62f17c48104840",  # vmovups zmm1, [rax+0x1000]
        "62f37d483bc101",  # vextracti32x8 ymm1, zmm0, 1
        "0f8411223344",  # je
        "f30f1efa",  # endbr64
    ],
)
def test_lengths(code: str) -> None:
    # GIVEN instructions of each kind WHEN decoded THEN they are as long, and no more is read of cut ones
    data = bytes.fromhex(code)
    found = decode(data + b"\xcc" * 8)
    assert found is not None
    assert (found.length, found.atomic, found.operand) == (len(data), False, None)
    assert all(decode(data[:size]) is None for size in range(len(data)))
    assert one(data) is not None


@given(st.binary(max_size=20), st.integers(0, 20))
def test_any_bytes(code: bytes, at: int) -> None:
    # GIVEN anything WHEN decoded THEN an instruction ends where the bytes end, at the latest
    found = decode(code, at)
    assert found is None or 0 < found.length <= min(15, len(code) - at)
