"""Snapshots with memory and a capture of memray, for tests of views. Names are given: they may be hostile."""

from __future__ import annotations

from dataclasses import replace

from ftdiag.analysis.allocations import joined
from ftdiag.model import (
    Allocations,
    AllocatorLine,
    AllocatorPart,
    Frame,
    LineAllocations,
    MemoryKind,
    MemoryReading,
    Snapshot,
    ThreadAllocations,
)

MIB = 1 << 20


def with_memory(snapshot: Snapshot) -> Snapshot:
    """The snapshot with a reading of memory by kind, and time in the allocator."""
    reading = MemoryReading(
        at_ns=0,
        cost_ns=1_000_000,
        rss_bytes=96 * MIB,
        pss_bytes=90 * MIB,
        uss_bytes=88 * MIB,
        threads=3,
        arenas=2,
        ended_heap_bytes=8 * MIB,
        kinds={
            MemoryKind.PYTHON_HEAPS: 60 * MIB,
            MemoryKind.LIBC_ARENAS: 20 * MIB,
            MemoryKind.FILES: 15 * MIB,
            MemoryKind.THREAD_STACKS: MIB,
        },
    )
    parts = {AllocatorPart.MIMALLOC: 3e8, AllocatorPart.FAULTS: 1e8}
    line = AllocatorLine(snapshot.hot[0].frame, 4e8, parts)
    memory = replace(
        snapshot.memory,
        rss_bytes=96 * MIB,
        growth_bytes=4 * MIB,
        growth_ns=30_000_000_000,
        reading=reading,
        readings=1,
        per_thread_bytes=4.5 * MIB,
        allocator_ns=parts,
        allocator_lines=(line,),
        minor_faults=1200,
    )
    return replace(snapshot, memory=memory)


def with_capture(snapshot: Snapshot, name: str, lines: int = 3) -> Snapshot:
    """The snapshot with a capture of ten seconds: its hottest line, and others; of two threads."""
    hottest = snapshot.hot[0].frame
    rows = [
        LineAllocations(
            frame=hottest if number == 0 else Frame(f"/srv/{name}{number}.py", name, number),
            threads=2,
            count=1_000_000 // (number + 1),
            size_bytes=64_000_000 // (number + 1),
            temporary=990_000 // (number + 1),
            peak_bytes=2 * MIB,
            left_count=number,
            left_bytes=number * MIB,
            stack=(hottest, Frame(f"/srv/{name}.py", name, 80)),
        )
        for number in range(lines)
    ]
    capture = Allocations(
        pid=snapshot.target.pid,
        command=f"python {name}",
        begin_unix_ns=1_790_000_000_000_000_000,
        duration_ns=10_000_000_000,
        python_allocators=True,
        aggregated=False,
        cut_short=True,
        count=2_000_000,
        size_bytes=128_000_000,
        temporary=1_900_000,
        peak_bytes=16 * MIB,
        left_count=3,
        left_bytes=3 * MIB,
        lines=tuple(rows),
        threads=(
            ThreadAllocations(2, name, 1_500_000, 96_000_000, 1_450_000, None, MIB),
            ThreadAllocations(1, None, 500_000, 32_000_000, 450_000, None, 2 * MIB),
        ),
        lines_left_out=7,
        not_measured={"threads.peak_bytes": f"not kept for {name}"},
    )
    return replace(snapshot, allocations=capture, hot=joined(snapshot.hot, capture))
