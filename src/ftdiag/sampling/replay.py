"""Ticks of a stretch that are concluded when it ends, each as of its own moment.

In: what such a tick left (`sources/tick/later.c`): who ran, what blocks them, their stacks, what their slots
had, and all that was read with these. Out: the same conclusions as if each tick had been taken alone, at a
fraction of the price: coming back to Python costs as much as it, and its code is in the caches only once.

A tick is left when nothing else would have to be read for it: each thread runs, rests where it rested before,
or waits for a lock that threads were seen to wait for at this place. From the first such tick of a stretch on
each one is, because locks may change hands at any of them, and so is all that is seen of its threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ftdiag.errors import BudgetSpent, FtdiagError
from ftdiag.sampling.asking import Asked
from ftdiag.sampling.holders import Holders
from ftdiag.sampling.seen import Observation
from ftdiag.sampling.stopped import Stopped
from ftdiag.sampling.threads import UNREAD, SampledThread
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.locks.waits import Blocked, StackFacts
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.stackwalk import Left

MAX_RESTS: Final = 20_000
"""Stacks of which it is remembered that threads rest there; it begins anew beyond."""

Held = tuple[SampledThread, Any, Any, int]
"""A thread that may hold other locks, its state, what that was, its stack."""
LeftLater = tuple[SampledThread, Any, Any, int, Any, int]
"""What is left of a thread: itself, its state, what that was, its wait entry, what blocks it (`Asked` if
that had to be found out), its stack."""
LeftTick = tuple[
    int,
    list[SampledThread],
    list[Held],
    list[LeftLater],
    dict[int, bytes | None],
    Mapping[int, bytes] | None,
]
"""Its number in the stretch, who was looked at, who moved, what is left, what was read, and after that."""


class Replay:
    """Concludes ticks that were left, of one target."""

    def __init__(
        self,
        interpreter: InterpreterReader,
        locks: LockReader,
        holders: Holders,
        stopped: Stopped,
        ask: Callable[[SampledThread, Blocked, int], Asked | None],
        conclude: Callable[[Sequence[Left], int], None],
        hold: Callable[[SampledThread, int], None],
    ) -> None:
        """`ask` is `Asking.now`; `conclude` and `hold` are those of an observer's tick."""
        self._interpreter = interpreter
        self._locks = locks
        self._holders = holders
        self._stopped = stopped
        self._ask = ask
        self._conclude = conclude
        self._hold = hold
        self._rests: dict[int, tuple[int, Observation]] = {}
        """Stacks with which threads rest on a lock made for this wait -> its type, what is observed."""
        self._words: set[int] = set()
        """What was in slots of `with` blocks, of which it is known what it means."""
        self._first = self._done = 0
        """The number of a stretch's first tick, and how many ticks of it `Holders` was told of."""
        self.error: FtdiagError | None = None
        """What was raised at a tick of a stretch; told when it ends."""

    def prepare(self) -> None:
        """Tell the compiled walker what tells it whether a tick can be left."""
        self._interpreter.prepare_later(
            *(self._holders.lock_places, self._rests, self._words, self._locks.lockless),
            *(self._stopped.places, self._ask, self._locks.learn),
        )

    def forget_words(self) -> None:
        """It is no longer remembered which locks objects have."""
        self._words.clear()

    def rests(self, stack: int, facts: StackFacts, key: int, observation: Observation) -> None:
        """A thread was seen to wait in a library, maybe as those of a condition do: on a lock of its own."""
        lock_type = self._locks.lock_type(key) if facts.condition_frame == 0 else 0
        if lock_type:
            if len(self._rests) >= MAX_RESTS:
                self._rests.clear()
            self._rests[stack] = lock_type, observation

    def begin(self, first: int) -> None:
        """A stretch begins, with the tick of this number."""
        self._first, self._done = first, 0

    def conclude_now(self, left: Sequence[Left], tick: int) -> bool:
        """Conclude what is left of a tick, while nobody waits for a lock; whether the stretch can go on."""
        holders, passed = self._holders, tick - self._first
        holders.pass_over(passed - self._done)
        self._done = passed
        self._locks.look_on()
        try:
            self._conclude(left, tick)
            if holders.waited_for:
                return False  # more is to be told: who holds what
            holders.tell(tick)
            self._stopped.tell(tick)
        except FtdiagError as error:
            self.error = error
            return False
        self._done += 1
        return True

    def run(
        self,
        ticks: Sequence[LeftTick],
        before: Mapping[SampledThread, int],
        unsettled: dict[SampledThread, None],
    ) -> int:
        """Conclude them; of how many ticks of the stretch `Holders` knows by then.

        `before` are all threads that they are about, with the wait entries that these had when the stretch
        began. Raises what an observer's tick does, also of ticks that were concluded at once.
        """
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if not ticks:
            return self._done
        locks, holders, first = self._locks, self._holders, self._first
        last_read, done = locks.last_read, self._done
        # As they are by now. Who is off its core, and who is to be looked at, was found out at each tick.
        off_core = dict(unsettled)
        now = [(thread, thread.entry, thread.looked) for thread in before]
        latest: list[tuple[Any, Any]] = [
            (python, python.snapshot())  # type: ignore[attr-defined]
            for thread in before
            for python in thread.python
        ]
        for thread, entry in before.items():
            thread.entry = entry
        try:
            for number, looked, held, left, found, late in ticks:
                holders.pass_over(number - done)
                done = number + 1
                locks.go_back(found, late)
                self._tick(looked, held, left, first + number)
        except BudgetSpent:
            for thread in before:
                thread.settled = False
                thread.observe(UNREAD, first + done - 1)
            off_core.update(dict.fromkeys(before))
            raise
        finally:
            locks.go_back(last_read, None)
            for thread, entry, looked_at in now:
                thread.entry = entry
                thread.looked = looked_at
            for python, is_now in latest:
                python.become(is_now)
            unsettled.clear()
            unsettled.update(off_core)
        return done

    def _tick(
        self, looked: list[SampledThread], held: list[Held], left: list[LeftLater], number: int
    ) -> None:
        holders = self._holders
        holders.ran(looked)
        items: list[Left] = []
        for thread, python, then, entry, blocked, stack in left:
            python.become(then)
            thread.entry = entry
            items.append((thread, (python,), blocked, (stack,)))
        self._conclude(items, number)
        concluded = {thread for thread, *_ in left}
        for thread, python, then, stack in held:
            if thread not in concluded:
                python.become(then)
                self._hold(thread, stack)
        holders.tell(number)
        self._stopped.tell(number)
