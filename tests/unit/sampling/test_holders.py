"""Who is said to hold a lock, by what one look at the threads saw.

What is read of the target comes from `Locks`, which says what a test wants; real processes are in
tests/integration/test_holders.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ftdiag.model import NO_HOLDER, NO_WAIT, Confidence, LockKind, LockRef, ThreadInfo, ThreadState
from ftdiag.sampling.holders import CONTENDED_TICKS, HEADS, MAX_CONTENDED, MAX_HEADS, Holders
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.kernel.procfs import ThreadFiles
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.locks.moment import LockWait
from ftdiag.sources.locks.parkinglot import WaitEntry
from ftdiag.sources.locks.waits import NO_FACTS, WaitReader
from ftdiag.sources.python.plainwalk import PlainThread
from ftdiag.sources.python.walking import PythonThread

WAITING, HOLDING, GOING_ON = 100, 101, 102
"""Stacks."""
OBJECT = 0x5000_0000
LOCK = LockWait(
    OBJECT + 32, LockRef(OBJECT + 32, LockKind.USER, "_thread.lock", "guard"), owner=OBJECT, owner_type=1
)
LIST = LockWait(OBJECT + 10, LockRef(OBJECT + 10, LockKind.OBJECT, "list", "orders"), OBJECT, 1)
OLD_RLOCK = LockWait(0x6000_0000, LockRef(0x6000_0000, LockKind.USER, "_thread.RLock", "guard"), OBJECT, 1)
SECTION = 0x7F00_0000_9000

NOBODY = NO_HOLDER, Confidence.UNKNOWN
FREE = NO_HOLDER, Confidence.KNOWN
QUEUED = WaitEntry(LOCK.key, queued=True, given=False)
WOKEN = WaitEntry(LOCK.key, queued=False, given=False)
GIVEN = WaitEntry(LOCK.key, queued=False, given=True)


@dataclass
class Locks(LockReader):
    """Says of locks what it is told to, and notes what it is asked."""

    free: bool = False
    owner: int | None = None
    then: dict[int, WaitEntry | None] = field(default_factory=dict)
    """Wait entries that were read together with the stacks, by address."""
    now: dict[int, WaitEntry | None] = field(default_factory=dict)
    """Those that are otherwise by now."""
    asked_again: int = 0
    wanted: list[int] = field(default_factory=list)
    wanted_locks: list[int] = field(default_factory=list)
    with_blocks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    sections: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def want_entries(self, addresses: Iterable[int]) -> None:
        self.wanted.extend(addresses)

    def want_locks(self, waits: Iterable[LockWait]) -> None:
        self.wanted_locks.extend(wait.key for wait in waits)

    def is_free(self, wait: LockWait) -> bool:
        return self.free

    def rlock_owner(self, wait: LockWait) -> int | None:
        return self.owner

    def woken(self, addresses: Sequence[int]) -> Any:
        found = ((place, self.then.get(address)) for place, address in enumerate(addresses))
        return [(place, entry) for place, entry in found if entry is not None and not entry.queued]

    def entries_now(self, addresses: Sequence[int]) -> list[WaitEntry | None]:
        self.asked_again += 1
        return [self.now.get(address, QUEUED) for address in addresses]

    def held_by_with_blocks(self, thread: PythonThread) -> tuple[int, ...]:
        return self.with_blocks.get(thread.address, ())

    def held_by_critical_sections(self, threads: Sequence[PythonThread]) -> list[tuple[tuple[int, int], ...]]:
        return [self.sections.get(thread.address, ()) for thread in threads]


class Waits(WaitReader):
    """Knows no stack."""

    def __init__(self) -> None:
        self._facts = {}


class Files(ThreadFiles):
    """Of a thread that is not there."""

    def __init__(self) -> None:
        self.schedstat_fd = self.syscall_fd = -1


def plain(thread: SampledThread) -> PlainThread:
    """Its Python thread, of which the tests say what a walk saw."""
    python = thread.python[0]
    assert isinstance(python, PlainThread)
    return python


class Scene:
    """Threads that wait for one lock, and who may hold it."""

    def __init__(self, lock: LockWait = LOCK) -> None:
        self.lock = lock
        self.locks = Locks()
        self.threads: dict[int, SampledThread] = {}
        self.looked_again: list[SampledThread] = []
        self.holders = Holders(self.locks, Waits(), None, self.threads, self.look_again)  # type: ignore[arg-type]
        assert Waits().facts(WAITING) is NO_FACTS

    def look_again(self, threads: list[SampledThread], tick: int) -> None:
        """They are found to have gone on."""
        self.looked_again.extend(threads)
        for thread in threads:
            self.runs(thread, GOING_ON)

    def thread(self) -> SampledThread:
        """One more of the target."""
        index = len(self.threads)
        thread = SampledThread(ThreadInfo(index, 1000 + index, f"worker {index}", True), Files(), 0)
        thread.python = [PlainThread(0x7E00_0000_0000 + 4096 * index, 1000 + index, 70 + index, 0)]
        thread.innermost = thread.python[0]
        thread.entry = 0x7F00_0000_0000 + 65536 * index
        self.threads[thread.info.tid] = thread
        return thread

    def waits(self, thread: SampledThread, lock: LockWait | None = None) -> SampledThread:
        """It is seen parked."""
        lock = lock or self.lock
        self.holders.saw(thread, WAITING, blocked=True, entry=QUEUED)
        self.holders.waits(thread, lock, WAITING)
        thread.observe((int(ThreadState.LOCK), WAITING, 7, *NOBODY), 0)
        return thread

    def runs(self, thread: SampledThread, stack: int, entry: WaitEntry | None = None) -> SampledThread:
        """It is seen on a core."""
        self.holders.saw(thread, stack, blocked=False, entry=entry)
        thread.observe((int(ThreadState.ON_CPU), stack, NO_WAIT, *NOBODY), 0)
        return thread

    def waiters(self, count: int) -> list[SampledThread]:
        """So many that wait, and were told of it in a tick."""
        waiters = [self.waits(self.thread()) for _ in range(count)]
        self.tick()
        return waiters

    def tick(self, *changed: SampledThread) -> None:
        """These were looked at; now all waiters are told."""
        self.holders.want(changed)
        self.holders.tell(0)

    def in_with_block(self) -> SampledThread:
        """One more thread, inside `with guard:`."""
        thread = self.thread()
        plain(thread).with_exits = (1,)
        self.locks.with_blocks[thread.python[0].address] = (LOCK.key,)
        return self.runs(thread, HOLDING)

    def inside(self, thread: SampledThread, *, suspended: bool = False) -> SampledThread:
        """It is in a critical section of the object."""
        plain(thread).critical_section = SECTION | suspended
        self.locks.sections[thread.python[0].address] = ((self.lock.key, SECTION),)
        return thread


def told(*threads: SampledThread) -> set[tuple[int, int]]:
    """What the threads were told of the holder."""
    assert all(thread.observation is not None for thread in threads)
    return {thread.observation[3:] for thread in threads if thread.observation is not None}


def named(thread: SampledThread, confidence: Confidence = Confidence.KNOWN) -> set[tuple[int, int]]:
    """That it is that one."""
    return {(thread.info.index + 1, confidence)}


# --- user locks ---


def test_nobody_is_guessed() -> None:
    # GIVEN a lock that is held, and no thread that seems to hold it, THEN it is not known who
    scene = Scene()
    assert told(*scene.waiters(3)) == {NOBODY}


def test_a_lock_that_is_free() -> None:
    # GIVEN one that nobody has, THEN that is known, also while a thread seems to be in its `with` block still
    scene = Scene()
    scene.locks.free = True
    waiters = scene.waiters(3)
    assert told(*waiters) == {FREE}
    holder = scene.in_with_block()
    scene.tick(holder)
    assert told(*waiters) == {FREE}


def test_a_thread_in_the_with_block() -> None:
    # GIVEN a thread inside `with guard:`, THEN it is the holder, and of those that come later, too
    scene = Scene()
    holder = scene.in_with_block()
    waiters = scene.waiters(2)
    assert told(*waiters) == named(holder)
    late = scene.waits(scene.thread())
    scene.tick(late)
    assert told(*waiters, late) == named(holder)
    # AND no longer when it left
    plain(holder).with_exits = ()
    scene.runs(holder, GOING_ON)
    scene.tick(holder)
    assert told(*waiters, late) == {NOBODY}


def test_the_owner_that_an_rlock_records() -> None:
    # GIVEN an RLock that names its owner, THEN it is that thread
    scene = Scene(OLD_RLOCK)
    holder = scene.runs(scene.thread(), HOLDING)
    scene.locks.owner = holder.python[0].ident
    waiters = scene.waiters(2)
    assert told(*waiters) == named(holder)
    # AND also one that waited when the kernel was asked; whom it waited for is not known
    scene.locks.owner = waiters[0].python[0].ident
    scene.waits(scene.thread())
    scene.tick()
    assert told(waiters[1]) == named(waiters[0])
    assert told(waiters[0]) == {NOBODY}


def test_a_lock_handed_to_a_thread_without_a_core() -> None:
    # GIVEN three waiters, of whom the first was handed the lock but did not run yet
    scene = Scene()
    waiters = scene.waiters(3)
    scene.locks.then[waiters[0].entry] = GIVEN
    # WHEN they are told, THEN it is the holder and no longer waits; and it will be looked at next time
    waiters[0].settled = True
    scene.tick()
    assert told(*waiters[1:]) == named(waiters[0])
    assert waiters[0].observation == (ThreadState.ON_CPU, WAITING, NO_WAIT, *NOBODY)
    assert not waiters[0].settled
    assert not scene.looked_again


@pytest.mark.parametrize("entry", [GIVEN._replace(key=LOCK.key + 64), WOKEN])
def test_a_waiter_that_went_on(entry: WaitEntry) -> None:
    # GIVEN a waiter that did not run when the kernel was asked, but was woken since
    scene = Scene()
    waiters = scene.waiters(3)
    scene.locks.then[waiters[0].entry] = entry
    # WHEN they are told, THEN it is looked at again, and waits no longer
    scene.tick()
    assert scene.looked_again == [waiters[0]]
    assert waiters[0].observation == (ThreadState.ON_CPU, GOING_ON, NO_WAIT, *NOBODY)
    assert told(*waiters[1:]) == {NOBODY}


def test_a_thread_that_was_handed_the_lock_and_runs() -> None:
    # GIVEN a thread that was handed the lock, has a core, and is where it waited
    scene = Scene()
    waiters = scene.waiters(3)
    scene.runs(waiters[0], WAITING, GIVEN)
    scene.tick(waiters[0])
    # THEN it is the holder, but that is inferred: it may have come round
    assert told(*waiters[1:]) == named(waiters[0], Confidence.INFERRED)
    # AND it is not if it is somewhere else by now
    scene = Scene()
    waiters = scene.waiters(3)
    scene.runs(waiters[0], GOING_ON, GIVEN)
    scene.tick(waiters[0])
    assert told(*waiters[1:]) == {NOBODY}


def test_two_that_seem_to_have_been_handed_the_lock() -> None:
    # GIVEN two such threads, THEN neither is named
    scene = Scene()
    waiters = scene.waiters(4)
    for thread in waiters[:2]:
        scene.runs(thread, WAITING, GIVEN)
    scene.tick(*waiters[:2])
    assert told(*waiters[2:]) == {NOBODY}


@pytest.mark.parametrize(
    ("by_now", "confidence"),
    [(GIVEN, Confidence.KNOWN), (None, Confidence.INFERRED), (WOKEN, Confidence.INFERRED)],
)
def test_a_waiter_that_got_the_lock_during_the_look(by_now: WaitEntry | None, confidence: Confidence) -> None:
    # GIVEN a lock that is held, no holder, and one waiter that waits no longer when it is asked once more
    scene = Scene()
    waiters = [scene.waits(scene.thread()) for _ in range(3)]
    scene.locks.now[waiters[1].entry] = by_now
    scene.tick()
    # THEN it has the lock; it waited when the others did, and for whom is not known
    assert told(waiters[0], waiters[2]) == named(waiters[1], confidence)
    assert waiters[1].observation == (ThreadState.LOCK, WAITING, 7, *NOBODY)


def test_two_waiters_that_went_on_during_the_look() -> None:
    # GIVEN two that wait no longer, THEN only one that was handed the lock is named
    scene = Scene()
    waiters = [scene.waits(scene.thread()) for _ in range(4)]
    scene.locks.now[waiters[0].entry] = scene.locks.now[waiters[1].entry] = None
    scene.tick()
    assert told(*waiters) == {NOBODY}
    scene.locks.now[waiters[1].entry] = GIVEN
    waiters.append(scene.waits(scene.thread()))
    scene.tick()
    assert told(waiters[0], *waiters[2:]) == named(waiters[1])


def test_a_queue_that_stands_still_costs_nothing() -> None:
    # GIVEN waiters for a lock of which it is not known who has it
    scene = Scene()
    scene.waiters(3)
    asked = scene.locks.asked_again
    assert asked == 1
    # WHEN nobody comes and nobody goes, THEN they are not asked once more
    scene.tick()
    assert scene.locks.asked_again == asked
    scene.waits(scene.thread())
    scene.tick()
    assert scene.locks.asked_again == asked + 1


def test_a_semaphore_has_no_wait_entries() -> None:
    # GIVEN 3.13's RLock, and what looks like an entry of another wait on a waiter's stack
    scene = Scene(OLD_RLOCK)
    waiters = [scene.waits(scene.thread()) for _ in range(2)]
    scene.locks.now[waiters[0].entry] = None
    scene.tick()
    # THEN it says nothing
    assert told(*waiters) == {NOBODY}
    scene.holders.want([])
    assert not scene.locks.wanted
    assert not scene.locks.asked_again


# --- locks of objects ---


def test_a_thread_in_a_critical_section() -> None:
    # GIVEN one thread whose critical section names the list, THEN it is the holder
    scene = Scene(LIST)
    holder = scene.runs(scene.inside(scene.thread()), HOLDING)
    assert told(*scene.waiters(2)) == named(holder)


def test_two_threads_in_sections_of_one_object() -> None:
    # GIVEN two, one of which gave the lock away and did not leave its section yet: it is not known which
    scene = Scene(LIST)
    inside = [scene.runs(scene.inside(scene.thread()), HOLDING) for _ in range(2)]
    waiters = scene.waiters(2)
    assert told(*waiters) == {NOBODY}
    # WHEN one runs Python code that was called from inside, THEN it is that one
    plain(inside[1]).elsewhere = (SECTION - 512,)
    scene.runs(inside[1], HOLDING)
    scene.tick(inside[1])
    assert told(*waiters) == named(inside[1])


def test_an_object_handed_over_while_the_former_holder_leaves() -> None:
    # GIVEN a thread that leaves its section, and the one that it gave the lock, which is suspended still
    scene = Scene(LIST)
    waiters = scene.waiters(3)
    leaving = scene.runs(scene.inside(scene.thread()), HOLDING)
    next_one = waiters[0]
    plain(next_one).critical_section = SECTION | 1
    scene.runs(next_one, WAITING, GIVEN._replace(key=LIST.key))
    scene.tick(leaving, next_one)
    # THEN surely the latter has it
    assert told(*waiters[1:]) == named(next_one)


# --- what is read, and how much of it ---


def test_what_is_wanted_with_the_stacks() -> None:
    # GIVEN waiters, of whom the first two run now
    scene = Scene()
    waiters = scene.waiters(5)
    scene.locks.wanted.clear()
    scene.locks.wanted_locks.clear()
    scene.holders.want(waiters[:2])
    # THEN the lock is wanted, and the wait entries of those that are not looked at anyway
    assert scene.locks.wanted_locks == [LOCK.key]
    assert scene.locks.wanted == [thread.entry for thread in waiters[2:]]


def test_the_heads_of_a_long_queue() -> None:
    # GIVEN two threads that were seen to wait first, and a hundred that came later
    scene = Scene()
    first = scene.waiters(2)
    later = scene.waiters(100)
    scene.locks.wanted.clear()
    # WHEN the first of them runs, THEN the next in line are asked: they park in order
    scene.holders.want(first[:1])
    assert scene.locks.wanted == [thread.entry for thread in [first[1], *later[: HEADS - 1]]]
    # AND among those of one tick the order is not known: all of them are asked, to a limit
    scene.locks.wanted.clear()
    scene.holders.want(first)
    assert scene.locks.wanted == [thread.entry for thread in later[:MAX_HEADS]]


def test_a_proven_holder_that_did_not_run() -> None:
    # GIVEN a holder proven by its `with` block
    scene = Scene()
    holder = scene.in_with_block()
    waiters = scene.waiters(3)
    # WHEN it did not run, THEN no waiter can have been woken; else any of them can
    scene.locks.wanted.clear()
    scene.holders.want([])
    assert not scene.locks.wanted
    scene.holders.want([holder])
    assert len(scene.locks.wanted) == len(waiters)


def test_locks_that_are_read_with_the_stacks_are_bounded() -> None:
    # GIVEN more contended locks than are read along
    scene = Scene()
    for number in range(MAX_CONTENDED + 10):
        address = OBJECT + 4096 * number
        reference = LockRef(address + 32, LockKind.USER, "_thread.lock", None)
        scene.waits(scene.thread(), LockWait(address + 32, reference, address, 1))
    scene.holders.want([])
    # THEN it is those that were waited for last
    assert len(scene.locks.wanted_locks) == MAX_CONTENDED
    assert OBJECT + 32 not in scene.locks.wanted_locks
    # AND after a while without waiting none
    for thread in scene.threads.values():
        scene.runs(thread, GOING_ON)
    for _ in range(CONTENDED_TICKS + 1):
        scene.tick()
    scene.locks.wanted_locks.clear()
    scene.holders.want([])
    assert not scene.locks.wanted_locks


def test_a_waiter_that_ends() -> None:
    # GIVEN waiters, one of which ends, and the holder, too
    scene = Scene()
    holder = scene.in_with_block()
    waiters = scene.waiters(2)
    for thread in (holder, waiters[0]):
        scene.holders.forget(thread)
    scene.tick()
    # THEN the other one waits, for nobody that is known
    assert told(waiters[1]) == {NOBODY}
    scene.holders.forget(waiters[1])
    assert not scene.holders.waited_for
