"""Collapsed stacks with the number of their samples: py-spy's raw files, CPython 3.15's, those of flame
graphs, ours.

In: lines `frame;frame;frame 12`, root first. Out: a recording. The format keeps neither order nor rate:
samples are spread evenly over the time that they make at the rate that was asked for, or at py-spy's default.
What begins with no thread is one thread for all. Numbers that are too large for samples are times in ns, as
ftdiag exports them. A state as its innermost frame, such as `[lock]`, stays a frame. Source: py-spy 0.4,
src/flamegraph.rs; CPython 3.15, Lib/profiling/sampling/stack_collector.py (`tid:12;a.py:f:3`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Final

from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress, how_far
from ftdiag.formats.importers.assembly import MAX_TICKS, Assembly, Carry
from ftdiag.formats.pyspy_format import ThreadLabel, frame_label, process_number, thread_label
from ftdiag.opening import open_plain

KIND: Final = "collapsed stacks"
TAKES_RATE: Final = True
DEFAULT_RATE_HZ: Final = 100.0
"""py-spy's own (`--rate`)."""
MAX_NS: Final = MAX_TICKS * 10_000_000
"""All thread-time of a file whose numbers are times."""
MAX_LINE_BYTES: Final = 1 << 20
MAX_LINES: Final = 1 << 20
_TEXT_LINES: Final = 20
ALL_THREADS: Final = "all threads"


def recognises(head: bytes, path: Path) -> bool:
    """Whether the lines are text that ends in a number each."""
    if b"\0" in head:
        return False
    lines = head.split(b"\n")
    complete = lines if len(lines) == 1 else lines[:-1]
    filled = [line.rstrip(b"\r") for line in complete[:_TEXT_LINES] if line.strip()]
    return bool(filled) and all(_split(line) is not None for line in filled)


def import_file(source: Path, output: Path, progress: Progress, rate_hz: float | None = None) -> str:
    """Make the recording; `rate_hz` is the rate it was sampled at, where the file does not say."""
    assembly = Assembly(source, KIND, rate_hz or DEFAULT_RATE_HZ)
    counts: dict[object, dict[int, int]] = {}
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            _read(source, stream, assembly, counts, progress)
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    in_ns = sum(sum(stacks.values()) for stacks in counts.values()) > MAX_TICKS
    if in_ns:
        counts = {key: _in_ticks(stacks, assembly.rate_hz) for key, stacks in counts.items()}
    assembly.deal(counts)
    notes = [
        "a raw file does not say when a sample was taken: samples are spread evenly over the time",
    ]
    if in_ns:
        notes.append("its numbers are too large for samples: they are taken for times in ns")
    elif rate_hz is None:
        notes.append(
            f"a raw file does not say its rate: {DEFAULT_RATE_HZ:g} Hz, py-spy's default, is assumed"
        )
    if ALL_THREADS in counts:
        notes.append("it does not say which thread a stack is of: all threads are shown as one")
    return assembly.write(output, notes)


def _in_ticks(stacks: dict[int, int], rate_hz: float) -> dict[int, int]:
    carry = Carry(1e9 / rate_hz)
    return {stack: carry.ticks(time_ns) for stack, time_ns in stacks.items()}


def _split(line: bytes) -> tuple[bytes, int] | None:
    """The stack and the number behind it."""
    stack, space, number = line.rstrip().rpartition(b" ")
    if not space or not stack.strip() or not number.isdigit() or len(number) > 15:
        return None
    return stack, int(number)


def _read(
    source: Path,
    stream: IO[bytes],
    assembly: Assembly,
    counts: dict[object, dict[int, int]],
    progress: Progress,
) -> None:
    size = max(1, source.stat().st_size)
    done = samples = 0
    for number in range(MAX_LINES + 1):
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        done += len(line)
        if len(line) > MAX_LINE_BYTES or number == MAX_LINES:
            raise RecordingError(
                f"{source} is too large: line {number + 1:,}",
                f"At most {MAX_LINES:,} lines of {MAX_LINE_BYTES:,} bytes are read.",
            )
        if not line.strip():
            continue
        parts = _split(line)
        if parts is None:
            raise RecordingError(
                f"{source} is damaged: line {number + 1:,} does not end in a number of samples",
                "Was the program that wrote it stopped? Record once more.",
            )
        stack, ticks = parts
        samples += ticks
        if samples > MAX_TICKS and not _is_own(stack, samples):
            raise RecordingError(
                f"{source} has more than {MAX_TICKS:,} samples", "Record a shorter time, or at a lower rate."
            )
        thread, frames = _labels(stack.decode("utf-8", "replace").split(";"))
        if not ticks:
            continue
        key: object = ALL_THREADS if thread is None else thread
        if thread is None:
            assembly.thread(key, ALL_THREADS, 0)
        else:
            process, tid, name = thread
            assembly.thread(key, name, tid, main=name == "MainThread")
            assembly.pid = assembly.pid or process
        chosen = assembly.stack([assembly.frame(*label) for label in frames])
        stacks = counts.setdefault(key, {})
        stacks[chosen] = stacks.get(chosen, 0) + ticks
        if number % 4096 == 0:
            progress(how_far(source, done, size))


def _labels(
    parts: list[str],
) -> tuple[tuple[int, int, str] | None, list[tuple[str, str, int | None]]]:
    """The thread as (process, number, name), `None` where it is not said, and the frames behind it."""
    process = 0
    # With --subprocesses every process on the way comes first; the innermost is the thread's.
    while parts and (number := process_number(parts[0])) is not None:
        process = number
        parts = parts[1:]
    thread = None
    label = (thread_label(parts[0]) or _other_label(parts[0])) if parts else None
    if label is not None:
        parts = parts[1:]
        frames = [_frame_label(part) for part in parts]
        # A name may contain the separator: what stands before the first frame with a line belongs to it.
        first = next((place for place, frame in enumerate(frames) if frame[2] is not None), 0)
        thread = process, label.number, ";".join([label.name, *parts[:first]])
        return thread, frames[first:]
    return thread, [_frame_label(part) for part in parts]


_TACHYON_THREAD: Final = re.compile(r"tid:([0-9]{1,19})")
_OWN_THREAD: Final = re.compile(r"(.*) \(([0-9]{1,19})\)", re.DOTALL)
_TACHYON_FRAME: Final = re.compile(r"([^:]+):(.+):([0-9]{1,9})", re.DOTALL)


def _is_own(stack: bytes, samples: int) -> bool:
    """Whether a line is one of ftdiag's, whose numbers are times, and not too many of them."""
    label = stack.partition(b";")[0].decode("utf-8", "replace")
    return samples <= MAX_NS and _OWN_THREAD.fullmatch(label) is not None


def _other_label(text: str) -> ThreadLabel | None:
    """Of `tid:12` (CPython 3.15) or `worker (12)` (ours), which no function looks like; `None` for others."""
    found = _TACHYON_THREAD.fullmatch(text)
    if found is not None:
        return ThreadLabel(int(found[1]), "", kernel=True)
    found = _OWN_THREAD.fullmatch(text)
    return None if found is None else ThreadLabel(int(found[2]), found[1], kernel=True)


def _frame_label(text: str) -> tuple[str, str, int | None]:
    """(file, function, line) of `f (a.py:12)` or `a.py:f:12`; only the function where it is neither."""
    found = None if text.endswith(")") else _TACHYON_FRAME.fullmatch(text)
    return frame_label(text) if found is None else (found[1], found[2], int(found[3]) or None)
