"""Reading another process's memory and the files mapped into it, without stopping it.

In: a pid, addresses. Out: bytes, mappings, open files.
Reads go through process_vm_readv(2), many at a time; nothing is ever written. What is read is hostile:
sizes are bounded here and, where a `Budget` is given, all of them together; contents are validated by the
callers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import BudgetSpent, MemoryReadError, NoSuchProcess, PermissionRefused, TargetGone
from ftdiag.opening import Reader, open_plain
from ftdiag.sources.budget import Budget
from ftdiag.sources.compiled import COMPILED, tick
from ftdiag.sources.kernel.tasks import living_task, proc_folder

MAX_IOVECS: Final = 1024
"""IOV_MAX of Linux: remote ranges in one process_vm_readv call."""
MAX_READ_BYTES: Final = 16 << 20
"""Longest single read that is ever attempted; a hostile length never allocates more."""
MAX_PEEK_BYTES: Final = 4096
"""Longest read during which the sampler's other threads may wait."""
MAX_MAPS_BYTES: Final = 128 << 20
"""Longest /proc/PID/maps that is read: more than a million mappings."""
_MAPS_PIECE_BYTES: Final = 1 << 20
# fs/proc/task_mmu.c, show_map_vma: a file's name follows as it is, with only line feeds escaped.
_ANY_MAPPING: Final = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) (\S{4}) ([0-9a-f]{1,16}) (\S{1,20}) (\d{1,20}) *([^\n]*)$",
    re.MULTILINE,
)
_FILE_MAPPING: Final = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) (\S{4}) ([0-9a-f]{1,16}) (\S{1,20}) ([1-9]\d{0,19}) +(/[^\n]*)$",
    re.MULTILINE,
)

_libc: Final = ctypes.CDLL(None, use_errno=True)
_process_vm_readv: Final = _libc.process_vm_readv
_process_vm_readv.restype = ctypes.c_ssize_t
_process_vm_readv.argtypes = [
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
]


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps. `path` is "" for anonymous memory; of a file it is whatever that is called:
    any byte but a line feed, as surrogate escapes where it is not UTF-8. `device` as the kernel writes it."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str
    device: str = ""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    @property
    def is_file(self) -> bool:
        """Whether a file of the file system is mapped here."""
        return self.inode != 0 and self.path.startswith("/")


class ReadAlong:
    """Small ranges of memory that are wanted as of the very moment at which something else is read.

    Asked for with `want`; a reader that takes them along puts their bytes into `found`, `None` for those that
    cannot be read.
    """

    __slots__ = ("found", "wanted")

    def __init__(self) -> None:
        self.wanted: dict[int, int] = {}
        """Address -> size."""
        self.found: dict[int, bytes | None] = {}

    def want(self, address: int, size: int) -> None:
        """Ask for a range; of several that begin at one address the longest counts."""
        if self.wanted.get(address, 0) < size:
            self.wanted[address] = size

    def clear(self) -> None:
        """Begin anew."""
        self.wanted.clear()
        self.found.clear()


class RemoteMemory:
    """The memory of one process, read only.

    Not thread-safe: the buffers of batched reads are reused. With a `budget` every read counts, and raises
    BudgetSpent when there was enough.
    """

    _peek: Callable[[int, int, int], bytes | None] | None = None
    """Reads a single place at a fraction of the cost, where that was compiled."""

    def __init__(self, pid: int, budget: Budget | None = None) -> None:
        self.pid = pid
        self.task = pid
        """The thread that is read through: the main one, or another if that has ended."""
        self._ended: set[int] = set()
        """Threads through which nothing can be read any more; each is tried once."""
        self.budget = budget
        if COMPILED and type(self) is RemoteMemory:
            self._peek = tick.peek
        self._buffer = bytearray(1 << 16)
        self._buffer_address = _address_of(self._buffer)

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes at `address`.

        Raises MemoryReadError if any of them is not readable, TargetGone if the process ended,
        PermissionRefused if the kernel refuses.
        """
        if size <= 0 or size > MAX_READ_BYTES or address <= 0 or address + size > 1 << 63:
            raise MemoryReadError(f"refusing to read {size} bytes at {address:#x}")
        if self.budget is not None:
            self.budget.take(size)
        if self._peek is not None and size <= MAX_PEEK_BYTES:
            data = self._peek(self.task, address, size)
            if data is not None:
                return data
            # Once more the slow way: it knows what an error means.
        self._reserve(size)
        if self._transfer(array("Q", (address, size)), 1, size) != size:
            raise MemoryReadError(f"cannot read {size} bytes at {address:#x} of process {self.pid}")
        return bytes(memoryview(self._buffer)[:size])

    def read_word(self, address: int) -> int:
        """Return the 8-byte little-endian word at `address`; raises like `read`."""
        return int.from_bytes(self.read(address, 8), "little")

    def read_up_to(self, address: int, size: int) -> bytes:
        """Return at most `size` bytes at `address`: fewer where the mapping ends. Raises like `read`."""
        try:
            return self.read(address, size)
        except MemoryReadError:
            to_page_end = -address % 4096
            if 0 < to_page_end < size:
                return self.read(address, to_page_end)
            raise

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Return the bytes of every (address, size) range, `None` for those that are not readable.

        One system call for up to MAX_IOVECS ranges when all are readable, one more for each that is not.
        Raises TargetGone or PermissionRefused like `read`.
        """
        results: list[bytes | None] = []
        for first in range(0, len(ranges), MAX_IOVECS):
            results.extend(self._read_batch(ranges[first : first + MAX_IOVECS]))
        return results

    def _read_batch(self, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
        results: list[bytes | None] = [None] * len(ranges)
        usable = [
            index
            for index, (address, size) in enumerate(ranges)
            if 0 < size <= MAX_READ_BYTES and address > 0 and address + size <= 1 << 63
        ]
        while usable:
            vectors = array("Q")
            total = 0
            for index in usable:
                vectors.extend(ranges[index])
                total += ranges[index][1]
            if self.budget is not None:
                self.budget.take(total)
            self._reserve(total)
            got = self._transfer(vectors, len(usable), total)
            view = memoryview(self._buffer)
            position = 0
            done = 0
            for index in usable:
                size = ranges[index][1]
                if position + size > got:
                    break
                results[index] = bytes(view[position : position + size])
                position += size
                done += 1
            usable = usable[done + 1 :]  # the first one not transferred is the unreadable one
        return results

    def read_scattered(self, vectors: array[int], count: int, total: int) -> memoryview | None:
        """The hot path: read `count` ranges given as [address, size, address, size, ...] in one call.

        `total` is the sum of the sizes. Returns a view of the reused buffer (valid until the next read),
        the ranges one after the other, or `None` if any was not readable.
        """
        if count > MAX_IOVECS:
            raise ValueError("too many ranges for one call")
        if self.budget is not None:
            self.budget.take(total)
        self._reserve(total)
        if self._transfer(vectors, count, total) != total:
            return None
        return memoryview(self._buffer)[:total]

    def read_prefix(self, vectors: bytes, count: int, total: int) -> memoryview:
        """Read ranges like `read_scattered` up to the first that is not readable; what came of them."""
        self._reserve(total)
        return memoryview(self._buffer)[: self._transfer(array("Q", vectors), count, total)]

    def take_another_task(self) -> bool:
        """Read through another thread if the one that was read through has ended and others live."""
        self._ended.add(self.task)
        task = living_task(self.pid, self._ended)
        if task is None:
            return False
        self.task = task
        return True

    def refused(self, code: int) -> None:
        """Raise TargetGone or PermissionRefused if that is what the error number of a read means."""
        if code == errno.ESRCH:
            raise TargetGone(f"process {self.pid} has ended", "ftdiag list   shows the Python processes")
        if code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise PermissionRefused(
                f"the kernel refuses to read the memory of process {self.pid}: {os.strerror(code)}",
                f"ftdiag doctor {self.pid}   says which permission is missing and how to give it",
            )

    def _reserve(self, size: int) -> None:
        if size > len(self._buffer):
            self._buffer = bytearray(max(size, 2 * len(self._buffer)))
            self._buffer_address = _address_of(self._buffer)

    def _transfer(self, vectors: array[int], count: int, total: int) -> int:
        local = array("Q", (self._buffer_address, total))
        got: int = _process_vm_readv(self.task, local.buffer_info()[0], 1, vectors.buffer_info()[0], count, 0)
        if got >= 0:
            return got
        code = ctypes.get_errno()
        if code == errno.ESRCH and self.take_another_task():
            return self._transfer(vectors, count, total)
        self.refused(code)
        return 0


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def read_mappings(pid: int, budget: Budget | None = None, *, files_only: bool = False) -> list[Mapping]:
    """Return the memory mappings of `pid`, in address order; `files_only` leaves out anonymous ones.

    Raises NoSuchProcess, PermissionRefused, BudgetSpent. A zombie or kernel thread has none.
    """
    return parse_mappings(_maps_of(pid, budget), files_only=files_only)


def parse_mappings(text: bytes, *, files_only: bool = False) -> list[Mapping]:
    """The mappings of a /proc/PID/maps text. A line of another form is left out."""
    pattern = _FILE_MAPPING if files_only else _ANY_MAPPING
    return [
        Mapping(
            int(start, 16),
            int(end, 16),
            permissions.decode("ascii", "replace"),
            int(offset, 16),
            int(inode),
            os.fsdecode(path),
            device.decode("ascii", "replace"),
        )
        for start, end, permissions, offset, device, inode, path in pattern.findall(text)
    ]


def _maps_of(pid: int, budget: Budget | None) -> bytes:
    text = bytearray()
    try:
        with open(f"{proc_folder(pid)}/maps", "rb", buffering=0) as stream:
            while piece := stream.read(_MAPS_PIECE_BYTES):
                text += piece
                if budget is not None:
                    budget.take(len(piece))
                if len(text) > MAX_MAPS_BYTES:
                    raise BudgetSpent(
                        f"process {pid} has more mappings than are read ({MAX_MAPS_BYTES >> 20} MiB of text)"
                    )
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(
            f"there is no process {pid}", "ftdiag list   shows the Python processes"
        ) from None
    except PermissionError:
        raise PermissionRefused(
            f"the kernel refuses to show the memory map of process {pid}",
            f"ftdiag doctor {pid}   says which permission is missing and how to give it",
        ) from None
    except OSError as error:
        raise MemoryReadError(f"cannot read the memory map of process {pid}: {error.strerror}") from None
    return bytes(text)


DELETED_SUFFIX: Final = " (deleted)"


def open_mapped_file(pid: int, mapping: Mapping, reader: Reader | None = None) -> int:
    """Open the file behind a mapping, as the target sees it, and return a descriptor.

    Works across mount namespaces (/proc/PID/root), for the executable even when it was deleted, and for
    deleted libraries where the kernel permits /proc/PID/map_files. Always a regular file, and one that
    `reader` (`None`: the target's user) may read. Raises OSError.
    """
    folder = proc_folder(pid)
    candidates = [f"{folder}/map_files/{mapping.start:x}-{mapping.end:x}"]
    if not mapping.path.endswith(DELETED_SUFFIX):
        candidates.insert(0, f"{folder}/root{mapping.path}")
    try:
        if os.readlink(f"{folder}/exe") == mapping.path:
            candidates.insert(0, f"{folder}/exe")
    except OSError:
        pass
    error: OSError | None = None
    for candidate in candidates:
        try:
            # A path of a hostile target may be a FIFO or a link to anywhere by now.
            return open_plain(candidate, reader=reader)
        except OSError as problem:
            error = problem
    assert error is not None
    raise error
