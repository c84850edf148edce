"""Readings of the memory: written, read, bounded, and refused where damaged."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.model import MemoryKind, MemoryReading, ThreadMemory
from ftdiag.recording import schema
from ftdiag.recording.columns import decode_memory
from ftdiag.recording.reader import Recording
from unit.recording.windows import END, create, window

READING = MemoryReading(
    at_ns=5_000,
    cost_ns=900_000,
    rss_bytes=80 << 20,
    pss_bytes=None,
    swap_bytes=0,
    virtual_bytes=9 << 40,
    threads=3,
    arenas=2,
    ended_heap_bytes=1 << 20,
    kinds={MemoryKind.PYTHON_HEAPS: 50 << 20, MemoryKind.LIBC_HEAP: 0, MemoryKind.FILES: 30 << 20},
    by_thread=ThreadMemory(
        array("I", [0, 1, 2]), array("q", [-1, 40 << 10, 0]), array("q", [40 << 20, 9 << 20, -1])
    ),
    not_measured={"pss_bytes": "it would take 31 ms"},
)


def written(path: Path, readings: Sequence[MemoryReading | None]) -> Path:
    """A recording with a window for each of these."""
    writer = create(path)
    for number, reading in enumerate(readings):
        writer.write_window(replace(window(writer, number), memory=reading))
    writer.finish(END)
    writer.close()
    return path


def test_readings_come_back(tmp_path: Path) -> None:
    # GIVEN windows with and without a reading, one of which has nothing but its time
    least = MemoryReading(at_ns=0, cost_ns=0)
    path = written(tmp_path / "a.ftdiag", [READING, None, least])

    # WHEN they are read
    with Recording.open(path) as recording:
        # THEN they are what was written, at their windows; a window without one has none
        assert recording.memory(0, 3) == ((0, READING), (2, least))
        assert recording.memory(1, 2) == ()
        assert recording.verify() == ()


def test_readings_are_bounded(tmp_path: Path) -> None:
    # GIVEN a thread that has no place in a recording, and more and longer reasons than are kept
    by_thread = ThreadMemory(array("I", [schema.MAX_THREADS, 1]), array("q", [1, 2]), array("q", [3, 4]))
    reasons = {f"{number} \udc80": "\U0001f600" * 9000 for number in range(99)}
    path = written(tmp_path / "a.ftdiag", [replace(READING, by_thread=by_thread, not_measured=reasons)])

    # WHEN it is read, THEN the rest is there
    with Recording.open(path) as recording:
        ((_, found),) = recording.memory(0, 1)
        assert found.by_thread == ThreadMemory(array("I", [1]), array("q", [2]), array("q", [4]))
        assert len(found.not_measured) == schema.MAX_MEMORY_REASONS
        assert recording.verify() == ()


def encoded(**changed: Sequence[int]) -> bytes:
    """A group as a writer of another kind might make it."""
    columns: dict[str, Sequence[int]] = {
        "thread": [0, 1],
        "stack_bytes": [1, -1],
        "heap_bytes": [1, 2],
        "kind": [1, 7],
        "kind_bytes": [10, 20],
        "facts": [1] * len(schema.MEMORY_FACTS),
        "reasons": list(b"[]"),
    }
    columns |= changed
    return schema.encode_group(
        1, schema.GROUP_MEMORY, [(name, values, False) for name, values in columns.items()]
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"thread": [0]},
        {"thread": [0, schema.MAX_THREADS]},
        {"heap_bytes": [-2, 0]},
        {"stack_bytes": [1, 2**63]},
        {"kind": [1]},
        {"kind": [1, 256]},
        {"kind_bytes": [1, -1]},
        {"kind": [1] * 257, "kind_bytes": [1] * 257},
        {"facts": [1]},
        {"facts": [0] * len(schema.MEMORY_FACTS)},
        {"facts": [-1] * len(schema.MEMORY_FACTS)},
        {"reasons": list(b"{}")},
        {"reasons": list(b'[["a"]]')},
        {"reasons": [1000]},
    ],
)
def test_damaged_readings_are_refused(changed: dict[str, list[int]]) -> None:
    # GIVEN a group that is not what a writer writes, WHEN it is read, THEN it is refused as damaged
    with pytest.raises(schema.DamagedBlob):
        decode_memory(encoded(**changed), 1, schema.GROUP_MEMORY)


def test_what_a_newer_minor_version_adds_is_left_out() -> None:
    # GIVEN a kind that is not known, and a fact more
    blob = encoded(kind=[1, 200], kind_bytes=[5, 6], facts=[1] * (len(schema.MEMORY_FACTS) + 1))

    # WHEN it is read, THEN the rest counts
    assert decode_memory(blob, 1, schema.GROUP_MEMORY).kinds == {MemoryKind.PYTHON_HEAPS: 5}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    # GIVEN any bytes as reasons, WHEN they are read, THEN a reading or one kind of error comes
    try:
        decode_memory(encoded(reasons=list(data)), 1, schema.GROUP_MEMORY)
    except schema.DamagedBlob:
        pass


def test_a_damaged_reading_is_a_gap(tmp_path: Path) -> None:
    # GIVEN a recording whose reading cannot be read
    path = written(tmp_path / "a.ftdiag", [READING, READING])
    database = sqlite3.connect(path)
    database.execute("UPDATE column_data SET data = ? WHERE name = 'memory' AND window = 1", (b"nonsense",))
    database.commit()
    database.close()

    # WHEN it is read, THEN it is told and the rest is there
    with Recording.open(path) as recording:
        assert [position for position, _ in recording.memory(0, 2)] == [1]
        assert [gap.what for gap in recording.damaged] == ["memory"]
