"""Buffers of perf events are read alike where that is compiled and where it is not.

In: buffers in memory of ours, with samples, losses and garbage in them, wrapped around. Out: what both
readers answer.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.sources import _tick
from ftdiag.sources.kernel.rings import DRAIN_EVERY_NS, RING_BYTES, PythonRings, Rings, rings

LOST, THROTTLE, SAMPLE, LOST_SAMPLES = 2, 5, 9, 13
SIZE = 1024
MAKERS: tuple[Callable[..., Rings], ...] = (_tick.Rings, PythonRings)
PID = 1


class Buffer:
    """The buffer of one event, written to as the kernel does."""

    def __init__(self, position: int = 0, size: int = SIZE) -> None:
        self.head, self.tail = ctypes.c_uint64(position), ctypes.c_uint64(position)
        self.data = (ctypes.c_ubyte * size)()
        self.size = size

    def write(self, records: bytes) -> None:
        """More came; what is older than the buffer is long is written over."""
        for place, one in enumerate(records):
            self.data[(self.head.value + place) % self.size] = one
        self.head.value += len(records)

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """What a reader is told."""
        head, tail, data = map(ctypes.addressof, (self.head, self.tail, self.data))
        return head, tail, data, self.size


def record(kind: int, payload: bytes) -> bytes:
    """A record with its header."""
    return struct.pack("<IHH", kind, 0, 8 + len(payload)) + payload


def sample(tid: int, time_ns: int, registers: tuple[int, ...] = (), pid: int = PID) -> bytes:
    """A sample as the kernel writes it; without registers if there are none."""
    payload = struct.pack("<QIIQQ", 0x1000 + time_ns, pid, tid, time_ns, 2 if registers else 0)
    return record(SAMPLE, payload + struct.pack(f"<{len(registers)}Q", *registers))


RECORDS = st.one_of(
    st.builds(
        sample,
        st.integers(0, 3),
        st.integers(0, 9),
        st.lists(st.integers(0, 1 << 60), max_size=4).map(tuple),
        st.sampled_from([PID, PID, 0, 0xFFFFFFFF]),
    ),
    st.integers(0, 99).map(lambda count: record(LOST, struct.pack("<QQ", 3, count))),
    st.integers(0, 99).map(lambda count: record(LOST_SAMPLES, struct.pack("<Q", count))),
    st.just(record(THROTTLE, bytes(24))),
    st.sampled_from([record(SAMPLE, bytes(8)), record(LOST, b""), struct.pack("<IHH", SAMPLE, 0, 0xFFFF)]),
    st.binary(min_size=1, max_size=24),
)


@given(
    st.integers(0, 1 << 40),
    st.lists(st.tuples(st.integers(0, 2), st.lists(RECORDS, max_size=6), st.booleans()), max_size=8),
    st.sampled_from([0, PID]),
)
def test_both_readers_see_the_same(
    position: int, steps: list[tuple[int, list[bytes], bool]], pid: int
) -> None:
    # GIVEN three buffers for each reader, anywhere, of which all samples are wanted, or those of a process
    readers = [make(pid) for make in MAKERS]
    buffers = [[Buffer(position), Buffer(position + 8), Buffer()] for _ in readers]
    for reader, own in zip(readers, buffers, strict=True):
        for tid, buffer in enumerate(own):
            reader.follow(tid, *buffer.addresses)
    # WHEN records come, and they are emptied now and then
    for number, records, drained in steps:
        for reader, own in zip(readers, buffers, strict=True):
            own[number].write(b"".join(records))
            if drained:
                reader.drain(number)
        assert readers[0].due_ns == readers[1].due_ns
    readers_left = [reader.active() for reader in readers]
    for reader in readers:
        reader.forget(1)
        reader.forget(7)
    # THEN both say the same, and have read all
    (samples, lost), expected = readers[0].take(), readers[1].take()
    assert ([tuple(one) for one in samples], lost) == ([tuple(one) for one in expected[0]], expected[1])
    assert samples == sorted(samples, key=lambda one: one[1])
    assert readers_left[0] == readers_left[1]
    assert readers[0].active() == readers[1].active()
    assert all(buffer.head.value == buffer.tail.value for own in buffers for buffer in own)
    assert readers[0].take() == readers[1].take() == ([], 0)


@pytest.mark.parametrize("make", MAKERS)
def test_positions_that_cannot_be_are_passed_over(make: Callable[[], Rings]) -> None:
    # GIVEN a head that is further from the tail than the buffer is long, and one that lies before it
    for away in (SIZE + 8, -8):
        buffer, reader = Buffer(1 << 20), make()
        reader.follow(1, *buffer.addresses)
        buffer.head.value += away
        # WHEN it is read THEN something was lost, and it goes on from there
        assert reader.take() == ([], 1)
        buffer.write(sample(1, 5))
        samples, lost = reader.take()
        assert ([tuple(one)[:3] for one in samples], lost) == ([(1, 5, 0x1005)], 0)


@pytest.mark.parametrize("make", MAKERS)
def test_samples_of_other_processes_are_left_out(make: Callable[..., Rings]) -> None:
    # GIVEN the buffer of a core, on which several processes and nobody ran
    buffer, of_one, of_all = Buffer(), make(PID), make()
    of_one.follow(-1, *buffer.addresses)
    buffer.write(sample(7, 1, (5,)) + sample(8, 2, (6,), pid=PID + 1) + sample(0, 3, pid=0) + sample(9, 4))
    # WHEN it is read for one process THEN only its samples come, and none is called lost
    samples, lost = of_one.take()
    assert ([(one[0], one[1], one[3]) for one in samples], lost) == (
        [(7, 1, struct.pack("<Q", 5)), (9, 4, b"")],
        0,
    )
    assert of_one.active() == {-1}
    # AND of everybody all come
    of_all.follow(-1, *buffer.addresses)
    buffer.write(sample(8, 5, pid=PID + 1))
    assert [one[0] for one in of_all.take()[0]] == [8]


@pytest.mark.parametrize("make", MAKERS)
def test_sizes_that_are_none_of_a_buffer(make: Callable[[], Rings]) -> None:
    buffer, reader = Buffer(), make()
    for size in (0, SIZE - 1, 2 * RING_BYTES):
        with pytest.raises(ValueError, match="power of two"):
            reader.follow(1, *buffer.addresses[:3], size)


def test_the_compiled_reader_is_used_where_there_is_one() -> None:
    made = rings()
    assert isinstance(made, _tick.Rings)
    assert made.every_ns == DRAIN_EVERY_NS
