"""What the resident memory of a process is there for, by kind and by thread.

In: a pid, its CPython, which threads it has. Out: a `MemoryReading` (`memorywatch` says when).

How the kinds are told apart, and what proves it:

- Python's heaps (free-threaded builds): mimalloc keeps objects in segments that begin at multiples of 32 MiB.
  A segment's header holds a word that is its own address XORed with a number which is the same for the whole
  process; the segment with the dictionary of modules says which number that is. So other users of
  mimalloc in the process, and memory that only looks like a segment, are not counted. The header also names
  the thread that owns the segment. A build with the GIL has no such mark: its heaps count as anonymous.
- glibc's arenas begin at multiples of 64 MiB with a header that points at the arena; the main one is [heap].
- What of these is in no use: `freespace`.
- A thread's stack is the mapping that its thread control block (Python's `ident`) or its stack pointer is in.
- Everything else is the kernel's: RssAnon, RssFile and RssShmem of /proc/PID/status.

Pages that were read and never written are all one page of zeros: they count here, though not in RssAnon.

Resident pages are counted with /proc/PID/pagemap, 32 MiB at a time: the kernel then holds the lock of the
address space for 2 MiB of it at once. /proc/PID/smaps costs three times as much and keeps that lock for a
whole mapping (measured: 6 ms for 450 MB), for which the program cannot map memory. Only the proportional and
unique sizes are read that way (smaps_rollup), where it is short.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import BudgetSpent
from ftdiag.model import MemoryKind, MemoryReading, ThreadMemory
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel import freespace
from ftdiag.sources.kernel.heaps import HINTED, PythonHeaps, Segment, libc_arenas
from ftdiag.sources.kernel.mappings import PAGE_BYTES, Pages, Region, parse_regions, region_at
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.tasks import proc_folder, status_fields
from ftdiag.sources.python.runtime import Runtime

MOST_COST_NS: Final = 500_000_000
"""A reading that is expected to take more CPU time than this is not begun."""
LONGEST_HOLD_NS: Final = 20_000_000
"""smaps_rollup is read where it is expected to hold the lock of the address space for less than this."""
SMAPS_PAGE_NS: Final = 70
"""CPU time of smaps_rollup for each resident page (measured: 55 ns), until it was measured on the process."""
PAGEMAP_PAGE_NS: Final = 8
"""CPU time of pagemap for each page of address space, resident or not (measured), until it was measured."""
READ_BYTES: Final = 64 << 20
"""Read of the process's own memory for one reading: headers of segments and arenas."""
MAX_MAP_BYTES: Final = 8 << 20
"""Longest /proc/PID/maps that is looked at: some 80,000 mappings."""
MAX_STACK_LOOKUPS: Final = 64
"""Native threads whose stack pointer is looked up in one reading; the others have their turn later."""
MAX_LOOKED_SEGMENTS: Final = 512
"""Segments whose blocks are counted in one reading: 16 GiB, of which 24 MB are read."""

_STATUS: Final = (b"VmRSS", b"RssAnon", b"RssFile", b"RssShmem", b"VmSwap", b"VmSize", b"Threads")


@dataclass(frozen=True, slots=True)
class Owner:
    """A thread of the target: index in the recording, tid, and `threading.get_ident()` if it has one."""

    index: int
    tid: int
    ident: int | None
    main: bool


class ProcessMemory:
    """Reads the memory of one process; without `runtime` as one with the GIL. For use by one thread.

    Raises nothing while reading: what cannot be read is missing, with its reason.
    """

    def __init__(self, pid: int, runtime: Runtime | None, memory: RemoteMemory | None = None) -> None:
        self._pid = pid
        self._memory = memory or RemoteMemory(pid)
        self._heaps = PythonHeaps(runtime, self._memory)
        self._stacks: dict[int, int] = {}
        """An address in the stack of native threads, by tid."""
        self._smaps_page_ns: float = SMAPS_PAGE_NS
        self._pagemap_page_ns: float = PAGEMAP_PAGE_NS

    def read(
        self, owners: Sequence[Owner], going_on: Callable[[], bool] = lambda: True
    ) -> MemoryReading | None:
        """The memory as it is now; `None` if the process is gone or `going_on` said no meanwhile."""
        began_ns = time.monotonic_ns()
        began_cpu_ns = time.thread_time_ns()
        self._memory.budget = Budget(
            self._pid, size_bytes=READ_BYTES, seconds=MOST_COST_NS / 1e9, clock=time.thread_time
        )
        status = _kilobytes(self._pid)
        if not status:
            return None
        missing: dict[str, str] = {}
        kinds: dict[MemoryKind, int] = {}
        for name, kind in ((b"RssFile", MemoryKind.FILES), (b"RssShmem", MemoryKind.SHARED)):
            if name in status:
                kinds[kind] = status[name]
        by_thread = ThreadMemory()
        found = None
        if b"RssAnon" in status:
            found = self._anonymous(owners, missing, by_thread, going_on)
            if not going_on():
                return None
            kinds |= found.kinds
            kinds[MemoryKind.ANONYMOUS] = max(0, status[b"RssAnon"] - sum(found.kinds.values()))
        else:
            missing["kinds"] = "this kernel does not say how much of the memory is anonymous"
        pss_bytes, uss_bytes = self._shares(status.get(b"VmRSS", 0), missing)
        return MemoryReading(
            at_ns=began_ns,
            cost_ns=time.thread_time_ns() - began_cpu_ns,
            rss_bytes=status.get(b"VmRSS"),
            pss_bytes=pss_bytes,
            uss_bytes=uss_bytes,
            swap_bytes=status.get(b"VmSwap"),
            virtual_bytes=status.get(b"VmSize"),
            threads=status.get(b"Threads"),
            arenas=None if found is None else found.arenas,
            ended_heap_bytes=None if found is None else found.ended_heap_bytes,
            libc_free_bytes=None if found is None else found.libc_free_bytes,
            heaps_free_bytes=None if found is None else found.heaps_free_bytes,
            kinds=kinds,
            by_thread=by_thread,
            not_measured=missing,
        )

    # --- anonymous memory ---

    def _anonymous(
        self,
        owners: Sequence[Owner],
        missing: dict[str, str],
        by_thread: ThreadMemory,
        going_on: Callable[[], bool],
    ) -> _Anonymous:
        """Heaps, arenas and stacks; fills the columns of threads and the reasons of what is missing."""
        found = _Anonymous()
        try:
            maps = _read(f"{proc_folder(self._pid)}/maps", MAX_MAP_BYTES)
            pagemap = os.open(f"{proc_folder(self._pid)}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            missing["kinds"] = f"the map of its memory cannot be read: {error.strerror}"
            return found
        try:
            if len(maps) >= MAX_MAP_BYTES:
                missing["kinds"] = "the process has too many mappings to be looked at"
                return found
            regions = parse_regions(maps)
            segments, around = self._heaps.find(regions, missing)
            stacks = self._stack_regions(owners, regions)
            arenas = libc_arenas(self._memory, regions)
            heap = [region for region in regions if region.name == "[heap]"]
            expected = (
                self._pagemap_page_ns
                / PAGE_BYTES
                * (
                    sum(region.size for region in (*around, *heap, *stacks.values()))
                    + sum(end - start for start, end in arenas)
                )
            )
            if expected > MOST_COST_NS:
                missing["kinds"] = (
                    f"looking at its address space would take {expected / 1e9:.1f} s of CPU time"
                )
                return found
            pages = Pages(pagemap, going_on)
            found.arenas = len({start for start, _ in arenas})
            self._count(found, pages, segments, around, heap, arenas)
            self._count_free(found, pages, segments, maps, missing)
            self._threads(found, pages, owners, segments, stacks, by_thread)
            if pages.looked >= 1 << 14:
                self._pagemap_page_ns = max(1.0, pages.cost_ns / pages.looked)
        except BudgetSpent as error:
            missing["kinds"] = error.what
            found.kinds.clear()
        except OSError as error:
            missing["kinds"] = f"the map of its pages cannot be read: {error.strerror}"
            found.kinds.clear()
        finally:
            os.close(pagemap)
        return found

    def _count(
        self,
        found: _Anonymous,
        pages: Pages,
        segments: Sequence[Segment],
        around: Sequence[Region],
        heap: Sequence[Region],
        arenas: Sequence[tuple[int, int]],
    ) -> None:
        found.kinds[MemoryKind.LIBC_HEAP] = sum(pages.bytes_in(each.start, each.end) for each in heap)
        found.kinds[MemoryKind.LIBC_ARENAS] = sum(pages.bytes_in(start, end) for start, end in arenas)
        if not segments:
            return
        for segment in segments:
            resident = pages.bytes_in(segment.start, segment.end)
            found.of_owner[segment.owner] = found.of_owner.get(segment.owner, 0) + resident
        # What mimalloc keeps of a segment that it has no use for, between and behind the others.
        between = 0
        starts = [segment.start for segment in segments]
        for region in around:
            start = region.start
            inside = segments[bisect_left(starts, region.start) : bisect_left(starts, region.end)]
            for segment in (*inside, Segment(region.end, region.end, 0)):
                if segment.start > start:
                    between += pages.bytes_in(start, segment.start)
                start = max(start, segment.end)
        found.kinds[MemoryKind.PYTHON_HEAPS] = sum(found.of_owner.values()) + between

    def _count_free(
        self,
        found: _Anonymous,
        pages: Pages,
        segments: Sequence[Segment],
        maps: bytes,
        missing: dict[str, str],
    ) -> None:
        """What of the heaps is resident and in no use."""
        states = freespace.libc_states(self._memory, maps)
        if states:
            found.libc_free_bytes = sum(
                pages.bytes_in(start, end)
                for start, end in freespace.libc_free(self._memory, states, PAGE_BYTES)
            )
        else:
            missing["libc_free_bytes"] = "the state of libc's allocator was not found"
        if not segments:
            return
        if len(segments) > MAX_LOOKED_SEGMENTS:
            missing["heaps_free_bytes"] = f"more than {MAX_LOOKED_SEGMENTS} segments of Python's heaps"
            return
        free = 0
        for segment in segments:
            used = freespace.used_of_segment(self._memory, segment.start)
            if used is None:
                missing["heaps_free_bytes"] = "a segment of Python's heaps does not say what is in use"
                return
            free += max(0, pages.bytes_in(segment.start, segment.end) - used)
        found.heaps_free_bytes = free

    def _threads(
        self,
        found: _Anonymous,
        pages: Pages,
        owners: Sequence[Owner],
        segments: Sequence[Segment],
        stacks: Mapping[int, Region],
        by_thread: ThreadMemory,
    ) -> None:
        users: dict[Region, int] = {}
        for region in stacks.values():
            users[region] = users.get(region, 0) + 1
        resident = {region: pages.bytes_in(region.start, region.end) for region in users}
        found.kinds[MemoryKind.THREAD_STACKS] = sum(resident.values())
        for owner in owners:
            stack = stacks.get(owner.index)
            # Old kernels join the mappings of neighbouring stacks.
            alone = stack is not None and users[stack] == 1
            by_thread.thread.append(owner.index)
            by_thread.stack_bytes.append(resident[stack] if stack is not None and alone else -1)
            known = bool(segments) and owner.ident is not None
            by_thread.heap_bytes.append(found.of_owner.get(owner.ident or 0, 0) if known else -1)
        if segments:
            # The heap of a thread that has ended is nobody's (0) until another thread takes it over.
            found.ended_heap_bytes = found.of_owner.get(0, 0)

    # --- stacks ---

    def _stack_regions(self, owners: Sequence[Owner], regions: Sequence[Region]) -> dict[int, Region]:
        """The mapping of each thread's stack, by its index; those that are not known are missing."""
        found: dict[int, Region] = {}
        lookups = 0
        present = {owner.tid for owner in owners}
        for tid in self._stacks.keys() - present:
            del self._stacks[tid]
        for owner in owners:
            if owner.main:
                stack = next((each for each in regions if each.name == "[stack]"), None)
            else:
                address = owner.ident or self._stacks.get(owner.tid)
                if address is None and lookups < MAX_STACK_LOOKUPS:
                    lookups += 1
                    address = self._stack_pointer(owner.tid)
                    if address is not None:
                        self._stacks[owner.tid] = address
                stack = None if address is None else region_at(regions, address)
                if stack is not None and (stack.name == "[heap]" or stack.start in HINTED):
                    stack = None
            if stack is not None:
                found[owner.index] = stack
        return found

    def _stack_pointer(self, tid: int) -> int | None:
        """Of a thread that is in a system call: the field before the last of /proc/PID/task/TID/syscall."""
        try:
            fields = _read(f"/proc/{self._pid}/task/{tid}/syscall", 512).split()
            return int(fields[-2], 16) if len(fields) >= 3 else None
        except (OSError, ValueError):
            return None

    # --- the rest ---

    def _shares(self, rss_bytes: int, missing: dict[str, str]) -> tuple[int | None, int | None]:
        """Proportional and unique size."""
        pages = max(1, rss_bytes // PAGE_BYTES)
        expected_ns = pages * self._smaps_page_ns
        if expected_ns > LONGEST_HOLD_NS:
            why = (
                f"reading it would keep the process from mapping memory for {expected_ns / 1e6:.0f} ms"
                " (smaps_rollup)"
            )
            missing["pss_bytes"] = missing["uss_bytes"] = why
            return None, None
        began_ns = time.thread_time_ns()
        try:
            text = _read(f"{proc_folder(self._pid)}/smaps_rollup", 4096)
        except OSError as error:
            missing["pss_bytes"] = missing["uss_bytes"] = f"smaps_rollup cannot be read: {error.strerror}"
            return None, None
        self._smaps_page_ns = max(1.0, (time.thread_time_ns() - began_ns) / pages)
        fields = dict(re.findall(rb"^(\w+): +(\d+) kB$", text, re.MULTILINE))
        try:
            pss = int(fields[b"Pss"]) << 10
            uss = (int(fields[b"Private_Clean"]) + int(fields[b"Private_Dirty"])) << 10
        except KeyError:
            missing["pss_bytes"] = missing["uss_bytes"] = "smaps_rollup of this kernel has no such figures"
            return None, None
        return pss, uss


class _Anonymous:
    """What was found of anonymous memory so far."""

    def __init__(self) -> None:
        self.kinds: dict[MemoryKind, int] = {}
        self.of_owner: dict[int, int] = {}
        """Resident bytes of Python's heaps by the thread control block of their owner."""
        self.arenas: int | None = None
        self.ended_heap_bytes: int | None = None
        self.libc_free_bytes: int | None = None
        self.heaps_free_bytes: int | None = None


def _read(path: str, most: int) -> bytes:
    """Up to `most` bytes of a file of /proc. Raises OSError."""
    with open(path, "rb", buffering=0) as stream:
        pieces = []
        while most > 0:
            piece = stream.read(min(most, 1 << 16))
            if not piece:
                break
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)


def _kilobytes(pid: int) -> dict[bytes, int]:
    """Figures of /proc/PID/status: sizes in bytes, and the number of threads; {} if the process is gone."""
    found: dict[bytes, int] = {}
    for name, value in status_fields(f"{proc_folder(pid)}/status", _STATUS).items():
        number, _, unit = value.strip().partition(b" ")
        with suppress(ValueError):
            found[name] = int(number) << 10 if unit == b"kB" else int(number)
    return found if b"VmRSS" in found else {}
