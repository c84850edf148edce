"""Memory: what it is there for, how it grows, what the allocators' time goes to, whose it is.

In: a snapshot. Out: lines for a panel; each part is a function of its own, and on a wide screen they stand in
two columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.segment import Segment

from ftdiag.model import AllocatorPart, MemoryKind, MemoryMetrics, Snapshot, ThreadState
from ftdiag.tui.lines import Lines, figure, heading, prose
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.panes.allocations import allocation_lines
from ftdiag.tui.plot import plot_lines
from ftdiag.tui.source import View
from ftdiag.tui.statebar import bar
from ftdiag.wording.memory import PART_WORDS, growth_words, kind_words
from ftdiag.wording.places import place_and_function
from ftdiag.wording.threads import thread_name
from ftdiag.wording.units import NOT_MEASURED, count, percent, seconds, size

TWO_COLUMNS: Final = 130
"""From this width on the parts stand in two columns."""
GAP: Final = 3
MOST_LINES: Final = 12
MOST_THREADS: Final = 40
CURVE_HEIGHT: Final = 5
TALL_CURVE_HEIGHT: Final = 12
LEAST_POINTS: Final = 2
_NAME_CELLS: Final = 36
"""Room for the longest name of a kind."""

# Signs and colours that are known to be told apart, in the order of a bar of states.
_KIND_SIGNS: Final[Mapping[MemoryKind, ThreadState]] = {
    MemoryKind.PYTHON_HEAPS: ThreadState.WORK,
    MemoryKind.LIBC_HEAP: ThreadState.ALLOC,
    MemoryKind.LIBC_ARENAS: ThreadState.GC,
    MemoryKind.THREAD_STACKS: ThreadState.ATOMIC,
    MemoryKind.ANONYMOUS: ThreadState.SPIN,
    MemoryKind.FILES: ThreadState.RUNNABLE,
    MemoryKind.SHARED: ThreadState.IDLE,
}
_PART_SIGNS: Final[Mapping[AllocatorPart, ThreadState]] = {
    AllocatorPart.MIMALLOC: ThreadState.WORK,
    AllocatorPart.LIBC: ThreadState.ALLOC,
    AllocatorPart.OTHER: ThreadState.GC,
    AllocatorPart.FAULTS: ThreadState.ATOMIC,
    AllocatorPart.MAPPING: ThreadState.SPIN,
    AllocatorPart.UNMAPPING: ThreadState.RUNNABLE,
    AllocatorPart.UNKNOWN: ThreadState.IDLE,
}


def memory_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """The pane."""
    if width < TWO_COLUMNS:
        lines = kind_lines(snapshot, width, look)
        lines += curve_lines(snapshot, width, look, CURVE_HEIGHT)
        lines += allocator_lines(snapshot, width, look)
        return [*lines, *thread_lines(snapshot, width, look), *allocation_lines(snapshot, width, look)]
    left = (width - GAP) // 2
    right = width - GAP - left
    lines = beside(
        [*kind_lines(snapshot, left, look), *curve_lines(snapshot, left, look, TALL_CURVE_HEIGHT)],
        [*allocator_lines(snapshot, right, look)[1:], *thread_lines(snapshot, right, look)],
        left,
    )
    return [*lines, *allocation_lines(snapshot, width, look)]


def beside(left: Sequence[list[Segment]], right: Sequence[list[Segment]], width: int) -> Lines:
    """Two columns, the left one `width` cells wide."""
    lines: Lines = []
    for row in range(max(len(left), len(right))):
        line = list(left[row]) if row < len(left) else []
        if row < len(right):
            used = sum(segment.cell_length for segment in line)
            line += [Segment(" " * (width + GAP - used)), *right[row]]
        lines.append(line)
    return lines


def kind_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """The process as a whole, and what its memory is there for."""
    memory, process, reading = snapshot.memory, snapshot.process, snapshot.memory.reading
    lines: Lines = heading("Memory of the process", width, look)[1:]
    rss = memory.rss_bytes if memory.rss_bytes is not None else process.rss_bytes if process else None
    if rss is None:
        lines += figure("resident (RSS)", "not measured: it was not read in this range", width, look)
    else:
        lines += figure("resident (RSS)", f"{size(rss)}; {growth_words(memory)}", width, look, look.strong)
    if reading is not None and reading.pss_bytes is not None:
        own = f"{size(reading.pss_bytes)}; {size(reading.uss_bytes)} its own alone (USS)"
        lines += figure("its share of it (PSS)", own, width, look)
    if process is not None and process.threads is not None:
        each = memory.per_thread_bytes
        words = count(process.threads) + (
            "" if each is None else f"; {size(each)} each besides the main one (stack and Python's heap)"
        )
        lines += figure("threads", words, width, look)
    lines += heading("What it is there for", width, look)
    if reading is None or not reading.kinds:
        why = memory.not_measured.get("memory") or memory.not_measured.get("memory.kinds", "no reading")
        return [*lines, *prose(f"not measured: {why}", width, look, look.muted)]
    whole = max(1, sum(reading.kinds.values()))
    lines.append([Segment(" "), *bar(_signed(reading.kinds, _KIND_SIGNS), max(1, width - 2), look)])
    lines.append(
        [
            look.cell("", 3),
            look.cell("kind", min(_NAME_CELLS, width - 37), look.column_head),
            look.cell("resident", 11, look.column_head, right=True),
            look.cell("share", 7, look.column_head, right=True),
            look.cell("gained/min", 15, look.column_head, right=True),
        ]
    )
    grown = _growth(memory)
    for kind in MemoryKind:
        if kind not in reading.kinds:
            continue
        state = _KIND_SIGNS[kind]
        lines.append(
            [
                Segment(" "),
                Segment(look.sign(state), look.state_styles[state]),
                Segment(" "),
                look.cell(kind_words(kind, memory), min(_NAME_CELLS, width - 37), look.text),
                look.cell(size(reading.kinds[kind]), 11, look.strong, right=True),
                look.cell(percent(reading.kinds[kind] / whole), 7, look.muted, right=True),
                look.cell(_signed_size(grown.get(kind)), 15, look.muted, right=True),
            ]
        )
    if reading.ended_heap_bytes:
        lines += figure(
            "of ended threads", f"{size(reading.ended_heap_bytes)} of Python's heaps", width, look
        )
    if reading.heaps_free_bytes:
        lines += figure("in no use", f"{size(reading.heaps_free_bytes)} of Python's heaps", width, look)
    if reading.libc_free_bytes:
        lines += figure("kept by libc", f"{size(reading.libc_free_bytes)} that is free", width, look)
    if reading.arenas:
        lines += figure("libc's arenas", count(reading.arenas), width, look)
    return lines


def curve_lines(snapshot: Snapshot, width: int, look: Look, height: int) -> Lines:
    """The resident size over the range."""
    values = [float(resident) for _, resident in snapshot.memory.series]
    lines = heading("Resident size over the range", width, look)
    if len(values) < LEAST_POINTS:
        return [*lines, *prose("the range is too short for a curve", width, look, look.muted)]
    low, high = min(values), max(values)
    # From zero, so that a small change looks small; its ends say the figures.
    room = max(8, width - 13)
    plotted = plot_lines(list(values), None, high, room, height, look, (look.accent, look.muted))
    for row, line in enumerate(plotted):
        name = size(high) if row == 0 else "0" if row == height - 1 else ""
        lines.append([look.cell(name, 11, look.muted, right=True), Segment(" "), *line])
    words = f"from {size(values[0])} to {size(values[-1])}; least {size(low)}, most {size(high)}"
    return [*lines, [look.cell("", 12), look.cell(words, room, look.muted)]]


def allocator_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """What the time in allocators goes to, all of it and by line."""
    memory = snapshot.memory
    lines = heading("Time in allocators", width, look)
    whole = sum(memory.allocator_ns.values())
    if whole <= 0:
        why = memory.not_measured.get("memory.allocator")
        words = "none was seen" if why is None else f"not measured: {why}"
        return [*lines, *prose(words, width, look, look.muted)]
    duration = max(1, snapshot.metrics.duration_ns)
    lines.append([Segment(" "), *bar(_signed(memory.allocator_ns, _PART_SIGNS), max(1, width - 2), look)])
    for part, spent in sorted(memory.allocator_ns.items(), key=lambda item: -item[1]):
        state = _PART_SIGNS[part]
        lines.append(
            [
                Segment(" "),
                Segment(look.sign(state), look.state_styles[state]),
                Segment(" "),
                look.cell(PART_WORDS[part], min(_NAME_CELLS, width - 37), look.text),
                look.cell(seconds(spent), 11, look.strong, right=True),
                look.cell(percent(spent / whole), 7, look.muted, right=True),
                look.cell(f"{spent / duration:.2f} cores", 15, look.muted, right=True),
            ]
        )
    room = max(8, min(24, width // 4))
    for line in memory.allocator_lines[:MOST_LINES]:
        lines.append(
            [
                look.cell(seconds(line.total_ns), 10, look.strong, right=True),
                Segment(" "),
                *bar(_signed(line.parts_ns, _PART_SIGNS), room, look),
                Segment(" "),
                look.cell(place_and_function(line.frame), max(1, width - room - 13), look.text),
            ]
        )
    if len(memory.allocator_lines) > MOST_LINES:
        more = len(memory.allocator_lines) - MOST_LINES
        lines.append([look.cell(f" {more} more lines", width, look.muted)])
    return lines


def thread_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """Memory and page faults of each thread, those with most memory first."""
    lines = heading("Threads", width, look)
    memory = snapshot.memory
    held = {thread.info.index: thread for thread in memory.threads}
    lasted = max(1e-9, snapshot.metrics.duration_ns / 1e9)
    order = {thread.info.index: place for place, thread in enumerate(memory.threads)}
    threads = sorted(
        snapshot.threads, key=lambda each: (order.get(each.info.index, len(order)), -each.minor_faults)
    )
    room = max(8, min(30, width - 48))
    lines.append(
        [
            Segment(" "),
            look.cell("thread", room, look.column_head),
            look.cell("Python heap", 13, look.column_head, right=True),
            look.cell("stack", 11, look.column_head, right=True),
            look.cell("faults/s", 11, look.column_head, right=True),
            look.cell("major/s", 9, look.column_head, right=True),
        ]
    )
    counted = snapshot.imported is None
    for thread in threads[:MOST_THREADS]:
        own = held.get(thread.info.index)
        heap = None if own is None else own.heap_bytes
        stack = None if own is None else own.stack_bytes
        lines.append(
            [
                Segment(" "),
                look.cell(thread_name(thread.info), room, look.text),
                look.cell(size(heap), 13, look.strong, right=True),
                look.cell(size(stack), 11, look.text, right=True),
                look.cell(_rate(thread.minor_faults / lasted, counted), 11, look.text, right=True),
                look.cell(_rate(thread.major_faults / lasted, counted), 9, look.muted, right=True),
            ]
        )
    if len(threads) > MOST_THREADS:
        lines.append([look.cell(f" {len(threads) - MOST_THREADS} more threads", width, look.muted)])
    for name in ("memory.python_heaps", "memory.pss_bytes"):
        if name in memory.not_measured:
            word = name.removeprefix("memory.").replace("_", " ").removesuffix(" bytes")
            lines += figure(word, f"not measured: {memory.not_measured[name]}", width, look, look.muted)
    return lines


def _rate(value: float, counted: bool) -> str:
    return f"{value:,.0f}" if counted else NOT_MEASURED


def _growth(memory: MemoryMetrics) -> dict[MemoryKind, float]:
    """What each kind gained a minute between the first and the last reading of the range."""
    since, reading = memory.since, memory.reading
    if since is None or reading is None or reading.at_ns <= since.at_ns:
        return {}
    minutes = (reading.at_ns - since.at_ns) / 60e9
    return {
        kind: (held - since.kinds[kind]) / minutes
        for kind, held in reading.kinds.items()
        if kind in since.kinds
    }


def _signed_size(value: float | None) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{size(abs(value))}"


def _signed(
    values: Mapping[MemoryKind, int] | Mapping[AllocatorPart, float],
    signs: Mapping[MemoryKind, ThreadState] | Mapping[AllocatorPart, ThreadState],
) -> dict[ThreadState, float]:
    """Sizes or times as a bar of states paints them."""
    return {signs[each]: float(value) for each, value in values.items()}  # type: ignore[index]


def _lines(view: View, width: int, look: Look) -> Lines:
    assert view.snapshot is not None
    return memory_lines(view.snapshot, width, look)


PANE: Final = Pane(
    "memory",
    "Memory",
    lambda: TextPane("memory", "6 Memory", _lines),
    "6",
    short="Mem",
    about="memory: what it is for, how it grows, what allocates",
)
