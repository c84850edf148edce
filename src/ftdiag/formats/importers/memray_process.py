"""The process in which memray's own reader reads a capture.

In: which Python has that memray, with whose rights, a descriptor of the capture. Out: its messages (see
`memray_child`), or a RecordingError that says why it cannot read it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from ftdiag import confined, descriptors
from ftdiag.confined import MIB
from ftdiag.datatypes import dataclass
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import memray_child
from ftdiag.sources.kernel.scheduling import hurry_child

MAX_MESSAGE_BYTES: Final = 64 << 20
MAX_DESCRIPTORS: Final = 64
"""Open files of the reader's process that are looked at; it has some eight."""
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
INSTALL: Final = "pip install 'ftdiag[memray]'   puts memray beside ftdiag (not on free-threaded 3.13)"
AGAIN: Final = "Record once more: ftdiag attach PID --memory, or memray attach -o FILE PID"


class OtherVersion(RecordingError):
    """This memray does not read what that of another version wrote."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Which Python's memray reads (`None`: ours), and with whose rights."""

    python: str | None
    rights: confined.Rights | None


class Child:
    """The process that reads; gone when the context is left."""

    def __init__(self, reader: Reader, path: Path, capture: int) -> None:
        self._path = path
        self._python = reader.python
        size = os.fstat(capture).st_size
        self._silence_s = SILENCE_S + SILENCE_S_A_GB * size / 1e9
        self.while_waiting: Callable[[], None] = lambda: None
        """Called every PROGRESS_S while it says nothing."""
        cpu_s = memray_child.cpu_seconds(size)
        limits = confined.Limits(
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
        self._said = confined.Tail(MAX_SAID)
        self._output, output = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, output)
            stack.callback(self._said.begun)
            if reader.python is None:
                command, kept = [os.fspath(script), name], [capture]
            else:
                # That user may have no way to where we are installed.
                code = descriptors.file_in_memory("ftdiag-reader")
                stack.callback(os.close, code)
                os.write(code, script.read_bytes())
                # -I: neither the current directory nor the environment have a say in what is imported.
                command, kept = [reader.python, "-I", f"/proc/self/fd/{code}", name], [capture, code]
            try:
                self._process = confined.Child(
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

    def __enter__(self) -> Child:
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
                raise RecordingError(f"{self._path} cannot be read: its reader says too much", AGAIN)
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
                    f"{self._path} cannot be read: nothing came of it for {self._silence_s:.0f} s", AGAIN
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
            return OtherVersion(
                f"{self._path} was written by another version of memray than the one here",
                "pip install 'memray==VERSION'   in ftdiag's environment, with the version that wrote it",
            )
        return RecordingError(f"{self._path} cannot be read: {words or kind}", AGAIN)

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
                return RecordingError(f"{self._path} takes too long to read", AGAIN)
            return RecordingError(f"{self._path} is damaged: memray's reader ended with {name}", AGAIN)
        last = said.strip().rpartition("\n")[2][:300]
        return RecordingError(f"{self._path} cannot be read: {last or f'status {status}'}", AGAIN)
