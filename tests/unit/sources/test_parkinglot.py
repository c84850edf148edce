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
) -> bytes:  # fmt: skip
    """A thread's stack from its wait entry on."""
    data = struct.pack("<QQ32xQQB", argument, key, *links, unparking)
    data = data.ljust(ARGUMENT_DISTANCE, b"\xaa") + struct.pack("<qi", 5, handed_off)
    return data.ljust(REACH_BYTES, b"\xbb")


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
