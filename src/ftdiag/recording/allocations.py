"""Captures of memray and perturbations as JSON values of a recording's meta rows, and back.

In: the model's `Allocations` and `Perturbation`. Out: JSON values of at most MAX_JSON_BYTES, and from such
values, which anybody may have written, the model again; DamagedBlob where they are not what they must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ftdiag.datatypes import replace
from ftdiag.model import Allocations, Frame, LineAllocations, Perturbation, Stack, ThreadAllocations
from ftdiag.recording import schema

MAX_LINES: Final = 1000
"""Most lines of a capture that are kept."""
MAX_THREADS: Final = 1000
"""Most threads of a capture that are kept."""
MAX_FRAMES: Final = 24
"""Most frames of a line's call stack; the innermost ones are kept."""
MAX_PERTURBATIONS: Final = 256
"""Most perturbations of a recording."""
MAX_REASONS: Final = 32
_LARGEST: Final = 1 << 62

_COUNTS: Final = ("count", "size_bytes", "temporary", "peak_bytes", "left_count", "left_bytes")
_THREAD_COUNTS: Final = ("count", "size_bytes", "temporary", "peak_bytes", "left_bytes")


# --- writing ------------------------------------------------------------------------------------------


def encode_allocations(allocations: Allocations) -> str:
    """The capture as JSON text; where it would be too long, the lines that allocate least are left out."""
    lines = allocations.lines[:MAX_LINES]
    threads = allocations.threads[:MAX_THREADS]
    while True:
        left_out = allocations.lines_left_out + len(allocations.lines) - len(lines)
        kept = replace(allocations, lines=lines, threads=threads, lines_left_out=left_out)
        text = schema.to_json(_fields(kept))
        if len(text) <= schema.MAX_JSON_BYTES or not (lines or threads):
            return text
        lines, threads = lines[: len(lines) // 2], threads[: max(1, len(threads) // 2) if lines else 0]


def _fields(allocations: Allocations) -> dict[str, Any]:
    frames: dict[Frame, int] = {}

    def number(frame: Frame) -> int:
        return frames.setdefault(frame, len(frames))

    lines = [
        [
            number(line.frame),
            line.threads,
            *(getattr(line, name) for name in _COUNTS),
            [number(frame) for frame in line.stack[:MAX_FRAMES]],
        ]
        for line in allocations.lines
    ]
    return {
        **{name: getattr(allocations, name) for name in _COUNTS},
        "pid": allocations.pid,
        "command": schema.bounded_text(allocations.command),
        "begin_unix_ns": allocations.begin_unix_ns,
        "duration_ns": allocations.duration_ns,
        "python_allocators": allocations.python_allocators,
        "aggregated": allocations.aggregated,
        "cut_short": allocations.cut_short,
        "lines_left_out": allocations.lines_left_out,
        "not_measured": {name: schema.bounded_text(why) for name, why in allocations.not_measured.items()},
        "frames": [
            [schema.bounded_text(frame.filename), schema.bounded_text(frame.function), frame.line]
            for frame in frames
        ],
        "lines": lines,
        "threads": [
            [
                thread.number,
                None if thread.name is None else schema.bounded_text(thread.name),
                *(getattr(thread, name) for name in _THREAD_COUNTS),
                thread.tid,
            ]
            for thread in allocations.threads
        ],
    }


def encode_perturbation(perturbation: Perturbation) -> str:
    """The perturbation as JSON text."""
    return schema.to_json(
        {
            "what": schema.bounded_text(perturbation.what),
            "begin_ns": perturbation.begin_ns,
            "end_ns": perturbation.end_ns,
        }
    )


# --- reading ------------------------------------------------------------------------------------------


def decode_allocations(value: object) -> Allocations:
    """The capture of a meta row. Raises DamagedBlob."""
    fields = _object(value)
    frames = [_frame(row) for row in _list(fields.get("frames"), MAX_LINES * (MAX_FRAMES + 1))]
    lines = tuple(_line(row, frames) for row in _list(fields.get("lines"), MAX_LINES))
    threads = tuple(_thread(row) for row in _list(fields.get("threads"), MAX_THREADS))
    reasons = _object(fields.get("not_measured"))
    totals = _counts([fields.get(name) for name in _COUNTS], _COUNTS)
    for part in (*lines, *threads):
        for name in ("count", "size_bytes", "temporary"):
            of_part, of_all = getattr(part, name), totals[name]
            if of_part is not None and of_all is not None and of_part > of_all:
                raise schema.DamagedBlob("a part of the allocations is more than all of them")
    if _number(fields.get("duration_ns")) > schema.MAX_TIME_NS:
        raise schema.DamagedBlob("the allocations took longer than anything can")
    return Allocations(
        pid=_number(fields.get("pid")),
        command=_text(fields.get("command")),
        begin_unix_ns=_number(fields.get("begin_unix_ns")),
        duration_ns=_number(fields.get("duration_ns")),
        python_allocators=fields.get("python_allocators") is True,
        aggregated=fields.get("aggregated") is True,
        cut_short=fields.get("cut_short") is True,
        lines=lines,
        threads=threads,
        lines_left_out=_number(fields.get("lines_left_out")),
        not_measured={_text(name): _text(why) for name, why in list(reasons.items())[:MAX_REASONS]},
        **totals,
    )


def decode_perturbation(value: object) -> Perturbation:
    """The perturbation of a meta row. Raises DamagedBlob."""
    fields = _object(value)
    begin, end = _number(fields.get("begin_ns")), _number(fields.get("end_ns"))
    if end < begin:
        raise schema.DamagedBlob("a perturbation ends before it begins")
    return Perturbation(_text(fields.get("what")), begin, end)


def _frame(row: object) -> Frame:
    match row:
        case [str(filename), str(function), None]:
            return Frame(schema.bounded_text(filename), schema.bounded_text(function), None)
        case [str(filename), str(function), int(line)] if 0 <= line < 1 << 31:
            return Frame(schema.bounded_text(filename), schema.bounded_text(function), line)
    raise schema.DamagedBlob("a frame of the allocations cannot be read")


def _line(row: object, frames: Sequence[Frame]) -> LineAllocations:
    values = _list(row, 3 + len(_COUNTS))
    if len(values) != 3 + len(_COUNTS):
        raise schema.DamagedBlob("a line of the allocations cannot be read")
    number, threads, *counts, stack = values
    return LineAllocations(
        frame=_known(number, frames),
        threads=_number(threads),
        stack=_stack(stack, frames),
        **_counts(counts, _COUNTS),
    )


def _stack(value: object, frames: Sequence[Frame]) -> Stack:
    return tuple(_known(number, frames) for number in _list(value, MAX_FRAMES))


def _known(number: object, frames: Sequence[Frame]) -> Frame:
    if type(number) is not int or not 0 <= number < len(frames):
        raise schema.DamagedBlob("the allocations name a frame that is not there")
    return frames[number]


def _thread(row: object) -> ThreadAllocations:
    values = _list(row, MAX_FRAMES)
    least = 2 + len(_THREAD_COUNTS)
    if len(values) < least:
        raise schema.DamagedBlob("a thread of the allocations cannot be read")
    number, name, *counts = values[:least]
    # Older recordings end there; newer ones may go on.
    tid = values[least] if len(values) > least else None
    return ThreadAllocations(
        _number(number),
        None if name is None else _text(name),
        tid=None if tid is None else _number(tid),
        **_counts(counts, _THREAD_COUNTS),
    )


def _counts(values: Sequence[object], names: Sequence[str]) -> dict[str, Any]:
    counts = {
        name: None if value is None else _number(value) for name, value in zip(names, values, strict=True)
    }
    every, temporary = counts["count"], counts["temporary"]
    if every is not None and temporary is not None and temporary > every:
        raise schema.DamagedBlob("more allocations are temporary than there were")
    return counts


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise schema.DamagedBlob("a number of the allocations is missing or out of range")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise schema.DamagedBlob("a text of the allocations is missing")
    return schema.bounded_text(value)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise schema.DamagedBlob("the allocations cannot be read")
    return value


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise schema.DamagedBlob("the allocations have a list that is missing or too long")
    return value
