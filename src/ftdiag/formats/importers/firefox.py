"""Processed profiles of the Firefox Profiler: CPython 3.15's (`--gecko`), samply's, ftdiag's own.

In: JSON with `meta`, `threads` and the texts that they share. Out: a recording: samples with their times,
stacks with function, file and line. Markers, categories and states are not taken over: they are not measured
in a recording. Source: CPython 3.15, Lib/profiling/sampling/gecko_collector.py (version 57 of the processed
format).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ftdiag.datatypes import dataclass, field
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress
from ftdiag.formats.importers.assembly import MAX_RUNS, Assembly, Carry
from ftdiag.formats.importers.jsonstream import JsonStream
from ftdiag.model import Frame
from ftdiag.opening import open_plain

KIND: Final = "Firefox profile"
TAKES_RATE: Final = True
DEFAULT_RATE_HZ: Final = 100.0
FINE_RATE_HZ: Final = 1000.0
"""How finely weights are looked at that are times."""
MIN_RATE_HZ: Final = 0.1
MAX_RATE_HZ: Final = 10_000.0
MAX_ROWS: Final = 4_000_000
"""Of one table."""
MAX_THREADS: Final = 20_000
MAX_TEXTS: Final = 1 << 20
MAX_DEPTH: Final = 4096
_TABLES: Final = {
    "samples": ("stack", "time", "timeDeltas", "weight"),
    "stackTable": ("frame", "prefix"),
    "frameTable": ("func", "line"),
    "funcTable": ("name", "fileName"),
}
_SHARED_TABLES: Final = ("stackTable", "frameTable", "funcTable")
"""From version 58 on these are of all threads."""
Table = dict[str, list[Any]]


@dataclass(slots=True)
class _Thread:
    name: str = ""
    tid: int = 0
    main: bool = False
    weight_type: str = "samples"
    texts: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)


def recognises(head: bytes, path: Path) -> bool:
    """Whether it is an object with the version of the processed format in it."""
    return head.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{") and b'"preprocessedProfileVersion"' in head


def import_file(
    source: Path,
    output: Path,
    progress: Progress,
    rate_hz: float | None = None,
    *,
    named: Path | None = None,
    kind: str = KIND,
) -> str:
    """Make the recording; `rate_hz` is how finely times are looked at.

    `named` is the file to speak of, and `kind` what it is, where `source` was made of another one.
    """
    reading = _Reading(source)
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            reading.read(JsonStream(source, stream, progress))
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    return reading.write(output, rate_hz, named or source, kind)


class _Reading:
    """One file."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._interval_ms = 0.0
        self._threads: list[_Thread] = []
        self._texts: list[str] = []
        self._tables: dict[str, Table] = {}
        self._pid = 0

    # --- reading -----------------------------------------------------------------------------------

    def read(self, stream: JsonStream) -> None:
        """Take it in."""
        for key in stream.members():
            following = stream.peek()
            if key == "meta" and following == "{":
                self._read_meta(stream)
            elif key == "threads" and following == "[":
                for _ in stream.elements():
                    if len(self._threads) >= MAX_THREADS:
                        raise self._refused(f"it has more than {MAX_THREADS:,} threads")
                    self._threads.append(self._read_thread(stream))
            elif key == "shared" and following == "{":
                for part in stream.members():
                    if part == "stringArray" and stream.peek() == "[":
                        self._texts = self._read_texts(stream)
                    elif part in _SHARED_TABLES and stream.peek() == "{":
                        self._tables[part] = self._read_table(stream, _TABLES[part])[0]
                    else:
                        stream.skip()
            else:
                stream.skip()

    def _read_meta(self, stream: JsonStream) -> None:
        for key in stream.members():
            if key == "interval":
                value = stream.value()
                if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e7:
                    self._interval_ms = float(value)
            else:
                stream.skip()

    def _read_thread(self, stream: JsonStream) -> _Thread:
        thread = _Thread()
        if stream.peek() != "{":
            raise self._refused("a thread is no object")
        for key in stream.members():
            if key in _TABLES and stream.peek() == "{":
                thread.tables[key], weight_type = self._read_table(stream, _TABLES[key])
                if key == "samples" and weight_type:
                    thread.weight_type = weight_type
            elif key in ("stringArray", "stringTable") and stream.peek() == "[":
                thread.texts = self._read_texts(stream)
            elif key in ("name", "tid", "pid", "isMainThread"):
                self._take(thread, key, stream.value())
            else:
                stream.skip()
        return thread

    def _take(self, thread: _Thread, key: str, value: Any) -> None:
        if key == "name" and isinstance(value, str):
            thread.name = value
        elif key == "isMainThread":
            thread.main = value is True
        else:
            text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
            if key == "tid":
                thread.tid = min(number, 1 << 63)
            else:
                self._pid = self._pid or min(number, 1 << 31)

    def _read_table(self, stream: JsonStream, wanted: Sequence[str]) -> tuple[Table, str]:
        table: Table = {}
        weight_type = ""
        for key in stream.members():
            if key in wanted and stream.peek() == "[":
                column: list[Any] = []
                for _ in stream.elements():
                    column.append(stream.value())
                    if len(column) > MAX_ROWS:
                        raise self._refused(f"a table has more than {MAX_ROWS:,} rows")
                table[key] = column
            elif key == "weightType":
                value = stream.value()
                weight_type = value if isinstance(value, str) else ""
            else:
                stream.skip()
        return table, weight_type

    def _read_texts(self, stream: JsonStream) -> list[str]:
        texts: list[str] = []
        for _ in stream.elements():
            value = stream.value()
            texts.append(value if isinstance(value, str) else "?")
            if len(texts) > MAX_TEXTS:
                raise self._refused(f"it has more than {MAX_TEXTS:,} texts")
        return texts

    # --- what it means -----------------------------------------------------------------------------

    def write(self, output: Path, rate_hz: float | None, named: Path, kind: str) -> str:
        """The recording."""
        timed = any(thread.weight_type == "tracing-ms" for thread in self._threads)
        notes = ["markers and categories are not taken over: states and locks are not measured"]
        found = FINE_RATE_HZ if timed else 1000 / self._interval_ms if self._interval_ms else 0.0
        if rate_hz is None and not MIN_RATE_HZ <= found <= MAX_RATE_HZ:
            found = DEFAULT_RATE_HZ
            notes.append(f"it does not say its rate: {found:g} Hz is assumed")
        assembly = Assembly(named, kind, rate_hz or found)
        assembly.pid = self._pid
        begin_ms = min((times[0] for each in self._threads if (times := self._times(each))), default=0.0)
        for number, thread in enumerate(self._threads):
            self._add(assembly, number, thread, begin_ms)
        return assembly.write(output, notes)

    def _times(self, thread: _Thread) -> list[float]:
        samples = thread.tables.get("samples", {})
        if "time" in samples:
            return [self._number(value) for value in samples["time"]]
        now, times = 0.0, []
        for value in samples.get("timeDeltas", ()):
            now += self._number(value)
            times.append(now)
        return times

    def _add(self, assembly: Assembly, number: int, thread: _Thread, begin_ms: float) -> None:
        samples = thread.tables.get("samples", {})
        stacks, times = samples.get("stack", []), self._times(thread)
        if len(times) != len(stacks):
            raise self._refused("a thread has another number of times than of samples")
        if len(stacks) > MAX_RUNS:
            raise self._refused(f"it has more than {MAX_RUNS:,} samples")
        weights = samples.get("weight") or [1] * len(stacks)
        if len(weights) != len(stacks):
            raise self._refused("a thread has another number of weights than of samples")
        known = assembly.thread(
            number, thread.name, thread.tid, main=thread.main or thread.name == "MainThread"
        )
        in_ms = thread.weight_type == "tracing-ms"
        carry = Carry(1000 / assembly.rate_hz)
        numbers = _Stacks(self, thread, assembly)
        for stack, at_ms, weight in zip(stacks, times, weights, strict=True):
            length = self._number(weight)
            ticks = carry.ticks(length) if in_ms else round(length)
            first = round((at_ms - begin_ms) * assembly.rate_hz / 1000)
            if stack is not None:
                assembly.add(known, max(0, first), numbers.of(stack), ticks)

    def table(self, thread: _Thread, name: str) -> Table:
        """A table of a thread, or the shared one."""
        return thread.tables.get(name) or self._tables.get(name, {})

    def text(self, thread: _Thread, number: Any) -> str:
        """A text by number."""
        texts = thread.texts or self._texts
        if type(number) is not int or not 0 <= number < len(texts):
            raise self._refused("it refers to a text that is not there")
        return texts[number]

    def _number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
            raise self._refused("a time or weight is no number, or makes no sense")
        if math.isnan(value):
            raise self._refused("a time or weight is no number")
        return float(value)

    def _refused(self, why: str) -> RecordingError:
        return refused(self._source, why)

    @property
    def source(self) -> Path:
        """The file."""
        return self._source


class _Stacks:
    """The stacks of one thread, by number."""

    def __init__(self, reading: _Reading, thread: _Thread, assembly: Assembly) -> None:
        self._reading = reading
        self._thread = thread
        self._assembly = assembly
        self._frames: dict[int, Frame] = {}
        self._known: dict[int, int] = {}
        stacks = reading.table(thread, "stackTable")
        self._frame_of: list[Any] = stacks.get("frame", [])
        self._prefix: list[Any] = stacks.get("prefix", [])

    def of(self, stack: Any) -> int:
        """The assembly's number of a stack. Raises RecordingError for one that is not there."""
        if type(stack) is not int or not 0 <= stack < min(len(self._frame_of), len(self._prefix)):
            raise refused(self._reading.source, "a sample has a stack that is not there")
        known = self._known.get(stack)
        if known is None:
            frames: list[Frame] = []
            at: Any = stack
            while at is not None:
                # Prefixes come before what they are prefixes of: no stack goes in a circle.
                if type(at) is not int or not 0 <= at <= stack or len(frames) >= MAX_DEPTH:
                    raise refused(self._reading.source, "a stack makes no sense")
                frames.append(self._frame(self._frame_of[at]))
                before = self._prefix[at]
                if before is not None and (type(before) is not int or before >= at):
                    raise refused(self._reading.source, "a stack makes no sense")
                at = before
            known = self._known[stack] = self._assembly.stack(frames[::-1])
        return known

    def _frame(self, number: Any) -> Frame:
        frames = self._reading.table(self._thread, "frameTable")
        functions = self._reading.table(self._thread, "funcTable")
        of_frame, lines = frames.get("func", []), frames.get("line", [])
        if type(number) is not int or not 0 <= number < len(of_frame):
            raise refused(self._reading.source, "a stack has a frame that is not there")
        known = self._frames.get(number)
        if known is None:
            function = of_frame[number]
            names, files = functions.get("name", []), functions.get("fileName", [])
            if type(function) is not int or not 0 <= function < len(names):
                raise refused(self._reading.source, "a frame has a function that is not there")
            file = files[function] if function < len(files) else None
            line = lines[number] if number < len(lines) else None
            known = self._frames[number] = self._assembly.frame(
                "" if file is None else self._reading.text(self._thread, file),
                self._reading.text(self._thread, names[function]) or "?",
                line if type(line) is int and 0 < line < 1 << 31 else None,
            )
        return known


def refused(source: Path, why: str) -> RecordingError:
    """Why it is not taken over."""
    return RecordingError(
        f"{source} cannot be taken over: {why}",
        "python3.15 -m profiling.sampling attach --gecko -o FILE PID   makes a file that can",
    )
