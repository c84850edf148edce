"""The blobs of a window as numpy columns, checked.

In: blobs as stored. Out: integer arrays in known ranges. Raises DamagedBlob, never anything else.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    MAX_OTHER_NAME,
    MAX_OTHERS,
    Collections,
    Confidence,
    Counting,
    Gap,
    GenerationCollections,
    MemoryKind,
    MemoryReading,
    ObjectFacts,
    OtherProcess,
    ProcessCounters,
    SamplerCost,
    SharedObject,
    SharedPlace,
    ThreadMemory,
    ThreadState,
    UpdateSight,
)
from ftdiag.recording import schema

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Column = npt.NDArray[Any]

MAX_INT32: Final = 2**31 - 1
MAX_INT64: Final = 2**63 - 1

RUN_TYPES: Final[dict[str, type[np.generic]]] = {
    "thread": np.int32,
    "first_tick": np.int32,
    "ticks": np.int32,
    "state": np.uint8,
    "stack": np.int32,
    "wait": np.int32,
    "holder": np.int32,
    "confidence": np.uint8,
    "tick_ns": np.int64,
}


def _known_codes(codes: Iterable[int], unknown: int) -> UInt8Array:
    table = np.full(256, unknown, np.uint8)
    for code in codes:
        table[code] = code
    return table


_OPTIONAL_COLUMNS: Final = (
    *schema.OPTIONAL_COUNTER_COLUMNS,
    *schema.UNSEEN_COLUMNS,
    "gaps",
    "others",
    "reasons",
)

MAX_MEMORY_BYTES: Final = 1 << 50
"""A thread's memory, or a kind of it, at most."""

# Codes that a newer minor version adds read as unknown.
_STATES: Final = _known_codes((state.value for state in ThreadState), ThreadState.UNKNOWN.value)
_CONFIDENCES: Final = _known_codes((item.value for item in Confidence), Confidence.UNKNOWN.value)


def decode_columns(blob: object, key: int, name: str, required: Sequence[str]) -> dict[str, Column]:
    """The columns of a group, decoded: the `required` and the optional ones that are there.

    Raises DamagedBlob.
    """
    content, layout = schema.decode_group(blob, key, name)
    missing = [column for column in required if column not in layout]
    if missing:
        raise schema.DamagedBlob(f"the columns {', '.join(missing)} are missing")
    wanted = (*required, *_OPTIONAL_COLUMNS)
    return {column: decoded_column(content, where) for column, where in layout.items() if column in wanted}


def decoded_column(content: bytes, where: schema.EncodedColumn) -> Column:
    """The values of one column of a decompressed group."""
    size = schema.ITEM_BYTES[where.typecode]
    dtype = np.dtype(where.typecode).newbyteorder("<")
    values: Column
    if where.flags & schema.FLAG_PLANES and size > 1:
        planes = np.frombuffer(content, np.uint8, where.count * size, where.offset)
        values = np.ascontiguousarray(planes.reshape(size, where.count).T).view(dtype).reshape(where.count)
    else:
        values = np.frombuffer(content, dtype, where.count, where.offset)
    if where.flags & schema.FLAG_DELTA:
        values = np.cumsum(values, dtype=np.int64)
    return values


def bounded(values: Column, low: int, high: int, what: str) -> Int64Array:
    """The values as int64 if all are in low .. high, else DamagedBlob."""
    if len(values) and (int(values.min()) < low or int(values.max()) > high):
        raise schema.DamagedBlob(f"{what} is out of range")
    return values.astype(np.int64, copy=False)


def _equal_lengths(columns: dict[str, Column], names: Sequence[str], limit: int) -> None:
    lengths = {len(columns[name]) for name in names}
    if len(lengths) > 1 or max(lengths) > limit:
        raise schema.DamagedBlob("columns differ in length, or are too long")


def decode_runs(blob: object, key: int, name: str, t0_ns: int, t1_ns: int) -> dict[str, Column]:
    """Columns of a window's runs and `tick_ns`, checked to lie within each other and not to overlap.

    The window begins and ends at `t0_ns` and `t1_ns`, as the index says: ticks that do not fit into that
    would be time that there was not.

    Raises DamagedBlob.
    """
    columns = decode_columns(blob, key, name, (*schema.RUN_COLUMNS, "stacks", "tick_ns"))
    _equal_lengths(columns, schema.RUN_COLUMNS, schema.MAX_WINDOW_ROWS)
    stacks = columns["stacks"]
    columns["stack"] = stacks[bounded(columns["stack"], 0, len(stacks) - 1, "a stack's rank")]
    _check_ids(columns)
    tick_count = len(columns["tick_ns"])
    if tick_count > schema.MAX_WINDOW_ROWS:
        raise schema.DamagedBlob("a window has too many ticks")
    first_tick = bounded(columns["first_tick"], 0, tick_count, "a run's first tick")
    ticks = bounded(columns["ticks"], 0, tick_count, "a run's number of ticks")
    if len(ticks) and int((first_tick + ticks).max()) > tick_count:
        raise schema.DamagedBlob("a run ends after its window")
    bounded(columns["holder"], 0, schema.MAX_THREADS, "a lock's holder")
    bounded(columns["confidence"], 0, 255, "a confidence")
    columns["state"] = _STATES[columns["state"]]
    columns["confidence"] = _CONFIDENCES[columns["confidence"]]
    columns["tick_ns"] = bounded(columns["tick_ns"], 0, t1_ns - t0_ns, "a tick's time") + t0_ns
    decoded = _in_order({column: columns[column].astype(dtype) for column, dtype in RUN_TYPES.items()})
    thread, begin = decoded["thread"], decoded["first_tick"]
    if np.any((thread[1:] == thread[:-1]) & (begin[1:] < (begin + decoded["ticks"])[:-1])):
        raise schema.DamagedBlob("a thread is in two states at one tick")
    return decoded


def decode_native(blob: object, key: int, name: str) -> dict[str, Column]:
    """Columns of a window's native samples, and its `facts`: lost, sampled share. Raises DamagedBlob."""
    columns = decode_columns(blob, key, name, (*schema.NATIVE_COLUMNS, "facts"))
    _equal_lengths(columns, schema.NATIVE_COLUMNS, schema.MAX_WINDOW_ROWS)
    bounded(columns["thread"], 0, schema.MAX_THREADS - 1, "a thread's index")
    bounded(columns["state"], 0, 255, "a state")
    bounded(columns["stack"], 0, MAX_INT32, "a stack's id")
    bounded(columns["frame"], 0, schema.MAX_FRAMES - 1, "a frame's id")
    bounded(columns["samples"], 0, MAX_INT32, "a number of samples")
    facts = bounded(columns["facts"], 0, 2**62, "a fact of native sampling").tolist()
    if len(facts) < 2:
        raise schema.DamagedBlob("the facts of native sampling are missing")
    if facts[1] > 1_000_000:
        raise schema.DamagedBlob("more than all threads were sampled")
    columns["state"] = _STATES[columns["state"]]
    for column in schema.UNSEEN_COLUMNS:
        columns.setdefault(column, np.zeros(0, np.int64))
    _equal_lengths(columns, schema.UNSEEN_COLUMNS, schema.MAX_WINDOW_ROWS)
    bounded(columns["unseen_state"], 0, 255, "a state")
    bounded(columns["unseen_frame"], 0, schema.MAX_FRAMES - 1, "a frame's id")
    bounded(columns["unseen_samples"], 0, MAX_INT32, "a number of samples")
    columns["unseen_state"] = _STATES[columns["unseen_state"]]
    return columns


_COUNTINGS: Final = frozenset(one.value for one in Counting)


def decode_shared(blob: object, key: int, name: str) -> list[tuple[int, SharedObject]]:
    """(frame id, object) of a window's shared objects. Raises DamagedBlob."""
    column = decode_columns(blob, key, name, ("objects",))["objects"]
    rows = schema.from_json(schema.decode_text(column.tobytes())) if column.dtype.itemsize == 1 else None
    return shared_of(rows, schema.MAX_SHARED)


def shared_of(rows: object, most: int) -> list[tuple[int, SharedObject]]:
    """(frame id, object) of at most so many rows, as they are in JSON. Raises DamagedBlob."""
    if not isinstance(rows, list) or len(rows) > most:
        raise schema.DamagedBlob("the shared objects of a window cannot be read")
    longest = schema.MAX_SHARED_CHARACTERS
    found = []
    for row in rows:
        match row:
            # Later minor versions may append; bool is an int to Python, here it is not.
            case [int(frame), str(what), str(type_name), int(confidence), *more] if (
                type(frame) is int and type(confidence) is int and 0 <= frame < schema.MAX_FRAMES
            ):
                known = confidence if 0 <= confidence <= 255 else 0
                one = SharedObject(
                    what[:longest],
                    type_name[:longest],
                    Confidence(int(_CONFIDENCES[known])),
                    _object_facts(more, longest),
                )
                found.append((frame, one))
            case _:
                raise schema.DamagedBlob("a shared object of a window cannot be read")
    return found


def _object_facts(more: list[Any], longest: int) -> ObjectFacts | None:
    """What minor version 7 appended to a shared object's row; `None` where it is not there, or no sense."""
    match more:
        case [int(address), str(counting), int(maker), str(path), *_] if (
            counting in _COUNTINGS and 0 <= address < 1 << 64 and -1 <= maker < schema.MAX_THREADS
        ):
            return ObjectFacts(address, Counting(counting), 0, maker, path[:longest] or None)
    return None


def decode_updates(blob: object, key: int, name: str) -> list[UpdateSight]:
    """Who was in the middle of updating which place in a window. Raises DamagedBlob."""
    column = decode_columns(blob, key, name, ("rows",))["rows"]
    rows = schema.from_json(schema.decode_text(column.tobytes())) if column.dtype.itemsize == 1 else None
    return updates_of(rows, schema.MAX_UPDATES)


def updates_of(rows: object, most: int) -> list[UpdateSight]:
    """Sights of updates of at most so many rows, as they are in JSON. Raises DamagedBlob."""
    if not isinstance(rows, list) or len(rows) > most:
        raise schema.DamagedBlob("the updates of a window cannot be read")
    longest = schema.MAX_SHARED_CHARACTERS
    found = []
    for row in rows:
        match row:
            case [
                str(kind),
                str(what),
                str(type_name),
                int(owner),
                thread,
                stack,
                list(guards),
                str(label),
                *more,
            ]:
                numbers = (owner, thread, stack, *more[:4], *guards)
            case _:
                raise schema.DamagedBlob("an update of a window cannot be read")
        if len(more) < 4 or len(guards) > schema.MAX_GUARDS or any(type(one) is not int for one in numbers):
            raise schema.DamagedBlob("an update of a window cannot be read")
        check, count, other, other_stack = more[:4]
        if (
            min(owner, thread, stack, check, count, other_stack, *guards) < 0
            or max(owner, 0, *guards) >> 64
            or max(stack, other_stack, count) > MAX_INT32
            or not -1 <= other < schema.MAX_THREADS
            or thread >= schema.MAX_THREADS
        ):
            raise schema.DamagedBlob("an update of a window is out of bounds")
        place = SharedPlace(kind[:longest], what[:longest], type_name[:longest], owner)
        known = label[:longest] or None
        found.append(
            UpdateSight(place, thread, stack, tuple(guards), count, known, check > 0, other, other_stack)
        )
    return found


def decode_memory(blob: object, key: int, name: str) -> MemoryReading:
    """A window's reading of the memory; kinds of a newer minor version are left out. Raises DamagedBlob."""
    required = (*schema.MEMORY_COLUMNS, "kind", "kind_bytes", "facts")
    columns = decode_columns(blob, key, name, required)
    _equal_lengths(columns, schema.MEMORY_COLUMNS, schema.MAX_WINDOW_ROWS)
    _equal_lengths(columns, ("kind", "kind_bytes"), 256)
    bounded(columns["thread"], 0, schema.MAX_THREADS - 1, "a thread's index")
    for column in ("stack_bytes", "heap_bytes"):
        bounded(columns[column], -1, MAX_MEMORY_BYTES, "a thread's memory")
    kinds = bounded(columns["kind"], 0, 255, "a kind of memory").tolist()
    kind_bytes = bounded(columns["kind_bytes"], 0, MAX_MEMORY_BYTES, "a kind's memory").tolist()
    facts = bounded(columns["facts"], 0, 2**62, "a reading of the memory").tolist()
    if len(facts) < len(schema.MEMORY_FACTS) or not facts[0] or not facts[1]:
        raise schema.DamagedBlob("a reading of the memory lacks its time or its cost")
    rss, pss, uss, swap, virtual, threads, arenas, ended = (
        value - 1 if value else None for value in facts[2 : len(schema.MEMORY_FACTS)]
    )
    later = [value - 1 if value else None for value in facts[len(schema.MEMORY_FACTS) :]]
    libc_free, heaps_free = (*later, None, None)[: len(schema.LATER_MEMORY_FACTS)]
    known = {int(kind) for kind in MemoryKind}
    if len(set(kinds)) < len(kinds):
        raise schema.DamagedBlob("a kind of memory is there twice")
    return MemoryReading(
        at_ns=facts[0] - 1,
        cost_ns=facts[1] - 1,
        rss_bytes=rss,
        pss_bytes=pss,
        uss_bytes=uss,
        swap_bytes=swap,
        virtual_bytes=virtual,
        threads=threads,
        arenas=arenas,
        ended_heap_bytes=ended,
        libc_free_bytes=libc_free,
        heaps_free_bytes=heaps_free,
        kinds={MemoryKind(kind): size for kind, size in zip(kinds, kind_bytes, strict=True) if kind in known},
        by_thread=ThreadMemory(
            array("I", columns["thread"].tolist()),
            array("q", columns["stack_bytes"].tolist()),
            array("q", columns["heap_bytes"].tolist()),
        ),
        not_measured=_reasons(columns.get("reasons")),
    )


MAX_COUNTED: Final = 1 << 62
"""Of collections, objects and nanoseconds: sums of a few fit 64 bits."""


def decode_collections(blob: object, key: int, name: str, t0_ns: int) -> Collections:
    """What the collector did in a window that began at `t0_ns`. Raises DamagedBlob."""
    columns = decode_columns(blob, key, name, (*schema.COLLECTION_COLUMNS, *schema.TIMED_COLUMNS))
    _equal_lengths(columns, schema.COLLECTION_COLUMNS, schema.MAX_GENERATIONS)
    _equal_lengths(columns, schema.TIMED_COLUMNS, schema.MAX_COLLECTIONS)
    sums = [
        bounded(columns[column], 0, 255 if column == "generation" else MAX_COUNTED, "a sum of collections")
        for column in schema.COLLECTION_COLUMNS
    ]
    if len(set(sums[0].tolist())) < len(sums[0]):
        raise schema.DamagedBlob("a generation is there twice")
    timed = bounded(columns["timed_generation"], 0, 255, "a generation")
    largest = schema.MAX_TIME_NS
    begin = bounded(columns["begin_ns"], -2 * largest, 2 * largest, "a collection's time") + t0_ns
    end = bounded(columns["end_ns"], -2 * largest, 2 * largest, "a collection's time") + t0_ns
    if np.any(end < begin) or np.any(np.abs(begin) > largest) or np.any(np.abs(end) > largest):
        raise schema.DamagedBlob("a collection's time is out of range")
    rows = zip(*(column.tolist() for column in sums), strict=True)
    return Collections(
        tuple(GenerationCollections(*row) for row in rows),
        array("B", timed.tolist()),
        array("q", begin.tolist()),
        array("q", end.tolist()),
    )


def _reasons(column: Column | None) -> dict[str, str]:
    if column is None:
        return {}
    rows = schema.from_json(schema.decode_text(column.tobytes())) if column.dtype.itemsize == 1 else None
    if not isinstance(rows, list) or len(rows) > schema.MAX_MEMORY_REASONS:
        raise schema.DamagedBlob("why memory was not measured cannot be read")
    reasons = {}
    for row in rows:
        match row:
            case [str(what), str(why), *_]:
                reasons[schema.bounded_text(what)] = schema.bounded_text(why)
            case _:
                raise schema.DamagedBlob("why memory was not measured cannot be read")
    return reasons


def _check_ids(columns: dict[str, Column]) -> None:
    bounded(columns["thread"], 0, schema.MAX_THREADS - 1, "a thread's index")
    bounded(columns["state"], 0, 255, "a state")
    bounded(columns["stack"], 0, MAX_INT32, "a stack's id")
    bounded(columns["wait"], 0, MAX_INT32, "a wait's id")


def _in_order(columns: dict[str, Column]) -> dict[str, Column]:
    """Runs by thread, then by time. Writers should store them so; analysis relies on it."""
    position = columns["thread"].astype(np.int64) << 32 | columns["first_tick"]
    if np.all(position[1:] >= position[:-1]):
        return columns
    order = np.argsort(position, kind="stable")
    return {name: values if name == "tick_ns" else values[order] for name, values in columns.items()}


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """What a window says besides its columns."""

    window_id: int
    cost: SamplerCost
    process: ProcessCounters
    gaps: tuple[Gap, ...]


def decode_counters(
    blob: object, key: int, name: str, length_ns: int
) -> tuple[WindowFacts, dict[str, Column]]:
    """The facts and the counter columns of a window of this length. Raises DamagedBlob.

    A thread cannot run for longer than its window, nor a machine for longer than all its cores: what says so
    is damaged, however right its checksum is.
    """
    required = [one for one in schema.COUNTER_COLUMNS if one not in schema.OPTIONAL_COUNTER_COLUMNS]
    columns = decode_columns(blob, key, name, (*required, "cost", "process"))
    for column in schema.OPTIONAL_COUNTER_COLUMNS:
        columns.setdefault(column, np.full(len(columns["thread"]), -1, np.int64))
    _equal_lengths(columns, schema.COUNTER_COLUMNS, schema.MAX_WINDOW_ROWS)
    thread = bounded(columns["thread"], 0, schema.MAX_THREADS - 1, "a thread's index")
    ordered = np.sort(thread)
    if np.any(ordered[1:] == ordered[:-1]):
        raise schema.DamagedBlob("a thread is counted twice")
    longest = schema.largest_counter(length_ns)
    for column in schema.COUNTER_COLUMNS[1:]:
        # In a nanosecond at most one thing happens: what is counted is bounded like what is timed.
        bounded(columns[column], -1, longest, f"the counter {column}")
    bounded(columns["alive_ns"], -1, schema.longest_life(length_ns), "a thread's life")
    cost = bounded(columns["cost"], 0, longest, "a cost").tolist()
    process = bounded(columns["process"], 0, 2**62, "a reading of the process").tolist()
    # Later minor versions may append.
    if len(cost) < len(schema.COST_FIELDS) or len(process) < schema.REQUIRED_PROCESS_FIELDS:
        raise schema.DamagedBlob("the sampler's cost is missing")
    known = process[: len(schema.PROCESS_FIELDS)]
    readings = [None if value == 0 else value - 1 for value in known]
    readings += [None] * (len(schema.PROCESS_FIELDS) - len(readings))
    rss, threads, gil, machine_busy, throttled, cpu, ftdiag = readings
    others = _others(columns.get("others"))
    times = (machine_busy, throttled, cpu, ftdiag, *(each.cpu_ns for each in others))
    if max(time or 0 for time in times) > schema.MAX_CORES * longest:
        raise schema.DamagedBlob("more time was used than a machine has")
    facts = WindowFacts(
        key,
        SamplerCost(*cost[: len(schema.COST_FIELDS)]),
        ProcessCounters(
            rss, threads, None if gil is None else bool(gil), machine_busy, throttled, cpu, ftdiag, others
        ),
        _gaps(columns.get("gaps")),
    )
    return facts, {column: columns[column] for column in schema.COUNTER_COLUMNS}


def _others(column: Column | None) -> tuple[OtherProcess, ...]:
    if column is None:
        return ()
    if column.dtype.itemsize != 1:
        raise schema.DamagedBlob("the other processes of a window cannot be read")
    return others_of(schema.from_json(schema.decode_text(column.tobytes())))


def others_of(rows: object) -> tuple[OtherProcess, ...]:
    """Other processes, as they are in JSON. Raises DamagedBlob."""
    if not isinstance(rows, list) or len(rows) > MAX_OTHERS:
        raise schema.DamagedBlob("the other processes of a window cannot be read")
    others = []
    for row in rows:
        match row:
            case [int(pid), str(name), int(cpu_ns), *_] if (
                type(pid) is type(cpu_ns) is int and 0 <= pid < 2**31 and 0 <= cpu_ns < 2**62
            ):
                others.append(OtherProcess(pid, name[:MAX_OTHER_NAME], cpu_ns))
            case _:
                raise schema.DamagedBlob("the other processes of a window cannot be read")
    return tuple(others)


def _gaps(column: Column | None) -> tuple[Gap, ...]:
    if column is None:
        return ()
    if column.dtype.itemsize != 1:
        raise schema.DamagedBlob("the gaps of a window cannot be read")
    return gaps_of(schema.from_json(schema.decode_text(column.tobytes())))


def gaps_of(rows: object) -> tuple[Gap, ...]:
    """Gaps, as they are in JSON. Raises DamagedBlob."""
    if not isinstance(rows, list) or len(rows) > schema.MAX_GAPS + 1:
        raise schema.DamagedBlob("the gaps of a window cannot be read")
    gaps = []
    for row in rows:
        match row:
            case [str(what), str(why), int(count)] if type(count) is int and 0 <= count < 2**53:
                gaps.append(Gap(schema.bounded_text(what), schema.bounded_text(why), count))
            case _:
                raise schema.DamagedBlob("the gaps of a window cannot be read")
    return tuple(gaps)


def joined(pieces: Sequence[Column], dtype: type[np.generic]) -> Column:
    """The pieces end to end, in one array of `dtype`."""
    if not pieces:
        return np.empty(0, dtype)
    return np.concatenate(pieces, dtype=dtype, casting="unsafe")
