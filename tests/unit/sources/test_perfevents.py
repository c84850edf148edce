"""Ring buffers of perf events: hand-made ones, wrapped, with losses, and garbage; refusals in words."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.errors import PermissionRefused, TargetGone
from ftdiag.sources.kernel.perfevents import (
    RawSample,
    Refused,
    kernel_permitted,
    parse_records,
    refusal,
    register,
    unwrap,
)

LOST, THROTTLE, SAMPLE, LOST_SAMPLES = 2, 5, 9, 13


def record(kind: int, payload: bytes) -> bytes:
    """A record with its header."""
    return struct.pack("<IHH", kind, 0, 8 + len(payload)) + payload


def sample(ip: int, tid: int, time_ns: int, registers: tuple[int, ...] = ()) -> bytes:
    """A sample as the kernel writes it; without registers if there are none."""
    payload = struct.pack("<QIIQ", ip, 1, tid, time_ns) + struct.pack("<Q", 2 if registers else 0)
    return record(SAMPLE, payload + struct.pack(f"<{len(registers)}Q", *registers))


def in_ring(data: bytes, size: int, tail: int) -> tuple[memoryview, int]:
    """The bytes in a ring of `size` bytes from position `tail` on, and the head."""
    ring = bytearray(b"\xaa" * size)
    for index, byte in enumerate(data):
        ring[(tail + index) % size] = byte
    return memoryview(ring), tail + len(data)


def test_samples_come_out_as_they_were_written() -> None:
    # GIVEN two samples in a buffer, one with registers
    chunk = sample(0x1000, 7, 100, (11, 22)) + sample(0x2000, 8, 200)

    # WHEN they are parsed
    found: list[RawSample] = []
    lost, damaged = parse_records(chunk, found)

    # THEN they are there, nothing is lost, and a register that was not sampled is 0
    assert (lost, damaged) == (0, 0)
    assert [(one.ip, one.tid, one.time_ns) for one in found] == [(0x1000, 7, 100), (0x2000, 8, 200)]
    assert [register(found[0].registers, place) for place in (0, 1, 2)] == [11, 22, 0]
    assert found[1].registers == b""


@given(st.integers(0, 1 << 40), st.integers(0, 20))
def test_a_buffer_that_wraps_around_loses_nothing(tail: int, count: int) -> None:
    # GIVEN samples anywhere in a ring
    tail -= tail % 8
    written = b"".join(sample(0x1000 + index, index, index) for index in range(count))
    ring, head = in_ring(written, 4096, tail)

    # WHEN the part that is new is read
    chunk = unwrap(ring, head, tail)

    # THEN it is all there, in order
    assert chunk == (written or None)


def test_lost_samples_are_counted() -> None:
    # GIVEN both kinds of records that say so, between samples and a record of another kind
    chunk = (
        sample(0x1000, 7, 1)
        + record(LOST, struct.pack("<QQ", 3, 40))
        + record(THROTTLE, bytes(24))
        + record(LOST_SAMPLES, struct.pack("<Q", 2))
        + sample(0x2000, 7, 2)
    )

    # WHEN they are parsed
    found: list[RawSample] = []

    # THEN their numbers add up, and the samples are there
    assert parse_records(chunk, found) == (42, 0)
    assert len(found) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(struct.pack("<IHH", SAMPLE, 0, 0), id="no length"),
        pytest.param(struct.pack("<IHH", SAMPLE, 0, 0xFFFF), id="longer than the buffer"),
        pytest.param(b"\x09\x00", id="half a header"),
        pytest.param(record(SAMPLE, bytes(8)), id="a sample that is too short"),
    ],
)
def test_damage_ends_the_reading(garbage: bytes) -> None:
    # GIVEN a sample, then something that cannot be a record
    found: list[RawSample] = []

    # WHEN it is parsed
    lost, damaged = parse_records(sample(0x1000, 7, 1) + garbage + sample(0x2000, 7, 2), found)

    # THEN what came before is kept, and the damage is said
    assert (lost, damaged) == (0, 1)
    assert [one.ip for one in found] == [0x1000]


@given(st.binary(max_size=4096))
def test_any_bytes_are_borne(data: bytes) -> None:
    # GIVEN anything
    found: list[RawSample] = []

    # WHEN it is parsed
    parse_records(data, found)

    # THEN there are not more samples than fit in
    assert len(found) <= len(data) // 40


@given(st.integers(0, 1 << 64), st.integers(0, 1 << 64))
def test_heads_and_tails_that_cannot_be_are_refused(head: int, tail: int) -> None:
    # GIVEN any two positions
    ring = memoryview(bytes(512))

    # WHEN the part between them is asked for
    chunk = unwrap(ring, head, tail)

    # THEN it is never longer than the ring
    assert chunk is None or len(chunk) == head - tail <= 512


def test_the_kernel_is_left_out_where_it_is_forbidden() -> None:
    # GIVEN a kernel that allows samples of programs only
    def opener(_pid: int, _period: int, *, kernel: bool) -> int:
        if kernel:
            raise Refused(errno.EACCES)
        return os.open("/dev/null", os.O_RDONLY)

    # WHEN we ask THEN that is what we get
    assert kernel_permitted(1, opener) is False


def test_a_kernel_that_refuses_everything() -> None:
    # GIVEN a kernel that allows no samples
    def opener(_pid: int, _period: int, *, kernel: bool) -> int:
        raise Refused(errno.EPERM)

    # WHEN we ask THEN the refusal has a remedy
    with pytest.raises(PermissionRefused) as refused:
        kernel_permitted(1, opener)
    assert refused.value.hint


def test_a_process_that_ended_is_no_refusal() -> None:
    # GIVEN a process that is gone
    def opener(_pid: int, _period: int, *, kernel: bool) -> int:
        raise Refused(errno.ESRCH)

    # WHEN we ask THEN that is said
    with pytest.raises(TargetGone):
        kernel_permitted(1, opener)


@pytest.mark.parametrize(
    ("code", "paranoid", "root", "what", "hint"),
    [
        (errno.EACCES, 4, False, "perf_event_paranoid is 4", "sudo sysctl kernel.perf_event_paranoid=1"),
        (errno.EPERM, 2, True, "a container's profile", "docker run --cap-add PERFMON"),
        (errno.EPERM, 2, False, "refused for process 7", 'sudo "$(command -v ftdiag)" attach 7'),
        (errno.ENOSYS, 2, False, "is not there", "docker run --security-opt seccomp=unconfined"),
        (errno.EINVAL, 2, False, "Invalid argument", "perf stat -e cpu-clock true"),
    ],
)
def test_refusals_say_what_to_do(code: int, paranoid: int, root: bool, what: str, hint: str) -> None:
    # GIVEN a refusal WHEN it is explained
    refused = refusal(7, code, paranoid=paranoid, root=root)

    # THEN the cause and the exact remedy are in it
    assert what in refused.what
    assert (refused.hint or "").startswith(hint)
