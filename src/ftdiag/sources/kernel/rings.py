"""The ring buffers of many perf events: emptied now and then, read once a window.

In: buffers as `perfevents.Event` maps them. Out: their samples in the order of time, and how many were
lost. Two readers speak this protocol: the compiled one (`tick/rings.c`) is used, and empties them between
ticks without any Python; `PythonRings` takes over where that could not be built and is the reference: both
give the same answers for the same buffers.

The protocol, for whoever writes a reader
- The kernel writes records up to the head, a reader says with the tail up to where it has read. What cannot
  lie between the two is passed over, and counted as one lost sample; so is a record that cannot be right,
  with what follows it in the same run: it has no known beginning.
- Of the records only samples are kept (`perfevents.parse_records`), MAX_PENDING_BYTES of what is read at
  most: those of one process, where it is told which. Buffers of cores have everybody's.
"""

from __future__ import annotations

import ctypes
from operator import itemgetter
from typing import Final, Protocol

from ftdiag.sources.compiled import COMPILED, tick
from ftdiag.sources.kernel.perfevents import RawSample, parse_records, unwrap

DRAIN_EVERY_NS: Final = 250_000_000
"""How often buffers are emptied (BUFFERED_SECONDS in sources.native.sampler: they hold more than twice as
much). What is in them is decoded once a window: on a busy service that, done at every tick, took a tenth of
a core."""
MAX_PENDING_BYTES: Final = 64 << 20
SAMPLE_BYTES: Final = 40
"""A sample without registers."""
RING_BYTES: Final = 1 << 24
"""The largest buffer."""


class Rings(Protocol):
    """Reads the buffers of one target's events. For use by one thread."""

    every_ns: int
    """How often they are to be emptied."""

    @property
    def due_ns(self) -> int:
        """When that is to be next."""
        ...

    def follow(self, number: int, head: int, tail: int, data: int, size: int, /) -> None:
        """Read the buffer of an event from now on: the addresses of its head, its tail and its data, which is
        `size` bytes long, a power of two up to RING_BYTES (else ValueError). They stay mapped until it is
        forgotten."""
        ...

    def forget(self, number: int, /) -> None:
        """Empty it for the last time. One that is not followed is ignored."""
        ...

    def drain(self, now_ns: int, /) -> None:
        """Empty all of them; what was in them comes with `take`."""
        ...

    def take(self) -> tuple[list[RawSample], int]:
        """What was sampled since the last call, in the order of time, and how many samples were lost."""
        ...

    def active(self) -> set[int]:
        """The events whose buffers had something in them, or were new, since this was asked last."""
        ...


def rings(pid: int = 0) -> Rings:
    """The compiled reader where it was built, else the one in Python; of all processes without a `pid`."""
    return tick.Rings(pid) if COMPILED else PythonRings(pid)


class _Ring:
    """One buffer, as memory of ours."""

    def __init__(self, head: int, tail: int, data: int, size: int) -> None:
        self.head = ctypes.c_uint64.from_address(head)
        self.tail = ctypes.c_uint64.from_address(tail)
        self.data = memoryview((ctypes.c_ubyte * size).from_address(data)).cast("B")
        self.active = True


class PythonRings:
    """Reads ring buffers; see `Rings`."""

    def __init__(self, pid: int = 0) -> None:
        self._pid = pid
        self.every_ns = DRAIN_EVERY_NS
        self.due_ns = 0
        self._rings: dict[int, _Ring] = {}
        self._pending: list[RawSample] = []
        self._bytes = 0
        self._lost = 0

    def follow(self, number: int, head: int, tail: int, data: int, size: int, /) -> None:
        """Read a buffer from now on."""
        if not 0 < size <= RING_BYTES or size & (size - 1):
            raise ValueError("a ring has a size that is a power of two")
        self._rings[number] = _Ring(head, tail, data, size)

    def forget(self, number: int, /) -> None:
        """Empty it for the last time."""
        ring = self._rings.pop(number, None)
        if ring is not None:
            self._drain(ring)

    def drain(self, now_ns: int, /) -> None:
        """Empty all of them."""
        self.due_ns = now_ns + self.every_ns
        for ring in self._rings.values():
            self._drain(ring)

    def take(self) -> tuple[list[RawSample], int]:
        """What was sampled since the last call, in the order of time, and how many samples were lost."""
        for ring in self._rings.values():
            self._drain(ring)
        taken, self._pending, self._bytes = self._pending, [], 0
        lost, self._lost = self._lost, 0
        taken.sort(key=itemgetter(1))
        return taken, lost

    def active(self) -> set[int]:
        """The events whose buffers had something in them, or were new, since this was asked last."""
        found = {number for number, ring in self._rings.items() if ring.active}
        for ring in self._rings.values():
            ring.active = False
        return found

    def _drain(self, ring: _Ring) -> None:
        # The head is one aligned 8-byte load. What lies before it was written before it: x86-64 keeps that
        # order by itself, on arm64 the loads below come thousands of instructions later.
        head, tail = ring.head.value, ring.tail.value
        if head == tail:
            return
        ring.active = True
        length = (head - tail) % (1 << 64)
        chunk = unwrap(ring.data, tail + length, tail) if self._bytes + length <= MAX_PENDING_BYTES else None
        ring.tail.value = head
        if chunk is None:
            self._lost += 1
            return
        before = len(self._pending)
        lost, damaged = parse_records(chunk, self._pending, self._pid)
        self._lost += lost + damaged
        self._bytes += sum(SAMPLE_BYTES + len(one.registers) for one in self._pending[before:])
