"""Who holds the locks that threads wait for, as of every tick.

In: threads as they are seen parked, woken or running. Out: the holder column of every parked thread.

What a tick costs. Waiters stand in one queue per lock. A lock whose holder is proven by a `with` block is
looked at again only after its holder or its waiters ran; of a queue only the head is asked whether it was
given the lock, because the interpreter's parking lot wakes in the order in which threads parked
(Python/parking_lot.c: waiters are appended to a bucket and taken from its front); and the waiters' rows
change only when the answer does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from ftdiag.model import NO_HOLDER, NO_STACK, NO_WAIT, TORN_STACK, Confidence, LockKind, ThreadState
from ftdiag.sampling.thread import Parked, SampledThread
from ftdiag.sources.interpreter import InterpreterReader, PythonThread
from ftdiag.sources.locks import LockReader, LockWait, calls_from
from ftdiag.sources.waits import WaitReader

HEADS: Final = 16
"""Waiters at the head of a queue that can have been given the lock, and all that were first seen with them.

The order among those that were first seen parked at the same tick is not known.
"""
MAX_HEADS: Final = 64
"""Beyond so many the lock's holder stays unknown until the first of them ran."""

MAX_MUTEXES: Final = 64
"""Mutexes that are read together with stacks; those of further locks are read afterwards."""
CONTENDED_TICKS: Final = 100
"""For so many ticks after a thread began to wait for a mutex it is likely that another one will."""

Found = tuple[int, int]
"""Holder column and confidence."""
NOBODY: Final[Found] = (NO_HOLDER, int(Confidence.UNKNOWN))
"""It is not known who."""
FREE: Final[Found] = (NO_HOLDER, int(Confidence.KNOWN))
"""Known to be nobody: the mutex is not locked, and whoever is to have it next has not come for it yet."""


class _Queue:
    """The threads that wait for one lock, longest first, and what they were told of its holder."""

    __slots__ = ("changed", "found", "fresh", "lock", "threads")

    def __init__(self, lock: LockWait) -> None:
        self.lock = lock
        self.threads: dict[SampledThread, int] = {}
        """With the tick (of the session) at which each was seen first."""
        self.fresh: list[SampledThread] = []
        """Those that came since the others were told."""
        self.found: Found = NOBODY
        self.changed = True
        """Whether waiters or proven holders came or went since the last tick."""

    def heads(self) -> list[SampledThread]:
        """Those of whom one may have been given the lock."""
        heads: list[SampledThread] = []
        oldest = -1
        for thread, tick in islice(self.threads.items(), MAX_HEADS):
            if oldest < 0:
                oldest = tick
            if tick != oldest and len(heads) >= HEADS:
                break
            heads.append(thread)
        return heads


class Holders:
    """Keeps queues of waiters and an index of proven holders; tells every waiter its holder."""

    def __init__(
        self,
        locks: LockReader,
        waits: WaitReader,
        interpreter: InterpreterReader,
        threads: Mapping[int, SampledThread],
        look: Callable[[list[SampledThread], int], object],
    ) -> None:
        """`threads` are all of the target, by id; `look` observes threads anew, as of a tick."""
        self._locks = locks
        self._waits = waits
        self._interpreter = interpreter
        self._threads = threads
        self._look = look
        self._queues: dict[int, _Queue] = {}
        self._with_holders: dict[int, set[SampledThread]] = {}
        self._inside_sections: set[SampledThread] = set()
        self._woken_in_sections: set[SampledThread] = set()
        self._waking: dict[int, list[SampledThread]] = {}
        self._back_again: dict[int, list[SampledThread]] = {}
        """Threads parked some time ago that run at that place now: they may have been parked since."""
        self._mutexes: dict[int, int] = {}
        self._contended: dict[int, int] = {}
        """Mutexes that are waited for, with the tick of the last wait for them, the latest last."""
        self._ticks = 0

    def mutexes(self) -> dict[int, int]:
        """Addresses of the mutexes for which threads wait or just did, to be read together with stacks.

        The first byte of each is to be put here, and is asked for by the next `tell`.
        """
        self._mutexes = dict.fromkeys(self._contended, -1)
        return self._mutexes

    @property
    def waited_for(self) -> set[int]:
        """Keys of the locks that threads wait for."""
        return set(self._queues)

    # --- what is seen of the threads ---

    def saw(self, thread: SampledThread, stack: int, *, blocked: bool) -> None:
        """A thread ran and was looked at: it left its queue, and may hold other locks than before."""
        lock, thread.lock = thread.lock, None
        if lock is not None:
            self._leave(lock.key, thread)
            if thread.observation is not None and thread.innermost is not None:
                thread.parked = Parked(lock.key, thread.observation[1], thread.innermost.park_argument)
        if not blocked and thread.parked is not None and thread.parked.stack == stack:
            waking = self._waking if lock is not None else self._back_again
            waking.setdefault(thread.parked.key, []).append(thread)
        self._note_held(thread, stack)
        self._note_sections(thread, blocked=blocked)

    def waits(self, thread: SampledThread, lock: LockWait) -> None:
        """A thread was seen parked on a lock. `saw` was told before."""
        thread.lock = lock
        queue = self._queues.get(lock.key)
        if queue is None:
            queue = self._queues[lock.key] = _Queue(lock)
        queue.threads[thread] = self._ticks
        queue.fresh.append(thread)
        queue.changed = True
        if lock.has_mutex:
            self._contended.pop(lock.key, None)
            self._contended[lock.key] = self._ticks
            if len(self._contended) > MAX_MUTEXES:
                self._contended.pop(next(iter(self._contended)))

    def forget(self, thread: SampledThread) -> None:
        """A thread ended."""
        if thread.lock is not None:
            self._leave(thread.lock.key, thread)
            thread.lock = None
        thread.innermost = None
        self._note_held(thread, NO_STACK)
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

    def _note_held(self, thread: SampledThread, stack: int) -> None:
        """Keep the index of locks held through `with` blocks: it changes only when the thread runs."""
        held: tuple[int, ...] = ()
        python = thread.innermost
        if not thread.held and (python is None or not python.with_exits):
            return  # nearly always
        if python is not None and python.with_exits and stack != TORN_STACK:
            # An RLock that was entered twice is held once.
            held = tuple(dict.fromkeys(self._locks.held_by_with_blocks(python)))
            condition = self._waits.facts(stack).condition_frame
            if held and condition is not None:
                released = self._locks.condition_lock(python, condition)
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
        asked = [
            (key, queue)
            for key, queue in self._queues.items()
            if queue.changed or queue.found[0] == NO_HOLDER or key not in self._with_holders
        ]
        free = self._free(asked)
        for key, queue in asked:
            if not queue.threads or self._queues.get(key) is not queue:
                continue  # all of them were found to run while another lock was looked at
            queue.changed = False
            found = self._holder(key, queue, tick, free=key in free)
            told = queue.fresh if found == queue.found else queue.threads
            queue.found = found
            for thread in told:
                if thread in queue.threads and thread.observation is not None:
                    state, stack, wait, _, _ = thread.observation
                    thread.observe((state, stack, wait, *found), tick)
            queue.fresh = []
        self._mutexes = {}
        self._waking.clear()
        self._back_again.clear()
        self._ticks += 1

    def _free(self, asked: Sequence[tuple[int, _Queue]]) -> set[int]:
        """Keys of the locks that nobody had when the threads were looked at.

        That is known best of those for which threads waited before. Of the others it is asked now.
        """
        for key in [key for key, tick in self._contended.items() if self._ticks - tick > CONTENDED_TICKS]:
            del self._contended[key]
        mutexes = [key for key, queue in asked if queue.lock.has_mutex]
        return self._locks.are_free({key: self._mutexes.get(key, -1) for key in mutexes})

    def _holder(self, key: int, queue: _Queue, tick: int, *, free: bool) -> Found:
        """Who has the lock; `free`: nobody had it when the threads were looked at."""
        of_object = queue.lock.lock is not None and queue.lock.lock.kind is LockKind.OBJECT
        found = self._seen_with(key, queue, tick, free=free, of_object=of_object)
        if found[0] == NO_HOLDER and not free and self._look_again(queue, tick):
            # Of those that ran meanwhile one may be inside.
            if not of_object:
                found = self._recorded(queue.lock)
            elif not self._locks.are_free({key: -1}):
                found = self._inside(self._sections_of(key), queue)
        return FREE if found[0] == NO_HOLDER and free else found

    def _seen_with(self, key: int, queue: _Queue, tick: int, *, free: bool, of_object: bool) -> Found:
        """The holder, by what this tick saw."""
        if of_object:
            if free:
                return NOBODY
            inside = self._sections_of(key)
            found = self._computing(inside)
            if found[0] == NO_HOLDER:
                # Who gives a lock away still has it in its chain while it wakes the next thread.
                waking = [thread for thread in self._waking.get(key, ()) if thread not in inside]
                found = self._handed_over(key, queue, waking, tick)
            return found if found[0] != NO_HOLDER else self._inside(inside, queue)
        found = self._recorded(queue.lock)
        if found[0] == NO_HOLDER and queue.lock.owner and not free:
            waking = [*self._waking.get(key, ()), *self._back_again.get(key, ())]
            found = self._handed_over(key, queue, waking, tick)
        return found

    def _look_again(self, queue: _Queue, tick: int) -> bool:
        """Observe waiters that ran since they were looked at in this tick: one of them may have the lock.

        A tick takes a while; locks change hands meanwhile. Returns whether any had run.
        """
        ran = []
        for thread in queue.heads():
            with suppress(OSError):
                schedstat = thread.files.schedstat()
                if schedstat != thread.schedstat:
                    thread.schedstat = schedstat
                    ran.append(thread)
        if ran:
            self._look(ran, tick)
        return bool(ran)

    def _handed_over(self, key: int, queue: _Queue, waking: Sequence[SampledThread], tick: int) -> Found:
        """The thread that a lock was handed to but that has not left its wait yet.

        A thread that was not on a core since it parked is surely still there. One that was (`waking`) is only
        inferred: it may have come round to the same place again, and its word about the last wait still
        stand where that of the next will.
        """
        threads: list[SampledThread] = []
        words: list[int] = []
        for thread in queue.heads():
            if thread.innermost is not None:
                threads.append(thread)
                words.append(thread.innermost.park_argument)
        for thread in waking:
            if thread.parked is not None:
                threads.append(thread)
                words.append(thread.parked.argument)
        given = [thread for thread, yes in zip(threads, self._locks.handed_over(words), strict=True) if yes]
        if len(given) != 1:
            return NOBODY
        thread = given[0]
        if thread in waking:
            return thread.info.index + 1, int(Confidence.INFERRED)
        # It no longer waits: it holds the lock and wants a core.
        thread.lock = None
        self._leave(key, thread)
        thread.settled = False
        stack = NO_STACK if thread.observation is None else thread.observation[1]
        thread.observe((int(ThreadState.ON_CPU), stack, NO_WAIT, NO_HOLDER, int(Confidence.UNKNOWN)), tick)
        return _known(thread)

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

    def _sections_of(self, key: int) -> dict[SampledThread, int]:
        """Threads whose active critical section names the mutex (holder or leaving) -> the section."""
        unread = [thread for thread in self._inside_sections if thread.sections is None]
        if unread:
            owners = [(thread, python) for thread in unread for python in thread.python]
            held = self._locks.held_by_critical_sections([python for _, python in owners])
            for thread in unread:
                thread.sections = ()
            for (thread, _), sections in zip(owners, held, strict=True):
                thread.sections = (*(thread.sections or ()), *sections)
        return {
            thread: section
            for thread in self._inside_sections
            for mutex, section in thread.sections or ()
            if mutex == key
        }

    def _recorded(self, lock: LockWait) -> Found:
        """The holder by `with` blocks or by the lock's own record; two that both seem to hold it: nobody."""
        # Who waits for the lock does not hold it, whatever its frames say (Condition.wait's way out).
        holders = [
            thread
            for thread in self._with_holders.get(lock.key, ())
            if thread.lock is None or thread.lock.key != lock.key
        ]
        holder = holders[0] if len(holders) == 1 else None
        if holder is None:
            holder = self._owner(lock)
        if holder is None or (holder.lock is not None and holder.lock.key == lock.key):
            return NOBODY
        return _known(holder)

    def _owner(self, lock: LockWait) -> SampledThread | None:
        """The thread that an RLock or the GIL names as its owner."""
        if lock.lock is not None and lock.lock.kind is LockKind.GIL:
            address = self._interpreter.gil_holder()
            return self._thread_with(lambda python: python.address == address)
        ident = self._locks.rlock_owner(lock)
        return None if ident is None else self._thread_with(lambda python: python.ident == ident)

    def _thread_with(self, fits: Callable[[PythonThread], bool]) -> SampledThread | None:
        return next((t for t in self._threads.values() for p in t.python if fits(p)), None)


def _known(thread: SampledThread) -> Found:
    return thread.info.index + 1, int(Confidence.KNOWN)
