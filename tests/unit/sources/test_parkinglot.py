"""Wait entries out of a stack that may hold anything."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.sources.locks.parkinglot import (
    ENTRY_BYTES,
    LINKS,
    REACH_BYTES,
    UNLINKED,
    WaitEntry,
    parse_wait_entry,
)

PLACE = 0x7F00_0000_1000
LOCK = 0x5000_0020
ARGUMENT_DISTANCE = 160


def entry(
    *, key: int = LOCK, links: tuple[int, int] = (0x7F00_0000_5000, 0x7F00_0000_6000), unparking: int = 0,
    handed_off: int = 0, argument: int = PLACE + ARGUMENT_DISTANCE,
    semaphore: tuple[int, int, int] = (0, 1, 0),
) -> bytes:  # fmt: skip
    """A thread's stack from its wait entry on; of the semaphore the value, who waits, who shares it."""
    data = struct.pack("<QQIIIIQQQQB", argument, key, *semaphore, 0xDEAD, 0xDEAD, 0xDEAD, *links, unparking)
    data = data.ljust(ARGUMENT_DISTANCE, b"\xaa") + struct.pack("<qi", 5, handed_off)
    return data.ljust(REACH_BYTES, b"\xbb")


# Seen in a thread of 3.14.9t inside of lxml, at the place where it had parked before: the canary of a stack
# frame, objects of the heap, and for a key something of the interpreter's.
GIL_FRAMES = struct.pack(
    "<9Q", 0x27A_2A38_3E40, 0xA9_C650, 1, 0x80F2_818C_9AAC_CC00, 0, 0x7FBE_6800_53D0, 0x27A_3014_0180,
    0x27A_301D_1910, 0,
).ljust(REACH_BYTES, b"\0")  # fmt: skip
OTHER_FRAMES = struct.pack(
    "<9Q", 0x423_354B_0800, 0x4F_ED75, 0xAD_2338, 0x1_354B_0800, 0, 0xAA_C400, 0x1_0740,
    0x9477_94DA_79B9_A900, 1,
).ljust(REACH_BYTES, b"\0")  # fmt: skip


def test_a_thread_that_waits() -> None:
    # GIVEN an entry that is linked into a bucket, THEN its thread waits
    assert parse_wait_entry(PLACE, entry()) == WaitEntry(LOCK, queued=True, given=False)


def test_a_thread_that_was_woken() -> None:
    # GIVEN one that was unlinked, THEN the thread is on its way: to try again, or with the lock
    assert entry(links=(0, 0))[LINKS] == UNLINKED
    woken = parse_wait_entry(PLACE, entry(links=(0, 0), unparking=1))
    assert woken == WaitEntry(LOCK, queued=False, given=False)
    handed = parse_wait_entry(PLACE, entry(links=(0, 0), unparking=1, handed_off=1))
    assert handed == WaitEntry(LOCK, queued=False, given=True)


@pytest.mark.parametrize("semaphore", [(0, 0, 0), (0x8000_0000, 1, 128)])
def test_semaphores_of_c_libraries(semaphore: tuple[int, int, int]) -> None:
    # GIVEN a thread that is about to wait (glibc's), or waits (musl's, which 1.2.4 marks so)
    # THEN it is in the queue
    assert parse_wait_entry(PLACE, entry(semaphore=semaphore)) == WaitEntry(LOCK, queued=True, given=False)


@pytest.mark.parametrize("argument", [0, PLACE, PLACE - 200, PLACE + REACH_BYTES, PLACE + 10**6])
def test_no_mutex_where_it_should_be(argument: int) -> None:
    # GIVEN a wait for an event, or an argument out of reach, THEN nothing was given
    found = parse_wait_entry(PLACE, entry(links=(0, 0), unparking=1, handed_off=1, argument=argument))
    assert found == WaitEntry(LOCK, queued=False, given=False)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(entry()[: ENTRY_BYTES - 1], id="cut short"),
        pytest.param(entry(key=0), id="no address"),
        pytest.param(entry(links=(0x7F00_0000_5000, 0)), id="half linked"),
        pytest.param(entry(links=(3, 4)), id="links that are none"),
        pytest.param(entry(unparking=7), id="a bool that is none"),
        pytest.param(entry(semaphore=(2, 1, 0)), id="posted twice"),
        pytest.param(entry(semaphore=(0, 2, 0)), id="two that wait for one thread's semaphore"),
        pytest.param(entry(semaphore=(0, 1, 0x9AACCC00)), id="shared by nobody knows whom"),
        pytest.param(entry(semaphore=(1, 0, 0)), id="posted, and in the queue"),
        pytest.param(entry(links=(0, 0), semaphore=(5, 0, 0)), id="woken five times"),
        pytest.param(GIL_FRAMES, id="frames of a thread that waits for the GIL"),
        pytest.param(OTHER_FRAMES, id="frames of a thread that computes"),
    ],
)
def test_what_is_no_entry(data: bytes) -> None:
    # GIVEN a stack that was used for something else since, THEN nothing is said
    assert parse_wait_entry(PLACE, data) is None


@given(st.binary(max_size=REACH_BYTES), st.integers(0, 2**64 - 1))
def test_anything(data: bytes, place: int) -> None:
    # GIVEN any bytes, THEN there is an answer, and who waits was not given anything
    found = parse_wait_entry(place, data)
    assert found is None or not (found.queued and found.given)
