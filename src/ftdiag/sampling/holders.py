"""Who holds the locks that threads wait for, as of every tick.

In: threads as they are seen parked, woken or running. Out: the holder column of every parked thread.

All of it is of one moment: the mutexes, the owners that they record, and what the threads at the heads of the
queues left on their C stacks are read in the same system call as the stacks of the threads that ran. Who was
off its core then can have been woken, or given the lock, by another thread all the same.

What a tick costs. Waiters stand in one queue per lock. A lock whose holder is proven by a `with` block is
looked at again only after its holder or its waiters ran; of a queue only the heads are asked whether they
were given the lock, because the interpreter's parking lot wakes in the order in which threads parked
(Python/parking_lot.c: waiters are appended to a bucket and taken from its front); and the waiters' rows
change only when the answer does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from ftdiag.model import NO_HOLDER, NO_STACK, NO_WAIT, TORN_STACK, Confidence, LockKind, ThreadState
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.locks.identity import LockReader, calls_from
from ftdiag.sources.locks.moment import LockWait, says_woken
from ftdiag.sources.locks.parkinglot import WaitEntry
from ftdiag.sources.locks.waits import WaitReader
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.walking import PythonThread

HEADS: Final = 2
"""Waiters at the head of a queue that may have been woken, and all that were first seen with the first one.

The order among those that were first seen parked at the same tick is not known.
"""
STEADY_HEADS: Final = 8
"""The same where it is not known who will have run."""
MAX_STEADY: Final = 256
"""Places that are read with stacks while ticks go by themselves, at most."""
MAX_WAITING: Final = 64
"""Threads that wait while ticks are left to be concluded later, at most."""
MAX_HEADS: Final = 64
"""Beyond so many the lock's holder stays unknown until the first of them ran."""
MAX_CONTENDED: Final = 64
"""Locks that are read together with stacks; further ones are read afterwards."""
CONTENDED_TICKS: Final = 100
"""For so many ticks after a thread began to wait for a lock it is likely that another one will."""
MAX_PLACES: Final = 20_000
"""Places of waiting that are remembered; it begins anew beyond."""

EACH_TICK: Final[dict[int, bytes | None]] = {0: None}
"""Nothing is ever read there: a tick always finds something else."""

Found = tuple[int, int]
"""Holder column and confidence."""
NOBODY: Final[Found] = (NO_HOLDER, int(Confidence.UNKNOWN))
"""It is not known who."""
FREE: Final[Found] = (NO_HOLDER, int(Confidence.KNOWN))
"""Known to be nobody: the lock is not locked, and whoever is to have it next has not come for it yet."""


class _Queue:
    """The threads that wait for one lock, longest first, and what they were told of its holder."""

    __slots__ = (
        "changed",
        "found",
        "fresh",
        "has_mutex",
        "heads",
        "lock",
        "of_object",
        "of_program",
        "threads",
        "told_by_reading",
    )

    def __init__(self, lock: LockWait) -> None:
        self.lock = lock
        self.of_program = lock.of_program
        self.has_mutex = lock.has_mutex
        self.told_by_reading = _is_told_by_reading(lock)
        self.of_object = lock.lock is not None and lock.lock.kind is LockKind.OBJECT
        self.threads: dict[SampledThread, int] = {}
        """With the tick (of the session) at which each was seen first."""
        self.fresh: list[SampledThread] = []
        """Those that came since the others were told."""
        self.heads: list[SampledThread] = []
        """Those whose wait entries were read together with the stacks of this tick."""
        self.found: Found = NOBODY
        self.changed = True
        """Whether waiters or proven holders came or went since the last tick."""

    def oldest(self, ran: Collection[SampledThread], heads: int = HEADS) -> Iterator[SampledThread]:
        """Those of whom one may have been woken, of the threads that did not run since the last tick."""
        count, oldest = 0, -1
        for thread, tick in self.threads.items():
            if thread in ran:
                continue
            if oldest < 0:
                oldest = tick
            if count >= (MAX_HEADS if tick == oldest else heads):
                break
            count += 1
            yield thread


class Holders:
    """Keeps queues of waiters and an index of proven holders; tells every waiter its holder.

    Longer than 300 lines, because each conclusion of a tick changes what the next one may conclude.
    """

    def __init__(
        self,
        locks: LockReader,
        waits: WaitReader,
        interpreter: InterpreterReader,
        threads: Mapping[int, SampledThread],
        look: Callable[[list[SampledThread], int], object],
    ) -> None:
        """`threads` are all of the target, by id; `look` observes some anew, as of a tick."""
        self._locks = locks
        self._waits = waits
        self._interpreter = interpreter
        self._threads = threads
        self._look = look
        self._queues: dict[int, _Queue] = {}
        self._with_holders: dict[int, set[SampledThread]] = {}
        self._inside_sections: set[SampledThread] = set()
        self._woken_in_sections: set[SampledThread] = set()
        self._sections: dict[int, dict[SampledThread, int]] | None = None
        """Mutex -> threads whose active critical sections name it, and the section; `None`: not found out."""
        self._given: dict[int, list[SampledThread]] = {}
        """Threads that ran, were handed a lock when they last parked, and have that place's stack still."""
        self.places: set[tuple[int, int]] = set()
        """(lock, stack) of which it is known that threads wait for the lock there."""
        self.lock_places: dict[tuple[int, int], int] = {}
        """Those of them that can be concluded later, with the object that the lock lies in (0: none)."""
        self._contended: dict[int, tuple[LockWait, int]] = {}
        """Locks that are waited for, with the tick of the last wait for them, the latest last."""
        self._ticks = 0

    def want(self, changed: Collection[SampledThread]) -> None:
        """Ask for what is to be read together with the stacks of these threads: locks, heads of queues."""
        self._want_locks()
        ran = set(changed)
        for key, queue in self._queues.items():
            if queue.has_mutex and not self._keeps(key, ran):
                queue.heads = [thread for thread in queue.oldest(ran) if thread.entry]
                self._locks.want_entries([thread.entry for thread in queue.heads])

    def _want_locks(self) -> None:
        oldest = self._ticks - CONTENDED_TICKS
        for key in [key for key, (_, tick) in self._contended.items() if tick < oldest]:
            del self._contended[key]
        self._locks.want_locks([lock for lock, _ in self._contended.values()])

    def _keeps(self, key: int, ran: Collection[SampledThread]) -> bool:
        """Whether a lock's holder is proven to have it still."""
        holders = self._with_holders.get(key)
        return holders is not None and holders.isdisjoint(ran)

    def want_steadily(self, before: Mapping[int, bytes | None]) -> dict[int, bytes | None] | None:
        """The same for ticks of which it is not known who will run; `before` is what was read for the last.

        What places had that tell who holds what: while they have it, and of those that hold or wait nobody
        runs, that stays as it is. EACH_TICK where it has to be told at each, `None` while nobody waits.
        """
        self._want_locks()
        if not self._queues:
            return None
        heads_of_each = STEADY_HEADS if self.waiting() is None else MAX_WAITING
        for queue in self._queues.values():
            if queue.has_mutex:
                queue.heads = [thread for thread in queue.oldest((), heads_of_each) if thread.entry]
                self._locks.want_entries([thread.entry for thread in queue.heads])
        asked = [queue for key, queue in self._queues.items() if self._is_asked(key, queue)]
        heads = {thread.entry for queue in asked for thread in queue.heads}
        places = heads | {queue.lock.owner for queue in asked}
        if any(queue.changed or not queue.has_mutex for queue in asked) or not places <= before.keys():
            return EACH_TICK
        # Who was seen to wait, and is woken by what is read, is asked about at the next tick.
        if any(says_woken(before[entry]) for entry in heads):
            return EACH_TICK
        return {place: before[place] for place in places}

    def waiting(self) -> tuple[tuple[SampledThread, int, int], ...] | None:
        """Who waits for a mutex, for which, and the object that it lies in.

        That is to be known when ticks are left to be concluded later. `None` if they cannot be left: more
        would have to be read for them.
        """
        if not all(queue.told_by_reading for queue in self._queues.values()):
            return None
        waiting = [
            (thread, key, queue.lock.owner)
            for key, queue in self._queues.items()
            if queue.has_mutex
            for thread in queue.threads
        ]
        return None if len(waiting) > MAX_WAITING else tuple(waiting)

    def ran(self, changed: Collection[SampledThread]) -> None:
        """These are the ones that ran at the tick for which was wanted steadily, and which is told next."""
        was_read, gone_by = self._locks.was_read, set(changed)
        for key, queue in self._queues.items():
            queue.heads = []
            if queue.has_mutex and not self._keeps(key, gone_by):
                queue.heads = [t for t in queue.oldest(gone_by, MAX_WAITING) if was_read(t.entry)]
        # Of those that ran an entry counts that was read beside their stacks.
        self._locks.drop_entries(thread.entry for thread in changed if not thread.python)

    def _is_asked(self, key: int, queue: _Queue) -> bool:
        """Whether it may have changed who holds a lock: its holder is not proven, or who waits is another."""
        return queue.changed or queue.found[0] == NO_HOLDER or key not in self._with_holders

    def pass_over(self, ticks: int) -> None:
        """So many ticks nothing was to be told: nobody waits for a lock, or for one that changed hands."""
        self._ticks += ticks

    @property
    def waited_for(self) -> set[int]:
        """Keys of the locks that threads wait for."""
        return set(self._queues)

    # --- what is seen of the threads ---

    def saw(
        self, thread: SampledThread, stack: int, *, blocked: bool, entry: WaitEntry | None = None
    ) -> None:
        """A thread ran and was looked at: it left its queue, and may hold other locks than before.

        `entry` is what its last wait left on its C stack.
        """
        lock, thread.lock = thread.lock, None
        if lock is not None:
            self._leave(lock.key, thread)
        if entry is not None and entry.given and not blocked and self.parks_at(stack, entry):
            self._given.setdefault(entry.key, []).append(thread)
        self.note_held(thread, stack)
        self._sections = None
        if len(thread.python) != 1 or thread.python[0].critical_section or thread.sections != ():
            self._note_sections(thread, blocked=blocked)
        elif self._woken_in_sections:
            self._woken_in_sections.discard(thread)

    def was_given(self, thread: SampledThread, entry: WaitEntry | None) -> bool:
        """Whether a thread that was seen just now may be about to leave its wait with what it waited for."""
        return entry is not None and thread in self._given.get(entry.key, ())

    def is_calm(self, thread: SampledThread) -> bool:
        """Whether it waits for no lock, as far as was seen."""
        return thread.lock is None

    def is_inside(self, thread: SampledThread) -> bool:
        """Whether it is in critical sections, or about to go on with some, as far as was seen."""
        return thread.sections != () or thread in self._woken_in_sections

    def hold(self, thread: SampledThread, stack: int) -> None:
        """A thread that waits for no lock ran, and may hold others than before."""
        self.note_held(thread, stack)
        self._sections = None
        if thread.python[0].critical_section or thread.sections != ():
            self._note_sections(thread, blocked=False)
        elif self._woken_in_sections:
            self._woken_in_sections.discard(thread)

    def parks_at(self, stack: int, entry: WaitEntry) -> bool:
        """Whether threads were seen waiting with that stack for what the entry says."""
        return (entry.key, stack) in self.places

    def waits(self, thread: SampledThread, lock: LockWait, stack: int) -> None:
        """A thread was seen parked on a lock. `saw` was told before."""
        thread.lock = lock
        if len(self.places) >= MAX_PLACES:
            self.places.clear()
            self.lock_places.clear()
        self.places.add((lock.key, stack))
        if _is_told_by_reading(lock):
            self.lock_places[lock.key, stack] = lock.owner
        queue = self._queues.get(lock.key)
        if queue is None:
            queue = self._queues[lock.key] = _Queue(lock)
        queue.threads[thread] = self._ticks
        queue.fresh.append(thread)
        queue.changed = True
        if queue.of_program and self._contended.get(lock.key) != (lock, self._ticks):
            self._contended.pop(lock.key, None)
            self._contended[lock.key] = lock, self._ticks
            if len(self._contended) > MAX_CONTENDED:
                self._contended.pop(next(iter(self._contended)))

    def forget(self, thread: SampledThread) -> None:
        """A thread ended."""
        if thread.lock is not None:
            self._leave(thread.lock.key, thread)
            thread.lock = None
        thread.innermost = None
        self._sections = None
        self.note_held(thread, NO_STACK)
        self._inside_sections.discard(thread)
        self._woken_in_sections.discard(thread)

    def _leave(self, key: int, thread: SampledThread) -> None:
        queue = self._queues.get(key)
        if queue is None:
            return
        queue.threads.pop(thread, None)
        queue.changed = True
        if not queue.threads:
            del self._queues[key]

    def note_held(self, thread: SampledThread, stack: int) -> None:
        """Keep the index of locks held through `with` blocks: it changes only when the thread runs."""
        held: tuple[int, ...] = ()
        python = thread.innermost
        inside = python is not None and bool(python.with_exits)
        if not thread.held and not inside:
            return  # nearly always
        if python is not None and inside and stack != TORN_STACK:
            # An RLock that was entered twice is held once.
            held = self._locks.held_by_with_blocks(python)
            if held and self._waits.facts(stack).condition_frame is not None:
                released = self._locks.released_lock(python)
                held = tuple(key for key in held if key != released) if released else ()
        if held == thread.held:
            return
        for key in thread.held:
            holders = self._with_holders[key]
            holders.discard(thread)
            if not holders:
                del self._with_holders[key]
            self._mark(key)
        for key in held:
            self._with_holders.setdefault(key, set()).add(thread)
            self._mark(key)
        thread.held = held

    def _mark(self, key: int) -> None:
        queue = self._queues.get(key)
        if queue is not None:
            queue.changed = True

    def _note_sections(self, thread: SampledThread, *, blocked: bool) -> None:
        """Keep the index of threads in critical sections, and of those that are about to go on with one."""
        active = suspended = False
        for python in thread.python:
            if python.critical_section & 1:
                suspended = suspended or python is thread.innermost
            elif python.critical_section:
                active = True
        if active:
            thread.sections = None
            self._inside_sections.add(thread)
        elif thread.sections != ():
            thread.sections = ()
            self._inside_sections.discard(thread)
        # Parking suspends a thread's critical sections; it goes on with them when it has a core.
        if suspended and not blocked:
            self._woken_in_sections.add(thread)
        elif self._woken_in_sections:
            self._woken_in_sections.discard(thread)

    # --- a tick ---

    def tell(self, tick: int) -> None:
        """Give every parked thread the holder of its lock as of this tick.

        A waiter that did not run keeps its wait, but the lock may have changed hands since.
        """
        asked = [(key, queue) for key, queue in self._queues.items() if self._is_asked(key, queue)]
        given, gone = self._woken(queue for _, queue in asked)
        if gone:
            # They ran since the kernel was asked who ran, and no longer wait.
            self._look(gone, tick)
            given, _ = self._woken(queue for _, queue in asked)
        for key, queue in asked:
            if not queue.threads or self._queues.get(key) is not queue:
                continue  # all of them were found to be gone
            found = self._holder(key, queue, given.get(key), tick)
            queue.changed = False
            told: Iterable[SampledThread] = queue.threads
            if found == queue.found:
                told = [thread for thread in queue.fresh if thread in queue.threads]
            queue.found = found
            holder, confidence = found
            for thread in told:
                if thread.observation is None:
                    continue
                state, stack, wait, _, _ = thread.observation
                if thread.info.index + 1 == holder:  # it waited until just now, for whom is not known
                    thread.observe((state, stack, wait, *NOBODY), tick)
                else:
                    thread.observe((state, stack, wait, holder, confidence), tick)
            queue.fresh, queue.heads = [], []
        self._given.clear()
        self._ticks += 1

    def _woken(self, queues: Iterable[_Queue]) -> tuple[dict[int, SampledThread], list[SampledThread]]:
        """Of the waiters that did not run: who was given its lock, by key, and who no longer waits."""
        given: dict[int, SampledThread] = {}
        gone = []
        for queue in queues:
            for place, entry in self._locks.woken([thread.entry for thread in queue.heads]):
                thread = queue.heads[place]
                if thread not in queue.threads:
                    continue
                if entry.given and entry.key == queue.lock.key:
                    given[entry.key] = thread
                else:
                    gone.append(thread)
        return given, gone

    def _holder(self, key: int, queue: _Queue, given: SampledThread | None, tick: int) -> Found:
        """Who has the lock; `given`: the waiter that was handed it and was not on a core since."""
        if queue.of_program and self._locks.is_free(queue.lock):
            return FREE
        if given is not None and given in queue.threads:
            return self._hold_off_core(key, given, tick)
        found = self._seen(key, queue)
        if found[0] == NO_HOLDER and queue.changed and queue.has_mutex:
            found = self._left(key, queue)
        return found

    def _seen(self, key: int, queue: _Queue) -> Found:
        """The holder by what was read together with the stacks."""
        if queue.of_object:
            inside = self._sections_of(key)
            found = self._computing(inside)
            if found[0] == NO_HOLDER:
                # Who gives a lock away still has it in its chain while it wakes the next thread.
                found = self._handed_over(key, leaving=inside)
            return found if found[0] != NO_HOLDER else self._inside(inside, queue)
        found = self._recorded(queue.lock)
        return found if found[0] != NO_HOLDER else self._handed_over(key)

    def _left(self, key: int, queue: _Queue) -> Found:
        """The waiter that got the lock while the stacks were read, which takes as long as a short hold.

        Its stack was read too early, and that of who gave it the lock too late. It counts as a waiter of this
        tick; whom it waited for is not known.
        """
        threads = [thread for thread in queue.threads if thread.entry][:MAX_HEADS]
        entries = self._locks.entries_now([thread.entry for thread in threads])
        left = [
            (thread, entry is not None and entry.key == key and entry.given)
            for thread, entry in zip(threads, entries, strict=True)
            if entry is None or entry.key != key or not entry.queued
        ]
        if len(left) > 1:
            left = [(thread, given) for thread, given in left if given]
        if len(left) != 1:
            return NOBODY
        return left[0][0].info.index + 1, int(Confidence.KNOWN if left[0][1] else Confidence.INFERRED)

    def _hold_off_core(self, key: int, thread: SampledThread, tick: int) -> Found:
        """A thread that no longer waits: it was handed the lock and wants a core."""
        thread.lock = None
        self._leave(key, thread)
        thread.settled = False
        stack = NO_STACK if thread.observation is None else thread.observation[1]
        thread.observe((int(ThreadState.ON_CPU), stack, NO_WAIT, NO_HOLDER, int(Confidence.UNKNOWN)), tick)
        return _known(thread)

    def _handed_over(self, key: int, leaving: Collection[SampledThread] = ()) -> Found:
        """The thread that was handed the lock and ran since, but seems not to have left its wait yet.

        That is sure while its critical sections are suspended, as they are while it parks. Else it may have
        come round to the same place again, and what its last wait left on its stack still stand there.
        """
        given = [thread for thread in self._given.get(key, ()) if thread not in leaving]
        if len(given) != 1:
            return NOBODY
        sure = given[0] in self._woken_in_sections
        return given[0].info.index + 1, int(Confidence.KNOWN if sure else Confidence.INFERRED)

    def _computing(self, inside: Mapping[SampledThread, int]) -> Found:
        """The one thread that runs Python code inside its section (the key function of a sort): it has it."""
        computing = [
            thread
            for thread, section in inside.items()
            if thread.innermost is not None and calls_from(thread.innermost, section)
        ]
        return _known(computing[0]) if len(computing) == 1 else NOBODY

    def _inside(self, inside: Mapping[SampledThread, int], queue: _Queue) -> Found:
        """The holder of an object's lock, of the threads whose critical sections name it.

        There are two when one unlocked it and was taken off its core before it could leave its section, and
        the other has it now; or only the former, while the other is being woken. Surely not leaving is who
        computes inside.
        """
        if len(inside) > 1 or (inside and self._is_waking(queue)):
            return self._computing(inside)
        return next((_known(thread) for thread in inside), NOBODY)

    def _is_waking(self, queue: _Queue) -> bool:
        """Whether a thread that parked where these waiters are was woken, and has not gone on yet."""
        woken = {t.observation[1] for t in self._woken_in_sections if t.observation is not None}
        return bool(woken) and any(
            thread.observation is not None and thread.observation[1] in woken for thread in queue.threads
        )

    def _sections_of(self, key: int) -> Mapping[SampledThread, int]:
        """Threads whose active critical section names the mutex (holder or leaving) -> the section."""
        if self._sections is None:
            unread = [thread for thread in self._inside_sections if thread.sections is None]
            owners = [(thread, python) for thread in unread for python in thread.python]
            held = self._locks.held_by_critical_sections([python for _, python in owners])
            for thread in unread:
                thread.sections = ()
            for (thread, _), sections in zip(owners, held, strict=True):
                thread.sections = (*(thread.sections or ()), *sections)
            self._sections = {}
            for thread in self._inside_sections:
                for mutex, section in thread.sections or ():
                    self._sections.setdefault(mutex, {})[thread] = section
        return self._sections.get(key, {})

    def _recorded(self, lock: LockWait) -> Found:
        """The holder by `with` blocks or by the lock's own record; two that both seem to hold it: nobody."""
        # Who waits for the lock does not hold it, whatever its frames say (Condition.wait's way out).
        holders = [
            thread
            for thread in self._with_holders.get(lock.key, ())
            if thread.lock is None or thread.lock.key != lock.key
        ]
        # The lock's own record is newer than what the kernel said: its owner may seem to wait for it.
        holder = holders[0] if len(holders) == 1 else self._owner(lock)
        return NOBODY if holder is None else _known(holder)

    def _owner(self, lock: LockWait) -> SampledThread | None:
        """The thread that an RLock, the GIL or a mutex of a C library names as its owner."""
        if lock.lock is not None and lock.lock.kind is LockKind.GIL:
            address = self._interpreter.gil_holder()
            return self._thread_with(lambda python: python.address == address)
        tid = self._locks.mutex_owner(lock)
        if tid is not None:
            return self._threads.get(tid)
        ident = self._locks.rlock_owner(lock)
        return None if ident is None else self._thread_with(lambda python: python.ident == ident)

    def _thread_with(self, fits: Callable[[PythonThread], bool]) -> SampledThread | None:
        return next((t for t in self._threads.values() for p in t.python if fits(p)), None)


def _is_told_by_reading(lock: LockWait) -> bool:
    """Whether who holds it is told by what is read with stacks, of waiters and of the lock, and no more."""
    if lock.lock is None or lock.event or lock.suspended:
        return False
    if lock.lock.kind is LockKind.RUNTIME:
        return not lock.owner
    return lock.lock.kind is LockKind.USER and lock.has_mutex


def _known(thread: SampledThread) -> Found:
    return thread.info.index + 1, int(Confidence.KNOWN)
