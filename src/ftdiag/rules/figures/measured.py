"""What was measured: how patterns scale on each version of CPython, and what their remedies gain.

In: measured.tsv beside this module, which bench/advice.py writes. Out: figures by case, variant and version,
in numbers and in words. Prose has no figures of its own, and a remedy that was not measured to gain on the
version that is looked at is not offered.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Remedy

GAIN: Final = 1.1
"""What 2 threads do with a remedy, over what they do without, from which on it is one: medians of runs on a
machine at rest differ by a tenth."""
SCALES: Final = 1.5
"""What 2 threads do over what 1 does, from which on they do not contend: 2 but for noise."""
LOWEST_GAIN: Final = 1.0
"""The lowest of the runs must not lose."""
CONTENDED: Final = 1.3
"""What 2 threads do over what 1 does, below which they do contend."""
TABLE: Final = "measured.tsv"


@dataclass(frozen=True, slots=True)
class Measurement:
    """Medians of one variant of a case on one version.

    `scaling` is what 2 threads do over what 1 does, 2 being ideal; `gain` is what 2 threads do over what 2
    threads do in the case's first variant, None for that itself.
    """

    version: str
    scaling: float
    gain: float | None
    gain_low: float | None
    """The lowest of the runs."""

    @property
    def helps(self) -> bool:
        """Whether it gains enough to be offered."""
        return (
            self.gain is not None
            and self.gain >= GAIN
            and self.gain_low is not None
            and self.gain_low >= LOWEST_GAIN
        )


@functools.cache
def table() -> Mapping[tuple[str, str, str], Measurement]:
    """(case, variant, series) -> what was measured, in the order of the file."""
    text = resources.files(__package__ or "").joinpath(TABLE).read_text(encoding="utf-8")
    head, *lines = (line.split("\t") for line in text.splitlines())
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    return {
        (row["case"], row["variant"], row["series"]): Measurement(
            row["version"], float(row["scaling"]), _figure(row["gain"]), _figure(row["gain_low"])
        )
        for row in rows
    }


def _figure(cell: str) -> float | None:
    return float(cell) if cell else None


def measurement(case: str, variant: str, version: tuple[int, int]) -> Measurement | None:
    """What was measured on a version (major, minor); None where nothing was."""
    return table().get((case, variant, f"{version[0]}.{version[1]}"))


def scaling(case: str, version: tuple[int, int], variant: str = "shared") -> str:
    """ "0.92x on 3.14.9t", or that it was not measured there."""
    found = measurement(case, variant, version)
    return "not measured on this version" if found is None else f"{times(found.scaling)}x on {found.version}t"


def scales(case: str, version: tuple[int, int], variant: str = "shared") -> bool:
    """Whether threads were measured not to contend in a pattern; False where it was not measured."""
    found = measurement(case, variant, version)
    return found is not None and found.scaling >= SCALES


def gain(case: str, variant: str, version: tuple[int, int]) -> float:
    """What 2 threads do with a variant over what they do without: 1.0 where it was not measured."""
    found = measurement(case, variant, version)
    return 1.0 if found is None or found.gain is None else found.gain


def remedy(
    case: str,
    variant: str,
    version: tuple[int, int],
    text: str,
    code: str | None = None,
    *,
    instead: bool = False,
) -> tuple[Remedy, ...]:
    """The remedy with what it gained on this version; none where it was not measured to gain."""
    found = measurement(case, variant, version)
    if found is None or found.gain is None or not found.helps:
        return ()
    return (
        Remedy(
            f"{text}: 2 threads did {times(found.gain)} times as much (measured on {found.version}t)",
            code,
            found.gain,
            instead,
        ),
    )


def newer(cases: Iterable[str], version: tuple[int, int], variant: str = "shared") -> tuple[Remedy, ...]:
    """The remedy of a later Python, where the pattern does not scale on this version and does on that one."""
    for case in cases:
        here = measurement(case, variant, version)
        if here is None or here.scaling >= CONTENDED:
            continue
        for series in sorted({row[2] for row in table()}, key=_numbers):
            there = measurement(case, variant, _numbers(series))
            if _numbers(series) > version and there is not None and there.scaling >= SCALES:
                text = (
                    f"run on Python {series}: there 2 threads do {times(there.scaling)} of what one does (on"
                    f" {here.version}t {times(here.scaling)})"
                )
                return (Remedy(text, f"uv python install {series}t"),)
    return ()


def _numbers(series: str) -> tuple[int, int]:
    major, _, minor = series.partition(".")
    return int(major), int(minor)


def times(value: float) -> str:
    """A factor with two digits: "0.92", "2.4", "31", "2,100"."""
    if value >= 10:
        digits = len(str(int(value))) - 2
        return f"{round(value, -digits):,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
