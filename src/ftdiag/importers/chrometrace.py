"""Chrome traces as py-spy writes them (`--format chrometrace`): functions that begin and end, with times.

In: a JSON array of events (or an object with `traceEvents`). Out: a recording.
py-spy notes a thread only when its stack changed, so what stands between two events is the stack of the
first. Recorded without `--idle`, a thread that waits looks as if it went on with what it did last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ftdiag.errors import RecordingError
from ftdiag.importers import Progress
from ftdiag.importers.assembly import Assembly
from ftdiag.importers.jsonstream import JsonStream
from ftdiag.importers.labels import process_number, thread_label
from ftdiag.model import Frame

KIND: Final = "Chrome trace"
TAKES_RATE: Final = True
DEFAULT_RATE_HZ: Final = 100.0
MAX_DEPTH: Final = 4096
MAX_TIME_US: Final = 1e12
"""Eleven days, in microseconds."""


@dataclass(slots=True)
class _Thread:
    """The functions that a thread is in, root first, since `since_us`."""

    name: str
    tid: int
    open: list[Frame | None] = field(default_factory=list)
    since_us: float = 0.0
    named: bool = False


def recognises(head: bytes, path: Path) -> bool:
    """Whether it is a list of events, or an object that has one."""
    text = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    if text.startswith(b"["):
        return b'"ph"' in text and b'"ts"' in text
    return text.startswith(b"{") and b'"traceEvents"' in text


def import_file(source: Path, output: Path, progress: Progress, rate_hz: float | None = None) -> str:
    """Make the recording; `rate_hz` is the rate it was sampled at, where the file does not say."""
    assembly = Assembly(source, KIND, rate_hz or DEFAULT_RATE_HZ)
    try:
        with open(source, "rb") as stream:
            _follow(source, JsonStream(source, stream, progress), assembly)
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    notes = (
        "a Chrome trace notes changes only: where it was recorded without --idle, a thread that waits"
        " looks as if it went on",
    )
    return assembly.write(output, notes)


def _events(stream: JsonStream, source: Path) -> Iterator[Any]:
    following = stream.peek()
    if following == "[":
        for _ in stream.elements():
            yield stream.value()
        return
    if following != "{":
        raise _refused(source, "it is no list of events")
    for key in stream.members():
        if key == "traceEvents" and stream.peek() == "[":
            for _ in stream.elements():
                yield stream.value()
        else:
            stream.skip()


def _follow(source: Path, stream: JsonStream, assembly: Assembly) -> None:
    threads: dict[tuple[int, int], _Thread] = {}
    begin_us: float | None = None
    for event in _events(stream, source):
        if not isinstance(event, dict):
            raise _refused(source, "an event is no object")
        phase = event.get("ph")
        if phase not in ("B", "E"):
            continue
        pid, tid, time_us = _integer(event.get("pid")), _integer(event.get("tid")), event.get("ts")
        if pid is None or tid is None or isinstance(time_us, bool) or not isinstance(time_us, int | float):
            raise _refused(source, "an event lacks its thread or its time")
        if not 0 <= time_us < 2 * MAX_TIME_US:
            raise _refused(source, "an event's time makes no sense")
        if begin_us is None:
            begin_us = float(time_us)
            assembly.pid = pid if 0 <= pid < 1 << 31 else 0
        at_us = max(0.0, time_us - begin_us)
        thread = threads.get((pid, tid))
        if thread is None:
            thread = threads[pid, tid] = _Thread(f"thread {tid}", tid, since_us=at_us)
        _spend(assembly, (pid, tid), thread, at_us)
        if phase == "E":
            if thread.open:
                thread.open.pop()
        elif len(thread.open) < MAX_DEPTH:
            thread.open.append(_entered(event, thread, assembly))
        else:
            raise _refused(source, f"a stack is deeper than {MAX_DEPTH:,} functions")


def _entered(event: dict[str, Any], thread: _Thread, assembly: Assembly) -> Frame | None:
    """The frame of a function that begins; `None` for what stands for the thread or its process."""
    name = event.get("name")
    name = name if isinstance(name, str) and name else "?"
    if not any(thread.open):
        label = thread_label(name)
        if label is not None:
            thread.name, thread.tid, thread.named = label.name or thread.name, label.number, True
            return None
        if process_number(name) is not None:
            return None
    arguments = event.get("args")
    arguments = arguments if isinstance(arguments, dict) else {}
    filename, line = arguments.get("filename"), arguments.get("line")
    return assembly.frame(
        filename if isinstance(filename, str) else "",
        name,
        line if type(line) is int and 0 < line < 1 << 31 else None,
    )


def _spend(assembly: Assembly, key: object, thread: _Thread, at_us: float) -> None:
    """The ticks between the last event of a thread and this one were spent in what is open."""
    first = _tick(thread.since_us, assembly.rate_hz)
    end = _tick(at_us, assembly.rate_hz)
    if end <= first:
        return
    thread.since_us = at_us
    frames = [frame for frame in thread.open if frame is not None]
    if not thread.open:
        return
    known = assembly.thread(key, thread.name, thread.tid, main=thread.name == "MainThread")
    assembly.add(known, first, assembly.stack(frames), end - first)


def _tick(time_us: float, rate_hz: float) -> int:
    return int(time_us * rate_hz / 1e6)


def _integer(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 1 << 64 else None


def _refused(source: Path, why: str) -> RecordingError:
    return RecordingError(
        f"{source} cannot be taken over: {why}",
        "py-spy record --format chrometrace -i -t   makes a file that can",
    )
