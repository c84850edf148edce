"""Captures of memray: allocations by line and by thread.

In: the path of a capture (full or aggregated, whole or cut short). Out: the model's `Allocations`, or a
recording with nothing else in it. Every failure is a RecordingError that says what to do.

memray's own reader runs in a process of its own (`memray_child`), with any Python that has memray: a capture
may be damaged or hostile, and that reader is C++. So it has the rights of the user whose program wrote the
capture, never root's: where that is not known, nobody's. What it passes on is checked and bounded here.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import select
import shutil
import signal
import stat
import struct
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from ftdiag import __version__
from ftdiag.confined import MIB, Child, Limits, Rights, Tail
from ftdiag.datatypes import dataclass
from ftdiag.errors import RecordingError
from ftdiag.importers import memray_child, memray_sums
from ftdiag.importers.memray_sums import OTHER_STACK, Ints, Sums
from ftdiag.model import (
    IMPORTED_PREFIX,
    Allocations,
    End,
    EndReason,
    Frame,
    LineAllocations,
    RecordingSettings,
    Runs,
    SamplerCost,
    Stack,
    Target,
    ThreadAllocations,
    ThreadCounters,
    Window,
)
from ftdiag.opening import NOBODY, Reader, open_plain
from ftdiag.recording.allocations import decode_allocations, encode_allocations
from ftdiag.recording.schema import DamagedBlob
from ftdiag.sources.scheduling import hurry_child

KIND: Final = "a capture of memray"
MAGIC: Final = b"memray\0"
LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
"""memray compresses captures as LZ4 frames."""
PORTION_RECORDS: Final = 200_000
"""Records summed at a time: the sums' overhead is then small, and so is the portion (8 MB)."""
MAX_MESSAGE_BYTES: Final = 64 << 20
MAX_DESCRIPTORS: Final = 64
"""Open files of the reader's process that are looked at; it has some eight."""
MAX_STACKS: Final = 200_000
MAX_LINES: Final = 1000
MAX_TEXT: Final = 4096
SILENCE_S: Final = 120.0
"""How long the reader may say nothing ..."""
SILENCE_S_A_GB: Final = 900.0
"""... and for each GB of the file, which it first goes through as a whole where it was cut short (200 s)."""
READER_MEMORY_BYTES: Final = 4096 * MIB
"""Addresses of the reader's process. What it may fill of them it bounds itself (memray_child)."""
READER_PROCESSES: Final = 16
SPARE_BYTES: Final = 64 * MIB
"""What a copy of the capture must leave free on the disk."""
MAX_SAID: Final = 65_536
DIES_S: Final = 5.0
PROGRESS_S: Final = 0.25
HOOK_FILE: Final = "_memray_attach_hook.py"
"""The file that memray's own code has in the process it was attached to ..."""
HOOK_SCRIPTS: Final = ("/attach.py", "<string>")
HOOK_FUNCTION: Final = "thread_body"
"""... and, where sys.remote_exec brought it there, what runs it: a file, since 1.20 a text."""
LAG_MS: Final = 1000
"""memray notes the time every 10 ms; a capture whose last note is so much before its end was cut off."""
NO_FRAME: Final = Frame("<native>", "<no Python code>", None)
INSTALL: Final = "pip install 'ftdiag[memray]'   puts memray beside ftdiag (not on free-threaded 3.13)"

_REASONS: Final = {
    "aggregated": "the capture is an aggregated one, which does not keep this",
    "alive": f"more than {memray_sums.MAX_LIVE:,} allocations were alive at a time",
}


def recognises(head: bytes, path: Path) -> bool:
    """Whether a file that begins so is a capture of memray."""
    return head.startswith((MAGIC, LZ4_MAGIC))


def import_file(path: Path, output: Path, progress: Callable[[str], None]) -> str:
    """Make a recording of a capture. Raises RecordingError."""
    allocations = read_capture(path, progress)
    write_recording(allocations, output, path)
    what = "aggregated" if allocations.aggregated else f"{allocations.count or 0:,} allocations"
    return f"{what} of process {allocations.pid} in {allocations.duration_ns / 1e9:.1f} s" + (
        ", cut short" if allocations.cut_short else ""
    )


def read_capture(
    path: Path,
    progress: Callable[[str], None],
    *,
    fallback: str | None = None,
    rights: Rights | None = None,
    promptly: bool = False,
) -> Allocations:
    """What is in a capture, read with our own memray; `promptly` where somebody waits beside busy cores.

    Where there is none, or one that does not know the format, with that of the interpreter `fallback`. Opened
    and read with the `rights` of whose program wrote it (`None`: that is not known, or it is us), and never
    read by root.

    Raises RecordingError: no such file, another format, damaged, too large, no memray to read it with.
    """
    from ftdiag.importers import head_of, open_file

    # Opened once: whoever wrote it can put another file in its place.
    whose = None if rights is None else Reader(rights.user, rights.group)
    with os.fdopen(open_file(path, whose), "rb") as capture:
        if not recognises(head_of(path, capture.fileno()), path):
            raise RecordingError(
                f"{path} is not a capture of memray",
                "memray attach -o FILE PID   makes one, ftdiag reads FILE",
            )
        readers: list[_Reader] = []
        if importlib.util.find_spec("memray") is not None:
            readers.append(_Reader(None, _rights_to_read(rights)))
        if fallback is not None:
            readers.append(_Reader(fallback, _rights_to_read(rights)))
        if not readers:
            raise RecordingError(f"{path} is a capture of memray, and memray is not installed here", INSTALL)
        for reader in readers[:-1]:
            with suppress(_OtherVersion):
                return _read(path, capture, progress, reader, promptly)
        return _read(path, capture, progress, readers[-1], promptly)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Which Python's memray reads (`None`: ours), and with whose rights."""

    python: str | None
    rights: Rights | None


def _rights_to_read(rights: Rights | None) -> Rights | None:
    """Never root's: of a program of root's, or where it is not known whose it was, nobody's."""
    if os.geteuid() != 0 or (rights is not None and rights.user != 0):
        return rights
    return Rights(NOBODY, NOBODY)


class _OtherVersion(RecordingError):
    """This memray does not read what that of another version wrote."""


def _read(
    path: Path, file: IO[bytes], progress: Callable[[str], None], reader: _Reader, promptly: bool
) -> Allocations:
    reading = _Reading(path, progress)
    with _handed_over(path, file, reader.rights) as capture, _Child(reader, path, capture) as child:
        if promptly:
            hurry_child(0)
            child.hurry()
        child.while_waiting = lambda: reading.tell(child.position_ratio())
        for kind, payload in child.messages():
            reading.take(kind, payload)
    return reading.result()


@contextmanager
def _handed_over(path: Path, file: IO[bytes], rights: Rights | None) -> Iterator[int]:
    """A descriptor of the capture, which the reader can open anew: of a copy, if its user may not read it.

    memray opens its file several times. Raises RecordingError.
    """
    if rights is None or _may_open(file.fileno(), rights):
        yield file.fileno()
        return
    with _copied(path, file, rights) as copy:
        yield copy.fileno()


def _may_open(capture: int, rights: Rights) -> bool:
    try:
        os.close(open_plain(f"/proc/self/fd/{capture}", reader=Reader(rights.user, rights.group)))
    except OSError:
        return False
    return True


def _copied(path: Path, file: IO[bytes], rights: Rights) -> IO[bytes]:
    """A copy without a name that belongs to a user. Raises RecordingError."""
    try:
        file.seek(0)
        place = tempfile.gettempdir()
        if shutil.disk_usage(place).free < os.fstat(file.fileno()).st_size + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy = tempfile.TemporaryFile(prefix="ftdiag-", dir=place)  # noqa: SIM115 - closed by the caller
        try:
            shutil.copyfileobj(file, copy, MIB)
            copy.flush()
            os.fchown(copy.fileno(), rights.user, rights.group)
        except OSError:
            copy.close()
            raise
    except OSError as error:
        raise RecordingError(
            f"{path} cannot be copied for its reader, which is not root: {error.strerror}",
            "TMPDIR=/some/directory ftdiag ...   takes another place",
        ) from None
    return copy


# --- the reader's process -----------------------------------------------------------------------------


class _Child:
    """The process that reads; gone when the context is left."""

    def __init__(self, reader: _Reader, path: Path, capture: int) -> None:
        self._path = path
        self._python = reader.python
        size = os.fstat(capture).st_size
        self._silence_s = SILENCE_S + SILENCE_S_A_GB * size / 1e9
        self.while_waiting: Callable[[], None] = lambda: None
        """Called every PROGRESS_S while it says nothing."""
        cpu_s = memray_child.cpu_seconds(size)
        limits = Limits(
            seconds=0.0,
            cpu_s=cpu_s + 5,
            memory_bytes=READER_MEMORY_BYTES,
            # A copy without its tail of zeros, where it has one.
            file_bytes=size + SPARE_BYTES,
            processes=READER_PROCESSES,
        )
        script = Path(memray_child.__file__)
        # Under that name each opening of it begins at its beginning.
        name = f"/proc/self/fd/{capture}"
        self._said = Tail(MAX_SAID)
        self._output, output = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, output)
            stack.callback(self._said.begun)
            if reader.python is None:
                command, kept = [os.fspath(script), name], [capture]
            else:
                # That user may have no way to where we are installed.
                code = os.memfd_create("ftdiag-reader")
                stack.callback(os.close, code)
                os.write(code, script.read_bytes())
                # -I: neither the current directory nor the environment have a say in what is imported.
                command, kept = [reader.python, "-I", f"/proc/self/fd/{code}", name], [capture, code]
            try:
                self._process = Child(
                    command,
                    limits,
                    reader.rights,
                    stdout=output,
                    stderr=self._said.writer,
                    kept=kept,
                    script=script if reader.python is None else None,
                )
            except OSError as error:
                os.close(self._output)
                raise RecordingError(
                    f"{path} cannot be read: its reader does not start: {error.strerror}", INSTALL
                ) from None

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()
        os.close(self._output)

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """What it says, until it is done. Raises RecordingError when it says that it cannot, or dies."""
        while True:
            head = self._read(9)
            if len(head) < 9:
                raise self._died()
            (length,) = struct.unpack("<Q", head[1:])
            if length > MAX_MESSAGE_BYTES:
                raise RecordingError(f"{self._path} cannot be read: its reader says too much", _AGAIN)
            payload = self._read(length)
            if len(payload) < length:
                raise self._died()
            if head[:1] == b"D":
                return
            if head[:1] == b"E":
                raise self._refused(payload)
            yield head[:1], payload
            self.while_waiting()

    def _read(self, length: int) -> bytes:
        parts: list[bytes] = []
        missing = length
        while missing:
            self._wait()
            data = os.read(self._output, min(missing, MIB))
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _wait(self) -> None:
        """Until it says something. Raises RecordingError when that takes too long."""
        deadline = time.monotonic() + self._silence_s
        while not select.select([self._output], [], [], PROGRESS_S)[0]:
            if time.monotonic() > deadline:
                raise RecordingError(
                    f"{self._path} cannot be read: nothing came of it for {self._silence_s:.0f} s", _AGAIN
                )
            self.while_waiting()

    def hurry(self) -> None:
        """Let it have early turns, as far as that is permitted."""
        hurry_child(self._process.pid)

    def position_ratio(self) -> float:
        """How far into the file it has read; 0 while it has not opened it.

        It may read a copy, which is a little shorter, and it was given one that nobody reads: so the file is
        that which is read the furthest of the large ones that it has open.
        """
        home = f"/proc/{self._process.pid}"
        found = [(0, 0)]  # size and position
        with suppress(OSError):
            for name in os.listdir(f"{home}/fd")[:MAX_DESCRIPTORS]:
                with suppress(OSError, ValueError, IndexError):
                    status = os.stat(f"{home}/fd/{name}")
                    if stat.S_ISREG(status.st_mode):
                        words = Path(f"{home}/fdinfo/{name}").read_text().split()
                        found.append((status.st_size, int(words[words.index("pos:") + 1])))
        largest = max(size for size, _ in found)
        return max(position / max(1, size) for size, position in found if 2 * size >= largest)

    def _refused(self, payload: bytes) -> RecordingError:
        try:
            said = json.loads(payload)
            kind, words = str(said["kind"])[:100], str(said["words"])[:500]
        except (ValueError, KeyError, TypeError):
            kind, words = "", ""
        if kind == "import":
            return RecordingError(f"{self._path} cannot be read: memray does not load here: {words}", INSTALL)
        if kind == "memory":
            return self._too_large()
        if "incompatible" in words:
            return _OtherVersion(
                f"{self._path} was written by another version of memray than the one here",
                "pip install 'memray==VERSION'   in ftdiag's environment, with the version that wrote it",
            )
        return RecordingError(f"{self._path} cannot be read: {words or kind}", _AGAIN)

    def _too_large(self) -> RecordingError:
        return RecordingError(
            f"{self._path} has more alive at a time than can be read within"
            f" {memray_child.MAX_DATA_BYTES >> 20} MB",
            "Record a shorter time, or with memray's --aggregate.",
        )

    def _died(self) -> RecordingError:
        """The error for a reader that ended without a last word."""
        status = self._process.wait(DIES_S)
        failure = self._process.failure() if status is not None else None
        if failure is not None:
            hint = INSTALL
            if self._python is not None:
                hint = (
                    "pip install 'memray==VERSION'   in ftdiag's environment, with the version that wrote it:"
                    f" {self._python} cannot be run by another user than root, and root reads no captures"
                )
            return RecordingError(f"{self._path} cannot be read: its reader does not start: {failure}", hint)
        said = self._said.text()
        if "bad_alloc" in said or "MemoryError" in said:
            return self._too_large()
        if status is not None and status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            if name == "SIGXCPU":
                return RecordingError(f"{self._path} takes too long to read", _AGAIN)
            return RecordingError(f"{self._path} is damaged: memray's reader ended with {name}", _AGAIN)
        last = said.strip().rpartition("\n")[2][:300]
        return RecordingError(f"{self._path} cannot be read: {last or f'status {status}'}", _AGAIN)


_AGAIN: Final = "Record once more: ftdiag attach PID --memory, or memray attach -o FILE PID"


# --- what it says ---------------------------------------------------------------------------------------


class _Reading:
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
            raise RecordingError(f"{self._path} is damaged: its reader makes no sense", _AGAIN) from None

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
            raise RecordingError(f"{self._path} is damaged: it has no beginning", _AGAIN)
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
            raise RecordingError(f"{self._path} is damaged: {error}", _AGAIN) from None
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
            threads.append(
                ThreadAllocations(
                    number=max(0, number),
                    name=self._names.get(number) or None,
                    count=total.count,
                    size_bytes=total.size_bytes,
                    temporary=total.temporary,
                    peak_bytes=total.peak_bytes,
                    left_bytes=total.left_bytes,
                )
            )
        threads.sort(key=lambda thread: (-(thread.count or 0), -(thread.left_bytes or 0), thread.number))
        return tuple(threads)


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


# --- a recording of it -----------------------------------------------------------------------------------


def write_recording(allocations: Allocations, output: Path, source: Path) -> None:
    """A recording that has the capture, one window of its length, and no samples. Raises RecordingError."""
    from ftdiag.recording.additions import add_allocations
    from ftdiag.recording.writer import RecordingWriter

    why = "imported from a capture of memray: it has no samples"
    target = Target(
        pid=allocations.pid,
        start_ticks=0,
        executable="?",
        command=allocations.command,
        python_version="?",
        free_threaded=False,
        gil_enabled=None,
    )
    settings = RecordingSettings(
        rate_hz=0.0,
        started_ns=0,
        started_unix_ns=allocations.begin_unix_ns,
        ftdiag_version=__version__,
        host="?",
        source=f"{IMPORTED_PREFIX}memray capture",
        native=f"not measured: {why}",
    )
    writer = RecordingWriter(output, target, settings)
    try:
        length = max(1, allocations.duration_ns)
        window = Window(0, length, array("q"), Runs(), ThreadCounters(), SamplerCost(0, 0, 0, 0, 0, 0))
        writer.write_window(window)
        writer.finish(End(EndReason.STOPPED, f"imported from {source.name}, a capture of memray", length))
    finally:
        writer.close()
    add_allocations(output, allocations)
