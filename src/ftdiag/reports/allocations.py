"""What a capture of memray says, in sentences for the text report and words for the HTML report.

In: the model's `Allocations`, and how to write a name that the target chose. Out: (indent, sentence) pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from ftdiag.model import Allocations, Frame, LineAllocations, ThreadAllocations
from ftdiag.wording import units

SHOWN_LINES: Final = 8
SHOWN_THREADS: Final = 6
WORTH_SAYING: Final = 0.01
"""A line's part of the heap, or of what was not freed, below which it is not named."""

ITEM: Final = 2
DETAIL: Final = 4


def allocation_sentences(
    capture: Allocations,
    frame_words: Callable[[Frame], str],
    safe: Callable[[str], str],
) -> Iterator[tuple[int, str]]:
    """The whole capture, then its lines and threads, those that allocate most first."""
    yield ITEM, about_words(capture)
    yield ITEM, total_words(capture)
    for line in capture.lines[:SHOWN_LINES]:
        yield ITEM, f"{frame_words(line.frame)}: {line_words(line, capture)}"
    left_out = max(0, len(capture.lines) - SHOWN_LINES) + capture.lines_left_out
    if left_out > 0:
        yield ITEM, f"and {units.plural(left_out, 'line')} more (--format json has the first ones)"
    threads = [thread for thread in capture.threads if thread.count or thread.left_bytes]
    for thread in threads[:SHOWN_THREADS]:
        yield ITEM, f"{thread_name(thread, safe)}: {_thread_words(thread, capture)}"
    for sentence in not_measured_words(capture, safe):
        yield ITEM, sentence


def line_words(line: LineAllocations, capture: Allocations) -> str:
    """What one line allocates: "1.2 M allocations per second (98 % temporary), 80.1 MiB per second"."""
    parts = [*_rates(line.count, line.size_bytes, line.temporary, capture)]
    if line.peak_bytes and line.peak_bytes >= WORTH_SAYING * (capture.peak_bytes or 0):
        parts.append(f"{units.size(line.peak_bytes)} of the largest heap")
    if line.left_bytes and line.left_bytes >= WORTH_SAYING * (capture.left_bytes or 0):
        parts.append(f"{units.size(line.left_bytes)} not freed")
    return ", ".join(parts) or "nothing that is still there"


def rate_words(per_second: float | None) -> str:
    """A rate of allocations: "1.24 M", "38 k", "12"."""
    if per_second is None:
        return units.NOT_MEASURED
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if per_second >= limit:
            return f"{per_second / limit:.3g} {unit}"
    return f"{per_second:.3g}"


def not_measured_words(capture: Allocations, safe: Callable[[str], str]) -> Iterator[str]:
    """What the capture does not have, a sentence for each reason."""
    for reason in sorted(set(capture.not_measured.values())):
        names = sorted(name for name, why in capture.not_measured.items() if why == reason)
        yield f"not measured: {', '.join(names)}: {safe(reason)}"


def about_words(capture: Allocations) -> str:
    """What was captured: when, for how long, of which allocators."""
    what = (
        "all memory, Python's own objects too"
        if capture.python_allocators
        else ("what malloc and mmap gave; without Python's own objects (--trace-python-allocators)")
    )
    cut = "; cut short" if capture.cut_short else ""
    form = ", aggregated" if capture.aggregated else ""
    return (
        f"memray{form}, {units.seconds(capture.duration_ns)}{_moment(capture.begin_unix_ns)}{cut}: {what}. "
        "The program ran slower meanwhile: rates are lower bounds"
    )


def total_words(capture: Allocations) -> str:
    """The figures of the whole capture."""
    parts = [*_rates(capture.count, capture.size_bytes, capture.temporary, capture)]
    if capture.peak_bytes is not None:
        parts.append(f"largest heap {units.size(capture.peak_bytes)}")
    if capture.left_bytes is not None:
        parts.append(f"not freed {units.size(capture.left_bytes)}")
    return "in all: " + ", ".join(parts)


def _rates(
    count: int | None, size_bytes: int | None, temporary: int | None, capture: Allocations
) -> Iterator[str]:
    if count is None:
        return
    share = f" ({units.percent(temporary / count)} temporary)" if count and temporary is not None else ""
    yield f"{rate_words(capture.per_second(count))} allocations per second{share}"
    if size_bytes is not None:
        yield f"{units.size(capture.per_second(size_bytes))} per second"


def _thread_words(thread: ThreadAllocations, capture: Allocations) -> str:
    parts = [*_rates(thread.count, thread.size_bytes, thread.temporary, capture)]
    if thread.left_bytes:
        parts.append(f"{units.size(thread.left_bytes)} not freed")
    return ", ".join(parts)


def allocations_of(threads: Sequence[ThreadAllocations | None], capture: Allocations | None) -> str:
    """What threads allocated together; nothing where that is not known of one of them."""
    counts = [thread.count for thread in threads if thread is not None]
    if capture is None or not counts or len(counts) < len(threads) or None in counts:
        return ""
    total = sum(count or 0 for count in counts)
    return f"{rate_words(capture.per_second(total))} allocations per second" if total else ""


def thread_name(thread: ThreadAllocations, safe: Callable[[str], str]) -> str:
    """Its name where memray knows it, else that it has none, with memray's number."""
    if thread.name:
        return f"thread {safe(thread.name)}"
    return f"a thread without a name (memray's number {thread.number})"


def _moment(unix_ns: int) -> str:
    if unix_ns <= 0:
        return ""
    try:
        return f" from {datetime.fromtimestamp(unix_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return ""
