"""JSON lines of CPython 3.15's profiler (`--jsonl`): how often each line was the innermost one.

In: records as lines. Out: a recording with one thread: the format has neither stacks nor threads nor times.
Source: CPython 3.15, Lib/profiling/sampling/jsonl_collector.py (records of version 0).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress, how_far
from ftdiag.formats.importers.assembly import MAX_TICKS, Assembly
from ftdiag.opening import open_plain

KIND: Final = "JSON lines of Python's profiler"
VERSION: Final = 0
MAX_LINE_BYTES: Final = 1 << 22
MAX_LINES: Final = 1 << 18
MAX_ENTRIES: Final = 1 << 20
"""Texts, and frames."""
ALL_THREADS: Final = "all threads"
NOTES: Final = (
    "JSON lines keep no call stacks and no threads: each sample has its innermost line alone, in one thread",
    "they keep no order: samples are spread evenly over the time",
)


def recognises(head: bytes, path: Path) -> bool:
    """Whether the first line is the record that says how it was sampled."""
    first = head.split(b"\n", 1)[0]
    return first.startswith(b"{") and b'"sample_interval_usec"' in first and b'"meta"' in first


def import_file(source: Path, output: Path, progress: Progress) -> str:
    """Make the recording."""
    texts: dict[int, str] = {}
    frames: dict[int, tuple[str, str, int | None]] = {}
    counts: dict[int, int] = {}
    interval_us = 0
    ended = False
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            for record in _records(source, stream, progress):
                kind = record.get("type")
                if kind == "meta":
                    interval_us = _number(source, record.get("sample_interval_usec"))
                elif kind == "string_table":
                    for row in _rows(source, record, "strings", texts):
                        value = row.get("value")
                        texts[_number(source, row.get("str_id"))] = value if isinstance(value, str) else "?"
                elif kind == "frame_table":
                    for row in _rows(source, record, "frames", frames):
                        line = _number(source, row.get("line"))
                        frames[_number(source, row.get("frame_id"))] = (
                            texts.get(_number(source, row.get("path_str_id")), "?"),
                            texts.get(_number(source, row.get("func_str_id")), "?"),
                            line if 0 < line < 1 << 31 else None,
                        )
                elif kind == "agg":
                    for row in _rows(source, record, "entries", counts):
                        counts[_number(source, row.get("frame_id"))] = _number(source, row.get("self"))
                ended = ended or kind == "end"
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    if not ended:
        raise _refused(source, "it is cut short: its last record is missing")
    if not 0 < interval_us < 10_000_000:
        raise _refused(source, "it does not say how often it sampled")
    if sum(counts.values()) > MAX_TICKS:
        raise _refused(source, f"it has more than {MAX_TICKS:,} samples")
    assembly = Assembly(source, KIND, 1e6 / interval_us)
    assembly.thread(ALL_THREADS, ALL_THREADS, 0)
    unknown = ("?", "?", None)
    stacks: dict[int, int] = {}
    for frame, ticks in counts.items():
        stack = assembly.stack([assembly.frame(*frames.get(frame, unknown))])
        stacks[stack] = stacks.get(stack, 0) + ticks
    assembly.deal({ALL_THREADS: stacks})
    return assembly.write(output, NOTES)


def _records(source: Path, stream: IO[bytes], progress: Progress) -> Iterator[dict[str, Any]]:
    size = max(1, source.stat().st_size)
    done = 0
    for number in range(MAX_LINES + 1):
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        done += len(line)
        if len(line) > MAX_LINE_BYTES or number == MAX_LINES:
            raise _refused(source, "it is too large")
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise _refused(source, f"line {number + 1:,} is no JSON") from None
            if not isinstance(record, dict) or record.get("v") != VERSION:
                raise _refused(source, f"line {number + 1:,} is no record of version {VERSION}")
            yield record
        if number % 256 == 0:
            progress(how_far(source, done, size))


def _rows(source: Path, record: dict[str, Any], name: str, known: dict[int, Any]) -> list[dict[str, Any]]:
    rows = record.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _refused(source, "a record has no list")
    if len(known) + len(rows) > MAX_ENTRIES:
        raise _refused(source, f"it has more than {MAX_ENTRIES:,} entries")
    return rows


def _number(source: Path, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise _refused(source, "a number is missing or makes no sense")
    return value


def _refused(source: Path, why: str) -> RecordingError:
    return RecordingError(
        f"{source} cannot be taken over: {why}",
        "python3.15 -m profiling.sampling attach --gecko -o FILE PID   keeps stacks, threads and times",
    )
