"""What a blocked system call means, where its arguments say more than its number."""

from __future__ import annotations

import ctypes
import os
import platform

import pytest

from ftdiag.model import ThreadState, Wait
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.syscalls import BlockedCall, syscall_table
from ftdiag.sources.locks.waits import CLONE_VFORK, STARTING_CHILD, Blocked, WaitReader

NUMBERS = {info.name: number for number, info in syscall_table().items()}
CLONE_THREAD = 0x10000


def classified(name: str, first: int) -> tuple[ThreadState, Wait | None]:
    """The state of a thread of this process that is blocked in a call with that first argument."""
    reader = WaitReader(os.getpid(), RemoteMemory(os.getpid()))
    line = f"{NUMBERS[name]} {first:#x} 0x58 0x0 0x0 0x0 0x0 0x7ffc0000 0x7f000000"
    blocked = reader.parse(line.encode())
    assert blocked is not None
    found = reader.classify(blocked, 0, None, os.getpid())
    return found.state, found.wait


@pytest.mark.parametrize("flags", [CLONE_VFORK | 0x100 | 17, CLONE_VFORK])
def test_who_waits_for_a_child_to_start(flags: int) -> None:
    # GIVEN the arguments of a vfork, by value and (clone3) in memory WHEN a thread is blocked in it
    arguments = ctypes.c_uint64(flags)
    for name, first in (("clone", flags), ("clone3", ctypes.addressof(arguments))):
        # THEN it waits for the child
        assert classified(name, first) == (ThreadState.IO, Wait(name, STARTING_CHILD))
    if platform.machine() == "x86_64":
        assert classified("vfork", 0) == (ThreadState.IO, Wait("vfork", STARTING_CHILD))


def test_who_starts_a_thread_waits_for_something_else() -> None:
    # GIVEN flags without vfork, and a pointer to nowhere THEN what it waits for is not known
    arguments = ctypes.c_uint64(CLONE_THREAD)
    for name, first in (("clone", CLONE_THREAD), ("clone3", ctypes.addressof(arguments)), ("clone3", 8)):
        assert classified(name, first) == (ThreadState.UNKNOWN, Wait(name))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("clock_nanosleep", True),
        ("wait4", True),
        ("epoll_wait", True),
        ("select", True),
        ("poll", False),  # what it polls is in memory
        ("futex", False),
        ("read", False),  # the file behind a descriptor changes
    ],
)
def test_which_waits_are_told_by_call_and_stack_alone(name: str, plain: bool) -> None:
    number = next(number for number, info in syscall_table("x86_64").items() if info.name == name)
    info = syscall_table("x86_64")[number]
    assert Blocked(BlockedCall(number, (0,) * 6), info).plain is plain
    assert not Blocked(BlockedCall(-1, ()), None).plain
