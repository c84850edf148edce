"""The instruction before an address: hand-assembled code of both architectures."""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftdiag.sources.native import machinecode
from ftdiag.sources.native.machinecode import (
    BYTES_BEFORE,
    Before,
    is_system_call,
    what_is_loaded,
    what_precedes,
)
from ftdiag.sources.native.x86 import LONGEST, Operand, decode
from unit.sources.test_x86 import is_atomic, one

X86, ARM64 = "EM_X86_64", "EM_AARCH64"
PROLOGUE = bytes.fromhex("5548 89e5 4883ec20 48897df8 488b45f8".replace(" ", ""))
"""push rbp; mov rbp, rsp; sub rsp, 32; mov [rbp-8], rdi; mov rax, [rbp-8]"""


def words(*codes: int) -> bytes:
    """arm64 instructions."""
    return b"".join(code.to_bytes(4, "little") for code in codes)


LDXR, STXR, ADD, CBNZ, NOP = 0xC85F7C01, 0xC8027C01, 0x91000421, 0x35FFFFA2, 0xD503201F


@pytest.mark.parametrize(
    ("code", "operand"),
    [
        ("f0480fb14e10", Operand("rsi", None, 1, 16)),  # lock cmpxchg [rsi+16], rcx
        ("f00fb04f0a", Operand("rdi", None, 1, 10)),  # lock cmpxchg byte [rdi+10], cl
        ("f048834310 04".replace(" ", ""), Operand("rbx", None, 1, 16)),  # lock add qword [rbx+16], 4
        ("f0480fc110", Operand("rax", None, 1, 0)),  # lock xadd [rax], rdx
        ("8703", Operand("rbx", None, 1, 0)),  # xchg [rbx], eax
        ("f04801 44cb08".replace(" ", ""), Operand("rbx", "rcx", 8, 8)),  # lock add [rbx+rcx*8+8], rax
    ],
)
def test_atomic_instructions_of_x86(code: str, operand: Operand) -> None:
    # GIVEN a function's beginning and then an atomic instruction
    before = PROLOGUE * 3 + bytes.fromhex(code)

    # WHEN the address behind it is judged, with and without the function's start being known
    known = what_precedes(X86, before, len(before), 0)
    guessed = what_precedes(X86, before[-60:], min(60, len(before)))

    # THEN it is atomic, on that memory
    assert known == guessed == (Before.ATOMIC, operand)


def loaded_behind(code: str) -> Operand | None:
    """What the last instruction of code that follows a function's beginning loads from."""
    whole = PROLOGUE * 3 + bytes.fromhex(code)
    known = what_is_loaded(X86, whole, len(whole), 0)
    assert what_is_loaded(X86, whole[6:], len(whole) - 6) == known
    return known


@pytest.mark.parametrize(
    ("code", "operand"),
    [
        ("8b470c", Operand("rdi", None, 1, 12)),  # mov eax, [rdi+12]: the owner's count
        ("48390f", Operand("rdi", None, 1, 0)),  # cmp [rdi], rcx: the owner
        ("488b4710", Operand("rdi", None, 1, 16)),  # mov rax, [rdi+16]: the shared count
        ("498b4018", Operand("r8", None, 1, 24)),  # mov rax, [r8+24]: the type
        ("0fb6470b", Operand("rdi", None, 1, 11)),  # movzx eax, byte [rdi+11]: the collector's bits
        ("410fb6440803", Operand("r8", "rcx", 1, 3)),  # movzx eax, byte [r8+rcx+3]
        ("48ff4110", Operand("rcx", None, 1, 16)),  # inc [rcx+16]: it loads what it changes
    ],
)
def test_what_an_instruction_loads_from(code: str, operand: Operand) -> None:
    # GIVEN an instruction that loads WHEN a thread stands behind it THEN it is known from where
    assert loaded_behind(code) == operand


@pytest.mark.parametrize(
    "code",
    [
        "4989fc",  # mov r12, rdi: no memory
        "488d4f10",  # lea rcx, [rdi+16]: names it, and loads nothing
        "48894710",  # mov [rdi+16], rax: stores
        "8b7f0c",  # mov edi, [rdi+12]: whose address is lost
        "488b0408",  # mov rax, [rax+rcx]: lost as well
        "64488b0c2500000000",  # mov rcx, fs:[0]: the thread's own
        "0f1f4700",  # nop [rdi]
        "c3",
    ],
)
def test_what_loads_from_nowhere_that_can_be_told(code: str) -> None:
    # GIVEN another instruction WHEN a thread stands behind it THEN it is not said to wait for memory
    assert loaded_behind(code) is None


def test_loads_of_other_machines_are_not_looked_at() -> None:
    # GIVEN a load of arm64 WHEN asked THEN nothing is said
    assert what_is_loaded(ARM64, words(NOP, 0xF9400001), 8) is None


@pytest.mark.parametrize(
    "code",
    [
        "48ffc0",  # inc rax
        "4887d8",  # xchg rax, rbx: no memory
        "480fb14e10",  # cmpxchg without lock
        "b8f0480fb1",  # mov eax, 0xb10f48f0: the bytes of a lock prefix as a number
        "c3",
    ],
)
def test_other_instructions_of_x86(code: str) -> None:
    # GIVEN code that ends with something else
    before = PROLOGUE * 3 + bytes.fromhex(code)

    # WHEN it is judged THEN it is not atomic
    assert what_precedes(X86, before, len(before), 0).kind is Before.OTHER


def test_the_number_in_an_instruction_is_not_taken_for_one() -> None:
    # GIVEN mov rax, imm64 whose number ends with the bytes of lock add dword [rax], 4
    before = PROLOGUE * 3 + bytes.fromhex("48b80000000000000000")[:6] + bytes.fromhex("f0830004")

    # WHEN its end is judged THEN nothing is found
    assert what_precedes(X86, before, len(before), 0).kind is Before.OTHER
    assert what_precedes(X86, before, len(before)).kind is Before.OTHER


def test_pauses_of_spin_loops() -> None:
    # GIVEN pause, and yield of arm64 WHEN judged THEN they are
    assert what_precedes(X86, PROLOGUE + b"\xf3\x90", len(PROLOGUE) + 2, 0).kind is Before.PAUSE
    assert what_precedes(ARM64, words(NOP, 0xD503203F), 8).kind is Before.PAUSE


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(0xF8610002, id="ldaddl"),
        pytest.param(0xF821001F, id="stadd"),
        pytest.param(0xC8E1FC02, id="casal"),
        pytest.param(0xF8E18002, id="swpal"),
    ],
)
def test_atomic_instructions_of_arm64(code: int) -> None:
    # GIVEN a single atomic instruction on [x0]
    # WHEN the address behind it is judged
    found = what_precedes(ARM64, words(NOP, code, NOP), 8)

    # THEN it is atomic
    assert found.kind is Before.ATOMIC
    assert found.operand is not None
    assert found.operand.base == "x0"


@pytest.mark.parametrize("place", [8, 12, 16, 20])
def test_anywhere_in_a_loop_of_arm64(place: int) -> None:
    # GIVEN ldxr; add; stxr; cbnz
    code = words(NOP, LDXR, ADD, STXR, CBNZ, NOP)

    # WHEN any place in it or right behind it is judged THEN it is atomic
    assert what_precedes(ARM64, code, place).kind is Before.ATOMIC


def test_outside_a_loop_of_arm64() -> None:
    # GIVEN the same WHEN the places before and after are judged THEN they are not
    code = words(NOP, LDXR, ADD, STXR, CBNZ, NOP, NOP)
    assert what_precedes(ARM64, code, 4).kind is Before.OTHER
    assert what_precedes(ARM64, code, 24).kind is Before.OTHER


def test_system_calls() -> None:
    # GIVEN the instructions that enter the kernel WHEN asked THEN they are known
    assert is_system_call(X86, b"\x00\x00\x0f\x05")
    assert is_system_call(ARM64, words(0xD4000001))
    assert not is_system_call(X86, b"\x00\x00\x00\x05")
    assert not is_system_call(ARM64, words(NOP))


@given(st.binary(max_size=96), st.integers(0, 96), st.sampled_from([X86, ARM64, "EM_RISCV"]))
def test_any_bytes_are_borne(code: bytes, place: int, machine: str) -> None:
    # GIVEN anything WHEN it is judged THEN there is an answer
    assert what_precedes(machine, code, min(place, len(code))).kind in Before


LOCKABLE = frozenset(
    "add adc and btc btr bts cmpxchg cmpxchg8b cmpxchg16b dec inc neg not or sbb sub xor xadd xchg".split()
)
"""Instructions that may have the prefix, with memory as their first operand."""


@example(b"\x40\xf0\x00", bytes(11), False)
@given(st.binary(min_size=1, max_size=4), st.binary(min_size=11, max_size=11), st.booleans())
def test_no_atomic_instruction_is_passed_over(begin: bytes, rest: bytes, locked: bool) -> None:
    # GIVEN bytes WHEN they begin with an atomic instruction THEN it is taken for one at first sight, too
    code = (b"\xf0" if locked else b"") + begin + rest
    found = one(code)
    if found is None or "[" not in found[2].partition(",")[0] or found[1].split()[-1] not in LOCKABLE:
        return  # the disassembler knows some with a prefix that the processor refuses
    if is_atomic(found[1], found[2]):
        assert machinecode._MAYBE_ATOMIC.search(code[: found[0]])
        # AND decoded as one
        decoded = decode(code)
        assert decoded is not None
        assert (decoded.length, decoded.atomic) == (found[0], True)


def loaded_as_disassembled(code: bytes, place: int) -> Operand | None:
    """The same as `what_is_loaded`, by asking the disassembler of every length."""
    for length in range(2, min(LONGEST, place) + 1):
        start = place - length
        for instruction in machinecode._disassembler("x86", detail=True).disasm(code[start:place], 0, 1):
            loaded = machinecode._loaded(instruction) if instruction.size == length else None
            if loaded is not None and machinecode._is_boundary(code[:place], start, None):
                return loaded
    return None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="code of this machine")
def test_no_load_is_passed_over() -> None:
    # GIVEN code of the interpreter, or of its library, behind each of its instructions and between them
    address = ctypes.cast(ctypes.pythonapi.PyObject_GetAttr, ctypes.c_void_p).value
    assert address is not None
    code = ctypes.string_at(address, 1500)
    found = []

    # WHEN it is asked what is loaded before THEN it is what the disassembler says
    for place in range(BYTES_BEFORE, len(code)):
        around = code[place - BYTES_BEFORE : place]
        found.append(what_is_loaded(X86, around, BYTES_BEFORE))
        assert found[-1] == loaded_as_disassembled(around, BYTES_BEFORE)
    assert len([operand for operand in found if operand is not None]) > 20
