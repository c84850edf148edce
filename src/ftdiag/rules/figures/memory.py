"""What free threading itself costs in memory, as measured, and how much of a process that explains.

In: the memory of the facts; memory.tsv beside this module, which bench/memory_costs.py writes: resident bytes
on each version, and on a build with the GIL, x86-64, glibc. Out: `Explained`, and figures for prose.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.figures.measured import GAIN, times

TABLE: Final = "memory.tsv"
GIL: Final = "gil"
"""The rows of the build with the GIL."""
OBJECT: Final = "object-"
"""How the names of rows about one object begin."""


@functools.cache
def table() -> Mapping[tuple[str, str], tuple[str, float]]:
    """(what, series) -> (version, bytes), in the order of the file."""
    text = resources.files(__package__ or "").joinpath(TABLE).read_text(encoding="utf-8")
    _, *lines = (line.split("\t") for line in text.splitlines())
    return {(what, series): (version, float(size)) for what, series, version, size in lines}


def series_of(version: tuple[int, int]) -> str:
    """The series whose rows a version is judged by: the nearest that was measured."""
    known = sorted(tuple(map(int, series.split("."))) for _, series in table() if series != GIL)
    nearest = max((one for one in known if one <= version), default=known[0])
    return f"{nearest[0]}.{nearest[1]}"


def measured_bytes(what: str, series: str) -> float:
    """Bytes of a row; 0 where there is none."""
    return table().get((what, series), ("", 0.0))[1]


def objects_ratio(series: str) -> float:
    """The size of objects over that with the GIL, the mean over all kinds."""
    kinds = [what for what, of in table() if of == GIL and what.startswith(OBJECT)]
    ratios = [measured_bytes(what, series) / measured_bytes(what, GIL) for what in kinds]
    return sum(ratios) / len(ratios) if ratios else 1.0


def against_gil(what: str, version: tuple[int, int]) -> str:
    """ "1.5 MiB on 3.15.1t, 0.1 MiB with the GIL"."""
    series = series_of(version)
    known, size = table()[what, series]
    return f"{size_words(size)} on {known}t, {size_words(measured_bytes(what, GIL))} with the GIL"


def purge_remedy(what: str, version: tuple[int, int], text: str) -> tuple[Remedy, ...]:
    """MIMALLOC_PURGE_DELAY=0 with what it was measured to give back; none where it gives back nothing."""
    series = series_of(version)
    kept, purged = measured_bytes(what, series), measured_bytes(f"{what} purge-at-once", series)
    if kept <= 0 or purged <= 0 or kept / purged < GAIN:
        return ()
    known, _ = table()[what, series]
    told = f"{size_words(kept)} became {size_words(purged)}, {times(kept / purged)} times less"
    return (Remedy(f"{text}: {told} (measured on {known}t)", "MIMALLOC_PURGE_DELAY=0 python app.py"),)


def size_words(value_bytes: float) -> str:
    """A size in MiB, whatever it is, so that sizes in a sentence compare: "61 MiB", "1.1 MiB"."""
    value = value_bytes / (1 << 20)
    return f"{value:.0f} MiB" if value >= 10 else f"{value:.1f} MiB"
