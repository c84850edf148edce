"""What a capture of memray says, made into the model's `Allocations`.

In: the messages of the process that reads it (`memray_child` describes them). Out: allocations by line and by
thread, checked and bounded; a RecordingError for what makes no sense.
"""

from __future__ import annotations

import json
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from ftdiag.errors import RecordingError
from ftdiag.formats.importers import memray_child, memray_sums
from ftdiag.formats.importers.memray_process import AGAIN, PROGRESS_S
from ftdiag.formats.importers.memray_sums import OTHER_STACK, Ints, Sums
from ftdiag.model import Allocations, Frame, LineAllocations, Stack, ThreadAllocations
from ftdiag.recording.allocations import decode_allocations, encode_allocations
from ftdiag.recording.schema import DamagedBlob

PORTION_RECORDS: Final = 200_000
"""Records summed at a time: the sums' overhead is then small, and so is the portion (8 MB)."""
MAX_STACKS: Final = 200_000
MAX_LINES: Final = 1000
MAX_TEXT: Final = 4096
HOOK_FILE: Final = "_memray_attach_hook.py"
"""The file that memray's own code has in the process it was attached to ..."""
HOOK_SCRIPTS: Final = ("/attach.py", "<string>")
HOOK_FUNCTION: Final = "thread_body"
"""... and, where sys.remote_exec brought it there, what runs it: a file, since 1.20 a text."""
LAG_MS: Final = 1000
"""memray notes the time every 10 ms; a capture whose last note is so much before its end was cut off."""
_WITH_TID: Final = re.compile(r"(?P<name>.*) \(tid (?P<tid>\d{1,10})\)", re.DOTALL)
NO_FRAME: Final = Frame("<native>", "<no Python code>", None)

_REASONS: Final = {
    "aggregated": "the capture is an aggregated one, which does not keep this",
    "alive": f"more than {memray_sums.MAX_LIVE:,} allocations were alive at a time",
}


class Reading:
    """Takes the messages in, makes `Allocations` of them. Raises RecordingError for what makes no sense."""

    def __init__(self, path: Path, progress: Callable[[str], None]) -> None:
        self._path = path
        self._progress = progress
        self._about: dict[str, Any] | None = None
        self._sums = Sums()
        self._peak: Counter[tuple[int, int]] = Counter()
        self._left: Counter[tuple[int, int]] = Counter()
        self._left_number: Counter[tuple[int, int]] = Counter()
        self._stacks: dict[int, Stack] = {}
        self._frames: dict[Frame, Frame] = {}
        self._names: dict[int, str] = {}
        self._waiting: list[array[int]] = []
        self._waiting_numbers = 0
        self._next = 0.0
        progress(f"reading {path.name}")

    def tell(self, position_ratio: float) -> None:
        """How far it is, not too often: this share of the file has been read."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_S
        if self._about is None:
            words = f"looking through {self._path.name}"
        else:
            words = f"reading {self._path.name}: {self._sums.records:,} records"
        self._progress(f"{words}, {min(100.0, 100 * position_ratio):.0f} % of it")

    def take(self, kind: bytes, payload: bytes) -> None:
        """One message."""
        with self._no_nonsense():
            self._take(kind, payload)

    @contextmanager
    def _no_nonsense(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            raise RecordingError(f"{self._path} is damaged: its reader makes no sense", AGAIN) from None

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == b"M":
            self._about = _about(json.loads(payload))
        elif kind == b"A" and self._about is not None:
            self._about = _about({**self._about, **json.loads(payload)})
        elif kind == b"S":
            self._take_stacks(json.loads(payload))
        elif kind == b"T":
            names = json.loads(payload)
            self._names = {int(number): _text(name) for number, name in names.items()}
        elif kind == b"R":
            self._take_records(payload)
        elif kind in (b"H", b"L"):
            self._take_summed(kind, payload)

    def _take_stacks(self, rows: Any) -> None:
        for stack, frames in rows:
            if len(self._stacks) >= MAX_STACKS:
                return
            self._stacks[int(stack)] = tuple(
                self._frame(*frame) for frame in frames[: memray_child.MAX_FRAMES]
            )

    def _frame(self, function: str, file: str, line: int) -> Frame:
        frame = Frame(_text(file), _text(function), int(line) if int(line) > 0 else None)
        return self._frames.setdefault(frame, frame)

    def _take_records(self, payload: bytes) -> None:
        numbers = array("q", payload)
        self._waiting.append(numbers)
        self._waiting_numbers += len(numbers)
        if self._waiting_numbers >= PORTION_RECORDS * memray_sums.COLUMNS:
            self._sum()

    def _sum(self) -> None:
        if not self._waiting:
            return
        records: Ints = np.concatenate([np.frombuffer(part, dtype=np.int64) for part in self._waiting])
        self._waiting.clear()
        self._waiting_numbers = 0
        self._sums.take(records.reshape(-1, memray_sums.COLUMNS))

    def _take_summed(self, kind: bytes, payload: bytes) -> None:
        numbers = array("q", payload).tolist()
        for thread, stack, number, size in zip(*(numbers[at::4] for at in range(4)), strict=True):
            key = thread, stack
            if kind == b"H":
                self._peak[key] += size
            else:
                self._left[key] += size
                self._left_number[key] += number

    # --- the result ----------------------------------------------------------------------------------

    def result(self) -> Allocations:
        """All of it."""
        if self._about is None:
            raise RecordingError(f"{self._path} is damaged: it has no beginning", AGAIN)
        with self._no_nonsense():
            self._sum()
        about = self._about
        rows = list(self._aggregated_rows() if about["aggregated"] else self._full_rows())
        own = [row for row in rows if not self._is_memrays(row.stack)]
        lines = self._lines(own)
        total = _total(own)
        cut_short = _is_cut_short(about)
        end_ms = about["last_ms"] if cut_short else about["end_ms"]
        reasons: dict[str, str] = {}
        if about["aggregated"]:
            reasons = dict.fromkeys(("count", "size_bytes", "temporary"), _REASONS["aggregated"])
        elif self._sums.too_many_alive:
            reasons = dict.fromkeys(("peak_bytes", "left_count", "left_bytes"), _REASONS["alive"])
        # Of all together, also what memray does not charge to anybody.
        peak = about["peak_bytes"]
        if peak is None and not self._sums.too_many_alive:
            peak = self._sums.largest_bytes
        allocations = Allocations(
            pid=about["pid"],
            command=about["command"],
            begin_unix_ns=about["begin_ms"] * 1_000_000,
            duration_ns=max(0, end_ms - about["begin_ms"]) * 1_000_000,
            python_allocators=about["python_allocators"],
            aggregated=about["aggregated"],
            cut_short=cut_short,
            count=total.count,
            size_bytes=total.size_bytes,
            temporary=total.temporary,
            peak_bytes=peak,
            left_count=total.left_count,
            left_bytes=total.left_bytes,
            lines=tuple(lines[:MAX_LINES]),
            threads=self._threads(own),
            lines_left_out=max(0, len(lines) - MAX_LINES),
            not_measured=reasons,
        )
        try:
            decode_allocations(json.loads(encode_allocations(allocations)))
        except DamagedBlob as error:  # its numbers cannot be, so nothing else of it is to be believed
            raise RecordingError(f"{self._path} is damaged: {error}", AGAIN) from None
        return allocations

    def _is_memrays(self, stack: int) -> bool:
        """Whether memray's own code allocated, which it brings into the process it is attached to."""
        return any(
            frame.filename == HOOK_FILE
            or (frame.function == HOOK_FUNCTION and frame.filename.endswith(HOOK_SCRIPTS))
            for frame in self._stacks.get(stack, ())
        )

    def _full_rows(self) -> Iterator[_Row]:
        sums = self._sums
        known = not sums.too_many_alive
        columns = (
            sums.count,
            sums.size_bytes,
            sums.temporary,
            sums.peak_bytes,
            sums.left_count,
            sums.left_bytes,
        )
        for at, (thread, stack) in enumerate(zip(sums.thread, sums.stack, strict=True)):
            values = [int(column[at]) for column in columns]
            if any(values):
                yield _Row(
                    thread,
                    stack,
                    *values[:3],
                    *(max(0, value) if known else None for value in values[3:]),
                )

    def _aggregated_rows(self) -> Iterator[_Row]:
        for key in {**self._peak, **self._left}:
            yield _Row(
                *key,
                None,
                None,
                None,
                max(0, self._peak[key]),
                max(0, self._left_number[key]),
                max(0, self._left[key]),
            )

    def _lines(self, rows: Sequence[_Row]) -> list[LineAllocations]:
        by_line: dict[Frame, list[_Row]] = {}
        for row in rows:
            stack = self._stacks.get(row.stack, ())
            by_line.setdefault(stack[0] if stack else NO_FRAME, []).append(row)
        lines = [self._line(frame, group) for frame, group in by_line.items()]
        lines.sort(key=lambda line: (line.frame.filename, line.frame.line or 0, line.frame.function))
        lines.sort(key=lambda line: -max(line.count or 0, line.left_count or 0))
        return lines

    def _line(self, frame: Frame, rows: Sequence[_Row]) -> LineAllocations:
        total = _total(rows)
        most = max(
            rows, key=lambda row: (row.count or 0, row.size_bytes or 0, row.left_bytes or 0, -row.stack)
        )
        return LineAllocations(
            frame=frame,
            threads=len({row.thread for row in rows}),
            count=total.count,
            size_bytes=total.size_bytes,
            temporary=total.temporary,
            peak_bytes=total.peak_bytes,
            left_count=total.left_count,
            left_bytes=total.left_bytes,
            stack=() if most.stack == OTHER_STACK else self._stacks.get(most.stack, ()),
        )

    def _threads(self, rows: Sequence[_Row]) -> tuple[ThreadAllocations, ...]:
        by_thread: dict[int, list[_Row]] = {}
        for row in rows:
            by_thread.setdefault(row.thread, []).append(row)
        threads = []
        for number, group in by_thread.items():
            total = _total(group)
            name, tid = named_thread(self._names.get(number) or "")
            threads.append(
                ThreadAllocations(
                    number=max(0, number),
                    name=name or None,
                    tid=tid,
                    count=total.count,
                    size_bytes=total.size_bytes,
                    temporary=total.temporary,
                    peak_bytes=total.peak_bytes,
                    left_bytes=total.left_bytes,
                )
            )
        threads.sort(key=lambda thread: (-(thread.count or 0), -(thread.left_bytes or 0), thread.number))
        return tuple(threads)


def named_thread(told: str) -> tuple[str, int | None]:
    """The name of a thread and its id, where memray was told of a running one (sources.tools.memray)."""
    found = _WITH_TID.fullmatch(told)
    return (told, None) if found is None else (found["name"], int(found["tid"]))


class _Row:
    """Sums of one thread and stack, or of several."""

    __slots__ = (
        "count",
        "left_bytes",
        "left_count",
        "peak_bytes",
        "size_bytes",
        "stack",
        "temporary",
        "thread",
    )

    def __init__(
        self,
        thread: int,
        stack: int,
        count: int | None,
        size_bytes: int | None,
        temporary: int | None,
        peak_bytes: int | None,
        left_count: int | None,
        left_bytes: int | None,
    ) -> None:
        self.thread = thread
        self.stack = stack
        self.count = count
        self.size_bytes = size_bytes
        self.temporary = temporary
        self.peak_bytes = peak_bytes
        self.left_count = left_count
        self.left_bytes = left_bytes


def _total(rows: Sequence[_Row]) -> _Row:
    def added(name: str) -> int | None:
        values = [getattr(row, name) for row in rows]
        return None if None in values else sum(values)

    names = ("count", "size_bytes", "temporary", "peak_bytes", "left_count", "left_bytes")
    return _Row(0, 0, *(added(name) for name in names))


def _is_cut_short(about: dict[str, Any]) -> bool:
    """Whether the capture ends before its writer was done: it crashed, or the file was cut off later."""
    begin, end, last = about["begin_ms"], about["end_ms"], about["last_ms"]
    # Until its writer is done, the header has the time at which it was begun, or a little later, as its end.
    return bool(about["cut_short"] or end <= begin or last > end or (last and end - last > LAG_MS))


def _text(value: object) -> str:
    """A text of bounded length. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value[:MAX_TEXT]


def _about(value: Any) -> dict[str, Any]:
    """The first message, checked. Raises ValueError, TypeError, KeyError."""
    numbers = {
        name: min(max(0, int(value[name])), 1 << 60) for name in ("begin_ms", "end_ms", "last_ms", "pid")
    }
    peak = value["peak_bytes"]
    for name in ("begin_ms", "end_ms", "last_ms"):
        numbers[name] = min(numbers[name], 1 << 42)  # the year 2109; ns of it fit 63 bits
    return {
        **numbers,
        "command": _text(value["command"]),
        "python_allocators": value["python_allocators"] is True,
        "aggregated": value["aggregated"] is True,
        "cut_short": value.get("cut_short") is True,
        "peak_bytes": None if peak is None else min(max(0, int(peak)), 1 << 60),
    }
