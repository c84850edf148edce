"""Numbers into words, in one place.

In: plain numbers with a known unit. Out: short strings for tables and sentences.
"""

from __future__ import annotations

import math
from typing import Final

NOT_MEASURED: Final = "-"
"""What a table cell shows where there is no measurement."""


def seconds(value_ns: float | None) -> str:
    """A duration in ns as words of at most six characters or so: "1.24 s", "830 ms", "12 us", "2 min 5 s"."""
    if value_ns is None or not math.isfinite(value_ns):
        return NOT_MEASURED
    magnitude = abs(value_ns)
    if magnitude >= 3600e9:
        return f"{int(value_ns // 3600e9)} h {int(magnitude % 3600e9 // 60e9)} min"
    if magnitude >= 60e9:
        return f"{int(value_ns // 60e9)} min {int(magnitude % 60e9 // 1e9)} s"
    if magnitude >= 1e9:
        return f"{value_ns / 1e9:.2f} s"
    if magnitude >= 1e6:
        return f"{value_ns / 1e6:.0f} ms"
    if magnitude >= 1e3:
        return f"{value_ns / 1e3:.0f} us"
    return f"{value_ns:.0f} ns"


def cores(value: float | None) -> str:
    """A number of cores: "2.53"."""
    return NOT_MEASURED if value is None else f"{value:.2f}"


def percent(ratio: float | None, digits: int = 0) -> str:
    """A ratio as a percentage: 0.127 -> "13 %"."""
    return NOT_MEASURED if ratio is None or not math.isfinite(ratio) else f"{100 * ratio:.{digits}f} %"


def size(value_bytes: float | None) -> str:
    """A size in bytes: "512 B", "1.5 MiB"."""
    if value_bytes is None:
        return NOT_MEASURED
    value = float(value_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count(value: int | None) -> str:
    """A count with thin grouping: 1234567 -> "1,234,567"."""
    return NOT_MEASURED if value is None else f"{value:,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: "1 thread", "3 threads"."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
