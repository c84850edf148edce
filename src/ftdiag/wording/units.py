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


def share(part: float, whole: float) -> str:
    """A part of a whole in percent: "13 %", "under 1 %"; "0 %" of nothing, and of what is no number."""
    ratio = part / whole if whole > 0 and math.isfinite(part) else 0.0
    return "under 1 %" if 0 < ratio < 0.005 else percent(ratio)


def small_percent(ratio: float | None) -> str:
    """A ratio that is mostly small: "1.3 %", "13 %", "0 %"; "not measured"."""
    if ratio is None or not math.isfinite(ratio):
        return "not measured"
    return percent(ratio, 1 if 0 < ratio < 0.1 else 0)


def whole_or_cores(value: float) -> str:
    """A number of cores without decimals where it has none: "2", "1.50"."""
    return str(int(value)) if value == int(value) else cores(value)


def of_cores(lost: float, capacity: float) -> str:
    """ "2.13 of 4 cores"."""
    return f"{lost:.2f} of {capacity:g} cores"


COUNTED: Final = frozenset({"ticks", "threads"})
"""Units that one of is written without an s."""


def amount(value: float, unit: str) -> str:
    """A figure with its unit, by the unit's own way of writing."""
    if not math.isfinite(value):
        return "not measured"
    if unit == "ratio":
        return small_percent(value)
    if unit == "cores":
        return cores(value)
    if unit == "bytes":
        return size(value)
    number = (
        f"{value:,.0f}" if value == int(value) else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    )
    if value == 1 and unit in COUNTED:
        unit = unit.removesuffix("s")
    return f"{number} {unit}".rstrip()
