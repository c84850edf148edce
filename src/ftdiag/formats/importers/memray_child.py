"""Reads a capture with memray's own reader, in a process of its own, and passes it on record by record.

In: a path as the only argument. Out: on standard output, messages of a letter, a length (8 bytes,
little-endian) and so many bytes:

    M  JSON: what memray says of the whole capture (first message)
    S  JSON: [[stack id, [[function, file, line], ...]], ...], innermost first, before a record that has it
    R  records: 64-bit numbers in native order, five each: thread, address, size, allocator, stack id
    H  aggregated captures, at the peak: four each: thread, stack id, number, size
    L  the same, never freed
    T  JSON: {thread: name}
    A  JSON: what is known after all records, and replaces what M said
    E  JSON: {"kind": ..., "words": ...}: it cannot be read (any further)
    D  nothing: that was all

A process of its own, because the reader is C++ that trusts its input: a damaged or hostile file may crash
it or make it ask for memory without end. The latter is bounded here. As a script it imports nothing of ours.

memray's FileReader goes through the whole file when it is made and follows what is alive: a third of all the
time, and more memory than we have for a large program. Nothing of that is needed here of a capture that was
ended in order; so the reader is made on the file's beginning (`Begun`).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import struct
import sys
import tempfile
from array import array
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any, BinaryIO

BATCH_RECORDS = 50_000
"""Records made into one message: each is an object of some 500 bytes until then."""
MAX_STACKS = 200_000
"""Stacks that are named; a program has some thousands."""
MAX_FRAMES = 24
MAX_THREADS = 100_000
MAX_TEXT = 4096
DEALLOCATORS = (1, 5, 15)
"""memray's AllocatorType: PYMALLOC_FREE, FREE, MUNMAP."""
MAX_DATA_BYTES = 256 << 20
"""Private memory of this process. It needs some 30 MB; for a capture that was cut short also 60 bytes for
each allocation alive at a time."""
HEAD_BYTES = 256 << 10
"""The part of a file on which memray's reader is made: more than its header, which has the command line."""
LONG_TAIL_BYTES = 1 << 20
"""memray makes its file longer ahead of what it writes, by up to a tenth, and looks for the end of it from
behind, with a system call for each byte (FileSource::findReadableSize): 100 s for a file of 1 GB."""
SPARE_BYTES = 64 << 20
"""What a copy must leave free on the disk."""
BLOCK_BYTES = 1 << 20
LZ4_MAGIC = b"\x04\x22\x4d\x18"
LZ4_CHECKSUM_FLAG = 0x04
"""In the byte after the magic number: a checksum follows the end mark of four zeros."""
CPU_SECONDS = 60
CPU_SECONDS_A_GB = 1800
"""Bounds the time that a compressed file of nothing may take. A real one takes 200 s a GB."""


def send(kind: bytes, payload: bytes) -> None:
    """One message."""
    out = sys.stdout.buffer
    out.write(kind + struct.pack("<Q", len(payload)))
    out.write(payload)
    out.flush()


def send_json(kind: bytes, value: object) -> None:
    """One message in JSON."""
    send(kind, json.dumps(value).encode("ascii"))


class Stacks:
    """Names every stack once."""

    def __init__(self) -> None:
        # 0 is memray's for "no Python frame", and what it gives records of deallocations.
        self._seen = {0}
        self._threads: dict[int, Any] = {}

    def name(self, records: list[Any], stacks: list[int], threads: list[int]) -> None:
        """Send what these records' stacks are, as far as they were not met before."""
        new = set(stacks) - self._seen
        if new and len(self._seen) < MAX_STACKS:
            rows = []
            for record, stack in zip(records, stacks, strict=True):
                if stack not in new or record.allocator in DEALLOCATORS:
                    continue
                new.discard(stack)
                self._seen.add(stack)
                frames = [
                    [str(function)[:MAX_TEXT], str(file)[:MAX_TEXT], int(line)]
                    for function, file, line in record.stack_trace(max_stacks=MAX_FRAMES)
                ]
                rows.append([stack, frames])
            send_json(b"S", rows)
        for thread in set(threads) - self._threads.keys():
            if len(self._threads) < MAX_THREADS:
                self._threads[thread] = records[threads.index(thread)]

    def name_threads(self) -> None:
        """Send the threads' names. At the end: a name may come after the thread's first allocation."""
        names = {thread: str(record.thread_name)[:MAX_TEXT] for thread, record in self._threads.items()}
        send_json(b"T", names)


def stream(records: Iterable[Any], stacks: Stacks) -> int:
    """Every allocation and deallocation, in the order in which they came; how many."""
    columns = attrgetter("tid", "address", "size", "allocator", "stack_id")
    iterator = iter(records)
    number = 0
    while True:
        batch = list(islice(iterator, BATCH_RECORDS))
        if not batch:
            return number
        number += len(batch)
        rows = list(map(columns, batch))
        stacks.name(batch, list(map(itemgetter(4), rows)), list(map(itemgetter(0), rows)))
        # Addresses of the kernel's half cannot come up, but a damaged file has anything.
        try:
            data = array("q", chain.from_iterable(rows))
        except OverflowError:
            data = array("q", [min(value, (1 << 63) - 1) for value in chain.from_iterable(rows)])
        send(b"R", data.tobytes())


def summed(kind: bytes, records: Iterable[Any], stacks: Stacks) -> None:
    """Records of an aggregated capture."""
    columns = attrgetter("tid", "stack_id", "n_allocations", "size")
    iterator = iter(records)
    while True:
        batch = list(islice(iterator, BATCH_RECORDS))
        if not batch:
            return
        rows = list(map(columns, batch))
        stacks.name(batch, list(map(itemgetter(1), rows)), list(map(itemgetter(0), rows)))
        send(kind, array("q", chain.from_iterable(rows)).tobytes())


class Begun:
    """A reader that memray made on a file's beginning and then reads all of it, without having looked before.

    memray opens "/proc/self/fd/N" anew for each way through the file, where N is the descriptor that it was
    given (1.17 to 1.20, FileReader.__cinit__): so N may be another file by then.
    """

    def __init__(self, path: str) -> None:
        """Raises whatever memray does; ValueError where this way cannot be gone."""
        from memray import FileFormat, FileReader

        if not hasattr(os, "memfd_create"):
            raise ValueError("this Python was built without files in memory")
        self._descriptor = os.memfd_create("head")
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            if len(head) < HEAD_BYTES or not is_ended(path, head):
                raise ValueError("a small file, or one that was cut short")
            os.write(self._descriptor, head)
            self.reader = FileReader(self._descriptor)  # type: ignore[arg-type] # open() takes it
            about = self.reader.metadata
            if about.file_format == FileFormat.AGGREGATED_ALLOCATIONS:
                raise ValueError("small enough")
            if about.end_time <= about.start_time:
                raise ValueError("cut short")
            self.records = records_said(head, about)
            if self.records == 0:
                raise ValueError("cut short")
            put_without_tail(file, self._descriptor)

    def is_read_on(self) -> bool:
        """Whether memray has opened the whole file, now that a record was asked for."""
        whole = os.fstat(self._descriptor)
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                there = os.stat(f"/proc/self/fd/{name}")
                if int(name) != self._descriptor and os.path.samestat(there, whole):
                    return True
        return False


def put_without_tail(file: BinaryIO, descriptor: int) -> None:
    """Make a descriptor that of the file, or, where it ends in many zeros, that of a copy without them."""
    size = os.fstat(file.fileno()).st_size
    used = size
    while used > 0:
        begin = max(0, used - BLOCK_BYTES)
        block = os.pread(file.fileno(), used - begin, begin).rstrip(b"\0")
        if block or begin == 0:
            used = begin + len(block)
            break
        used = begin
    with suppress(OSError):
        if size - used > LONG_TAIL_BYTES:
            place = tempfile.gettempdir()
            if shutil.disk_usage(place).free > used + SPARE_BYTES:
                with tempfile.TemporaryFile(prefix="ftdiag-", dir=place) as copy:
                    done = 0
                    while done < used:
                        done += os.sendfile(copy.fileno(), file.fileno(), done, min(used - done, 1 << 26))
                    os.dup2(copy.fileno(), descriptor)
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    return
    os.dup2(file.fileno(), descriptor)


def is_ended(path: str, head: bytes) -> bool:
    """Whether a compressed file has its end; of others the header tells."""
    if not head.startswith(LZ4_MAGIC):
        return True
    tail = 8 if head[4] & LZ4_CHECKSUM_FLAG else 4
    with open(path, "rb") as file:
        file.seek(-tail, os.SEEK_END)
        return file.read(4) == bytes(4)


def records_said(head: bytes, about: Any) -> int | None:
    """How many records the header says that there are; `None` where it is not found, as in compressed files.

    memray's TrackerStats (records.h) has four numbers of 64 bits: allocations, frames, begin and end. They
    are written at the beginning, with 0 allocations and the same begin and end, or nearly so, and once more
    by a writer that comes to its end.
    """
    at = head[:256].find(struct.pack("<qq", milliseconds(about.start_time), milliseconds(about.end_time)))
    return int(struct.unpack_from("<Q", head, at - 16)[0]) if at >= 16 else None


def milliseconds(moment: Any) -> int:
    """A datetime of memray, made from whole milliseconds."""
    return int(moment.timestamp() * 1000 + 0.5)


def read(path: str) -> None:
    """Pass the capture on."""
    from memray import FileFormat, FileReader

    begun = None
    with suppress(Exception):
        begun = Begun(path)
    if begun is not None and stream_begun(begun, path):
        send(b"D", b"")
        return
    with FileReader(path) as reader:
        aggregated = reader.metadata.file_format == FileFormat.AGGREGATED_ALLOCATIONS
        message = {**facts(reader), **times(reader), "aggregated": bool(aggregated)}
        if not aggregated:
            with open(path, "rb") as file:
                said = records_said(file.read(256), reader.metadata)
            message["cut_short"] = said == 0 and int(reader.metadata.total_allocations) > 0
        send_json(b"M", message)
        stacks = Stacks()
        if aggregated:
            summed(b"H", reader.get_high_watermark_allocation_records(merge_threads=False), stacks)
            summed(b"L", reader.get_leaked_allocation_records(merge_threads=False), stacks)
        else:
            stream(reader.get_allocation_records(), stacks)
        stacks.name_threads()
    send(b"D", b"")


def stream_begun(begun: Begun, path: str) -> bool:
    """All records of a reader that has seen the file's beginning; false if it cannot read on."""
    from memray import FileReader

    records = iter(begun.reader.get_allocation_records())
    first = next(records, None)
    if first is None or not begun.is_read_on():
        return False
    send_json(b"M", {**facts(begun.reader), "peak_bytes": None, "last_ms": 0, "aggregated": False})
    stacks = Stacks()
    number = stream(chain([first], records), stacks)
    stacks.name_threads()
    if begun.records is not None and number < begun.records:
        # It was cut off afterwards, so its header does not know where it ends.
        with FileReader(path) as reader:
            send_json(b"A", {**times(reader), "cut_short": True})
    return True


def facts(reader: Any) -> dict[str, object]:
    """What the header says."""
    about = reader.metadata
    return {
        "begin_ms": milliseconds(about.start_time),
        "end_ms": milliseconds(about.end_time),
        "pid": int(about.pid),
        "command": str(about.command_line)[:MAX_TEXT],
        "python_allocators": bool(getattr(about, "trace_python_allocators", False)),
    }


def times(reader: Any) -> dict[str, object]:
    """What is known only by who has gone through the whole file."""
    ends = [int(each.time) for each in reader.get_memory_snapshots()]
    return {"last_ms": max(ends, default=0), "peak_bytes": int(reader.metadata.peak_memory)}


def cpu_seconds(size_bytes: int) -> int:
    """How long a file of this size may take."""
    return CPU_SECONDS + CPU_SECONDS_A_GB * size_bytes // 1_000_000_000


def prepare() -> None:
    """Import memray, while this process still has the rights to read where it is installed."""
    with suppress(ImportError):
        import memray  # noqa: F401 - for `read`


def main() -> int:
    """Read the file that is named on the command line."""
    path = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Records come by the million, and none is part of a cycle.
    gc.disable()
    try:
        seconds = cpu_seconds(os.stat(path).st_size)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        read(path)
    except ImportError as error:
        send_json(b"E", {"kind": "import", "words": str(error)[:MAX_TEXT]})
    except MemoryError:
        send_json(b"E", {"kind": "memory", "words": ""})
    except Exception as error:  # noqa: BLE001 - whatever it is, it is about the file, and is passed on
        send_json(b"E", {"kind": type(error).__name__, "words": str(error)[:MAX_TEXT]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
