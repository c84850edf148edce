"""The instruction before an address: hand-assembled code of both architectures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.sources.native import machinecode
from ftdiag.sources.native.machinecode import (
    Before,
    Operand,
    is_system_call,
    what_is_awaited,
    what_precedes,
)

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


COUNTING = """
    8b470c  4989fc  83c001  0f84b0000000  64488b0c2500000000  48390f  0f84d0020000
    488b4710  488d4f10  4885c0  743e  4883f803  7438  488d7004  f0480fb131
"""
"""mov eax, [rdi+12]; mov r12, rdi; add eax, 1; je; mov rcx, fs:[0]; cmp [rdi], rcx; je; mov rax, [rdi+16];
lea rcx, [rdi+16]; test rax, rax; je; cmp rax, 3; je; lea rsi, [rax+4]; lock cmpxchg [rcx], rsi"""
CONDITION, SHARED = 3, 9 + 6 + 9 + 3 + 6 + 4


def awaited_behind(code: str, instruction: int) -> Operand | None:
    """What is awaited behind the first so many bytes of code that follows a function's beginning."""
    whole = PROLOGUE * 3 + bytes.fromhex(code)
    place = len(PROLOGUE * 3) + instruction
    known = what_is_awaited(X86, whole, place, 0)
    assert what_is_awaited(X86, whole[6:], place - 6) == known
    return known


def test_a_load_waits_for_the_line_of_the_atomic_instruction_that_follows() -> None:
    # GIVEN how a reference is counted: the owner's count, the owner, the shared count are looked at before
    # WHEN a thread stands behind one of these loads THEN it waits for the line of the shared count
    for place in (CONDITION, SHARED):
        assert awaited_behind(COUNTING, place) == Operand("rdi", None, 1, 16)


@pytest.mark.parametrize(
    ("code", "place"),
    [
        (COUNTING, 6),  # behind mov r12, rdi: no load
        (COUNTING, 9),  # behind add eax, 1
        (COUNTING.replace("8b470c", "8b460c"), 3),  # a load of another object
        (COUNTING.replace("8b470c", "8b474c"), 3),  # a load of another line of the object
        (COUNTING.replace("8b470c", "8b7f0c"), 3),  # mov edi, [rdi+12]: whose address is lost
        (COUNTING.replace("4989fc", "4989fc 4889f7"), 3),  # mov rdi, rsi: the count is of another object
        (COUNTING.replace("4885c0", "e800000000"), 3),  # a call comes before
        (COUNTING.replace("f0480fb131", "480fb131"), 3),  # not atomic
    ],
)
def test_other_loads_wait_for_nothing_of_that(code: str, place: int) -> None:
    # GIVEN other code WHEN a thread stands in it THEN it is not said to wait for an atomic instruction
    assert awaited_behind(code, place) is None


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


@given(st.binary(min_size=1, max_size=4), st.binary(min_size=11, max_size=11), st.booleans())
def test_no_atomic_instruction_is_passed_over(begin: bytes, rest: bytes, locked: bool) -> None:
    # GIVEN bytes WHEN they begin with an atomic instruction THEN it is taken for one at first sight, too
    code = (b"\xf0" if locked else b"") + begin + rest
    found = machinecode._x86_one(code)
    if found is None or "[" not in found[2].partition(",")[0] or found[1].split()[-1] not in LOCKABLE:
        return  # the disassembler knows some with a prefix that the processor refuses
    if machinecode._is_x86_atomic(found[1], found[2]):
        assert machinecode._MAYBE_ATOMIC.search(code[: found[0]])
        assert not locked or machinecode._MAYBE_LOCKED.search(code[: found[0]])
