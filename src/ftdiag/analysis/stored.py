"""Digests of blocks of windows as a recording has them: a long one is seen without reading all of it.

In: blobs, which `storing` made. Out: the digests that they were made of, or `None`: where there is none, it
is damaged, it was made of other windows or by another version of the analysis. Then it is made anew of the
windows, which takes time and gives the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.chains import ENDS, BottleneckShares, Family
from ftdiag.analysis.collector import CollectorShares
from ftdiag.analysis.digests import Digest, Total
from ftdiag.analysis.efficiency import TickShares
from ftdiag.analysis.grouping import Ints
from ftdiag.analysis.locks import LockShares, OpenWaits
from ftdiag.analysis.memory import MemoryShares
from ftdiag.analysis.oncpu import OnCpuShares
from ftdiag.analysis.pauses import PauseShares
from ftdiag.analysis.ticks import STATES
from ftdiag.analysis.timeline import Series
from ftdiag.analysis.updates import UpdateShares
from ftdiag.datatypes import replace
from ftdiag.model import (
    AllocatorPart,
    Confidence,
    GenerationCollections,
    MemoryKind,
    MemoryReading,
    ProcessCounters,
    SamplerCost,
    SharedObject,
    SharedPlace,
    ThreadState,
)
from ftdiag.recording import summaries
from ftdiag.recording.reader import Recording
from ftdiag.recording.summaries import (
    CODE,
    FRAME,
    LOCK,
    OPTIONAL,
    PERSON,
    POSITION,
    STACK,
    THREAD,
    VALUE,
    WAIT,
    Part,
    Table,
)

VERSION: Final = 2
"""Raised whenever the same windows give other digests than before: stored ones are then made anew."""
MAX_ROWS: Final = 1 << 14
"""Rows of a text, such as shared objects, at most; a block with more is not stored."""

COST: Final = tuple(SamplerCost.__annotations__)
PROCESS: Final = tuple(name for name in ProcessCounters.__annotations__ if name != "others")
FACTS: Final = (
    "version",
    "first_id",
    "last_id",
    "capacity",
    "length_ns",
    "ticks",
    "torn_ticks",
    "estimated",
    "clock_ticks",
    "joined",
)
ON_CPU: Final = ("lost", "measured", "sampled", "all_samples", "unnamed_samples")
GENERATION: Final = tuple(GenerationCollections.__annotations__)

TABLES: Final[Mapping[str, tuple[Table, ...]]] = {
    "facts": ({"facts": OPTIONAL},),
    "threads": ({"thread": THREAD}, {"totals": VALUE}, {"states_ns": VALUE}),
    "time": ({"thread": THREAD, "state": CODE, "stack": STACK, "wait": WAIT, "time_ns": VALUE},),
    "ticks": ({"concurrency": VALUE}, {"lost_ns": VALUE}),
    "locks": (
        {
            "wait_lock": LOCK,
            "wait_thread": THREAD,
            "wait_stack": STACK,
            "wait_ns": VALUE,
            "critical_ns": VALUE,
        },
        {
            "blame_lock": LOCK,
            "blame_holder": PERSON,
            "blame_stack": STACK,
            "blame_confidence": CODE,
            "blame_ns": VALUE,
        },
        {"lock": LOCK, "waiters_max": VALUE, "longest_ns": VALUE},
        {"head_thread": THREAD, "head_lock": LOCK, "head_ns": VALUE, "head_through": CODE},
        {"tail_thread": THREAD, "tail_lock": LOCK, "tail_ns": VALUE, "tail_through": CODE},
    ),
    "windows": (
        {"cpu_ns": VALUE, "process_cpu_ns": VALUE, "spun_ns": VALUE},
        {"states_ns": VALUE},
        {"lost_ns": VALUE},
        {"thread": THREAD, "window": POSITION, "state": CODE, "running": CODE},
    ),
    "costs": (dict.fromkeys(COST, VALUE), dict.fromkeys((f"of_{name}" for name in PROCESS), VALUE)),
    "on_cpu": (
        {"leaf": FRAME, "symbol": FRAME, "samples": VALUE},
        {"unseen_state": CODE, "unseen_symbol": FRAME, "unseen_samples": VALUE},
        {"numbers": VALUE},
    ),
    "pauses": (
        {
            "requester": PERSON,
            "stack": STACK,
            "confidence": CODE,
            "reason": POSITION,
            "count": VALUE,
            "total_ns": VALUE,
            "longest_ns": VALUE,
            "threads": VALUE,
        },
    ),
    "collector": (dict.fromkeys(GENERATION, VALUE), {"numbers": OPTIONAL}),
    "memory": (
        {"at_ns": VALUE, "resident": VALUE},
        {"kinds_at_ns": VALUE},
        {"kinds": OPTIONAL},
        {"leaf": FRAME, "part": CODE, "samples": VALUE},
        {"numbers": VALUE},
    ),
    "bottlenecks": (
        {
            "family": CODE,
            "what": POSITION,
            "end": CODE,
            "thread": PERSON,
            "stack": STACK,
            "wait_ns": VALUE,
            "lost_ns": VALUE,
        },
        {
            "of_family": CODE,
            "of_what": POSITION,
            "of_wall_ns": VALUE,
            "of_waiters": VALUE,
            "of_direct_ns": VALUE,
            "of_known_ns": VALUE,
        },
        {"edge_waiter": THREAD, "edge_lock": LOCK, "edge_holder": PERSON, "edge_ns": VALUE},
        {"wall_stack": STACK, "wall_ns": VALUE},
    ),
    "updates": ({"windows": VALUE},),
}
"""Columns by part, those of equal length together."""
TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "costs": ("others", "gaps"),
    "on_cpu": ("shared",),
    "pauses": ("reasons",),
    "bottlenecks": ("knots",),
    "updates": ("rows", "mixed"),
}


class _Unfit(ValueError):
    """Not what a digest of these windows has."""


def capacity_code(capacity: float | None) -> int:
    """The capacity as a whole number, to be compared only; within the bounds of values."""
    return int.from_bytes(struct.pack("<f", capacity), "little") if capacity is not None else -1


def stored(recording: Recording, first: int, last: int, capacity: float | None, locks: int) -> Digest | None:
    """The digest of the block at positions [first, last), if the recording has it.

    `locks` is one more than the largest number of a lock.
    """
    ids = int(recording.window_ids[first]), int(recording.window_ids[last - 1])
    blobs = recording.summary_parts(ids[1])
    if not blobs or recording.left_out(first, last).any():
        return None
    try:
        facts = _decoded(blobs, ids[1], "facts").columns["facts"].tolist()
        if facts[:4] != [VERSION, *ids, capacity_code(capacity)] or len(facts) != len(FACTS):
            return None
        parts = {name: _decoded(blobs, ids[1], name) for name in TABLES}
        return _digest(recording, first, last, locks, dict(zip(FACTS, facts, strict=True)), parts)
    except (summaries.DamagedBlob, _Unfit):
        return None


def _decoded(blobs: Mapping[str, object], key: int, name: str) -> Part:
    return summaries.decoded(blobs.get(name), key, name, TABLES[name], TEXTS.get(name, ()))


def _digest(
    recording: Recording,
    first: int,
    last: int,
    locks: int,
    facts: Mapping[str, int],
    parts: Mapping[str, Part],
) -> Digest:
    windows = last - first
    threads, ticks = parts["threads"].columns, parts["ticks"].columns
    rows = len(threads["thread"])
    costs = parts["costs"]
    process = _process(costs)
    return Digest(
        thread=threads["thread"],
        totals=_rows(threads["totals"], rows, len(Total)),
        states_ns=_by_state(threads["states_ns"], rows),
        time=_time(parts["time"].columns),
        shares=TickShares(
            ticks["concurrency"],
            facts["clock_ticks"],
            _by_state(ticks["lost_ns"], 1)[0].astype(np.float64) if len(ticks["lost_ns"]) else None,
        ),
        locks=_lock_shares(parts["locks"].columns, locks, joined=bool(facts["joined"])),
        costs=tuple(
            SamplerCost(*row) for row in zip(*(costs.columns[name].tolist() for name in COST), strict=True)
        ),
        process=process,
        gaps=summaries.gaps_of(costs.texts["gaps"]),
        length_ns=facts["length_ns"],
        ticks=facts["ticks"],
        torn_ticks=facts["torn_ticks"],
        estimated=facts["estimated"],
        series=_series(parts["windows"].columns, windows),
        on_cpu=_on_cpu(recording, parts["on_cpu"]),
        pauses=_pause_shares(parts["pauses"]),
        collector=_collector(parts["collector"].columns),
        memory=_memory_shares(recording, first, last, parts["memory"].columns),
        bottlenecks=_bottlenecks(parts["bottlenecks"], locks),
        updates=_updates(parts["updates"]),
    )


def _rows(values: Ints, rows: int, width: int) -> Ints:
    if len(values) != rows * width:
        raise _Unfit
    return values.reshape(rows, width)


def _by_state(values: Ints, rows: int) -> Ints:
    """A row with a value for each state; there is no state 0."""
    found = _rows(values, rows, STATES)
    if found[:, 0].any():
        raise _Unfit
    return found


def _known_states(codes: Ints, least: int) -> None:
    if len(codes) and not least <= int(codes.min()) <= int(codes.max()) < STATES:
        raise _Unfit


def _time(columns: Mapping[str, Ints]) -> ThreadTime:
    _known_states(columns["state"], 1)
    return ThreadTime(
        window=np.zeros(len(columns["thread"]), dtype=np.int64),
        **{name: columns[name] for name in ("thread", "state", "stack", "wait")},
        time_ns=columns["time_ns"].astype(np.float64),
    )


def _process(costs: Part) -> tuple[ProcessCounters, ...]:
    others = costs.texts["others"]
    rows = list(zip(*(costs.columns[f"of_{name}"].tolist() for name in PROCESS), strict=True))
    if not isinstance(others, list) or len(others) != len(rows):
        raise _Unfit
    gil = PROCESS.index("gil_enabled")
    readings = []
    for row, busy in zip(rows, others, strict=True):
        values: list[Any] = [value - 1 if value > 0 else None for value in row]
        values[gil] = None if values[gil] is None else bool(values[gil])
        others_then = summaries.others_of(busy) if busy else ()
        readings.append(ProcessCounters(**dict(zip(PROCESS, values, strict=True)), others=others_then))
    return tuple(readings)


def _lock_shares(columns: Mapping[str, Ints], locks: int, *, joined: bool) -> LockShares:
    for name in ("wait_lock", "blame_lock", "lock", "head_lock", "tail_lock"):
        _known(columns[name], locks)
    edges = {
        edge: OpenWaits(
            columns[f"{edge}_thread"],
            columns[f"{edge}_lock"],
            columns[f"{edge}_ns"].astype(np.float64),
            columns[f"{edge}_through"].astype(np.bool_),
        )
        for edge in ("head", "tail")
    }
    names = [name for table in TABLES["locks"][:3] for name in table]
    return LockShares(**_typed(columns, names), head=edges["head"], tail=edges["tail"], joined=joined)


def _known(numbers: Ints, limit: int) -> None:
    """Raise where a number, of a lock or a frame say, is none of the recording's."""
    if len(numbers) and int(numbers.max()) >= limit:
        raise _Unfit


def _typed(columns: Mapping[str, Ints], names: Sequence[str]) -> dict[str, Any]:
    """Columns by name, times as the floats that they are."""
    return {
        name: columns[name].astype(np.float64) if name.endswith("_ns") else columns[name] for name in names
    }


def _series(columns: Mapping[str, Ints], windows: int) -> Series:
    window = columns["window"]
    if len(columns["cpu_ns"]) != windows or (len(window) and int(window.max()) >= windows):
        raise _Unfit
    _known_states(columns["state"], 1)
    _known_states(columns["running"], 0)
    lost = columns["lost_ns"]
    return Series(
        cpu_ns=columns["cpu_ns"],
        process_cpu_ns=columns["process_cpu_ns"],
        states_ns=_by_state(columns["states_ns"], windows).astype(np.float64),
        lost_ns=_by_state(lost, windows).astype(np.float64) if len(lost) else None,
        spun_ns=columns["spun_ns"].astype(np.float64),
        thread=columns["thread"].astype(np.int32),
        window=window.astype(np.int32),
        state=columns["state"].astype(np.uint8),
        running=columns["running"].astype(np.uint8),
    )


def _on_cpu(recording: Recording, part: Part) -> OnCpuShares:
    numbers = part.columns["numbers"].tolist()
    if len(numbers) != len(ON_CPU):
        raise _Unfit
    lost, measured, sampled, all_samples, unnamed = numbers
    for name in ("leaf", "symbol", "unseen_symbol"):
        _known(part.columns[name], recording.frame_count)
    if not np.isin(part.columns["unseen_state"], [int(state) for state in ThreadState]).all():
        raise _Unfit
    shared: dict[int, list[SharedObject]] = {}
    for line, one in summaries.shared_of(part.texts["shared"], MAX_ROWS):
        if line >= recording.frame_count:
            raise _Unfit
        shared.setdefault(line, []).append(recording.with_maker(one))
    return OnCpuShares(
        part.columns["leaf"],
        part.columns["symbol"],
        part.columns["samples"],
        {line: tuple(objects) for line, objects in shared.items()},
        lost,
        measured,
        sampled / 1e6,
        all_samples,
        unnamed,
        *(part.columns[name] for name in ("unseen_state", "unseen_symbol", "unseen_samples")),
    )


def _pause_shares(part: Part) -> PauseShares:
    reasons = part.texts["reasons"]
    if not isinstance(reasons, list) or not all(isinstance(one, str) for one in reasons):
        raise _Unfit
    columns = part.columns
    _known(columns["reason"], len(reasons) + 1)
    _known(columns["confidence"], len(Confidence))
    return PauseShares(
        {
            (requester, stack, confidence, reasons[reason - 1] if reason else None): (
                *(count, float(total), float(longest)),
                threads,
            )
            for requester, stack, confidence, reason, count, total, longest, threads in zip(
                *(columns[name].tolist() for name in TABLES["pauses"][0]), strict=True
            )
        }
    )


def _collector(columns: Mapping[str, Ints]) -> CollectorShares:
    numbers = columns["numbers"].tolist()
    if len(numbers) != 3:
        raise _Unfit
    covered, timed, longest = numbers
    rows = zip(*(columns[name].tolist() for name in GENERATION), strict=True)
    return CollectorShares(
        tuple(GenerationCollections(*row) for row in rows), covered, timed, longest if longest >= 0 else None
    )


def _memory_shares(recording: Recording, first: int, last: int, columns: Mapping[str, Ints]) -> MemoryShares:
    measured, *places = columns["numbers"].tolist()
    readings = [_reading(recording, first, last, place) for place in places]
    if len(readings) not in (0, 2) or (len(columns["part"]) and columns["part"].max() >= len(AllocatorPart)):
        raise _Unfit
    _known(columns["leaf"], recording.frame_count)
    kinds = _rows(columns["kinds"], len(columns["kinds_at_ns"]), len(MemoryKind)).tolist()
    return MemoryShares(
        readings[0] if readings else None,
        readings[1] if readings else None,
        tuple(zip(columns["at_ns"].tolist(), columns["resident"].tolist(), strict=True)),
        tuple(
            (at, {kind: size for kind, size in zip(MemoryKind, row, strict=True) if size >= 0})
            for at, row in zip(columns["kinds_at_ns"].tolist(), kinds, strict=True)
        ),
        columns["leaf"],
        columns["part"],
        columns["samples"],
        bool(measured),
    )


def _reading(recording: Recording, first: int, last: int, place: int) -> MemoryReading:
    if not 0 <= place < last - first:
        raise _Unfit
    found = recording.memory(first + place, first + place + 1)
    if not found:
        raise _Unfit
    return found[0][1]


def _bottlenecks(part: Part, locks: int) -> BottleneckShares:
    columns, knots = part.columns, part.texts["knots"]
    _known(columns["edge_lock"], locks)
    for family, what in (("family", "what"), ("of_family", "of_what")):
        if len(columns[family]) and int(columns[family].max()) > max(Family):
            raise _Unfit
        _known(columns[what][columns[family] == Family.LOCK], locks)
    if len(columns["end"]) and int(columns["end"].max()) >= len(ENDS):
        raise _Unfit
    if not isinstance(knots, list) or not all(_is_knot(one) for one in knots):
        raise _Unfit
    names = [name for table in TABLES["bottlenecks"] for name in table]
    return BottleneckShares(**_typed(columns, names), knots=tuple(tuple(one) for one in knots))


def _is_knot(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one <= THREAD[1] for one in value)


def _updates(part: Part) -> UpdateShares:
    windows, mixed = part.columns["windows"].tolist(), part.texts["mixed"]
    if len(windows) != 1 or not isinstance(mixed, list) or len(mixed) > MAX_ROWS:
        raise _Unfit
    both: dict[SharedPlace, int] = {}
    for row in mixed:
        match row:
            case [str(kind), str(name), str(type_name), int(owner), int(count)]:
                both[SharedPlace(kind, name, type_name, owner)] = count
            case _:
                raise _Unfit
    seen = summaries.updates_of(part.texts["rows"], MAX_ROWS)
    return UpdateShares({replace(one, count=0): one.count for one in seen}, both, windows[0])
