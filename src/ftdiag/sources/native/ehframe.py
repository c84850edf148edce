"""Where the functions of a file begin and end, without a table of symbols: from its unwind tables.

In: an ELF file. Out: `Extents`. Compilers write an entry into .eh_frame for each function, and one for each
part that they split off (`.cold`); exceptions and debuggers need them, so `strip` leaves them. .eh_frame_hdr
has them sorted by address. Facts: Linux Standard Base, "Exception Frames" and ".eh_frame_hdr Section".
Only the forms that GNU and LLVM linkers write are read: a table of 32-bit offsets from the section's own
address, and ranges of 32 bits in the entries.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import Final

from ftdiag.sources.native.elf import Elf, Source, contents

MAX_FUNCTIONS: Final = 1 << 18
"""Entries of a file that are read, 8,000 of a Python interpreter."""
MAX_FRAMES_BYTES: Final = 32 << 20
"""Of .eh_frame; an entry takes some 40 bytes."""
MAX_FUNCTION_BYTES: Final = 1 << 24

_TABLE_FORM: Final = b"\x01\x1b\x03\x3b"
"""Version 1; the frames relative to here, 4 bytes; the count, 4 bytes; the table relative to the section, 4
bytes each (DW_EH_PE_pcrel | sdata4, udata4, datarel | sdata4)."""
_ROW: Final = struct.Struct("<ii")
_RANGE: Final = struct.Struct("<iI")


class Extents:
    """Functions by number, ascending by address: [starts[i], ends[i]) in the file's virtual addresses."""

    __slots__ = ("ends", "starts")

    def __init__(self, starts: array[int], ends: array[int]) -> None:
        self.starts = starts
        self.ends = ends

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, address: int) -> int | None:
        """The number of the function that covers the address."""
        index = bisect_right(self.starts, address) - 1
        return index if index >= 0 and address < self.ends[index] else None


def function_extents(elf: Elf, source: Source) -> Extents | None:
    """All functions with unwind tables; `None` if the file has none in a known form. Raises BudgetSpent."""
    header, frames = elf.section(".eh_frame_hdr"), elf.section(".eh_frame")
    if header is None or frames is None:
        return None
    table = contents(source, header, 12 + MAX_FUNCTIONS * _ROW.size)
    data = contents(source, frames, MAX_FRAMES_BYTES)
    if len(table) < 12 or table[:4] != _TABLE_FORM:
        return None
    count = min(int.from_bytes(table[8:12], "little"), (len(table) - 12) // _ROW.size)
    shift = header.address - frames.address
    found: list[tuple[int, int]] = []
    for start, at in _ROW.iter_unpack(table[12 : 12 + count * _ROW.size]):
        start += header.address
        at += shift + 8  # behind the length and the distance to the common entry
        if start < 0 or not 8 <= at <= len(data) - _RANGE.size:
            continue
        offset, size = _RANGE.unpack_from(data, at)
        # The entry names the same function in its own words; otherwise it has another form.
        if offset + frames.address + at == start and 0 < size <= MAX_FUNCTION_BYTES:
            found.append((start, start + size))
    if not found:
        return None
    found.sort()
    starts, ends = array("Q"), array("Q")
    for index, (start, end) in enumerate(found):
        following = found[index + 1][0] if index + 1 < len(found) else end
        if starts and start == starts[-1]:
            continue
        starts.append(start)
        ends.append(max(start + 1, min(end, following)) if following > start else end)
    return Extents(starts, ends)
