"""What the cyclic collector did in a range, by its own statistics.

In: windows whose recording has them (CPython 3.15 and later). Out: `CollectorShares` (what each range of
windows adds) and the model's `CollectorMetrics`: exact numbers and times; why there are none, where there are
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import CollectorMetrics, GenerationCollections, RecordingSettings, Target
from ftdiag.recording.reader import Recording

PUBLISHED_FROM: Final = (3, 15)
"""The first version that says what its collector did."""


@dataclass(frozen=True, slots=True)
class CollectorShares:
    """Sums by generation over the windows that have statistics, which last `covered_ns` together."""

    generations: tuple[GenerationCollections, ...]
    covered_ns: int
    timed: int
    longest_ns: int | None


def collector_shares(recording: Recording, first: int, last: int) -> CollectorShares:
    """The statistics of the windows at positions [first, last)."""
    parts: list[GenerationCollections] = []
    covered = 0
    timed: list[int] = []
    for position, told in recording.collections(first, last):
        covered += int(recording.t1_ns[position] - recording.t0_ns[position])
        parts += told.generations
        timed += [end - begin for begin, end in zip(told.begin_ns, told.end_ns, strict=True)]
    return CollectorShares(_summed(parts), covered, len(timed), max(timed, default=None))


def joined_collector(parts: Sequence[CollectorShares]) -> CollectorShares:
    """What consecutive ranges add together."""
    longest = [part.longest_ns for part in parts if part.longest_ns is not None]
    return CollectorShares(
        _summed([each for part in parts for each in part.generations]),
        sum(part.covered_ns for part in parts),
        sum(part.timed for part in parts),
        max(longest, default=None),
    )


def merge_collector(parts: Sequence[CollectorShares], duration_ns: float) -> CollectorMetrics | None:
    """The whole range; `None` where no window has statistics."""
    whole = joined_collector(parts)
    if whole.covered_ns <= 0:
        return None
    return CollectorMetrics(
        generations=whole.generations,
        covered_ratio=min(1.0, whole.covered_ns / duration_ns) if duration_ns > 0 else 1.0,
        timed=whole.timed,
        longest_ns=whole.longest_ns,
    )


def why_no_collector(target: Target, settings: RecordingSettings) -> str:
    """Why a range has no statistics of the collector."""
    if settings.source != "native":
        return "the collector's own count is read from the interpreter's memory, which was not read here"
    version = target.python_version.split(".")
    known = len(version) >= 2 and version[0].isdigit() and version[1].isdigit()
    if known and (int(version[0]), int(version[1])) >= PUBLISHED_FROM:
        return "this recording has none: an older ftdiag made it, or this build lays its statistics out anew"
    return "CPython publishes what its collector did from 3.15 on; before, its pauses are sampled"


def _summed(rows: Sequence[GenerationCollections]) -> tuple[GenerationCollections, ...]:
    sums: dict[int, list[int]] = {}
    for row in rows:
        whole = sums.setdefault(row.generation, [0, 0, 0, 0])
        for place, value in enumerate((row.count, row.total_ns, row.looked_at, row.freed)):
            whole[place] += value
    return tuple(GenerationCollections(generation, *sums[generation]) for generation in sorted(sums))
