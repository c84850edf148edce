"""Chrome traces of py-spy (`--format chrometrace`), ftdiag and others: functions that begin and end, with
times.

In: a JSON array of events (or an object with `traceEvents`): beginnings and ends, or complete events. Out: a
recording. py-spy notes a thread only when its stack changed. Recorded without `--idle`, a thread that waits
looks as if it went on with what it did last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress
from ftdiag.formats.importers.assembly import Assembly
from ftdiag.formats.importers.chrome_events import Events
from ftdiag.formats.importers.jsonstream import JsonStream
from ftdiag.formats.pyspy_format import UnknownOutput, stays
from ftdiag.opening import open_plain

KIND: Final = "Chrome trace"
TAKES_RATE: Final = True
DEFAULT_RATE_HZ: Final = 100.0
"""The file has times; this is how finely they are looked at, and py-spy's own rate."""
NOTES: Final = (
    "a Chrome trace notes changes only: where it was recorded without --idle, a thread that waits looks as if"
    " it went on",
)


def recognises(head: bytes, path: Path) -> bool:
    """Whether it is a list of events, or an object that has one."""
    text = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    if text.startswith(b"["):
        return b'"ph"' in text and b'"ts"' in text
    return text.startswith(b"{") and b'"traceEvents"' in text


def import_file(source: Path, output: Path, progress: Progress, rate_hz: float | None = None) -> str:
    """Make the recording; `rate_hz` is how finely the times are looked at."""
    assembly = Assembly(source, KIND, rate_hz or DEFAULT_RATE_HZ)
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            _follow(source, JsonStream(source, stream, progress), assembly)
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    except UnknownOutput as error:
        raise _refused(source, str(error)) from None
    return assembly.write(output, NOTES)


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
    begin_us: float | None = None
    events = Events()
    for stay in stays(events.plain(_events(stream, source))):
        thread = stay.thread
        if begin_us is None:
            # Complete events come thread by thread: another one may have begun earlier.
            begin_us = events.least_us(stay.begin_us)
            assembly.pid = thread.pid
        first = _tick(stay.begin_us - begin_us, assembly.rate_hz)
        end = _tick(stay.end_us - begin_us, assembly.rate_hz)
        if end <= first:
            continue
        name = thread.name if thread.label else events.names.get((thread.pid, thread.ident), thread.name)
        known = assembly.thread((thread.pid, thread.ident), name, thread.number, main=name == "MainThread")
        assembly.add(known, first, assembly.stack(stay.stack[::-1]), end - first)


def _tick(time_us: float, rate_hz: float) -> int:
    return max(0, int(time_us * rate_hz / 1e6))


def _refused(source: Path, why: str) -> RecordingError:
    return RecordingError(
        f"{source} cannot be taken over: {why}",
        "py-spy record --format chrometrace -i -t   makes a file that can",
    )
