"""Names of code that was made at run time: the perf map that a process writes of it.

In: a pid. Out: functions by address, read on where the file grew.
"""

from __future__ import annotations

import io
import os
from typing import Final

from ftdiag.sources.native.elf import (
    FileSource,
)
from ftdiag.sources.native.readingcredit import ReadingCredit
from ftdiag.sources.native.symboltable import EMPTY, MAX_NAME_BYTES, MAX_SYMBOLS, SymbolTable

MAX_PERF_MAP_BYTES: Final = 32 << 20
"""Of a perf map, what is read in all; it is read on where it grew, not again."""
PERF_MAP_TAIL_BYTES: Final = 256
"""The end of what was read: if it is still there, the file has only grown."""


class PerfMap:
    """The functions of a perf map, which its writer appends to: what was read is not read again."""

    def __init__(self, credit: ReadingCredit) -> None:
        self._credit = credit
        self._file: tuple[int, int] | None = None
        self._read_bytes = 0
        self._tail = b""
        self._entries: list[tuple[int, int, int]] = []
        self._names = bytearray(b"\0")
        self.symbols = EMPTY

    def read_on(self, descriptor: int) -> None:
        """Read what was appended to the open file; all of it if it is another, or was cut."""
        at = os.fstat(descriptor)
        file = (at.st_dev, at.st_ino)
        if file != self._file or at.st_size < self._read_bytes:
            self._file = file
            self._begin_anew()
        wanted = min(at.st_size, MAX_PERF_MAP_BYTES) - self._read_bytes
        if wanted <= 0 or not self._credit.left:
            return
        with self._credit:
            source = FileSource(descriptor)
            if source.at(self._read_bytes - len(self._tail), len(self._tail)) != self._tail:
                self._begin_anew()  # written anew, and longer than before
                wanted = min(at.st_size, MAX_PERF_MAP_BYTES)
            data = source.at(self._read_bytes, wanted)
            whole_lines = data[: data.rfind(b"\n") + 1]
            if whole_lines:
                self._read_bytes += len(whole_lines)
                self._tail = whole_lines[-PERF_MAP_TAIL_BYTES:]
                _add_perf_lines(whole_lines, self._entries, self._names)
                self.symbols = SymbolTable(self._entries, bytes(self._names))

    def _begin_anew(self) -> None:
        self._read_bytes, self._tail = 0, b""
        self._entries, self._names, self.symbols = [], bytearray(b"\0"), EMPTY


def _add_perf_lines(data: bytes, entries: list[tuple[int, int, int]], names: bytearray) -> None:
    """Lines of "START SIZE name" in hexadecimal; what does not look so is left out."""
    for line in io.BytesIO(data):  # not all of them at once
        fields = line.rstrip(b"\n").split(None, 2)
        if len(fields) != 3:
            continue
        try:
            start, size = int(fields[0], 16), int(fields[1], 16)
        except ValueError:
            continue
        if start > 0 and size > 0 and start + size < 1 << 63 and len(entries) < MAX_SYMBOLS:
            entries.append((start, size, len(names)))
            names += fields[2][:MAX_NAME_BYTES] + b"\0"


def namespace_pid(pid: int) -> int:
    """The id that a process has in its own PID namespace, by which it names its perf map."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            for line in stream.read(65_536).splitlines():
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except (OSError, ValueError):
        pass
    return pid


def own_machine() -> str:
    """The machine of code that is made at run time here, as ELF files call it."""
    return "EM_AARCH64" if os.uname().machine == "aarch64" else "EM_X86_64"
