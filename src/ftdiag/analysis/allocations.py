"""A capture of memray beside the hot lines: what each line allocates, and lines that do nothing else.

In: hot lines and the model's `Allocations`. Out: the same lines with what they allocated; times in which
memray was attached, as positions of windows that no figure may use. Lines are joined by file, line and
function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.analysis.grouping import Ints
from ftdiag.analysis.halts import ranges_without
from ftdiag.datatypes import replace
from ftdiag.model import (
    Allocations,
    Frame,
    HotLine,
    LineAllocations,
    Perturbation,
    Snapshot,
    ThreadAllocations,
    ThreadMetrics,
)

MORE_LINES: Final = 40
"""Lines that allocate, but were not seen by the samples, that are listed behind the hot ones."""

_Key = tuple[str, str, int | None]


def joined(
    hot: Sequence[HotLine], allocations: Allocations | None, wall: Mapping[Frame, float] | None = None
) -> tuple[HotLine, ...]:
    """The hot lines with their allocations, and behind them the lines that only allocate.

    `wall` has the wall time of lines in ns; without any none is known.
    """
    if allocations is None:
        return tuple(hot)
    known: dict[_Key, LineAllocations] = {}
    for line in allocations.lines:
        known.setdefault(_key(line.frame), line)
    lines = [replace(line, allocations=known.pop(_key(line.frame), None)) for line in hot]
    more = [line for line in known.values() if line.frame.line is not None][:MORE_LINES]
    lines += [_without_time(line, wall.get(line.frame, 0.0) if wall else None) for line in more]
    return tuple(lines)


def joined_threads(
    threads: Sequence[ThreadMetrics], allocations: Allocations | None
) -> tuple[ThreadMetrics, ...]:
    """The threads with their allocations: by the system's id where memray was told, else by a name that only
    one thread of each side has."""
    if allocations is None:
        return tuple(threads)
    place = {thread.info.tid: number for number, thread in enumerate(threads)}
    names = Counter(thread.info.name for thread in threads)
    told = Counter(each.name for each in allocations.threads)
    of_name = {thread.info.name: number for number, thread in enumerate(threads)}
    found: dict[int, ThreadAllocations] = {}
    for each in allocations.threads:
        number = place.get(each.tid) if each.tid is not None else None
        if each.tid is None and each.name and names[each.name] == told[each.name] == 1:
            number = of_name[each.name]
        if number is not None:
            found.setdefault(number, each)
    return tuple(
        replace(thread, allocations=found[number]) if number in found else thread
        for number, thread in enumerate(threads)
    )


def joined_functions(hot: Sequence[HotLine], allocations: Allocations | None) -> tuple[HotLine, ...]:
    """The same for functions: what their lines allocated together."""
    if allocations is None:
        return tuple(hot)
    known: dict[_Key, list[LineAllocations]] = {}
    for line in allocations.lines:
        known.setdefault(_key(replace(line.frame, line=None)), []).append(line)
    return tuple(
        replace(line, allocations=_together(line.frame, known.get(_key(line.frame), ()))) for line in hot
    )


def by_allocations(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the lines that allocate most first."""
    return replace(snapshot, hot=tuple(sorted(snapshot.hot, key=_allocated, reverse=True)))


def quiet_ranges(
    t0_ns: Ints, t1_ns: Ints, first: int, last: int, perturbations: Iterable[Perturbation]
) -> list[tuple[int, int]]:
    """The parts of the windows at [first, last) that no perturbation touches, as positions [begin, end)."""
    touched = [False] * (last - first)
    for perturbation in perturbations:
        inside = (t0_ns[first:last] < perturbation.end_ns) & (t1_ns[first:last] > perturbation.begin_ns)
        for offset in inside.nonzero()[0].tolist():
            touched[offset] = True
    return ranges_without(touched, first)


def _key(frame: Frame) -> _Key:
    """Qualified names of ours against memray's, which are plain before CPython 3.11."""
    return frame.filename, frame.function.rpartition(".")[2], frame.line


def _allocated(line: HotLine) -> tuple[int, int, float]:
    own = line.allocations
    if own is None:
        return -1, -1, line.total_ns
    if own.count is None:
        return 0, own.left_bytes or own.peak_bytes or 0, line.total_ns
    return own.count, own.size_bytes or 0, line.total_ns


def _without_time(line: LineAllocations, wall_ns: float | None = None) -> HotLine:
    stacks = ((line.stack, 0.0),) if line.stack else ()
    return HotLine(line.frame, 0.0, {}, line.threads, stacks, allocations=line, wall_ns=wall_ns)


def _together(frame: Frame, lines: Sequence[LineAllocations]) -> LineAllocations | None:
    if not lines:
        return None

    def added(name: str) -> int | None:
        values = [getattr(line, name) for line in lines]
        return None if None in values else sum(values)

    return LineAllocations(
        frame=frame,
        threads=max(line.threads for line in lines),
        count=added("count"),
        size_bytes=added("size_bytes"),
        temporary=added("temporary"),
        peak_bytes=added("peak_bytes"),
        left_count=added("left_count"),
        left_bytes=added("left_bytes"),
    )
