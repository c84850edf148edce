"""The collector's own statistics: what changed since, nothing that cannot be, nothing half written."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_process import FakeMemory, FakeProcess, Sink, layout_of
from ftdiag.model import Collections, GenerationCollections
from ftdiag.sources.kernel.memory import ReadAlong, RemoteMemory
from ftdiag.sources.python.collector import MAX_SEEN, CollectorReader, generations
from ftdiag.sources.python.interpreter import InterpreterReader

BUILD = "3.15.1t"
LAYOUT = layout_of(BUILD).collector
assert LAYOUT is not None
EMPTY = (0, 0, 0, 0, 0, 0.0)


class Collecting:
    """A process whose collector has statistics: (begin, end, number, freed, looked at, seconds)."""

    def __init__(self, build: str = BUILD) -> None:
        self.fake = fake = FakeProcess(build)
        layout = fake.layout
        runtime, self.interpreter = fake.allocate(layout.runtime_size), fake.allocate(layout.interpreter_size)
        self.memory: FakeMemory = fake.memory
        self.memory.write_word(runtime + layout.runtime_interpreters_head, self.interpreter)
        self.place = fake.allocate(4096)
        if layout.collector is not None:
            self.memory.write_word(self.interpreter + layout.collector.pointer, self.place)
        self.sequence = 0
        reader = InterpreterReader(self.memory, replace(fake.runtime, address=runtime), Sink())
        self.reader = CollectorReader(reader)
        self.say()
        self.reader.refresh()
        self.look()

    def say(
        self,
        young: tuple[int, int, int, int, int, float] = EMPTY,
        *old: tuple[int, int, int, int, int, float],
        sequence: int | None = None,
    ) -> None:
        self.sequence += 2
        written = written_as(self.sequence if sequence is None else sequence, young, *old)
        self.memory.write(self.place, written)

    def look(self, memory: RemoteMemory | None = None) -> None:
        along = ReadAlong()
        self.reader.want(along)
        ranges = list(along.wanted.items())
        along.found.update(zip(along.wanted, (memory or self.memory).read_many(ranges), strict=True))
        self.reader.saw(along)

    def taken(self) -> Collections:
        taken = self.reader.take()
        assert taken is not None
        return taken


def written_as(sequence: int, *told: tuple[int, int, int, int, int, float]) -> bytes:
    """Struct gc_stats of a free-threaded build."""
    rows = [*told, *[EMPTY] * (3 - len(told))]
    rings = [
        struct.pack("<qqqqqqdqq", begin, end, count, freed, 0, looked, seconds, 0, 0)
        for begin, end, count, freed, looked, seconds in rows
    ]
    return b"".join(rings) + struct.pack("<I4x", sequence)


def test_what_the_collector_did_since_is_told() -> None:
    # GIVEN a process that has collected before, and is looked at
    one = Collecting()
    one.say((10, 20, 5, 1, 100, 1e-6))
    one.look()
    one.taken()

    # WHEN it collects once, and then, between two looks, three times more, and once all generations
    one.say((1_000, 5_000, 6, 3, 160, 5e-6))
    one.look()
    one.say((20_000, 29_000, 9, 3, 460, 25e-6), EMPTY, (40_000, 90_000, 1, 7, 1_000, 50e-6))
    one.look()

    # THEN numbers, times and objects are exact, and those whose own times were seen have them
    told = one.taken()
    assert told.generations == (
        GenerationCollections(0, 4, 24_000, 360, 2),
        GenerationCollections(2, 1, 50_000, 1_000, 7),
    )
    assert list(zip(told.generation, told.begin_ns, told.end_ns, strict=True)) == [
        (0, 1_000, 5_000),
        (0, 20_000, 29_000),
        (2, 40_000, 90_000),
    ]
    # AND there is nothing more until it collects again
    one.look()
    assert one.taken() == Collections()


def test_what_is_being_written_is_left_to_the_next_look() -> None:
    # GIVEN statistics that are being written: the sequence is odd, or changes while they are read
    one = Collecting()
    one.say((1_000, 5_000, 1, 0, 50, 4e-6), sequence=7)
    one.look()

    class Changing(FakeMemory):
        def read_many(self, ranges: object) -> list[bytes | None]:
            data = written_as(10, (1_000, 5_000, 1, 0, 50, 4e-6))
            return [struct.pack("<I", 8), data]

    one.look(Changing())

    # THEN nothing is told, until they are written
    assert one.taken() == Collections()
    one.say((1_000, 5_000, 1, 0, 50, 4e-6), sequence=10)
    one.look()
    assert one.taken().generations == (GenerationCollections(0, 1, 4_000, 50, 0),)


@pytest.mark.parametrize(
    "lie",
    [
        (5_000, 1_000, 6, 0, 0, 2e-6),
        (0, 1_000, -1, 0, 0, 2e-6),
        (0, 1_000, 4, 0, 0, 2e-6),
        (0, 1_000, 6, -5, 0, 2e-6),
        (0, 1_000, 6, 0, 0, 0.0),
        (0, 1_000, 6, 0, 0, float("nan")),
        (0, 1_000, 6, 0, 0, float("inf")),
        (0, 1_000, 6, 0, 0, -1.0),
        (0, 1_000, 1 << 61, 0, 0, 2e-6),
        (0, 1_000, 6, 0, 1 << 62, 2e-6),
        (0, 1 << 62, 6, 0, 0, 2e-6),
        (0, 10_000_000_000, 6, 0, 0, 2e-6),
    ],
)
def test_what_cannot_be_is_not_taken(lie: tuple[int, int, int, int, int, float]) -> None:
    # GIVEN statistics that go back, or say what no collector can have done
    one = Collecting()
    one.say((10, 20, 5, 1, 100, 1e-6))
    one.look()
    one.taken()
    one.say(lie)
    one.look()

    # THEN nothing is told of them, but that they were broken, and it begins anew
    assert one.reader.broken == 1
    assert one.taken() == Collections()
    assert one.reader.broken == 0
    one.say((10, 20, 5, 1, 100, 1e-6))
    one.look()
    one.say((2_000, 3_000, 6, 1, 100, 2e-6))
    one.look()
    assert one.taken().generations == (GenerationCollections(0, 1, 1_000, 0, 0),)


def test_an_interpreter_that_ended_is_forgotten() -> None:
    # GIVEN statistics that are gone, and a pointer to others
    one = Collecting()
    one.say((10, 20, 5, 1, 100, 1e-6))
    one.look()
    assert LAYOUT is not None
    one.memory.write_word(one.interpreter + LAYOUT.pointer, 0)
    one.reader.refresh()

    # WHEN looked at, THEN nothing is read
    along = ReadAlong()
    one.reader.want(along)
    assert along.wanted == {}


def test_times_are_bounded_and_sums_are_not() -> None:
    # GIVEN more collections in a window than are kept one by one
    one = Collecting()
    for number in range(1, MAX_SEEN + 10):
        one.say((number * 10, number * 10 + 1, number, 0, number, number * 1e-6))
        one.look()

    # THEN all count
    told = one.taken()
    assert told.generations[0].count == MAX_SEEN + 9
    assert len(told.begin_ns) == MAX_SEEN


@pytest.mark.parametrize("build", ["3.13.5t", "3.14.9t"])
def test_older_versions_have_none(build: str) -> None:
    # GIVEN a version that does not publish them, WHEN asked, THEN that is said, and nothing is read
    one = Collecting(build)
    along = ReadAlong()
    one.reader.want(along)
    assert along.wanted == {}
    assert one.reader.take() is None


@pytest.mark.parametrize("build", ["3.15.1", "3.15.1t"])
@given(data=st.data())
def test_any_bytes_are_read_or_refused(build: str, data: st.DataObject) -> None:
    # GIVEN any bytes, WHEN taken for statistics, THEN three generations come, or none
    layout = layout_of(build).collector
    assert layout is not None
    found = generations(data.draw(st.binary(min_size=layout.size, max_size=layout.size)), layout)
    assert found is None or len(found) == 3


def test_the_newest_entry_of_a_ring_counts() -> None:
    # GIVEN a build with the GIL, whose young generation has eleven entries
    layout = layout_of("3.15.1").collector
    assert layout is not None
    data = bytearray(layout.size)
    for place, count in ((0, 12), (1, 13), (2, 4)):
        struct.pack_into("<qqqqqqd", data, 64 * place, count, count, count, 0, 0, 0, count / 1e6)
    found = generations(bytes(data), layout)

    # THEN the one with most collections is the newest
    assert found is not None
    assert [each.count for each in found] == [13, 0, 0]
