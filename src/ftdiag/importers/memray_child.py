"""Reads a capture with memray's own reader, in a process of its own, and passes it on record by record.

In: a path as the only argument. Out: on standard output, messages of a letter, a length (8 bytes,
little-endian) and so many bytes:

    M  JSON: what memray says of the whole capture (first message)
    S  JSON: [[stack id, [[function, file, line], ...]], ...], innermost first, before a record that has it
    R  records: 64-bit numbers in native order, five each: thread, address, size, allocator, stack id
    H  aggregated captures, at the peak: four each: thread, stack id, number, size
    L  the same, never freed
    T  JSON: {thread: name}
    E  JSON: {"kind": ..., "words": ...}: it cannot be read (any further)
    D  nothing: that was all

A process of its own, because the reader is C++ that trusts its input: a damaged or hostile file may crash
it or make it ask for memory without end. The latter is bounded here. As a script it imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from array import array
from collections.abc import Iterable
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any

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
"""Private memory of this process. It needs some 30 MB, and 60 bytes for each allocation alive at a time."""
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


def stream(records: Iterable[Any], stacks: Stacks) -> None:
    """Every allocation and deallocation, in the order in which they came."""
    columns = attrgetter("tid", "address", "size", "allocator", "stack_id")
    iterator = iter(records)
    while True:
        batch = list(islice(iterator, BATCH_RECORDS))
        if not batch:
            return
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


def read(path: str) -> None:
    """Pass the capture on."""
    from memray import FileFormat, FileReader

    with FileReader(path) as reader:
        about = reader.metadata
        aggregated = about.file_format == FileFormat.AGGREGATED_ALLOCATIONS
        ends = [int(each.time) for each in reader.get_memory_snapshots()]
        send_json(
            b"M",
            {
                "records": int(about.total_allocations),
                "begin_ms": int(about.start_time.timestamp() * 1000),
                "end_ms": int(about.end_time.timestamp() * 1000),
                "last_ms": max(ends, default=0),
                "peak_bytes": int(about.peak_memory),
                "pid": int(about.pid),
                "command": str(about.command_line)[:MAX_TEXT],
                "python_allocators": bool(getattr(about, "trace_python_allocators", False)),
                "aggregated": bool(aggregated),
            },
        )
        stacks = Stacks()
        if aggregated:
            summed(b"H", reader.get_high_watermark_allocation_records(merge_threads=False), stacks)
            summed(b"L", reader.get_leaked_allocation_records(merge_threads=False), stacks)
        else:
            stream(reader.get_allocation_records(), stacks)
        stacks.name_threads()
    send(b"D", b"")


def main() -> int:
    """Read the file that is named on the command line."""
    path = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        seconds = CPU_SECONDS + CPU_SECONDS_A_GB * os.stat(path).st_size // 1_000_000_000
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
