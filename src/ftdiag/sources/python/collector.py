"""What the cyclic collector did, by its own statistics: how often, for how long, when.

In: memory of the target that was read along with its stacks (`want`), once a tick. Out: the collections since
they were last asked for (`take`), exact in number and time.

From 3.15 on CPython publishes them: `interpreter_state.gc` + `gc.generation_stats` point to struct gc_stats,
which has for each generation a ring of struct gc_generation_stats (of one entry in free-threaded builds):
begin and end of the last collection on CLOCK_MONOTONIC, which is the sampler's clock, and of all of them
number, objects and seconds (Include/internal/pycore_interp_structs.h). `update_seq` is odd while they are
written (3.15.1): it is read before and after them, and what it changed over is left to the next tick. What
lies there is the target's: figures that cannot be are not taken, and begin anew.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Collections, GenerationCollections
from ftdiag.sources.kernel.memory import ReadAlong
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.layouts import CollectorLayout

MAX_INTERPRETERS: Final = 8
"""Interpreters whose collector is followed, the newest ones."""
MAX_SEEN: Final = 4096
"""Collections of a window whose own times are kept."""
MAX_COUNT: Final = 1 << 32
"""More collections than this since the last look cannot be."""
MAX_OBJECTS: Final = 1 << 62
MAX_SECONDS: Final = 1e6
SLACK_NS: Final = 1_000_000
"""What a collection may have lasted longer by its own times than by the sum of all: rounding."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The statistics of one generation as they lie in memory; all but the times of the last are sums."""

    begin_ns: int
    end_ns: int
    count: int
    freed: int
    looked_at: int
    total_ns: int


class CollectorReader:
    """Follows the collectors of one target's interpreters; does nothing where CPython publishes nothing."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._layout = interpreter.layout.collector
        self._last: dict[int, tuple[Generation, ...]] = {}
        """Address of the statistics -> what they said when last read."""
        self._raw: dict[int, bytes] = {}
        self._sums: list[list[int]] = []
        """By generation: number, time, objects looked at, objects freed; since `take`."""
        self._seen = array("B"), array("q"), array("q")
        self.broken = 0
        """Times since `take` that statistics said what cannot be."""
        self._clear()

    def refresh(self) -> None:
        """Find out where statistics lie; once a window. Raises MemoryReadError, TargetGone."""
        layout = self._layout
        if layout is None:
            return
        places = [
            (ref.address + layout.pointer, 8) for ref in self._interpreter.interpreters()[:MAX_INTERPRETERS]
        ]
        words = self._interpreter.memory.read_many(places)
        found = {int.from_bytes(word, "little") for word in words if word is not None}
        self._last = {address: self._last.get(address, ()) for address in found if address}
        self._raw = {address: raw for address, raw in self._raw.items() if address in self._last}

    def want(self, along: ReadAlong) -> None:
        """Take the statistics along, with the number that tells whether they were being written."""
        layout = self._layout
        if layout is None:
            return
        for address in self._last:
            along.want(address + layout.sequence, 4)  # read in this order: before, and after as their end
            along.want(address, layout.size)

    @property
    def known(self) -> dict[int, bytes]:
        """Where statistics lie, and what was last read there."""
        return {address: self._raw.get(address, b"") for address in self._last}

    def saw(self, along: ReadAlong) -> None:
        """Take in what was read."""
        layout = self._layout
        if layout is None:
            return
        for address in self._last:
            before, data = along.found.get(address + layout.sequence), along.found.get(address)
            if before is None or data is None or data == self._raw.get(address):
                continue
            if before != data[layout.sequence : layout.sequence + 4] or before[0] & 1:
                continue
            self._raw[address] = data
            self._update(address, generations(data, layout))

    def take(self) -> Collections | None:
        """The collections since the last call; `None` where CPython does not publish them."""
        if self._layout is None:
            return None
        told = tuple(
            GenerationCollections(number, *sums) for number, sums in enumerate(self._sums) if sums[0]
        )
        taken = Collections(told, *self._seen)
        self._clear()
        return taken

    def _clear(self) -> None:
        generations = 0 if self._layout is None else self._layout.generations
        self._sums = [[0, 0, 0, 0] for _ in range(generations)]
        self._seen = array("B"), array("q"), array("q")
        self.broken = 0

    def _update(self, address: int, now: tuple[Generation, ...] | None) -> None:
        before = self._last[address]
        if now is None:
            self.broken += 1
            self._last[address] = ()
            return
        self._last[address] = now
        if not before:
            return  # the first look: what was before it is not of this recording
        changes = [_change(old, new) for old, new in zip(before, now, strict=True)]
        if None in changes:
            self.broken += 1
            return
        for number, change in enumerate(changes):
            assert change is not None
            self._sums[number] = [one + more for one, more in zip(self._sums[number], change, strict=True)]
            if change[0] and len(self._seen[0]) < MAX_SEEN:
                for column, value in zip(
                    self._seen, (number, now[number].begin_ns, now[number].end_ns), strict=True
                ):
                    column.append(value)


def generations(data: bytes, layout: CollectorLayout) -> tuple[Generation, ...] | None:
    """What `struct gc_stats` says, youngest generation first; `None` if it cannot be such a struct.

    Of a ring the entry with the latest sums counts: the one with most collections.
    """
    found = []
    for begin, entries in layout.rings:
        newest: Generation | None = None
        for place in range(begin, begin + entries * layout.entry_size, layout.entry_size):
            one = _generation(data, place, layout)
            if one is None:
                return None
            if newest is None or one.count > newest.count:
                newest = one
        assert newest is not None
        found.append(newest)
    return tuple(found)


def _generation(data: bytes, place: int, layout: CollectorLayout) -> Generation | None:
    numbers: Sequence[int] = [
        struct.unpack_from("<q", data, place + offset)[0]
        for offset in (layout.begin, layout.end, layout.count, layout.freed, layout.looked_at)
    ]
    (seconds,) = struct.unpack_from("<d", data, place + layout.seconds)
    begin, end, count, freed, looked_at = numbers
    if not (math.isfinite(seconds) and 0.0 <= seconds < MAX_SECONDS and 0 <= begin <= end < MAX_OBJECTS):
        return None
    if not (0 <= count < MAX_OBJECTS and 0 <= freed < MAX_OBJECTS and 0 <= looked_at < MAX_OBJECTS):
        return None
    return Generation(begin, end, count, freed, looked_at, round(seconds * 1e9))


def _change(old: Generation, new: Generation) -> tuple[int, int, int, int] | None:
    """Number, time, objects looked at and freed since; `None` if that cannot be."""
    change = (
        new.count - old.count,
        new.total_ns - old.total_ns,
        new.looked_at - old.looked_at,
        new.freed - old.freed,
    )
    possible = min(change) >= 0 and change[0] < MAX_COUNT and bool(change[0]) == (new.end_ns != old.end_ns)
    if not possible or (change[0] and new.end_ns - new.begin_ns > change[1] + SLACK_NS):
        return None
    return change
