"""Windows of a recording as blobs: the columns of what was sampled, counted and read, one blob a group.

In: a window of the model, bounded. Out: bytes, as `columns` reads them. No numpy here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ftdiag.datatypes import asdict, replace
from ftdiag.model import (
    MAX_OTHERS,
    Gap,
    MemoryReading,
    NativeSamples,
    ObjectFacts,
    RecordingSettings,
    Runs,
    SharedObject,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadMemory,
    UpdateSight,
    Window,
)
from ftdiag.recording import schema

Columns = TypeVar("Columns", Runs, ThreadCounters)


def transposed(rows: Sequence[tuple[int, ...]], width: int) -> list[Sequence[int]]:
    """Rows as columns of equal length."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def check_lengths(window: Window) -> None:
    """Raise ValueError where columns of a window differ in length."""
    for columns, names in (
        (window.runs, schema.RUN_COLUMNS),
        (window.counters, schema.COUNTER_COLUMNS),
        (window.native or NativeSamples(), schema.NATIVE_COLUMNS),
        (window.memory.by_thread if window.memory else ThreadMemory(), schema.MEMORY_COLUMNS),
    ):
        lengths = {len(getattr(columns, name)) for name in names}
        if len(lengths) > 1:
            raise ValueError(f"columns of {type(columns).__name__} differ in length: {sorted(lengths)}")


def bounded(window: Window) -> Window:
    """The window within the format's limits; what had to go is a gap of it."""
    gaps = list(window.gaps)
    runs, counters = window.runs, window.counters
    highest = max(max(runs.thread, default=0), max(counters.thread, default=0))
    if highest >= schema.MAX_THREADS:
        lost = sum(index >= schema.MAX_THREADS for index in set(runs.thread) | set(counters.thread))
        gaps.append(Gap("threads", "the recording's table of threads is full", lost))
        runs = _kept_rows(runs, schema.RUN_COLUMNS, lambda index: index < schema.MAX_THREADS)
        counters = _kept_rows(counters, schema.COUNTER_COLUMNS, lambda index: index < schema.MAX_THREADS)
    if len(runs.thread) > schema.MAX_WINDOW_ROWS:
        gaps.append(Gap("samples", "more runs than a window can hold", len(runs.thread)))
        runs = Runs()
    return replace(window, runs=runs, counters=counters, gaps=tuple(gaps))


def _kept_rows(columns: Columns, names: Sequence[str], keep: Callable[[int], bool]) -> Columns:
    rows = [row for row, index in enumerate(columns.thread) if keep(index)]
    kept = {}
    for name in names:
        column = getattr(columns, name)
        kept[name] = array(column.typecode, [column[row] for row in rows])
    return type(columns)(**kept)


def encode_runs(window_id: int, window: Window) -> bytes:
    """The runs and ticks of a window."""
    runs, t0_ns = window.runs, window.t0_ns
    # Ids are spread over the whole dictionary, but a window has few: their ranks take a byte, mostly.
    stacks = sorted(set(runs.stack))
    rank = {stack: number for number, stack in enumerate(stacks)}
    columns: list[tuple[str, Sequence[int], bool]] = [
        ("thread", runs.thread, True),
        ("first_tick", runs.first_tick, True),
        ("ticks", runs.ticks, False),
        ("state", runs.state, False),
        ("stacks", stacks, True),
        ("stack", [rank[stack] for stack in runs.stack], False),
        ("wait", runs.wait, False),
        ("holder", runs.holder, False),
        ("confidence", runs.confidence, False),
        ("tick_ns", [tick - t0_ns for tick in window.tick_ns], True),
    ]
    return schema.encode_group(window_id, schema.GROUP_RUNS, columns)


def encode_counters(window_id: int, window: Window) -> bytes:
    """Exact counters of threads, with the cost of the sampler, readings of the process and gaps."""
    most = schema.largest_counter(window.t1_ns - window.t0_ns)
    columns: list[tuple[str, Sequence[int], bool]] = [("thread", window.counters.thread, True)]
    columns += [
        (name, _possible(getattr(window.counters, name), most), False) for name in schema.COUNTER_COLUMNS[1:]
    ]
    costs = [getattr(window.cost, name) for name in schema.COST_FIELDS]
    columns.append(("cost", [min(max(0, cost), most) for cost in costs], False))
    readings = [getattr(window.process, name) for name in schema.PROCESS_FIELDS]
    columns.append(("process", [0 if value is None else 1 + int(value) for value in readings], False))
    if window.process.others:
        rows = [[each.pid, each.name, each.cpu_ns] for each in window.process.others[:MAX_OTHERS]]
        columns.append(("others", array("B", schema.to_json(rows).encode("ascii")), False))
    if window.gaps:
        columns.append(("gaps", array("B", _gaps_json(window.gaps).encode("ascii")), False))
    return schema.encode_group(window_id, schema.GROUP_COUNTERS, columns)


def _possible(values: Sequence[int], most: int) -> Sequence[int]:
    """The values; not read (-1) in place of those that nothing can have done in the window."""
    if not values or (min(values) >= -1 and max(values) <= most):
        return values
    return [value if -1 <= value <= most else -1 for value in values]


def encode_native(window_id: int, native: NativeSamples) -> bytes:
    """Native samples, counted."""
    rows = [
        row
        for row in zip(*(getattr(native, name) for name in schema.NATIVE_COLUMNS), strict=True)
        if row[0] < schema.MAX_THREADS
    ][: schema.MAX_WINDOW_ROWS]
    thread, stack, state, frame, samples = transposed(sorted(rows), len(schema.NATIVE_COLUMNS))
    columns = [getattr(native, name) for name in schema.UNSEEN_COLUMNS]
    unseen = sorted(zip(*columns, strict=True))[: schema.MAX_WINDOW_ROWS]
    return schema.encode_group(
        window_id,
        schema.GROUP_NATIVE,
        [
            ("thread", thread, True),
            ("stack", stack, True),
            ("state", state, False),
            ("frame", frame, False),
            ("samples", samples, False),
            ("facts", [native.lost, round(1e6 * native.sampled_ratio)], False),
            *(
                (name, column, False)
                for name, column in zip(
                    schema.UNSEEN_COLUMNS, transposed(unseen, len(schema.UNSEEN_COLUMNS)), strict=True
                )
                if unseen
            ),
        ],
    )


def encode_shared(window_id: int, shared: Sequence[tuple[int, SharedObject]]) -> bytes:
    """Shared objects by the frame of the line that names them."""
    text = schema.to_json(shared_rows(shared[: schema.MAX_SHARED])).encode("ascii")
    return schema.encode_group(window_id, schema.GROUP_SHARED, [("objects", array("B", text), False)])


def shared_rows(shared: Sequence[tuple[int, SharedObject]]) -> list[tuple[int | str, ...]]:
    """Shared objects for JSON."""
    longest = schema.MAX_SHARED_CHARACTERS
    return [
        (frame, one.name[:longest], one.type_name[:longest], int(one.confidence), *_facts(one.facts, longest))
        for frame, one in shared
    ]


def _facts(facts: ObjectFacts | None, longest: int) -> tuple[int | str, ...]:
    """What is appended to the row of a shared object."""
    if facts is None:
        return ()
    return facts.address, facts.counting.value, facts.maker, (facts.path or "")[:longest]


def encode_updates(window_id: int, updates: Sequence[UpdateSight]) -> bytes:
    """Who was in the middle of updating which place."""
    text = schema.to_json(updates_rows(updates[: schema.MAX_UPDATES])).encode("ascii")
    return schema.encode_group(window_id, schema.GROUP_UPDATES, [("rows", array("B", text), False)])


def updates_rows(updates: Sequence[UpdateSight]) -> list[tuple[object, ...]]:
    """Sights of updates for JSON."""
    longest = schema.MAX_SHARED_CHARACTERS
    return [
        (
            *(place.kind, place.name[:longest], place.type_name[:longest], place.owner),
            *(
                one.thread,
                one.stack,
                one.guards[: schema.MAX_GUARDS],
                (one.guard_label or "")[:longest],
                int(one.check),
            ),
            *(one.count, one.other, one.other_stack),
        )
        for one in updates
        for place in (one.place,)
        if one.thread < schema.MAX_THREADS and one.other < schema.MAX_THREADS
    ]


def encode_memory(window_id: int, memory: MemoryReading) -> bytes:
    """A reading of the memory."""
    rows = [
        row
        for row in zip(*(getattr(memory.by_thread, name) for name in schema.MEMORY_COLUMNS), strict=True)
        if row[0] < schema.MAX_THREADS
    ][: schema.MAX_WINDOW_ROWS]
    thread, stack_bytes, heap_bytes = transposed(sorted(rows), len(schema.MEMORY_COLUMNS))
    readings = [getattr(memory, name) for name in (*schema.MEMORY_FACTS, *schema.LATER_MEMORY_FACTS)]
    reasons = list(memory.not_measured.items())[: schema.MAX_MEMORY_REASONS]
    text = schema.to_json([(schema.bounded_text(name), schema.bounded_text(why)) for name, why in reasons])
    return schema.encode_group(
        window_id,
        schema.GROUP_MEMORY,
        [
            ("thread", thread, True),
            ("stack_bytes", stack_bytes, False),
            ("heap_bytes", heap_bytes, False),
            ("kind", [int(kind) for kind in memory.kinds], False),
            ("kind_bytes", list(memory.kinds.values()), False),
            ("facts", [0 if value is None else 1 + max(0, value) for value in readings], False),
            ("reasons", array("B", text.encode("ascii")), False),
        ],
    )


def encode_collections(window_id: int, window: Window) -> bytes:
    """Sums by generation; times relative to the window's beginning, those that lie out of bounds left out."""
    told = window.collections
    assert told is not None
    rows = [
        (each.generation, each.count, each.total_ns, each.looked_at, each.freed)
        for each in told.generations[: schema.MAX_GENERATIONS]
    ]
    columns: list[tuple[str, Sequence[int], bool]] = [
        (name, values, False)
        for name, values in zip(schema.COLLECTION_COLUMNS, transposed(rows, 5), strict=True)
    ]
    timed = [
        (generation, begin - window.t0_ns, end - window.t0_ns)
        for generation, begin, end in zip(told.generation, told.begin_ns, told.end_ns, strict=True)
        if begin <= end and max(abs(begin), abs(end)) <= schema.MAX_TIME_NS
    ][: schema.MAX_COLLECTIONS]
    columns += [
        (name, values, False) for name, values in zip(schema.TIMED_COLUMNS, transposed(timed, 3), strict=True)
    ]
    return schema.encode_group(window_id, schema.GROUP_COLLECTIONS, columns)


def _gaps_json(gaps: Sequence[Gap]) -> str:
    """The gaps as JSON of at most MAX_JSON_BYTES; those that do not fit are counted in one more."""
    kept = min(len(gaps), schema.MAX_GAPS)
    while True:
        rows = [
            (schema.bounded_text(gap.what), schema.bounded_text(gap.why), gap.count) for gap in gaps[:kept]
        ]
        if kept < len(gaps):
            rest = sum(gap.count for gap in gaps[kept:])
            rows.append(("gaps", "more than a window can hold", rest))
        text = schema.to_json(rows)
        if len(text) <= schema.MAX_JSON_BYTES:
            return text
        kept //= 2


def target_fields(target: Target) -> dict[str, object]:
    """What is known of the process, for JSON."""
    fields = bounded_fields(asdict(target))
    culprits = target.gil_culprits[: schema.MAX_CULPRITS]
    fields["gil_culprits"] = [culprit[: schema.MAX_CULPRIT_CHARACTERS] for culprit in culprits]
    fields["gil_importers"] = [
        [name[: schema.MAX_CULPRIT_CHARACTERS] for name in chain[: schema.MAX_IMPORTERS]]
        for chain in target.gil_importers[: schema.MAX_CHAINS]
    ]
    environment = target.environment[: schema.MAX_ENVIRONMENT]
    fields["environment"] = [variable[: schema.MAX_VARIABLE_CHARACTERS] for variable in environment]
    names = target.distribution[: schema.MAX_DISTRIBUTIONS]
    fields["libraries"] = [
        [text[: schema.MAX_LIBRARY_CHARACTERS] for text in (library.prefix, library.name, library.version)]
        for library in target.libraries[: schema.MAX_LIBRARIES]
    ]
    fields["tracing"] = target.tracing and [
        [schema.bounded_text(text) for text in (hook.kind, hook.name, hook.filename)]
        for hook in target.tracing[: schema.MAX_HOOKS]
    ]
    fields["distribution"] = [name[: schema.MAX_CULPRIT_CHARACTERS] for name in names]
    return fields


def settings_fields(settings: RecordingSettings) -> dict[str, object]:
    """How the recording was made, for JSON: reasons stand behind a prefix, as readers of before expect it."""
    fields = asdict(settings)
    missing, no_stacks, imported = (fields.pop(name) for name in ("native_missing", "no_stacks", "imported"))
    if missing is not None:
        fields["native"] = f"{schema.NOT_MEASURED_PREFIX}{missing}"
    if no_stacks is not None:
        fields["source"] = f"{schema.NO_STACKS_PREFIX}{no_stacks}"
    if imported is not None:
        fields["source"] = f"{schema.IMPORTED_PREFIX}{imported}"
    return bounded_fields(fields)


def thread_fields(info: ThreadInfo) -> dict[str, object]:
    """The description of a thread, for JSON."""
    fields = bounded_fields(asdict(info))
    del fields["index"]
    return fields


def bounded_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields for JSON with their texts bounded."""
    return {
        name: schema.bounded_text(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
