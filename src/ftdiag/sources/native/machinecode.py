"""What the instruction before a sampled one is: atomic, a pause, or neither.

In: bytes of machine code that end at (x86-64), or lie around (arm64), the sampled address. Out: what it is,
and the memory it changes.

A thread that waits for a cache line to change hands stands at an atomic instruction; when the sampling timer
interrupts it, the processor lets the instruction finish and reports the address right behind it. On x86-64
such an instruction has the `lock` prefix or is an `xchg` with memory. arm64 has single instructions (LSE:
ldadd, cas, swp, ...) or a loop between a load-exclusive and a store-exclusive.

x86-64 instructions have no fixed length, so code cannot be read backwards for certain. A candidate counts if
decoding from the function's start, or from most places a little before, arrives at it: decoding from a wrong
place falls into step within a few instructions.

Whatever loads from a line that others change has to wait for it, too: a count that is compared before it is
changed, the type of an object whose references are counted. The thread stands behind that load then.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import Any, Final, NamedTuple

from ftdiag.sources.native.x86 import LONGEST, Operand, decode

BYTES_BEFORE: Final = 64
"""Code before the address that is looked at."""
BYTES_AFTER: Final = 32
"""Code after the address that is looked at: for the end of an arm64 loop."""
ENOUGH_AGREE: Final = 0.35
"""Part of the starting places that has to lead to a candidate, if the function's start is not known."""
LOOP_INSTRUCTIONS: Final = 8
"""Longest load-exclusive/store-exclusive loop that is looked for."""

_SINGLE_ATOMICS: Final = ("ldadd", "ldclr", "ldset", "ldeor", "ldsmax", "ldsmin", "ldumax", "ldumin")
_STORE_ATOMICS: Final = tuple("st" + name[2:] for name in _SINGLE_ATOMICS)
_ARM64_ATOMICS: Final = (*_SINGLE_ATOMICS, *_STORE_ATOMICS, "swp", "cas")
_LOAD_EXCLUSIVE: Final = ("ldxr", "ldaxr", "ldxp", "ldaxp")
_STORE_EXCLUSIVE: Final = ("stxr", "stlxr", "stxp", "stlxp")
_ARM64_PAUSES: Final = ("yield", "wfe", "isb")
_MAYBE_ATOMIC: Final = re.compile(
    rb"\xf0[\x26\x2e\x36\x3e\x40-\x4f\x64-\x67\xf2\xf3]*"
    rb"(?:[\x00\x01\x08\x09\x10\x11\x18\x19\x20\x21\x28\x29\x30\x31\x80-\x83\x86\x87\xf6\xf7\xfe\xff]"
    rb"|\x0f[\xab\xb0\xb1\xb3\xba\xbb\xc0\xc1\xc7])"
    rb"|[\x86\x87][\x00-\xbf]",
    re.DOTALL,
)
"""A `lock` prefix, other prefixes, and the opcode of an instruction that can have it (Intel's manual, volume
2A, LOCK), or an `xchg` with memory. Any byte may be 0xF0: three of four that are go no further."""


class Before(enum.Enum):
    """What the instruction before the sampled address is."""

    ATOMIC = "atomic"
    PAUSE = "pause"
    OTHER = "other"


class Preceding(NamedTuple):
    """The judgement; `operand` only of atomic instructions, and where it is known."""

    kind: Before
    operand: Operand | None


NOTHING: Final = Preceding(Before.OTHER, None)
PAUSE: Final = Preceding(Before.PAUSE, None)


def what_precedes(machine: str, code: bytes, place: int, function_start: int | None = None) -> Preceding:
    """Judge the instruction that ends at `code[place]`.

    `machine` is as in ELF headers (EM_X86_64, EM_AARCH64); `function_start` is where in `code` the
    function begins, if it is in there.
    """
    if machine == "EM_X86_64":
        return _x86(code[:place], function_start)
    if machine == "EM_AARCH64":
        return _arm64(code, place)
    return NOTHING


def what_is_loaded(
    machine: str, code: bytes, place: int, function_start: int | None = None
) -> Operand | None:
    """What the instruction that ends at `code[place]` loads from, in terms of the registers behind it.

    `None` where it loads nothing, or into a register of its address, and on machines other than x86-64.
    """
    if machine != "EM_X86_64":
        return None
    code = code[:place]
    for length in range(2, min(LONGEST, place) + 1):
        start = place - length
        # A disassembler takes ten times as long, and most places are no instruction of that length.
        decoded = decode(code, start)
        if decoded is None or decoded.length != length:
            continue
        for instruction in _disassembler("x86", detail=True).disasm(code[start:], 0, 1):
            loaded = _loaded(instruction) if instruction.size == length else None
            if loaded is not None and _is_boundary(code, start, function_start):
                return loaded
    return None


def is_system_call(machine: str, code: bytes) -> bool:
    """Whether `code` ends with the instruction that enters the kernel."""
    if machine == "EM_X86_64":
        return code.endswith((b"\x0f\x05", b"\x0f\x34", b"\xcd\x80"))
    return machine == "EM_AARCH64" and code[-4:-3] == b"\x01" and code.endswith(b"\x00\x00\xd4")


# --- x86-64 ------------------------------------------------------------------------------------------


def _x86(code: bytes, function_start: int | None) -> Preceding:
    tail = code[-LONGEST:]
    paused = tail.endswith(b"\xf3\x90")
    # Almost all code ends here: nothing like a locked instruction or an xchg anywhere near.
    if not paused and _MAYBE_ATOMIC.search(tail) is None:
        return NOTHING
    end = len(code)
    if paused and _is_boundary(code, end - 2, function_start):
        return PAUSE
    for length in range(2, min(LONGEST, end) + 1):
        start = end - length
        decoded = decode(code, start)
        if (
            decoded is not None
            and decoded.length == length
            and decoded.atomic
            and _is_boundary(code, start, function_start)
        ):
            return Preceding(Before.ATOMIC, decoded.operand)
    return NOTHING


def _loaded(instruction: Any) -> Operand | None:
    """What an instruction loads from, if that can be told from the registers behind it."""
    import capstone

    if instruction.mnemonic in ("lea", "nop"):
        return None  # they name memory, and leave it alone
    for operand in instruction.operands:
        if operand.type == capstone.CS_OP_MEM and operand.access & capstone.CS_AC_READ:
            memory = operand.mem
            named = [instruction.reg_name(each) for each in (memory.base, memory.index) if each]
            if not named or memory.segment or not _written(instruction).isdisjoint(map(_wide, named)):
                return None
            return _operand_of("x86", instruction, memory)
    return None


def _written(instruction: Any) -> set[str]:
    """The registers that an instruction changes, by their names of 64 bits."""
    return {_wide(instruction.reg_name(register)) for register in instruction.regs_access()[1]}


def _wide(name: str) -> str:
    """The register of 64 bits that one belongs to: eax, ax, al -> rax; r8d -> r8; sil -> rsi."""
    if name.startswith("r"):
        return name.rstrip("dwb") if name[1:2].isdigit() else name
    stem = name[1:] if name.startswith("e") else name
    if len(stem) == 2 and stem[1] in "lh":
        stem = stem[0] + "x"
    return "r" + stem.removesuffix("l")


def _is_boundary(code: bytes, target: int, function_start: int | None) -> bool:
    """Whether an instruction begins at `target`, as far as decoding from before can tell."""
    if function_start is not None and 0 <= function_start <= target:
        place = function_start
        while place < target:
            decoded = decode(code, place)
            if decoded is None:
                return False
            place += decoded.length
        return place == target
    first = max(0, target - (BYTES_BEFORE - LONGEST))
    # leads[i]: decoding from i on arrives at the target.
    leads = bytearray(target + 1)
    leads[target] = 1
    for place in range(target - 1, first - 1, -1):
        decoded = decode(code, place)
        if decoded is not None and place + decoded.length <= target:
            leads[place] = leads[place + decoded.length]
    far = leads[first : max(first + 1, target - LONGEST)]
    return sum(far) >= ENOUGH_AGREE * len(far)


# --- arm64 -------------------------------------------------------------------------------------------


def _arm64(code: bytes, place: int) -> Preceding:
    if place < 4 or place % 4:
        return NOTHING
    before = _mnemonic(code, place - 4)
    atomic: int | None = None
    if before.startswith((*_ARM64_ATOMICS, *_LOAD_EXCLUSIVE, *_STORE_EXCLUSIVE)):
        atomic = place - 4
    elif before in _ARM64_PAUSES:
        return PAUSE
    # Right behind the loop, or in it: between the load and the store of one try.
    elif (
        before.startswith(("cbnz", "cbz"))
        and place >= 8
        and _mnemonic(code, place - 8).startswith(_STORE_EXCLUSIVE)
    ):
        atomic = place - 8
    elif _find(code, place - 4, -4, _LOAD_EXCLUSIVE, _STORE_EXCLUSIVE) is not None:
        atomic = _find(code, place, 4, _STORE_EXCLUSIVE, _LOAD_EXCLUSIVE)
    if atomic is None:
        return NOTHING
    return Preceding(Before.ATOMIC, _operand(code[atomic : atomic + 4]))


def _find(
    code: bytes, place: int, step: int, wanted: tuple[str, ...], unwanted: tuple[str, ...]
) -> int | None:
    """Where one of `wanted` comes within a loop's length, before any of `unwanted` or a call."""
    for _ in range(LOOP_INSTRUCTIONS):
        if not 0 <= place <= len(code) - 4:
            return None
        name = _mnemonic(code, place)
        if name.startswith(wanted):
            return place
        if not name or name.startswith(unwanted) or name in ("bl", "blr", "ret", "br"):
            return None
        place += step
    return None


def _mnemonic(code: bytes, place: int) -> str:
    for _, _, mnemonic, _ in _disassembler("arm64").disasm_lite(code[place : place + 4], 0, 1):
        return str(mnemonic)
    return ""


# --- both --------------------------------------------------------------------------------------------


def _operand(code: bytes) -> Operand | None:
    """The memory operand of an instruction of arm64; `None` if there is none."""
    import capstone

    for instruction in _disassembler("arm64", detail=True).disasm(code, 0, 1):
        for operand in instruction.operands:
            if operand.type == capstone.CS_OP_MEM:
                return _operand_of("arm64", instruction, operand.mem)
    return None


def _operand_of(machine: str, instruction: Any, memory: Any) -> Operand:
    return Operand(
        instruction.reg_name(memory.base) or None,
        instruction.reg_name(memory.index) or None,
        memory.scale if machine == "x86" else 1,
        memory.disp,
    )


@functools.cache
def _disassembler(machine: str, *, detail: bool = False) -> Any:
    # Loading the library takes 80 ms; it is loaded when the first candidate turns up.
    import capstone

    if machine == "x86":
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    else:
        # It has a new name from 6 on.
        architecture = getattr(capstone, "CS_ARCH_AARCH64", None) or capstone.CS_ARCH_ARM64
        disassembler = capstone.Cs(architecture, capstone.CS_MODE_ARM)
    disassembler.detail = detail
    return disassembler
