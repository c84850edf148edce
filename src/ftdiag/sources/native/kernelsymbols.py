"""Names of the kernel's functions, where the machine shows them.

In: /proc/kallsyms. Out: functions by address.

They stay where they are until the machine is started anew or a module comes or goes, and take the kernel 55
to 90 ms to write: what matters of them is kept on disk between sessions. What is made later (programs of BPF)
is looked for in /proc/kallsyms itself when an address is met that is in nothing that is known.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ftdiag.sources.native.symbolcache import SymbolCache, default_directory, digest
from ftdiag.sources.native.symboltable import MAX_SYMBOLS, Symbol, SymbolTable

MAX_KALLSYMS_BYTES: Final = 64 << 20
FIRST_KALLSYMS_BYTES: Final = 1 << 16
MAX_MODULES_BYTES: Final = 1 << 20
KALLSYMS: Final = "/proc/kallsyms"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
MAX_FOUND: Final = 4096
MODULES: Final = "/proc/modules"
_KERNEL_SYMBOL: Final = re.compile(rb"^([89a-f][0-9a-f]{15}) [tTwW] ([^\t\n]{1,512})", re.MULTILINE)


class KernelSymbols:
    """The kernel's functions, searched in the text of /proc/kallsyms as it is.

    An object for each of 120,000 lines would take a quarter of a second; a few hundred are ever asked for.
    """

    __slots__ = ("_anew", "_core_end", "_data", "_found", "_modules", "_starts")

    def __init__(self, data: bytes, anew: Callable[[], bytes] | None = None) -> None:
        """`data`: lines of "ADDRESS type name [module]", those without a module first and in order.

        `anew` reads them, where these are from another time.
        """
        self._data = data
        self._anew = anew
        module = data.find(b"\t")  # of "\t[module]"; two bytes take ten times as long to find
        self._core_end = len(data) if module < 0 else data.rfind(b"\n", 0, module) + 1
        self._modules: SymbolTable | None = None
        self._starts: list[int] = []
        self._found: list[Symbol] = []
        """Functions that were found, in order: every second address is in one of them."""

    @property
    def shown(self) -> bool:
        """Whether addresses are there at all (kptr_restrict)."""
        return _KERNEL_SYMBOL.search(self._data) is not None

    def find(self, address: int) -> Symbol | None:
        """The function that covers the address."""
        place = bisect_right(self._starts, address)
        if place and address < self._found[place - 1].end:
            return self._found[place - 1]
        found = self._search(address)
        if found is not None and found.start <= address < found.end:
            if len(self._found) >= MAX_FOUND:
                self._forget()
            place = bisect_right(self._starts, address)
            self._starts.insert(place, found.start)
            self._found.insert(place, found)
        return found

    def _forget(self) -> None:
        self._starts.clear()
        self._found.clear()

    def _search(self, address: int) -> Symbol | None:
        wanted = b"%016x" % address
        low, high = 0, self._core_end  # low is always the beginning of a line
        before = -1
        while low < high:
            middle = (low + high) // 2
            begin = max(low, self._data.rfind(b"\n", 0, middle) + 1)
            end = self._data.find(b"\n", begin, self._core_end)
            end = self._core_end if end < 0 else end + 1
            if self._data[begin : begin + 16] <= wanted:
                before, low = begin, end
            else:
                high = begin
        if low >= self._core_end:  # beyond the last one: a module
            return self._in_modules(address)
        found = None if before < 0 else _KERNEL_SYMBOL.match(self._data, before)
        following = self._data[low : low + 16]
        try:
            return found and Symbol(
                found[2].decode("utf-8", "replace"), int(found[1], 16), int(following, 16)
            )
        except ValueError:
            return None

    def _in_modules(self, address: int) -> Symbol | None:
        if self._modules is None:
            self._modules = _table(self._data[self._core_end :])
        found = self._modules.find(address)
        if found is None and self._anew is not None:
            data, self._anew = self._anew(), None
            self._forget()
            self._modules = _table(data[KernelSymbols(data)._core_end :])
            found = self._modules.find(address)
        return found


def _table(data: bytes) -> SymbolTable:
    """The functions of lines that are in any order."""
    entries = [
        (int(found[1], 16), 0, found.start(2))
        for found, _ in zip(_KERNEL_SYMBOL.finditer(data), range(MAX_SYMBOLS), strict=False)
    ]
    return SymbolTable(entries, re.sub(rb"[\t\n]", b"\0", data))


def kernel_symbols_shown(path: str = KALLSYMS) -> bool:
    """Whether `read_kernel_symbols` finds something, from the first lines alone."""
    try:
        with open(path, "rb") as stream:
            return KernelSymbols(stream.read(FIRST_KALLSYMS_BYTES)).shown
    except OSError:
        return False


@functools.cache
def read_kernel_symbols(path: str = KALLSYMS) -> KernelSymbols | None:
    """The kernel's functions; `None` where their addresses are hidden (kptr_restrict) or not there.

    Read once in a process, and kept on disk: they are the machine's, whatever is looked at.
    """
    identity = this_kernel() if path == KALLSYMS else None
    return kernel_symbols(path, SymbolCache(default_directory()), identity)


def kernel_symbols(path: str, cache: SymbolCache, identity: str | None) -> KernelSymbols | None:
    """The same; `identity` tells this kernel, as it is now, from any other, `None`: nothing can."""

    def read() -> bytes:
        try:
            with open(path, "rb") as stream:
                return stream.read(MAX_KALLSYMS_BYTES)
        except OSError:
            return b""

    known = None if identity is None else cache.get_bytes(identity)
    if known is not None:
        return KernelSymbols(known, read)
    data = read()
    symbols = KernelSymbols(data)
    if not symbols.shown:
        return None
    if identity is not None:
        cache.put_bytes(identity, what_matters(data))
    return symbols


def this_kernel() -> str | None:
    """What the symbols of this kernel, with the modules that it has now, are called in a cache."""
    try:
        boot = Path(BOOT_ID).read_text("ascii").strip().replace("-", "")
    except (OSError, ValueError):
        return None
    modules = []
    try:
        with open(MODULES, "rb") as stream:
            for line in stream.read(MAX_MODULES_BYTES).splitlines():
                words = line.split()
                modules.append(b" ".join((*words[:2], *words[5:6])))  # name, size, address: not its users
    except OSError:
        pass  # a kernel without modules has no such file
    told = digest(b"\n".join(modules))
    return f"kernel{boot}-{told}" if boot.isalnum() else None


def what_matters(data: bytes) -> bytes:
    """The lines without those of the padding before functions, which no instruction is in: half of all."""
    return b"".join([line for line in data.splitlines(keepends=True) if b" __pfx_" not in line])
