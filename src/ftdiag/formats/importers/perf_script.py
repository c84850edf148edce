"""What `perf script` prints: samples of CPU time with native stacks, and Python's functions where perf knew
them.

In: lines: a header `comm 12/13 [001] 5.123: 1 cycles:`, frames `addr symbol+0x1 (file)`, an empty line. Out:
a recording: each sample is one tick of its thread at its time. perf samples threads on a core only: waits are
not in it. With `-X perf` Python's functions have symbols `py::function:/path/file.py`
(Doc/howto/perf_profiling.rst). Source: Linux, tools/perf/builtin-script.c (perf_sample__fprintf_start).
"""

from __future__ import annotations

import itertools
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress, how_far
from ftdiag.formats.importers.assembly import MAX_RUNS, Assembly
from ftdiag.model import Frame
from ftdiag.opening import open_plain

KIND: Final = "perf script"
TAKES_RATE: Final = True
MIN_RATE_HZ: Final = 0.1
MAX_RATE_HZ: Final = 10_000.0
MAX_LINE_BYTES: Final = 1 << 16
MAX_LINES: Final = 1 << 26
MAX_DEPTH: Final = 4096
MAX_STACKS: Final = 1 << 19
_HEADER: Final = re.compile(
    rb"(?P<comm>\S.{0,63}?)\s+(?:(?P<pid>\d{1,10})/\s*)?(?P<tid>\d{1,10})\s+(?:\[\d+\]\s+)?(?:\S+\s+)?"
    rb"(?P<time>\d{1,12}\.\d{1,9}):\s+(?:(?P<period>\d{1,12})\s+)?(?P<event>\S+)"
)
_CLOCKS: Final = (b"cpu-clock", b"task-clock")
"""Events whose period is in ns."""
_FRAME: Final = re.compile(rb"\s+[0-9a-f]{1,16}\s+(.*?)(?:\+0x[0-9a-f]+)?(?:\s+\((.*)\))?\s*")
_PYTHON: Final = re.compile(r"py::([^:]*):(.*)", re.DOTALL)


@dataclass(slots=True)
class _Sampled:
    name: str
    times: array[float]
    stacks: array[int]


def recognises(head: bytes, path: Path) -> bool:
    """Whether its first line that is no comment is a header, and the next one a frame or another header."""
    if b"\0" in head:
        return False
    lines = [line for line in head.split(b"\n")[:50] if line.strip() and not line.startswith(b"#")]
    if len(lines) < 2 or _HEADER.match(lines[0].lstrip()) is None or b":" not in lines[0]:
        return False
    return _FRAME.fullmatch(lines[1]) is not None or _HEADER.match(lines[1].lstrip()) is not None


def import_file(source: Path, output: Path, progress: Progress, rate_hz: float | None = None) -> str:
    """Make the recording; `rate_hz` is perf's `-F`."""
    reading = _Reading(source)
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            reading.read(stream, progress)
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    return reading.write(output, rate_hz)


class _Reading:
    """One file."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._threads: dict[tuple[int, int], _Sampled] = {}
        self._stacks: dict[tuple[tuple[str, str], ...], int] = {}
        self._samples = 0
        self._period_ns = 0

    def read(self, stream: IO[bytes], progress: Progress) -> None:
        """Take it in."""
        thread: _Sampled | None = None
        time_s = 0.0
        frames: list[tuple[str, str]] = []
        for line in self._lines(stream, progress):
            if not line.strip():
                self._end(thread, time_s, frames)
                thread, frames = None, []
                continue
            if line.startswith(b"#"):
                continue
            header = None if thread is not None and line[:1].isspace() else _HEADER.match(line.lstrip())
            if header is not None:
                self._end(thread, time_s, frames)
                frames = []
                tid = int(header["tid"])
                key = int(header["pid"] or 0), tid
                name = header["comm"].decode("utf-8", "replace")
                thread = self._threads.setdefault(key, _Sampled(name, array("d"), array("I")))
                time_s = float(header["time"])
                if header["event"].startswith(_CLOCKS) and not self._period_ns:
                    self._period_ns = int(header["period"] or 0)
                continue
            found = _FRAME.fullmatch(line)
            if found is None or thread is None:
                raise self._refused("a line is neither the head of a sample nor a frame")
            if len(frames) < MAX_DEPTH:
                frames.append(_named(found[1], found[2]))
        self._end(thread, time_s, frames)

    def _lines(self, stream: IO[bytes], progress: Progress) -> Iterator[bytes]:
        size = max(1, self._source.stat().st_size)
        done = 0
        for number in range(MAX_LINES + 1):
            line = stream.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            done += len(line)
            if len(line) > MAX_LINE_BYTES or number == MAX_LINES:
                raise self._refused("it is too large, or a line is too long")
            yield line.rstrip(b"\r\n")
            if number % 65536 == 0:
                progress(how_far(self._source, done, size))

    def _end(self, thread: _Sampled | None, time_s: float, frames: list[tuple[str, str]]) -> None:
        if thread is None:
            return
        self._samples += 1
        stack = self._stacks.setdefault(tuple(reversed(frames)), len(self._stacks))
        if self._samples > MAX_RUNS or len(self._stacks) > MAX_STACKS:
            raise self._refused(f"it has more than {MAX_RUNS:,} samples or {MAX_STACKS:,} different stacks")
        thread.times.append(time_s)
        thread.stacks.append(stack)

    def write(self, output: Path, rate_hz: float | None) -> str:
        """The recording."""
        notes = ["perf samples threads while they are on a core: what they waited for is not in it"]
        if rate_hz is None:
            rate_hz = self._rate()
            notes.append(
                f"the rate, {rate_hz:.4g} Hz, is concluded from the times of samples; --rate says it"
            )
        assembly = Assembly(self._source, KIND, rate_hz)
        numbers = [
            assembly.stack([_frame(assembly, name, file) for name, file in frames]) for frames in self._stacks
        ]
        times = [each.times for each in self._threads.values() if each.times]
        begin_s = min((min(each) for each in times), default=0.0)
        for (pid, tid), sampled in self._threads.items():
            thread = assembly.thread((pid, tid), sampled.name, tid, main=pid == tid)
            assembly.pid = assembly.pid or pid
            for time_s, stack in sorted(
                zip(sampled.times, sampled.stacks, strict=True), key=lambda row: row[0]
            ):
                assembly.add(thread, round((time_s - begin_s) * rate_hz), numbers[stack], 1)
        return assembly.write(output, notes)

    def _rate(self) -> float:
        """What most samples that follow each other are apart."""
        if self._period_ns:
            return min(max(1e9 / self._period_ns, MIN_RATE_HZ), MAX_RATE_HZ)
        apart: list[float] = []
        for sampled in self._threads.values():
            times = sorted(sampled.times[:10_000])
            apart += [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]
        apart.sort()
        rate_hz = 1 / apart[len(apart) // 4] if apart else 0.0
        return min(max(rate_hz, MIN_RATE_HZ), MAX_RATE_HZ) if rate_hz else 99.0

    def _refused(self, why: str) -> RecordingError:
        return RecordingError(
            f"{self._source} cannot be taken over: {why}",
            "perf record -F 99 -g -p PID; perf script > FILE   makes a file that can",
        )


def _named(symbol: bytes, file: bytes | None) -> tuple[str, str]:
    return symbol.decode("utf-8", "replace"), (file or b"").decode("utf-8", "replace")


def _frame(assembly: Assembly, name: str, file: str) -> Frame:
    python = _PYTHON.fullmatch(name)
    return (
        assembly.frame(file, name or "?", None)
        if python is None
        else assembly.frame(python[2], python[1], None)
    )
