"""How long instructions of x86-64 are, and the memory that an atomic one changes.

In: bytes of machine code. Out: lengths; operands of instructions with a `lock` prefix, and of `xchg`.

That is all that is asked of most code, and a disassembler takes 40 to 60 ms to be imported. Facts are those
of the maps of opcodes in Intel's manual, volume 2, appendix A. What is no instruction has no length, or one
that is of no use: whoever asks decodes from where a function begins, or from many places.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LONGEST: Final = 15
_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_LOCK: Final = 0xF0
_SEGMENTS: Final = frozenset(b"\x64\x65")
"""fs and gs: thread-local memory."""
_REGISTERS: Final = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
_NONE, _BYTE, _WORD, _FULL, _ENTER, _WIDE, _OFFSET = range(7)
"""What is behind an opcode and its operands: nothing, so many bytes (_FULL: four, or two with an operand size
prefix; _WIDE: eight with REX.W), or an address."""
_INVALID: Final = 1 << 7
_MODRM: Final = 1 << 6


class Operand(NamedTuple):
    """The memory of an instruction: base + indexed_by * scale + displacement, registers by name."""

    base: str | None
    indexed_by: str | None
    scale: int
    displacement: int


class Decoded(NamedTuple):
    """An instruction; `atomic` if it changes memory as one operation, with its operand where that is told
    by registers."""

    length: int
    atomic: bool
    operand: Operand | None


def _ones(rows: str) -> bytes:
    """A map of opcodes: 16 rows of a letter each; see `_LETTERS`."""
    return bytes(_LETTERS[letter] for letter in "".join(rows.split()))


_LETTERS: Final = {
    "x": _INVALID,
    ".": _NONE,
    "b": _BYTE,
    "w": _WORD,
    "z": _FULL,
    "e": _ENTER,
    "v": _WIDE,
    "o": _OFFSET,
    "M": _MODRM,
    "B": _MODRM | _BYTE,
    "Z": _MODRM | _FULL,
}
_ONE_BYTE: Final = _ones("""
    MMMMbzxxMMMMbzx. MMMMbzxxMMMMbzxx MMMMbz.xMMMMbz.x MMMMbz.xMMMMbz.x
    ................ ................ xx.M....zZbB.... bbbbbbbbbbbbbbbb
    BZxBMMMMMMMMMMMM ..........x..... oooo....bz...... bbbbbbbbvvvvvvvv
    BBw...BZe.w..bx. MMMMxxx.MMMMMMMM bbbbbbbbzzxb.... ......MM......MM
""")
"""0F, C4, C5 and 62 lead to other maps."""
_TWO_BYTES: Final = _ones("""
    MMMMx.....x.xM.B MMMMMMMMMMMMMMMM MMMMxxxxMMMMMMMM ......x.xxxxxxxx
    MMMMMMMMMMMMMMMM MMMMMMMMMMMMMMMM MMMMMMMMMMMMMMMM BBBBMMM.MMxxMMMM
    zzzzzzzzzzzzzzzz MMMMMMMMMMMMMMMM ...MBMxx...MBMMM MMMMMMMMMMBMMMMM
    MMBMBBBM........ MMMMMMMMMMMMMMMM MMMMMMMMMMMMMMMM MMMMMMMMMMMMMMMM
""")
_NEAR: Final = frozenset((0xE8, 0xE9))
"""Their distance has four bytes, whatever the prefixes (so has that of the two-byte jumps)."""
_LOCKED: Final = frozenset(b"\x00\x01\x08\x09\x10\x11\x18\x19\x20\x21\x28\x29\x30\x31\x86\x87")
_LOCKED_GROUPS: Final = {
    **dict.fromkeys((0x80, 0x81, 0x83), range(7)),
    **dict.fromkeys((0xF6, 0xF7), range(2, 4)),
    **dict.fromkeys((0xFE, 0xFF), range(2)),
}
"""By opcode: the instructions of its group that can have a `lock` prefix."""
_LOCKED_TWO: Final = frozenset(b"\xab\xb0\xb1\xb3\xbb\xc0\xc1")
_LOCKED_TWO_GROUPS: Final = {0xBA: range(5, 8), 0xC7: range(1, 2)}


def decode(code: bytes, at: int = 0) -> Decoded | None:
    """The instruction at a place; `None` if there is none that is whole, or longer than one can be."""
    try:
        found = _decode(code, at)
    except IndexError:
        return None
    return found if found.length <= LONGEST and at + found.length <= len(code) else None


def _decode(code: bytes, at: int) -> Decoded:
    """The same; its end may lie behind the code's. Raises IndexError."""
    place, rex = at, 0
    # A REX that is not the last prefix is ignored (Intel's manual, volume 2A, 2.2.1).
    while code[place] in _PREFIXES or (code[place] & 0xF0 == 0x40 and _is_prefix(code[place + 1])):
        place += 1
    prefixes = code[at:place]
    if code[place] & 0xF0 == 0x40:
        rex = code[place]
        place += 1
    opcode = code[place]
    place += 1
    if opcode in (0xC4, 0xC5, 0x62):
        return _decode_vector(code, at, place, opcode)
    two = opcode == 0x0F
    if two:
        opcode = code[place]
        place += 1
        kind = _TWO_BYTES[opcode]
        if opcode in (0x38, 0x3A):
            kind = _MODRM | (_BYTE if opcode == 0x3A else _NONE)
            opcode = -1
            place += 1
    else:
        kind = _ONE_BYTE[opcode]
    if kind & _INVALID:
        raise IndexError
    operand, is_memory, group = None, False, 0
    if kind & _MODRM:
        group = code[place] >> 3 & 7
        is_memory = code[place] < 0xC0
        place, operand = _memory(code, place, rex)
    size = _behind(kind & 0x3F, prefixes, rex, near=two or opcode in _NEAR)
    if not two and opcode in (0xF6, 0xF7) and group < 2:
        size = 1 if opcode == 0xF6 else _behind(_FULL, prefixes, rex)
    if two:
        may_lock = opcode in _LOCKED_TWO or group in _LOCKED_TWO_GROUPS.get(opcode, ())
    else:
        may_lock = opcode in _LOCKED or group in _LOCKED_GROUPS.get(opcode, ())
    exchanges = not two and opcode in (0x86, 0x87)
    atomic = is_memory and may_lock and (exchanges or _LOCK in prefixes)
    if not _SEGMENTS.isdisjoint(prefixes) or 0x67 in prefixes:
        operand = None
    return Decoded(place + size - at, atomic, operand if atomic else None)


def _is_prefix(byte: int) -> bool:
    return byte in _PREFIXES or byte & 0xF0 == 0x40


def _decode_vector(code: bytes, at: int, place: int, escape: int) -> Decoded:
    """An instruction with a VEX or EVEX prefix, whose first byte lies before `place`."""
    if escape == 0xC5:
        opcodes = 1
        place += 1
    else:
        opcodes = code[place] & (0x1F if escape == 0xC4 else 7)
        place += 2 if escape == 0xC4 else 3
    if not 1 <= opcodes <= 6 or opcodes == 4:
        raise IndexError
    opcode = code[place]
    place += 1
    if opcodes == 1 and opcode == 0x77 and escape != 0x62:  # vzeroupper
        return Decoded(place - at, False, None)
    place, _ = _memory(code, place, 0)
    one_more = opcodes == 3 or (opcodes == 1 and _TWO_BYTES[opcode] & 0x3F == _BYTE)
    return Decoded(place + one_more - at, False, None)


def _behind(kind: int, prefixes: bytes, rex: int, *, near: bool = False) -> int:
    """Bytes behind the operands."""
    match kind:
        case 1 | 2:
            return kind
        case 3:
            return 2 if 0x66 in prefixes and not near and not rex & 8 else 4
        case 4:
            return 3
        case 5:
            return 8 if rex & 8 else 2 if 0x66 in prefixes else 4
        case 6:
            return 4 if 0x67 in prefixes else 8
    return 0


def _memory(code: bytes, place: int, rex: int) -> tuple[int, Operand | None]:
    """The place behind a ModRM byte and what belongs to it, and the memory that it names, if it does."""
    modrm = code[place]
    place += 1
    mode, low = modrm >> 6, modrm & 7
    if mode == 3:
        return place, None
    base: str | None = _REGISTERS[low | (rex & 1) << 3]
    indexed_by, scale = None, 1
    if low == 4:
        sib = code[place]
        place += 1
        index = sib >> 3 & 7 | (rex & 2) << 2
        if index != 4:
            indexed_by, scale = _REGISTERS[index], 1 << (sib >> 6)
        low = sib & 7
        base = _REGISTERS[low | (rex & 1) << 3]
        if low == 5 and mode == 0:
            base = None
    elif low == 5 and mode == 0:
        base = "rip"
    size = 4 if mode == 2 or (mode == 0 and low == 5) else mode
    displacement = int.from_bytes(code[place : place + size], "little", signed=True)
    return place + size, Operand(base, indexed_by, scale, displacement)
