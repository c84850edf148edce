"""Profiles of pprof: of Go's tools, py-spy's and Pyroscope's exports, and ftdiag's own.

In: a protobuf message, gzipped or not. Out: a recording with the samples of one of its types: thread-time,
CPU time, wall time or their number, the first of these that it has. A profile has no order: samples are
spread evenly over its time. Threads are those of its labels. Source: google/pprof, proto/profile.proto.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import IO, Any, Final

from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress
from ftdiag.formats.importers.assembly import MAX_TICKS, Assembly, Carry
from ftdiag.opening import open_plain

KIND: Final = "pprof profile"
TAKES_RATE: Final = True
DEFAULT_RATE_HZ: Final = 100.0
MIN_RATE_HZ: Final = 0.1
MAX_RATE_HZ: Final = 10_000.0
MAX_BYTES: Final = 128 << 20
"""Of the message; what it takes in memory is some six times as much."""
MAX_SAMPLES: Final = 2_000_000
GZIP: Final = b"\x1f\x8b\x08"
_PREFERRED: Final = ("thread_time", "wall", "cpu", "time", "samples")
_NS: Final = {"nanoseconds": 1.0, "microseconds": 1e3, "milliseconds": 1e6, "seconds": 1e9}
_NAMES: Final = ("thread", "thread_name", "thread name", "thread.name")
_NUMBERS: Final = ("tid", "thread_id", "thread id", "thread.id")


def recognises(head: bytes, path: Path) -> bool:
    """Whether it is gzipped, or begins with a sample type of a few bytes (field 1, a message)."""
    if head.startswith(GZIP):
        head = _unpacked_head(head)
    # ValueType: two fields of small numbers.
    return len(head) > 6 and head[0] == 0x0A and 2 <= head[1] <= 8 and head[2] in (0x08, 0x10)


def _unpacked_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, 4096)
    except zlib.error:
        return b""


def import_file(source: Path, output: Path, progress: Progress, rate_hz: float | None = None) -> str:
    """Make the recording; `rate_hz` is the rate it was sampled at, where the file does not say."""
    from google.protobuf.message import DecodeError

    from ftdiag.formats.pprof_schema import profile

    progress(f"reading {source}")
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            data = _message(source, stream)
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    message = profile()()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise _refused(source, "it is damaged, or no profile of pprof") from None
    return _Reading(source, message, rate_hz).write(output)


def _message(source: Path, stream: IO[bytes]) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _refused(source, f"it is larger than {MAX_BYTES >> 20} MiB")
    if not data.startswith(GZIP):
        return data
    unpacking = zlib.decompressobj(31)
    try:
        unpacked = unpacking.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        raise _refused(source, "it is damaged: it does not unpack") from None
    if len(unpacked) > MAX_BYTES:
        raise _refused(source, f"it is larger than {MAX_BYTES >> 20} MiB")
    if not unpacking.eof:
        raise _refused(source, "it is cut short")
    return unpacked


class _Reading:
    """One message."""

    def __init__(self, source: Path, message: Any, rate_hz: float | None) -> None:
        self._source = source
        self._message = message
        self._texts: list[str] = list(message.string_table)
        self._kinds = [(self._text(kind.type), self._text(kind.unit)) for kind in message.sample_type]
        if not self._kinds:
            raise _refused(source, "it names no type of samples")
        names = [name for name, _ in self._kinds]
        self._place = next((names.index(name) for name in _PREFERRED if name in names), 0)
        self._unit_ns = _NS.get(self._kinds[self._place][1])
        self._notes: list[str] = []
        self._assembly = Assembly(source, KIND, self._rate(rate_hz))

    def _rate(self, asked_hz: float | None) -> float:
        if asked_hz is not None:
            return asked_hz
        period_ns = self._message.period * _NS.get(self._text(self._message.period_type.unit), 0.0)
        if period_ns > 0 and MIN_RATE_HZ <= 1e9 / period_ns <= MAX_RATE_HZ:
            return float(1e9 / period_ns)
        self._notes.append(f"it does not say its rate: {DEFAULT_RATE_HZ:g} Hz is assumed")
        return DEFAULT_RATE_HZ

    def write(self, output: Path) -> str:
        """The recording of the samples of the chosen type."""
        message, assembly = self._message, self._assembly
        if len(message.sample) > MAX_SAMPLES:
            raise _refused(self._source, f"it has more than {MAX_SAMPLES:,} samples")
        name, unit = self._kinds[self._place]
        if self._unit_ns is None and unit not in ("count", "1", ""):
            raise _refused(self._source, f"its samples are of {name[:40]!r} in {unit[:40]!r}, not of time")
        carries: dict[object, Carry] = {}
        frames = self._frames()
        counts: dict[object, dict[int, int]] = {}
        total = 0
        for sample in message.sample:
            if len(sample.value) != len(self._kinds):
                raise _refused(self._source, "a sample has another number of values than there are types")
            value = sample.value[self._place]
            if value <= 0:
                continue
            key = self._thread(sample.label)
            carry = carries.setdefault(key, Carry(1e9 / assembly.rate_hz / (self._unit_ns or 1.0)))
            ticks = value if self._unit_ns is None else carry.ticks(value)
            total += ticks
            if total > MAX_TICKS:
                raise _refused(self._source, f"it has more than {MAX_TICKS:,} samples")
            stack = assembly.stack(
                [frame for each in reversed(sample.location_id) for frame in frames.get(each, ())]
            )
            stacks = counts.setdefault(key, {})
            stacks[stack] = stacks.get(stack, 0) + ticks
        assembly.deal(counts)
        others = ", ".join(other[:40] for other, _ in self._kinds if other != name)
        self._notes.append(
            f"of its types of samples {name!r} is taken" + (f", not {others}" if others else "")
        )
        self._notes.append("a profile of pprof has no order: samples are spread evenly over the time")
        comments = [self._text(number) for number in list(message.comment)[:8]]
        self._notes += [f"it says of itself: {comment[:200]}" for comment in comments if comment]
        return assembly.write(output, self._notes)

    def _frames(self) -> dict[int, list[Any]]:
        """The frames of every location, the outermost first."""
        functions = {each.id: each for each in self._message.function}
        found: dict[int, list[Any]] = {}
        for location in self._message.location:
            frames = []
            for line in reversed(location.line):
                function = functions.get(line.function_id)
                if function is None:
                    raise _refused(self._source, "a line is of a function that is not there")
                number = line.line if 0 < line.line < 1 << 31 else None
                name = self._text(function.name) or self._text(function.system_name) or "?"
                frames.append(self._assembly.frame(self._text(function.filename), name, number))
            found[location.id] = frames or [self._assembly.frame("", f"{location.address:#x}", None)]
        return found

    def _thread(self, labels: Any) -> object:
        name, number = "", 0
        for label in labels:
            key = self._text(label.key)
            if key in _NAMES:
                name = self._text(label.str)
            elif key in _NUMBERS:
                text = self._text(label.str)
                number = label.num or (
                    int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
                )
        key_of_thread = name, max(0, number)
        known = name or (f"thread {number}" if number else "all threads")
        self._assembly.thread(key_of_thread, known, max(0, number), main=name == "MainThread")
        return key_of_thread

    def _text(self, number: int) -> str:
        if not 0 <= number < len(self._texts):
            if number == 0:
                return ""
            raise _refused(self._source, "it refers to a text that is not there")
        return self._texts[number]


def _refused(source: Path, why: str) -> RecordingError:
    return RecordingError(
        f"{source} cannot be taken over: {why}", "go tool pprof -top FILE   shows what is in it"
    )
