"""Locks, holders and names out of memory that may hold anything, and that changes while it is read."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_process import PAGE, FakeProcess, Sink
from ftdiag.errors import TargetGone
from ftdiag.model import (
    IMPORT_LOCK,
    OTHERS_COUNTS,
    STOP_EVENT,
    STOP_TURN,
    TYPES_LOCK,
    WARNINGS_LOCK,
    WEAK_REFERENCES,
    LockKind,
    LockRef,
)
from ftdiag.sources.kernel.syscalls import BlockedCall
from ftdiag.sources.locks import identity, names
from ftdiag.sources.locks.handovers import counts_are_at
from ftdiag.sources.locks.holders import MAX_CRITICAL_SECTIONS
from ftdiag.sources.locks.identity import LockReader, calls_from
from ftdiag.sources.locks.moment import LockWait
from ftdiag.sources.locks.mutexes import MUTEX as C_MUTEX
from ftdiag.sources.locks.parkinglot import REACH_BYTES, WaitEntry
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.plainwalk import PlainThread

FUTEX = 202
MUTEX = 10
METATYPE_FLAG = 1 << 31


class Target:
    """A process whose threads wait for locks."""

    def __init__(self, build: str = "3.14.9t") -> None:
        self.process = FakeProcess(build)
        self.layout = self.process.layout
        self.memory = self.process.memory
        self.process._next += self.layout.runtime_size  # nothing else lies in these
        self.interpreter_state = self.process.interpreter()
        self.process._next += self.layout.interpreter_size
        self.interpreter = InterpreterReader(self.memory, self.process.runtime, Sink(), compiled=False)
        self.locks = LockReader(self.interpreter)
        self.locks.refresh()
        self.process._next = self.process._next + PAGE - 1 & -PAGE
        self.stack = self.process.allocate(PAGE)
        self.object("dict")  # a real type, for the dicts of globals

    def object(self, type_name: str, size: int = 64) -> int:
        """An object whose type is a real type."""
        address = self.process.allocate(max(size, 128))
        self.become(address, type_name, size)
        return address

    def become(self, address: int, type_name: str, size: int = 64) -> None:
        """Another object is made at the address."""
        self.memory.write(address, bytes(64))
        type_address = self.process.type(type_name)
        self.memory.write_word(
            type_address + self.layout.object_type, self.process.type("type", METATYPE_FLAG)
        )
        self.memory.write_word(type_address + self.layout.type_basic_size, size)
        self.memory.write_word(address + self.layout.object_type, type_address)

    def parked(self, address: int, argument: int = 0) -> BlockedCall:
        """A new look finds a thread in futex(2) with a wait entry for the address."""
        entry = self.stack + 256
        self.memory.write(entry, struct.pack("<QQ", argument, address))
        self.locks.look_anew()
        return BlockedCall(FUTEX, (entry + 16, 0, 0, 0, 0, 0), self.stack + 64)

    def thread(self, names: dict[str, int] | None = None) -> PlainThread:
        """A walked thread in one function, with these global variables."""
        leaf, chunk = self.process.stack(["work"])
        variables = {self.process.string(name): value for name, value in (names or {}).items()}
        dictionary = self.process.dict(variables)
        self.memory.write_word(leaf + self.layout.frame_globals, dictionary)
        thread = PlainThread(self.process.thread(leaf, chunk), 1000, 77, 0)
        assert self.interpreter.walk([thread])[0] >= 100
        return thread

    def wait_for(self, address: int, thread: PlainThread | None = None) -> LockWait | None:
        """What a thread parked on the address is said to wait for."""
        return self.locks.identify(self.parked(address), thread)


@pytest.fixture(params=["3.13.5t", "3.14.9t", "3.15.1t"])
def target(request: pytest.FixtureRequest) -> Target:
    """A process of each free-threaded layout."""
    return Target(request.param)


def named(wait: LockWait | None) -> tuple[LockKind, str | None, str | None] | None:
    """Kind, type and name of the lock."""
    return (
        None if wait is None or wait.lock is None else (wait.lock.kind, wait.lock.type_name, wait.lock.label)
    )


# --- what it is ---


def test_objects_whose_locks_are_waited_for(target: Target) -> None:
    # GIVEN a list and a lock
    orders, lock = target.object("list"), target.object("_thread.lock", 40)
    # WHEN threads are seen to wait for them THEN the list counts, by looks, until it is taken
    found = [target.wait_for(orders + MUTEX) for _ in range(3)][-1]
    target.wait_for(lock + 32)
    assert found is not None
    assert target.locks.take_objects() == {orders: 3}
    assert target.locks.take_objects() == {}
    # WHEN a thread still waits, as it did THEN it counts, too
    assert target.locks.take_objects([found.key, 0x1234]) == {orders: 1}


def test_kinds_of_locks(target: Target) -> None:
    # GIVEN a lock, a list, a lock of the runtime and one of the interpreter
    lock, orders = target.object("_thread.lock", 40), target.object("list")
    # WHEN threads park on them, THEN they are told apart, and keyed by their mutex
    found = target.wait_for(lock + 32, target.thread({"guard": lock}))
    assert named(found) == (LockKind.USER, "_thread.lock", "guard")
    assert found is not None
    assert found.key == lock + 32
    found = target.wait_for(orders + MUTEX, target.thread({"orders": orders}))
    assert named(found) == (LockKind.OBJECT, "list", "orders")
    found = target.wait_for(target.process.runtime_address + 1000)
    assert named(found) == (LockKind.RUNTIME, None, "runtime lock")
    found = target.wait_for(target.interpreter_state + 1000)
    assert named(found) == (LockKind.RUNTIME, None, "interpreter lock")


def test_locks_of_the_interpreter_have_names(target: Target) -> None:
    # GIVEN mutexes of the interpreter and of the runtime whose places are known for this version
    layout = target.layout
    told = [
        *((target.interpreter_state + at, label) for at, _, label in layout.interpreter_locks),
        *((target.process.runtime_address + at, label) for at, _, label in layout.runtime_locks),
    ]
    assert {TYPES_LOCK, WARNINGS_LOCK, IMPORT_LOCK, STOP_TURN, STOP_EVENT} <= {label for _, label in told}
    for address, label in told:
        # WHEN a thread parks on one, THEN it is told by name
        target.memory.write(address, b"\3")
        assert named(target.wait_for(address)) == (LockKind.RUNTIME, None, label)


def test_the_main_interpreter_lies_in_the_runtime(target: Target) -> None:
    # GIVEN an interpreter whose state is a part of the runtime's, as the main one's is
    layout, process = target.layout, target.process
    state = process.runtime_address + layout.runtime_size - layout.interpreter_size
    for offset in (layout.interpreter_id, layout.interpreter_next):
        target.memory.write_word(state + offset, 0)
    target.memory.write_word(process.runtime_address + layout.runtime_interpreters_head, state)
    target.locks.refresh()
    types = next(at for at, _, label in layout.interpreter_locks if label == TYPES_LOCK)
    target.memory.write(state + types, b"\3")

    # WHEN a thread parks on a lock of it, THEN it is told as that, and no other one as one of the runtime
    assert named(target.wait_for(state + types)) == (LockKind.RUNTIME, None, TYPES_LOCK)
    target.memory.write(state + types + 64, b"\3")
    assert named(target.wait_for(state + types + 64)) == (LockKind.RUNTIME, None, "interpreter lock")


@pytest.mark.parametrize(("build", "offset"), [("3.13.5t", 196152), ("3.14.9t", 196456), ("3.15.1t", 196552)])
def test_the_lock_of_types_is_where_builds_have_it(build: str, offset: int) -> None:
    # GIVEN builds, two of them with more before it than the headers say; their machine code has this offset
    # WHEN the places are told, THEN it is among them
    assert (offset, 1, TYPES_LOCK) in Target(build).layout.interpreter_locks


@pytest.mark.parametrize(("build", "offset"), [("3.14.9t", 11264), ("3.15.1t", 11200)])
def test_counts_of_others_are_where_their_lists_are(build: str, offset: int) -> None:
    # GIVEN builds with more before the counts that threads leave to others than the headers say
    target = Target(build)
    (at, size, label), *following = target.layout.moved_locks
    table = target.interpreter_state + at
    assert (at, label, [label for *_, label in following]) == (offset, OTHERS_COUNTS, [WEAK_REFERENCES])
    target.memory.write(table + 24, b"\3")
    # WHEN nothing is there that could be their lists, THEN a lock there has no name
    assert named(target.wait_for(table + 24)) == (LockKind.RUNTIME, None, "interpreter lock")
    # WHEN there are lists, nearly all of which are empty, of which one changes while it is read
    for place in range(0, size, 24):
        head = table + place + 8
        target.memory.write(head, struct.pack("<QQ", head, head))
    target.memory.write(table + 48 + 8, struct.pack("<QQ", target.stack, target.stack))
    target.memory.write(table + 72 + 8, struct.pack("<QQ", target.stack, table + 72 + 8))
    # THEN another reader knows their locks, and those that follow
    target.locks = LockReader(target.interpreter)
    target.locks.refresh()
    assert named(target.wait_for(table + 24)) == (LockKind.RUNTIME, None, OTHERS_COUNTS)
    behind = target.interpreter_state + following[0][0]
    target.memory.write(behind, b"\3")
    assert named(target.wait_for(behind)) == (LockKind.RUNTIME, None, WEAK_REFERENCES)


def test_what_is_no_table_of_counts() -> None:
    # GIVEN lists of which half have members, or hold zeros, or change, and memory that is not there
    target, size = Target(), 24 * 40
    memory = target.memory
    # WHEN it is read THEN only the first is the table
    assert not counts_are_at(memory, 0x7F55_0000_0000, size)
    for following, before in [(1, 1), (0, 0), (None, 1), (1, None)]:
        table = target.process.allocate(PAGE)
        for place in range(0, size, 24):
            head = table + place + 8
            ends = [head if end is None or place % 48 else end for end in (following, before)]
            memory.write(head, struct.pack("<QQ", *ends))
        assert counts_are_at(memory, table, size) is ((following, before) == (1, 1))


def test_the_gil_is_one_lock(target: Target) -> None:
    # GIVEN threads that wait for the GIL at its mutex and at its condition
    gil = target.interpreter_state + target.layout.interpreter_gil_state
    # WHEN looked at, THEN they wait for one lock
    calls = [BlockedCall(FUTEX, (gil + offset, 0, 0, 0, 0, 0), target.stack + 64) for offset in (8, 40, 88)]
    found = [target.locks.identify(call, None) for call in calls]
    assert {(each.key, each.lock) for each in found if each is not None} == {
        (gil, LockRef(gil, LockKind.GIL, None, "the GIL"))
    }


def test_no_lock_where_other_frames_lie_by_now(target: Target) -> None:
    # GIVEN a thread that the kernel says to be parked, but went on since: where its wait entry was there are
    # frames of its wait for the GIL, with the address of a variable of the interpreter and pointers (as seen)
    call = target.parked(target.process.allocate(32))
    inside = target.interpreter.runtime.address + 50_000
    heap, canary = 0x27A_3014_0180, 0x80F2_818C_9AAC_CC00
    frames = struct.pack("<9Q", heap, inside, 1, canary, 0, heap, heap, heap, 0)
    target.memory.write(call.arguments[0] - 16, frames)
    target.locks.look_anew()
    # WHEN looked at, THEN no lock of the interpreter is told, which all waits for the GIL there would be then
    assert target.locks.identify(call, target.thread()) is None


def test_queues_are_events(target: Target) -> None:
    # GIVEN a SimpleQueue, which has an event within
    jobs = target.object("_queue.SimpleQueue", 96)
    # WHEN a thread parks on it, THEN it is an event, not a lock that somebody holds
    found = target.wait_for(jobs + 48, target.thread({"jobs": jobs}))
    assert found is not None
    assert found.event
    assert found.lock is not None
    assert (found.lock.type_name, found.lock.label) == ("_queue.SimpleQueue", "jobs")


def test_paused_by_stop_the_world(target: Target) -> None:
    # GIVEN a thread that parks on its own state
    thread = target.thread()
    # WHEN it is looked at, THEN it is suspended
    found = target.wait_for(thread.address + target.layout.thread_state, thread)
    assert found is not None
    assert found.suspended


def test_semaphore_of_an_old_rlock() -> None:
    # GIVEN 3.13's RLock, whose waiters wait on a semaphore in the heap, in a frame that has the RLock
    target = Target("3.13.5t")
    rlock, semaphore = target.object("_thread.RLock", 64), target.process.allocate(64)
    target.memory.write_word(rlock + 32, semaphore)
    thread = target.thread({"guard": rlock})
    code = target.interpreter._code_of(thread, 0)
    assert code is not None
    code.stack_size = 1
    target.memory.write_word(thread.frames[0] + target.layout.frame_localsplus, rlock | 1)
    call = BlockedCall(FUTEX, (semaphore, 0, 0, 0, 0, 0), target.stack)
    # WHEN it is identified, also from a frame without it
    assert named(target.locks.identify(call, thread)) == (LockKind.USER, "_thread.RLock", "guard")
    assert named(target.locks.identify(call, None)) == (LockKind.USER, "_thread.RLock", "guard")
    # THEN it is the RLock; AND no longer when the RLock is gone and the semaphore is another's
    target.memory.write_word(rlock + 32, semaphore + 4096)
    target.locks.look_anew()
    assert target.locks.identify(call, None) is None


def test_a_futex_that_is_not_of_cpython(target: Target) -> None:
    # GIVEN words far from the stack pointer, on it, below it, and without a stack pointer
    for word, stack_pointer in (
        (0x5000_0000, 0x7FFF_0000_0000),
        (target.stack + 8, target.stack),
        (target.stack, target.stack + 64),
        (target.stack + 64, None),
        (0, 0),
        (1 << 64, 8),
    ):
        call = BlockedCall(FUTEX, (word, 0, 0, 0, 0, 0), stack_pointer)
        # WHEN it is looked at, THEN it is nothing that is known
        assert target.locks.identify(call, None) is None


def test_malloc_arenas(target: Target) -> None:
    # GIVEN a heap of glibc that begins with the address of its arena, and one that does not
    heap = 0x7E00_0000_0000
    target.memory.write(heap, bytes(PAGE))
    arena = BlockedCall(FUTEX, (heap + 48, 0, 0, 0, 0, 0), target.stack)
    assert target.locks.identify(arena, None) is None
    target.memory.write_word(heap, heap + 48)
    # WHEN a thread waits for its mutex, THEN it is named
    assert named(target.locks.identify(arena, None)) == (LockKind.NATIVE, "malloc arena", "malloc arena")


def test_a_mutex_of_a_c_library(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a mutex in memory of malloc that a thread of this process has, and words that are none
    monkeypatch.setattr(target.memory, "pid", os.getpid(), raising=False)
    held, free = target.process.allocate(64), target.process.allocate(64)
    target.memory.write(held, C_MUTEX.pack(2, 0, threading.get_native_id(), 1, 0))
    target.memory.write(free, C_MUTEX.pack(0, 0, 0, 0, 0))

    # WHEN a thread waits for it
    found = target.locks.identify(BlockedCall(FUTEX, (held, 0, 2, 0, 0, 0), target.stack), None)

    # THEN the one is a mutex without a name, whose holder it records itself
    assert named(found) == (LockKind.NATIVE, "pthread mutex", "a mutex of a C library")
    assert found is not None
    assert target.locks.mutex_owner(found) == threading.get_native_id()
    # AND when it was given back nobody has it
    target.memory.write(held, C_MUTEX.pack(0, 0, 0, 0, 0))
    assert target.locks.mutex_owner(found) is None
    # AND of the other nothing is known
    other = BlockedCall(FUTEX, (free, 137, 2, 0, 0, 0), target.stack)
    assert target.locks.identify(other, None) is None


@settings(max_examples=150)
@given(st.data())
def test_garbage_in_the_wait_entry(data: st.DataObject) -> None:
    # GIVEN a wait entry of any bytes, near which any bytes lie
    target = Target("3.14.9t")
    area = target.process.allocate(512)
    target.memory.write(area, data.draw(st.binary(min_size=512, max_size=512)))
    address = data.draw(st.one_of(st.integers(0, (1 << 64) - 1), st.integers(area, area + 511)))
    thread = data.draw(st.sampled_from([None, target.thread()]))
    # WHEN it is identified
    found = target.locks.identify(target.parked(address), thread)
    # THEN nothing has a name: it is nothing, or an event that nobody knows
    assert found is None or found.lock is None or found.lock.kind is LockKind.RUNTIME
    assert found is None or found.lock is None or found.lock.type_name is None


# --- memory that is used again ---


def test_a_lock_that_dies(target: Target) -> None:
    # GIVEN a lock that was seen, and is freed, with its page
    lock = target.object("_thread.lock", 40)
    call = target.parked(lock + 32)
    assert target.locks.identify(call, target.thread({"guard": lock})) is not None
    target.memory.write(lock, bytes(64))
    # WHEN a thread seems to wait there, THEN its name is not used
    assert named(target.locks.identify(call, None)) is None


def test_unreadable_memory_in_between(target: Target) -> None:
    # GIVEN a list that was seen, on a page that goes
    orders = target.object("list")
    call = target.parked(orders + MUTEX)
    assert named(target.locks.identify(call, None)) == (LockKind.OBJECT, "list", None)
    stack_page = call.arguments[0] & -PAGE
    for page in list(target.memory.pages):
        if page != stack_page:
            del target.memory.pages[page]
    # WHEN it is looked at again, THEN nothing is known
    assert named(target.locks.identify(call, None)) is None
    del target.memory.pages[stack_page]
    assert target.locks.identify(call, None) is None


def test_an_address_of_another_type(target: Target) -> None:
    # GIVEN a list with a name, in whose place a dict is made
    place = target.object("list")
    assert named(target.wait_for(place + MUTEX, target.thread({"orders": place}))) == (
        LockKind.OBJECT, "list", "orders",
    )  # fmt: skip
    target.become(place, "dict")
    # WHEN a thread waits for that, at once, THEN it is the dict, without the list's name
    assert named(target.wait_for(place + MUTEX)) == (LockKind.OBJECT, "dict", None)


def test_an_address_of_the_same_type_after_a_while(target: Target) -> None:
    # GIVEN a lock with a name, that nobody waits for any more, and another lock in its place
    place = target.object("_thread.lock", 40)
    assert named(target.wait_for(place + 32, target.thread({"orders_lock": place}))) is not None
    target.locks.refresh()
    target.locks.refresh()
    # WHEN a thread waits for that, THEN it has its own name
    found = target.wait_for(place + 32, target.thread({"prices_lock": place}))
    assert named(found) is not None
    # AND the old one stays where the variable it was found by still is that lock
    assert found is not None
    assert found.lock is not None
    assert found.lock.label == "orders_lock"


def test_a_name_whose_variable_is_another_by_now(target: Target) -> None:
    # GIVEN a lock found by a global variable, which is set to another lock
    place, other = target.object("_thread.lock", 40), target.object("_thread.lock", 40)
    thread = target.thread({"orders_lock": place})
    assert named(target.wait_for(place + 32, thread)) == (LockKind.USER, "_thread.lock", "orders_lock")
    dictionary = target.interpreter.globals_of(thread, 0)
    assert dictionary is not None
    replaced = target.process.dict({target.process.string("orders_lock"): other})
    target.memory.write(dictionary, target.memory.read(replaced, 64))
    target.locks.refresh()
    target.locks.refresh()
    # WHEN somebody waits at the old address, THEN it has the new name, or none
    found = target.wait_for(place + 32, target.thread({"prices_lock": place}))
    assert named(found) == (LockKind.USER, "_thread.lock", "prices_lock")


def test_names_stay_while_threads_wait(target: Target) -> None:
    # GIVEN a lock that threads wait for all the time, under several names
    place = target.object("_thread.lock", 40)
    key = place + 32
    for name in ("first", "second", "third"):
        found = target.wait_for(key, target.thread({name: place}))
        # WHEN time passes, THEN the first name stays
        assert named(found) == (LockKind.USER, "_thread.lock", "first")
        target.locks.refresh({key})
        target.locks.refresh({key})


def test_a_name_may_be_found_by_a_later_waiter(target: Target) -> None:
    # GIVEN a lock whose first waiter has no name for it
    place = target.object("_thread.lock", 40)
    assert named(target.wait_for(place + 32, target.thread())) == (LockKind.USER, "_thread.lock", None)
    # WHEN another one has, THEN all have
    assert named(target.wait_for(place + 32, target.thread({"guard": place}))) == (
        LockKind.USER, "_thread.lock", "guard",
    )  # fmt: skip
    assert named(target.wait_for(place + 32)) == (LockKind.USER, "_thread.lock", "guard")


def test_locks_of_condition_waits_are_not_remembered(target: Target) -> None:
    # GIVEN the lock that Condition.wait makes for one wait
    place = target.object("_thread.lock", 40)
    call = target.parked(place + 32)
    found = target.locks.identify(call, target.thread({"waiter": place}), in_condition=True)
    assert named(found) == (LockKind.USER, "_thread.lock", None)
    # WHEN a lock of the program is made in its place, THEN it has its own name at once
    assert named(target.wait_for(place + 32, target.thread({"guard": place}))) == (
        LockKind.USER, "_thread.lock", "guard",
    )  # fmt: skip


def test_thousands_of_locks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a bound, and more locks than that
    for module in (identity, names):
        monkeypatch.setattr(module, "MAX_LOCKS", 50)
    target = Target()
    places = [target.object("_thread.lock", 40) for _ in range(300)]
    # WHEN all are waited for again and again
    for _ in range(2):
        for number, place in enumerate(places):
            thread = target.thread({"guard": place}) if number < 120 else None
            assert target.wait_for(place + 32, thread) is not None
    # THEN no table grows beyond it
    assert len(target.locks._waits) <= 50
    assert len(target.locks._names._labels) <= 50
    assert len(target.locks._names._former_labels) <= 50


def test_the_search_for_names_is_bounded(target: Target) -> None:
    # GIVEN a lock that no waiter has a name for, and hundreds of waiters
    place = target.object("_thread.lock", 40)
    thread = target.thread()
    target.wait_for(place + 32, thread)
    for _ in range(500):
        target.wait_for(place + 32, thread)
    calls = target.memory.calls
    # WHEN one more waits, THEN hardly anything is read: the wait entry and the type
    target.wait_for(place + 32, thread)
    assert target.memory.calls - calls <= 3


def test_a_target_that_is_gone(target: Target) -> None:
    # GIVEN a process that ends
    call = target.parked(target.object("list") + MUTEX)
    target.memory.gone = True
    # WHEN it is looked at, THEN that is what is said
    with pytest.raises(TargetGone):
        target.locks.identify(call, None)


# --- holders ---


def with_slot(target: Target, lock: int) -> tuple[int, Callable[[int], None]]:
    """A word as a `with` block leaves it on the stack, and a way to make it the block of another lock."""
    if not target.layout.with_keeps_exit_method:
        return lock | 1, lambda _: None
    method = target.object("builtin_function_or_method", 64)
    target.memory.write_word(method + target.layout.object_size + 8, lock)
    return method | 1, lambda other: target.memory.write_word(method + target.layout.object_size + 8, other)


def test_with_blocks_hold_their_locks(target: Target) -> None:
    # GIVEN a thread in a with block of a lock
    lock = target.object("_thread.lock", 40)
    thread = target.thread()
    word, _ = with_slot(target, lock)
    thread.with_exits = (word,)
    # WHEN it is asked what it holds, THEN it is that lock
    assert target.locks.held_by_with_blocks(thread) == (lock + 32,)


def test_a_bound_exit_that_is_used_again() -> None:
    # GIVEN 3.13, where the next block's bound __exit__ lies where the last one's was
    target = Target("3.13.5t")
    first, second = target.object("_thread.lock", 40), target.object("_thread.lock", 40)
    thread = target.thread()
    word, become = with_slot(target, first)
    thread.with_exits = (word,)
    assert target.locks.held_by_with_blocks(thread) == (first + 32,)
    become(second)
    # WHEN it is asked what it holds, THEN it is the lock of now
    assert target.locks.held_by_with_blocks(thread) == (second + 32,)


def test_with_blocks_of_other_things(target: Target) -> None:
    # GIVEN blocks of files, of nothing, of garbage
    thread = target.thread()
    opened, _ = with_slot(target, target.object("_io.FileIO"))
    thread.with_exits = (0, 3, 0xDEAD_BEEF_0000, opened, target.object("str"), (1 << 64) - 1)
    # WHEN it is asked which locks these hold, THEN none
    assert target.locks.held_by_with_blocks(thread) == ()


def section(target: Target, previous: int, *mutexes: int) -> int:
    """A critical section on the C stack."""
    return target.process.put(struct.pack("<QQQ", previous, *(*mutexes, 0)[:2]))


def test_critical_sections(target: Target) -> None:
    # GIVEN a thread in a section of one object within one of two others
    outer = section(target, 0, 4096 + MUTEX, 8192 + MUTEX)
    inner = section(target, outer | 2, 12288 + MUTEX)
    thread = target.thread()
    thread.critical_section = inner
    # WHEN it is asked what it holds, THEN all three
    assert target.locks.held_by_critical_sections([thread])[0] == (
        (12288 + MUTEX, inner),
        (4096 + MUTEX, outer),
        (8192 + MUTEX, outer),
    )
    # AND nothing while they are suspended, or cannot be read
    for tagged in (inner | 1, 0, 0xDEAD_0000_0000):
        thread.critical_section = tagged
        assert target.locks.held_by_critical_sections([thread])[0] == ()


def test_critical_sections_in_a_circle(target: Target) -> None:
    # GIVEN sections that lead to each other
    first = section(target, 0, 4096 + MUTEX)
    target.memory.write_word(first, first)
    thread = target.thread()
    thread.critical_section = first
    # WHEN they are followed, THEN that ends
    assert len(target.locks.held_by_critical_sections([thread])[0]) == MAX_CRITICAL_SECTIONS


def test_code_called_from_a_section(target: Target) -> None:
    # GIVEN a thread with frames on the C stack
    thread = target.thread()
    thread.elsewhere = (0x7000_0000_1000, 0x5000_0000_0000)
    # WHEN sections above and below them are looked at, THEN only the one above called them
    assert calls_from(thread, 0x7000_0000_1100)
    assert not calls_from(thread, 0x7000_0000_0F00)
    assert not calls_from(thread, 0x7000_1000_0000)


def test_owners_of_rlocks(target: Target) -> None:
    # GIVEN an RLock that a thread took once
    rlock = target.object("_thread.RLock", 64)
    old = target.layout.version.minor == 13
    wait = LockWait(rlock + 32, None, rlock)
    assert target.locks.rlock_owner(wait) is None
    found = target.wait_for(rlock + 32)
    if old:
        target.memory.write_word(rlock + 32, rlock + 512)
    wait = found if found is not None and found.owner else wait
    target.memory.write(rlock + 40, struct.pack("<QQ", 0x7F01_0000_0000, 1 if old else 0))
    # WHEN its owner is asked for, THEN it is who the lock says; AND nobody once it is free
    assert wait.lock is not None
    assert target.locks.rlock_owner(wait) == 0x7F01_0000_0000
    target.memory.write(rlock + 40, struct.pack("<QQ", 0, 0))
    assert target.locks.rlock_owner(wait) is None
    # AND for a plain lock
    lock = target.wait_for(target.object("_thread.lock", 40) + 32)
    assert lock is not None
    assert target.locks.rlock_owner(lock) is None


def free_or_held(target: Target, lock: LockWait, mutex: bytes) -> bool:
    """Whether a lock is said to be free when its mutex, or semaphore, is that."""
    target.memory.write(lock.key, mutex)
    target.locks.look_anew()
    return target.locks.is_free(lock)


def test_locks_that_nobody_has(target: Target) -> None:
    # GIVEN a lock and the lock of a list
    lock = target.wait_for(target.object("_thread.lock", 40) + 32)
    own = target.wait_for(target.object("list", 40) + MUTEX)
    for each in (lock, own):
        assert each is not None
        assert each.has_mutex
        assert not each.has_semaphore
        # WHEN their mutexes are locked or not, with waiters or without, THEN that is what is said
        assert [free_or_held(target, each, bytes([bits])) for bits in range(4)] == [True, False, True, False]


def test_a_semaphore_that_nobody_has(target: Target) -> None:
    # GIVEN 3.13's RLock, which has a semaphore elsewhere
    rlock, semaphore = target.object("_thread.RLock", 64), target.process.allocate(64)
    reference = LockRef(semaphore, LockKind.USER, "_thread.RLock", None)
    lock = LockWait(semaphore, reference, rlock)
    assert not lock.has_mutex
    assert lock.has_semaphore
    # WHEN its value is 0, with three waiters, or 1, THEN it is held, or free
    assert not free_or_held(target, lock, struct.pack("<iI", 0, 3))
    assert free_or_held(target, lock, struct.pack("<iI", 1, 3))


def test_a_lock_that_cannot_be_read_is_not_called_free(target: Target) -> None:
    # GIVEN a lock whose page goes
    lock = target.wait_for(target.object("_thread.lock", 40) + 32)
    assert lock is not None
    assert free_or_held(target, lock, b"\0")
    target.memory.pages.clear()
    target.locks.look_anew()
    # THEN nobody says that it is free, AND it is not asked for again in this second
    along = target.locks.look_anew()
    target.locks.want_locks([lock])
    target.interpreter.walk([], along)
    assert not target.locks.is_free(lock)
    along = target.locks.look_anew()
    target.locks.want_locks([lock])
    assert not along.wanted


def test_locks_as_they_were_with_the_stacks(target: Target) -> None:
    # GIVEN a lock that is held, and an RLock with an owner, read together with the stacks
    lock = target.wait_for(target.object("_thread.lock", 40) + 32)
    assert lock is not None
    rlock = target.object("_thread.RLock", 64)
    owned = LockWait(rlock + 32, LockRef(rlock + 32, LockKind.USER, "_thread.RLock", None), rlock)
    target.memory.write(lock.key, b"\x03")
    target.memory.write(rlock + 40, struct.pack("<QQ", 0x7F01_0000_0000, 1))
    along = target.locks.look_anew()
    target.locks.want_locks([lock, owned])
    target.interpreter.walk([target.thread()], along)
    # WHEN both are released afterwards, THEN what was read stands
    target.memory.write(lock.key, b"\0")
    target.memory.write(rlock + 40, bytes(16))
    assert not target.locks.is_free(lock)
    assert target.locks.rlock_owner(owned) == 0x7F01_0000_0000
    # AND the next look sees it
    target.locks.look_anew()
    assert target.locks.is_free(lock)
    assert target.locks.rlock_owner(owned) is None


def test_wait_entries_taken_along(target: Target) -> None:
    # GIVEN a thread that was handed its lock, one that waits, and one whose stack is gone
    def entry(links: int, handed_off: int) -> int:
        place = target.process.allocate(REACH_BYTES)
        target.memory.write(place, struct.pack("<QQ32xQQB", place + 160, 0x5000_0020, links, links, 0))
        target.memory.write(place + 160, struct.pack("<qi", 5, handed_off))
        return place

    places = [entry(0, 1), entry(0x7F00_0000_5000, 0), 0xDEAD_0000_0000]
    along = target.locks.look_anew()
    thread = target.thread()
    target.locks.want_beside(thread, places[0])
    target.locks.want_entries(places[1:])
    target.interpreter.walk([thread], along)
    # THEN each is what it was then
    target.memory.write(places[0], bytes(REACH_BYTES))
    handed, waiting = WaitEntry(0x5000_0020, queued=False, given=True), WaitEntry(0x5000_0020, True, False)
    assert [target.locks.entry_at(place) for place in places] == [handed, waiting, None]
    assert list(target.locks.woken(places)) == [(0, handed)]
    # AND by now the first is no entry any more
    assert target.locks.entries_now(places) == [None, waiting, None]


def test_a_section_taken_along(target: Target) -> None:
    # GIVEN a thread that was seen in a critical section, and is in it again
    section = target.process.put(struct.pack("<QQQ", 0, 0x5000_000A, 0))
    thread = target.thread()
    thread.section = section
    target.memory.write_word(thread.address + target.layout.thread_critical_section, section)
    along = target.locks.look_anew()
    target.locks.want_beside(thread, 0)
    target.interpreter.walk([thread], along)
    # WHEN it leaves afterwards, THEN it is said to have been inside
    target.memory.write(section, bytes(24))
    assert target.locks.held_by_critical_sections([thread]) == [((0x5000_000A, section),)]
    target.locks.look_anew()
    assert target.locks.held_by_critical_sections([thread]) == [((0, section),)]


def test_what_is_no_lock_of_the_program(target: Target) -> None:
    # GIVEN an event, the lock that a Condition made for one wait, and a lock of the interpreter
    reference = LockRef(0x5000_0020, LockKind.USER, "_thread.lock", None)
    inside = LockRef(0x5000_0020, LockKind.RUNTIME, None, "interpreter lock")
    # THEN nobody asks whether anybody has it
    for wait in (
        LockWait(0x5000_0020, None, 0x5000_0000, event=True),
        LockWait(0x5000_0020, reference),
        LockWait(0x5000_0020, inside, 0x5000_0000),
    ):
        assert not wait.of_program
        assert not wait.has_mutex
        assert not wait.has_semaphore
