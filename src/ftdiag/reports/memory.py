"""The memory of a snapshot in words and as plain values, for the text and the JSON report.

In: a `Snapshot`. Out: sentences with how far they are set in; a dict for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ftdiag.model import AllocatorPart, Frame, MemoryKind, MemoryMetrics, Snapshot
from ftdiag.wording import units
from ftdiag.wording.memory import SAID_SHARE, growth_words, kind_words, parts_words

SHOWN_THREADS: Final = 3
SHOWN_LINES: Final = 3
ITEM: Final = 2
DETAIL: Final = 4


def memory_sentences(
    snapshot: Snapshot, frame: Callable[[Frame], str], safe: Callable[[str], str]
) -> Iterator[tuple[int, str]]:
    """What there is to say of the memory."""
    memory, process = snapshot.memory, snapshot.process
    rss = memory.rss_bytes if memory.rss_bytes is not None else process.rss_bytes if process else None
    if rss is None and memory.reading is None and not memory.allocator_ns:
        return
    if rss is not None:
        yield ITEM, f"resident: {units.size(rss)}; {growth_words(memory)}"
    yield from _kinds(memory)
    yield from _threads(memory, safe)
    seconds = snapshot.metrics.duration_ns / 1e9
    if seconds > 0:
        rate = (memory.minor_faults + memory.major_faults) / seconds
        yield (
            ITEM,
            f"page faults of its threads: {memory.minor_faults:,} minor, {memory.major_faults:,} major"
            f" ({rate:,.0f} per second)",
        )
    yield from _allocator(memory, frame)


def _kinds(memory: MemoryMetrics) -> Iterator[tuple[int, str]]:
    reading = memory.reading
    if reading is None or not reading.kinds:
        return
    whole = sum(reading.kinds.values())
    said = [
        f"{kind_words(kind, memory)} {units.size(size)}"
        for kind, size in sorted(reading.kinds.items(), key=lambda item: -item[1])
        if size >= SAID_SHARE * whole
    ]
    yield ITEM, f"by kind: {', '.join(said)}"
    if reading.ended_heap_bytes and reading.ended_heap_bytes >= SAID_SHARE * whole:
        yield DETAIL, f"of threads that have ended: {units.size(reading.ended_heap_bytes)} of Python's heaps"
    for free, whose in (
        (reading.libc_free_bytes, "libc's heaps: free, and not given back to the system (at least)"),
        (reading.heaps_free_bytes, "Python's heaps: in no use"),
    ):
        if free and free >= SAID_SHARE * whole:
            yield DETAIL, f"{units.size(free)} of {whose}"
    if reading.pss_bytes is not None and reading.uss_bytes is not None:
        yield (
            ITEM,
            f"its share of what it shares with others counted (PSS): {units.size(reading.pss_bytes)}; its own"
            f" alone (USS): {units.size(reading.uss_bytes)}",
        )


def _threads(memory: MemoryMetrics, safe: Callable[[str], str]) -> Iterator[tuple[int, str]]:
    if memory.per_thread_bytes is None:
        return
    yield (
        ITEM,
        f"each thread besides the main one: {units.size(memory.per_thread_bytes)} on average (stack and"
        " Python's heap)",
    )
    for thread in memory.threads[:SHOWN_THREADS]:
        if thread.total_bytes is not None:
            yield (
                DETAIL,
                f"{safe(thread.info.name)}: {units.size(thread.heap_bytes)} heap,"
                f" {units.size(thread.stack_bytes)} stack",
            )


def _allocator(memory: MemoryMetrics, frame: Callable[[Frame], str]) -> Iterator[tuple[int, str]]:
    whole = sum(memory.allocator_ns.values())
    if whole <= 0:
        return
    yield ITEM, f"time in allocators: {units.seconds(whole)}: {parts_words(memory.allocator_ns)}"
    for line in memory.allocator_lines[:SHOWN_LINES]:
        if line.total_ns >= SAID_SHARE * whole:
            yield (
                DETAIL,
                f"{frame(line.frame)}: {units.seconds(line.total_ns)}: {parts_words(line.parts_ns)}",
            )


def memory_values(snapshot: Snapshot, text: Callable[[str], str]) -> dict[str, Any]:
    """The memory as values that JSON can say; what is not measured is None."""
    memory, reading = snapshot.memory, snapshot.memory.reading
    kinds = reading.kinds if reading is not None else {}
    rss = None if snapshot.process is None else snapshot.process.rss_bytes
    return {
        "rss_bytes": rss,
        "pss_bytes": None if reading is None else reading.pss_bytes,
        "uss_bytes": None if reading is None else reading.uss_bytes,
        "swap_bytes": None if reading is None else reading.swap_bytes,
        # Read at another moment than what is resident, which is part of it.
        "virtual_bytes": None
        if reading is None or reading.virtual_bytes is None
        else max(reading.virtual_bytes, rss or 0, reading.rss_bytes or 0),
        "stacks_bytes": kinds.get(MemoryKind.THREAD_STACKS),
        "per_thread_bytes": _number(memory.per_thread_bytes),
        "growth_bytes_per_minute": _number(memory.growth_per_minute_bytes),
        "kinds": {kind.label: kinds.get(kind) for kind in MemoryKind} if kinds else None,
        "libc_arenas": None if reading is None else reading.arenas,
        "ended_threads_heap_bytes": None if reading is None else reading.ended_heap_bytes,
        "libc_free_bytes": None if reading is None else reading.libc_free_bytes,
        "python_heaps_free_bytes": None if reading is None else reading.heaps_free_bytes,
        "threads": [
            {
                "tid": thread.info.tid,
                "name": text(thread.info.name),
                "stack_bytes": thread.stack_bytes,
                "heap_bytes": thread.heap_bytes,
            }
            for thread in memory.threads
        ],
        "allocator": _parts(memory.allocator_ns) if memory.allocator_ns else None,
        "allocator_lines": [
            {
                "function": text(line.frame.function),
                "file": text(line.frame.filename),
                "line": line.frame.line,
                "total_s": _number(line.total_ns / 1e9),
                "parts": _parts(line.parts_ns),
            }
            for line in memory.allocator_lines
        ],
    }


def _parts(parts_ns: Mapping[AllocatorPart, float]) -> dict[str, float | None]:
    return {part.value: _number(spent / 1e9) for part, spent in parts_ns.items()}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
