"""Who is in the middle of updating what others can reach, and which two at the same tick.

In: the threads that ran since the tick before, with their stacks. Out: rows for the window.

What it costs: a stack that has no update on its lines is told by one look-up, and most are such. Of the
others the chain of instructions is looked up, which says whether a frame is between a load and a store.
Only then the frame is read, to know whose attribute, cell or item it is; there is a limit of such reads for a
second, as of code objects that are looked through in a tick. When it is reached, nothing is looked at until
the window ends, alone or together with others, so that shares stay right.

After the first second only every few windows are looked at, unless two threads that share no lock were seen
to update the same place: then all are, for some time, once for each place of that name. A service that runs
on with races that are told pays what one without them does, a quarter of the price. Of a look that ends soon
all windows are looked at.

Where no core is free, what that takes is taken from the program, which has the price of a start to bear
already: there the first windows that are looked at are those after three seconds.

What counts as together: two threads that were inside an update of the same place as of one walk, which
reads all stacks in one system call, and held no lock in common. Where one may have held a lock that cannot be
seen, it does not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ftdiag.model import FIRST_STACK_ID, UNKNOWN_GUARD, SharedPlace, UpdateSight
from ftdiag.sampling.budget import SCARCE_FREE_CORES
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.kernel.room import Room
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.updateplaces import UpdatePlaces
from ftdiag.sources.python.updates import Update
from ftdiag.sources.python.walking import PythonThread

MAX_FRAMES: Final = 64
"""Frames of a stack, from the leaf, that are looked at."""
MAX_UPDATES: Final = 4
"""Updates of one thread that are looked at, the innermost ones."""
MAX_CHAINS: Final = 20_000
"""Chains of instructions whose updates are remembered."""
MAX_PAIRS: Final = 100_000
"""Instructions of frames of which it is remembered what they are inside of."""
MAX_STACKS: Final = 1 << 19
MAX_READS: Final = 40
"""Frames that are read in a second, some 200 us each; then nobody is looked at until the window ends."""
LATER_READS: Final = 12
"""The same after BRIEF_WINDOWS: what is updated is known by then, and one pair of threads tells a race."""
FIRST_WINDOWS: Final = 2
"""All of the first windows, which are a second, are looked at. With each function that is seen for the first
time it would be half of what a sampler takes in the first three."""
LATE_WINDOW: Final = 4
"""The first that is looked at where no core is free: it begins some three seconds after the start."""
BRIEF_S: Final = 10.0
BRIEF_WINDOWS: Final = 10
"""So many where no more than so long is looked: there is no later."""
REST: Final = 4
"""Then one window of so many, while nothing is suspected."""
SUSPECT_WINDOWS: Final = 20
"""So long all windows are looked at once two threads were first seen to update one place without a lock in
common: after as many, more of them tell nothing new."""
MAX_SUSPECTS: Final = 256
"""Places of which it is remembered who updated them."""
SUSPECT_SIGHTS: Final = 3
"""So often a place must have been seen: an object that lies where another thread's was is soon gone, too."""
MAX_LEARNT_UNITS: Final = 500
"""Code units that are looked through in a tick (some 4 us each), but for the last code object of them."""
MAX_ROWS: Final = 512
"""Different sights of a window that are kept."""
_UNSEEN, _QUIET, _LOOK = range(3)  # the compiled walker knows which is quiet


class _Inside(NamedTuple):
    """A frame's update, whether it may be protected without a `with` block, and such blocks further in."""

    number: int
    update: Update
    acquires: bool
    skipped: int


class _FrameFacts(NamedTuple):
    """Of a (code, instruction) pair: the updates that it is inside of, whether the line has an update, and
    how many `with` blocks it is in."""

    updates: tuple[Update, ...]
    touched: bool
    blocks: int


class _Sight(NamedTuple):
    place: SharedPlace
    stack: int
    guards: frozenset[int]
    label: str | None
    check: bool


_Row = tuple[SharedPlace, int, int, frozenset[int], str | None, bool, int, int]


class UpdateWatch:
    """Watches one target. Longer-lived than windows; `take` ends one."""

    def __init__(
        self,
        interpreter: InterpreterReader,
        locks: LockReader,
        duration_s: float | None = None,
        room: Room | None = None,
    ) -> None:
        """`duration_s`: how long is looked, if that is known. `room`: what tells whether a core is free."""
        self._interpreter = interpreter
        self._locks = locks
        self._places = UpdatePlaces(interpreter)
        self._able = self._places.able
        self._stacks = bytearray()
        """By stack id: whether an update is on one of its lines."""
        self._chains: dict[tuple[int, ...], tuple[_Inside, ...]] = {}
        self._pairs: dict[tuple[int, int], _FrameFacts] = {}
        self._inside: dict[SampledThread, tuple[_Sight, ...]] = {}
        """Threads that were inside an update when they were last looked at."""
        self._still: dict[SampledThread, tuple[bytes, tuple[int, ...]]] = {}
        """What the kernel said of these of their time on a core, and their chains."""
        self._rows: dict[_Row, int] = {}
        self._reads = 0
        self._learnt = 0
        self._window = 0
        brief = duration_s is not None and duration_s <= BRIEF_S
        self._room = None if brief else room
        if self._room is not None:
            self._room.read(time.monotonic_ns())
        self._first = 0 if self._room is None else 1
        """The first window that is looked at: of one before it is known whether a core is free."""
        self._full_until = BRIEF_WINDOWS if brief else self._first + FIRST_WINDOWS
        self._alone: dict[tuple[int, str], tuple[int, frozenset[int], int]] = {}
        """Place -> the thread that was first seen to update it, with which locks, and how often any was."""
        self._suspects: set[tuple[str, str]] = set()
        """Names of places, with their types, for which windows were looked at."""

    @property
    def resting(self) -> bool:
        """Whether this window is left out."""
        if self._window < self._first:
            return True
        return self._window >= self._full_until and self._window % REST != 0

    @property
    def _most_reads(self) -> int:
        return MAX_READS if self._window < BRIEF_WINDOWS else LATER_READS

    def forget(self) -> None:
        """Code objects were freed: what their addresses mean has to be found out anew."""
        self._places.forget()
        self._chains.clear()
        self._pairs.clear()
        self._stacks = bytearray()

    def look(self, ran: Sequence[SampledThread]) -> None:
        """Take in a tick: the threads that ran, whose stacks were walked just now.

        Raises TargetGone, PermissionRefused.
        """
        if not self._able:
            return
        if self._reads >= self._most_reads or self.resting:
            self._inside.clear()
            self._still.clear()
            return
        self._learnt = 0
        fresh: list[tuple[SampledThread, int, PythonThread, tuple[_Inside, ...]]] = []
        stacks = self._stacks
        inside = self._inside
        for thread in ran:
            if thread in inside and self._stands(thread):
                continue
            inside.pop(thread, None)
            observation, python = thread.observation, thread.innermost
            if observation is None or python is None:
                continue
            stack = observation[1]
            if stack < FIRST_STACK_ID or (stack < len(stacks) and stacks[stack] == _QUIET):
                continue
            found = self._of_chain(python, stack)
            if found:
                fresh.append((thread, stack, python, found))
        for thread, stack, python, found in fresh:
            sights = tuple(sight for one in found if (sight := self._sight(python, stack, one)) is not None)
            if sights:
                inside[thread] = sights
                self._still[thread] = thread.schedstat, tuple(python.chain)
        if fresh:
            self._note([thread for thread, _, _, _ in fresh if thread in inside])

    def _stands(self, thread: SampledThread) -> bool:
        """Whether a thread has not been on a core since it was seen inside: that is one time, and not two."""
        python = thread.innermost
        known = self._still.pop(thread, None)
        if python is None or known is None or known != (thread.schedstat, tuple(python.chain)):
            return False
        self._still[thread] = known
        return True

    @property
    def quiet_stacks(self) -> bytearray | None:
        """By stack id: 1 where none of its lines has an update; `None` while updates are not looked for."""
        return self._stacks if self._able and self._reads < self._most_reads and not self.resting else None

    def pass_over(self, ran: Iterable[SampledThread]) -> None:
        """These ran at ticks that were not looked at, as all of them had quiet stacks."""
        for thread in self._inside.keys() & ran:
            if not self._stands(thread):
                self._inside.pop(thread, None)

    def forget_thread(self, thread: SampledThread) -> None:
        """A thread ended."""
        self._inside.pop(thread, None)
        self._still.pop(thread, None)

    def take(self) -> tuple[UpdateSight, ...] | None:
        """The rows of the window that ends; `None` in a target where updates are not looked for."""
        if not self._able:
            return None
        rows = tuple(
            UpdateSight(place, thread, stack, tuple(sorted(guards)), count, label, check, other, other_stack)
            for (place, thread, stack, guards, label, check, other, other_stack), count in self._rows.items()
        )
        self._rows.clear()
        self._reads = 0
        self._window += 1
        if self._room is not None:
            free_cores = self._room.read(time.monotonic_ns())
            self._room = None
            if free_cores is not None and free_cores < SCARCE_FREE_CORES:
                self._first, self._full_until = LATE_WINDOW, LATE_WINDOW + FIRST_WINDOWS
        suspects = {(row.place.name, row.place.type_name) for row in rows if self._suspicious(row)}
        if suspects - self._suspects:
            self._full_until = self._window + SUSPECT_WINDOWS
            if len(self._suspects) < MAX_SUSPECTS:
                self._suspects |= suspects
        return rows

    def _suspicious(self, row: UpdateSight) -> bool:
        """Whether another thread was seen to update the same place, and no lock keeps the two apart."""
        if row.other >= 0:
            return True
        key, guards = (row.place.owner, row.place.name), frozenset(row.guards)
        thread, before, sights = self._alone.get(key, (row.thread, guards, 0))
        if not sights and len(self._alone) >= MAX_SUSPECTS:
            self._alone.clear()
        sights += row.count
        self._alone[key] = thread, before, sights
        apart = thread != row.thread and not (guards & before) and UNKNOWN_GUARD not in guards | before
        return apart and sights >= SUSPECT_SIGHTS

    # --- what a stack is inside of ---

    def _of_chain(self, python: PythonThread, stack: int) -> tuple[_Inside, ...]:
        """The updates that a thread's frames are inside of, innermost first."""
        chain = tuple(python.chain)
        found = self._chains.get(chain)
        if found is not None:
            if not found:
                self._interpreter.mark_quiet(python)
            return found
        inside: list[_Inside] = []
        touched = False
        skipped = 0
        frames = chain[: 2 * MAX_FRAMES]
        pairs = list(zip(frames[::2], frames[1::2], strict=True))
        for number, pair in enumerate(pairs):
            facts = self._pairs.get(pair) or self._of_pair(pair)
            if facts is None:
                return ()  # another time
            touched = touched or facts.touched
            if facts.updates and len(inside) < MAX_UPDATES:
                inside += [_Inside(number, update, False, skipped) for update in facts.updates]
            skipped += facts.blocks
        found = tuple(
            one._replace(acquires=any(map(self._acquires, pairs[one.number :])))
            for one in inside[:MAX_UPDATES]
        )
        if stack < MAX_STACKS:
            if stack >= len(self._stacks):
                self._stacks.extend(bytes(stack + 1 - len(self._stacks)))
            if self._stacks[stack] != _LOOK:
                self._stacks[stack] = _LOOK if touched else _QUIET
        if len(self._chains) >= MAX_CHAINS:
            self._chains.clear()
        self._chains[chain] = found
        if not found:
            self._interpreter.mark_quiet(python)
        return found

    def _of_pair(self, pair: tuple[int, int]) -> _FrameFacts | None:
        """What is known of a frame's instruction; `None`: not now."""
        located = self._interpreter.code_at(pair)
        if located is None:
            return None
        code, unit = located
        updates = self._places.known(code)
        if updates is None:
            if self._learnt > MAX_LEARNT_UNITS:
                return None
            self._learnt += code.units
            updates = self._places.learn(code)
        touched = bool(updates.lines) and code.lines.line(unit) in updates.lines
        facts = _FrameFacts(updates.at(unit), touched, self._interpreter.with_blocks(pair))
        if len(self._pairs) >= MAX_PAIRS:
            self._pairs.clear()
        self._pairs[pair] = facts
        return facts

    def _acquires(self, pair: tuple[int, int]) -> bool:
        """Whether a frame's function may hold a lock that it did not take by `with`."""
        located = self._interpreter.code_at(pair)
        return located is None or self._places.acquires(located[0])

    def _sight(self, python: PythonThread, stack: int, one: _Inside) -> _Sight | None:
        """Where a thread is, by its variables."""
        if self._reads >= self._most_reads:
            return None
        self._reads += 1
        place = self._places.place(python, one.number, one.update)
        if place is None:
            return None
        guards = self._locks.guards(python, one.skipped) if len(python.with_exits) > one.skipped else ()
        keys = {key for key, _ in guards}
        if one.acquires and not keys - {UNKNOWN_GUARD}:
            keys.add(UNKNOWN_GUARD)
        label = next((label for key, label in guards if key != UNKNOWN_GUARD), None)
        return _Sight(place, stack, frozenset(keys), label, one.update.check)

    # --- a tick ---

    def _note(self, fresh: Sequence[SampledThread]) -> None:
        """Count the threads that came to be inside at this tick, and those with whom they are together."""
        told: set[tuple[int, str]] = set()
        for thread in fresh:
            for sight in self._inside[thread]:
                self._count(thread, sight)
                key = sight.place.owner, sight.place.name
                if key in told:
                    continue
                other = self._together(thread, sight)
                if other is not None:
                    told.add(key)
                    self._count(thread, sight, *other)

    def _together(self, thread: SampledThread, sight: _Sight) -> tuple[SampledThread, _Sight] | None:
        """Another thread inside an update of the same place, without a lock in common."""
        if UNKNOWN_GUARD in sight.guards:
            return None
        place = sight.place
        for other, sights in self._inside.items():
            if other is thread:
                continue
            for one in sights:
                same = one.place.owner == place.owner and one.place.name == place.name
                if same and UNKNOWN_GUARD not in one.guards and not one.guards & sight.guards:
                    return other, one
        return None

    def _count(
        self,
        thread: SampledThread,
        sight: _Sight,
        other: SampledThread | None = None,
        beside: _Sight | None = None,
    ) -> None:
        index, other_index, other_stack = thread.info.index, -1, 0
        if other is not None and beside is not None:
            other_index, other_stack = other.info.index, beside.stack
        row = (
            *(sight.place, index, sight.stack, sight.guards, sight.label, sight.check),
            *(other_index, other_stack),
        )
        if row in self._rows or len(self._rows) < MAX_ROWS:
            self._rows[row] = self._rows.get(row, 0) + 1
