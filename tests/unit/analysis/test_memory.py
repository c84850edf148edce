"""The memory over a range: kinds, growth, threads, what allocators' time goes to, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import START_NS, RecordingBuilder, a_reading, spent
from ftdiag.analysis.allocators import part_of
from ftdiag.analysis.memory import MAX_SERIES, NOT_RECORDED
from ftdiag.model import AllocatorPart, MemoryKind, ProcessCounters, ThreadState
from ftdiag.reports.json import to_report
from ftdiag.reports.text import render
from ftdiag.sources.native.symbol_classes import TABLE, Origin

MIB = 1 << 20
LINE = "app.py:10 work < app.py:3 main"
OTHER = "app.py:20 other < app.py:3 main"
SECOND_NS = 1_000_000_000
HEAPS, FILES = MemoryKind.PYTHON_HEAPS, MemoryKind.FILES


def test_kinds_threads_and_growth(tmp_path: Path) -> None:
    # GIVEN half a minute in which the memory grows, with two readings of it by kind and thread
    builder = RecordingBuilder(tmp_path / "r", rate_hz=10)
    for name in ("main", "w-0", "w-1"):
        builder.thread(name)
    for second in range(31):
        at_ns = START_NS + second * SECOND_NS
        readings = {
            0: a_reading({HEAPS: 50, FILES: 10}, {0: (100, 900), 1: (40, 60), 2: (-1, 5)}, at_ns=at_ns),
            30: a_reading({HEAPS: 80, FILES: 10}, {0: (100, 900), 1: (40, 984), 2: (8, 3064)}, at_ns=at_ns),
        }
        builder.window(
            {"w-0": [spent(10, "work", at=LINE)]},
            process=ProcessCounters(rss_bytes=(60 + second) * MIB, threads=3),
            memory=readings.get(second),
        )

    # WHEN a snapshot is taken
    memory = builder.end().session().snapshot().memory

    # THEN the last reading counts, with what was gained since the first
    assert memory.reading is not None
    assert memory.reading.kinds == {HEAPS: 80 * MIB, FILES: 10 * MIB}
    assert memory.since is not None
    assert memory.since.kinds[HEAPS] == 50 * MIB
    assert memory.readings == 2
    assert memory.rss_bytes == 90 * MIB
    assert memory.growth_bytes == 30 * MIB
    assert memory.growth_per_minute_bytes == pytest.approx(60 * MIB)
    assert len(memory.series) == 31
    # AND threads come with what is theirs, the largest first; the mean leaves the main thread out
    assert [thread.info.name for thread in memory.threads] == ["w-1", "w-0", "main"]
    assert memory.threads[0].total_bytes == 3 * MIB
    assert memory.per_thread_bytes == 2 * MIB
    assert "memory" not in memory.not_measured


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    # GIVEN a reading in which stacks and heaps of threads are unknown, with the reasons
    builder = RecordingBuilder(tmp_path / "r", rate_hz=10)
    builder.thread("w")
    reading = a_reading({FILES: 3}, {0: (-1, -1)}, not_measured={"python_heaps": "it has a GIL"})
    builder.window({"w": [spent(10, "work")]}, memory=reading)
    snapshot = builder.end().session().snapshot()

    # WHEN it is looked at, THEN unknown is None, and the reasons are told
    (thread,) = snapshot.memory.threads
    assert (thread.stack_bytes, thread.heap_bytes, thread.total_bytes) == (None, None, None)
    assert snapshot.memory.per_thread_bytes is None
    assert snapshot.memory.growth_bytes is None
    assert snapshot.quality.not_measured["memory.python_heaps"] == "it has a GIL"
    assert snapshot.quality.not_measured["memory.per_thread_bytes"] == "it has a GIL"
    said = to_report(snapshot)["memory"]
    assert said["per_thread_bytes"] is None
    assert said["threads"][0]["heap_bytes"] is None
    assert said["kinds"]["python_heaps"] is None
    assert said["kinds"]["files"] == 3 * MIB


def test_recordings_without_readings_say_so(tmp_path: Path) -> None:
    # GIVEN a recording as older versions wrote it
    snapshot = RecordingBuilder(tmp_path / "r").window({"w": [spent(50, "work")]}).end().session().snapshot()

    # WHEN it is looked at, THEN the resident size is there and the rest is not recorded
    assert snapshot.memory.rss_bytes == 64 * MIB
    assert snapshot.memory.reading is None
    assert snapshot.quality.not_measured["memory"] == NOT_RECORDED
    report = to_report(snapshot)
    assert report["memory"]["rss_bytes"] == 64 * MIB
    assert report["memory"]["kinds"] is None
    assert report["quality"]["not_measured"]["memory"] == NOT_RECORDED


def test_a_short_range_has_the_reading_before_it(tmp_path: Path) -> None:
    # GIVEN a reading, and seconds after it
    builder = RecordingBuilder(tmp_path / "r", rate_hz=10)
    builder.window({"w": [spent(10, "work")]}, memory=a_reading({HEAPS: 7}))
    for _ in range(4):
        builder.window({"w": [spent(10, "work")]})
    session = builder.end().session()

    # WHEN a range behind it is looked at, THEN its kinds are those of the reading before
    memory = session.snapshot(START_NS + 3 * SECOND_NS).memory
    assert memory.reading is not None
    assert memory.reading.kinds == {HEAPS: 7 * MIB}
    assert memory.since is None
    assert memory.readings == 0


def test_time_in_allocators_is_split_by_line(tmp_path: Path) -> None:
    # GIVEN a line in mimalloc and in page faults, and one in libc's malloc
    builder = RecordingBuilder(tmp_path / "r", native="cpu-clock at 199 Hz")
    builder.thread("w")
    builder.window(
        {"w": [spent(60, "on_cpu", at=LINE), spent(40, "on_cpu", at=OTHER)]},
        native=[
            ("w", LINE, "alloc", "mi_malloc", 30),
            ("w", LINE, "alloc", "clear_page_erms", 10),
            ("w", LINE, "work", "_PyEval_EvalFrameDefault", 20),
            ("w", OTHER, "alloc", "_int_free", 40),
        ],
    )

    # WHEN a snapshot is taken
    snapshot = builder.end().session().snapshot()
    memory = snapshot.memory

    # THEN the time in allocators is split, all of it and by line
    assert sum(memory.allocator_ns.values()) == pytest.approx(snapshot.metrics.states_ns[ThreadState.ALLOC])
    assert memory.allocator_ns[AllocatorPart.LIBC] == pytest.approx(0.4 * SECOND_NS, rel=0.01)
    first, second = memory.allocator_lines
    assert {first.frame.line, second.frame.line} == {10, 20}
    work = first if first.frame.line == 10 else second
    assert work.parts_ns[AllocatorPart.MIMALLOC] == pytest.approx(0.75 * work.total_ns)
    assert work.parts_ns[AllocatorPart.FAULTS] == pytest.approx(0.25 * work.total_ns)
    # AND reports say so
    text = " ".join("\n".join(render(snapshot)).split())
    assert "time in allocators: 800 ms: libc's malloc and free 50 %" in text
    assert to_report(snapshot)["memory"]["allocator"]["mimalloc"] == pytest.approx(0.3, rel=0.01)


def test_the_curve_over_time_is_bounded(tmp_path: Path) -> None:
    # GIVEN more windows than a curve has points
    builder = RecordingBuilder(tmp_path / "r", rate_hz=10)
    for second in range(MAX_SERIES + 50):
        builder.window(
            {"w": [spent(2, "work")]}, process=ProcessCounters(rss_bytes=second), memory=a_reading({HEAPS: 1})
        )

    # WHEN a snapshot is taken, THEN it has at most so many, and the last one
    memory = builder.end().session().snapshot().memory
    assert len(memory.series) <= MAX_SERIES
    assert len(memory.kinds_series) <= MAX_SERIES
    assert memory.series[-1][1] == MAX_SERIES + 49


@pytest.mark.parametrize(
    ("symbol", "part"),
    [
        ("_mi_page_malloc", AllocatorPart.MIMALLOC),
        ("_PyObject_MiMalloc", AllocatorPart.MIMALLOC),
        ("_PyMem_RawMalloc", AllocatorPart.LIBC),
        ("PyMem_RawFree.part.0", AllocatorPart.LIBC),
        ("_int_malloc", AllocatorPart.LIBC),
        ("je_malloc", AllocatorPart.OTHER),
        ("clear_page_erms", AllocatorPart.FAULTS),
        ("some_new_function_of_the_kernel", AllocatorPart.FAULTS),
        ("munmap", AllocatorPart.UNMAPPING),
        ("zap_pte_range", AllocatorPart.UNMAPPING),
        ("unix_mmap", AllocatorPart.MAPPING),
        ("?", AllocatorPart.UNKNOWN),
    ],
)
def test_functions_of_the_allocator(symbol: str, part: AllocatorPart) -> None:
    # GIVEN a function, WHEN it is looked up, THEN it is what it does
    assert part_of(symbol) is part


def test_no_function_of_a_program_is_taken_for_a_page_fault() -> None:
    # GIVEN all names of programs and libraries that mean allocation
    names = [
        name.replace("*", "x")
        for row in TABLE
        if row.state is ThreadState.ALLOC and Origin.KERNEL not in row.origins
        for name in row.names
    ]

    # WHEN they are looked up, THEN each is a part of its own, none is left over for the kernel
    assert names
    assert [name for name in names if part_of(name) in (AllocatorPart.FAULTS, AllocatorPart.UNKNOWN)] == []
