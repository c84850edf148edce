"""What a thread that parks leaves on its C stack: who waits for what, and who was given it, as of one read.

In: bytes of a thread's C stack. Out: its wait entry, if it still is one.

How it is known (Python/parking_lot.c and Python/lock.c, alike from 3.13 to 3.15): a thread that parks has a
`struct wait_entry {void *park_arg; uintptr_t addr; _PySemaphore sema; struct llist_node {next, prev} node;
bool is_unparking}` on its stack, linked into a bucket while it waits; who wakes it unlinks it first, which
makes both pointers null. The word of the semaphore is what its futex(2) call waits on. For a mutex `park_arg`
is the address of `struct mutex_entry {PyTime_t time_to_be_fair; int handed_off}` in the frame of the caller:
after a millisecond of waiting a mutex is not unlocked but handed to the next in line.

Once the thread went on, its stack there is used again, for frames that stay as long as a wait does: seen were
frames of a thread that waited for the GIL, with the address of a variable of the interpreter for a key and
pointers for links. So what is no semaphore of one waiter is no entry (`sem_t` of glibc: the value, how many
wait, 0 or 128 for whether processes share it; musl's has the same in the same places, and the sign bit of the
value set while somebody waits).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

SEMAPHORE_OFFSET: Final = 16
"""`wait_entry.sema` (a sem_t of 32 bytes)."""
ENTRY_BYTES: Final = 65
"""Up to and with `is_unparking`."""
LINKS: Final = slice(48, 64)
UNLINKED: Final = bytes(16)
"""`node` of a thread that no longer waits."""
REACH_BYTES: Final = 384
"""So much of the stack is read from the entry on: the mutex entry lies a frame above it."""
LOWEST_ADDRESS: Final = 4096
_ENTRY: Final = struct.Struct("<QQIII20xQQB")
_SIGN: Final = 1 << 31
_SHARED_BY: Final = (0, 128)
"""FUTEX_PRIVATE and FUTEX_SHARED of glibc (sysdeps/nptl/futex-internal.h)."""
_HANDED_OFF_OFFSET: Final = 8
_HANDED_OFF: Final = b"\x01\0\0\0"


class WaitEntry(NamedTuple):
    """A wait entry as of the moment at which it was read.

    `key` is the address that is waited on. `queued`: the thread waits; else it was woken, or gave up, and is
    on its way. `given`: it was handed the mutex. Both stay what they were until the stack there is used
    again.
    """

    key: int
    queued: bool
    given: bool


def parse_wait_entry(address: int, data: bytes) -> WaitEntry | None:
    """The wait entry that `data`, read from `address` on, begins with; `None` where there is none."""
    if len(data) < ENTRY_BYTES:
        return None
    argument, key, value, waiters, shared, following, previous, unparking = _ENTRY.unpack_from(data)
    if key <= LOWEST_ADDRESS or unparking > 1:
        return None
    posted = value & ~_SIGN
    if posted > 1 or waiters > 1 or shared not in _SHARED_BY:
        return None
    queued = following > LOWEST_ADDRESS and previous > LOWEST_ADDRESS
    # It is posted once it was unlinked.
    if posted if queued else following or previous:
        return None
    start = argument - address + _HANDED_OFF_OFFSET
    given = start >= ENTRY_BYTES and data[start : start + len(_HANDED_OFF)] == _HANDED_OFF
    return WaitEntry(key, queued, given and not queued)
