"""Names of the kernel's functions, where the machine shows them.

In: /proc/kallsyms. Out: functions by address.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from ftdiag.sources.native.symboltable import MAX_SYMBOLS, Symbol, SymbolTable

MAX_KALLSYMS_BYTES: Final = 64 << 20
FIRST_KALLSYMS_BYTES: Final = 1 << 16
_KERNEL_SYMBOL: Final = re.compile(rb"^([89a-f][0-9a-f]{15}) [tTwW] ([^\t\n]{1,512})", re.MULTILINE)


class KernelSymbols:
    """The kernel's functions, searched in the text of /proc/kallsyms as it is.

    An object for each of 120,000 lines would take a quarter of a second; a few hundred are ever asked for.
    """

    __slots__ = ("_core_end", "_data", "_modules")

    def __init__(self, data: bytes) -> None:
        """`data`: lines of "ADDRESS type name [module]", those without a module first and in order."""
        self._data = data
        module = data.find(b"\t[")
        self._core_end = len(data) if module < 0 else data.rfind(b"\n", 0, module) + 1
        self._modules: SymbolTable | None = None

    @property
    def shown(self) -> bool:
        """Whether addresses are there at all (kptr_restrict)."""
        return _KERNEL_SYMBOL.search(self._data) is not None

    def find(self, address: int) -> Symbol | None:
        """The function that covers the address."""
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
            entries = [
                (int(found[1], 16), 0, found.start(2))
                for found, _ in zip(
                    _KERNEL_SYMBOL.finditer(self._data, self._core_end), range(MAX_SYMBOLS), strict=False
                )
            ]
            self._modules = SymbolTable(entries, re.sub(rb"[\t\n]", b"\0", self._data))
        return self._modules.find(address)


def kernel_symbols_shown(path: str = "/proc/kallsyms") -> bool:
    """Whether `read_kernel_symbols` finds something, from the first lines alone."""
    try:
        with open(path, "rb") as stream:
            return KernelSymbols(stream.read(FIRST_KALLSYMS_BYTES)).shown
    except OSError:
        return False


@functools.cache
def read_kernel_symbols(path: str = "/proc/kallsyms") -> KernelSymbols | None:
    """The kernel's functions; `None` where their addresses are hidden (kptr_restrict) or not there.

    Read once in a process: they are the machine's, whatever is looked at, and take the kernel 55 ms to write.
    """
    try:
        with open(path, "rb") as stream:
            symbols = KernelSymbols(stream.read(MAX_KALLSYMS_BYTES))
    except OSError:
        return None
    return symbols if symbols.shown else None
