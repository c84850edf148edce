"""Perf maps: what a JIT compiler writes into /tmp/perf-PID.map, and kallsyms, which look alike."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

from ftdiag.sources.native.perfmap import PerfMap
from ftdiag.sources.native.readingcredit import ReadingCredit
from ftdiag.sources.native.symboltable import SymbolTable
from fuzz.mutation import NUMBERS, TEXTS, changed_bytes


def read_map(data: bytes) -> SymbolTable:
    """What is read of a file with these bytes, and a last line that ends."""
    descriptor = os.memfd_create("perf map")
    try:
        os.write(descriptor, data + b"\n")
        perf_map = PerfMap(ReadingCredit(time.monotonic))
        perf_map.read_on(descriptor)
    finally:
        os.close(descriptor)
    return perf_map.symbols


SEPARATORS = (b" ", b"\t", b"  ", b"\0", b"\x85", b"\x1c", b"")


class PerfMaps:
    """A map of a few functions, one of which is looked for at the edges of each."""

    name = "perf maps"
    share = 80

    def prepare(self, folder: Path) -> None:
        """Nothing."""

    def attempt(self, chance: Random) -> list[str]:
        """Read a map, then look up what is in it."""
        data = b"\n".join(self._line(chance) for _ in range(chance.randrange(1, 30)))
        if chance.random() < 0.5:
            data = changed_bytes(data, chance)
        return wrong_in_table(read_map(data), chance)

    @staticmethod
    def _line(chance: Random) -> bytes:
        begin = chance.choice((chance.randrange(1 << 47), chance.randrange(1 << 10), chance.choice(NUMBERS)))
        size = chance.choice((chance.randrange(1, 4096), chance.choice(NUMBERS)))
        name = chance.choice(("py::work:/app/work.py", f"f{chance.randrange(9)}", chance.choice(TEXTS)))
        form = chance.choice(("{:x}", "0x{:x}", "{:X}", "{}"))
        separator = chance.choice(SEPARATORS) if chance.random() < 0.2 else b" "
        fields = (
            form.format(begin).encode(),
            form.format(size).encode(),
            name.encode("utf-8", "surrogatepass"),
        )
        return separator.join(fields)


def wrong_in_table(table: SymbolTable, chance: Random) -> list[str]:
    """Look for addresses at the edges of functions and between them; what is wrong with what is found."""
    starts, ends = table.columns[:2]
    places = [0, 1, 2**47, 2**63, 2**64 - 1]
    for _ in range(min(8, len(table))):
        number = chance.randrange(len(table))
        places += [starts[number] - 1, starts[number], ends[number] - 1, ends[number]]
    wrong = []
    for place in places:
        found = table.find(place)
        if found is not None and not found.start <= place < found.end:
            wrong.append("a function is found for an address outside it")
    return wrong
