"""The recorded time line as operations, and an event simulation that runs them again, with a change.

In: tick-level runs of a few windows and their accounts, and a `Replayed`: what is left of time on a core by
stack, of locks and of waits, how many threads and cores. Out: useful work a second, as recorded and replayed.

Every thread is a sequence of operations, one a tick: to use a core for the time that the kernel counted; to
hold a lock meanwhile, where somebody waited for it and was known to wait for this thread; to wait for a peer;
or to wait until another thread has come so far (an idle wait ends when the thread that ran last before it has
done what it did then). Waiting for locks with a known holder, and for cores, is not replayed but arises anew:
locks are handed to who waited longest, cores to who is ready longest. Threads begin again when they are
through, until the slowest has been through once.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final

import numpy as np

from ftdiag.analysis.accounting import ON_CPU_STATES, Accounts
from ftdiag.analysis.efficiency import LOCK_STATES, is_in
from ftdiag.analysis.grouping import Bools, Floats, Ints, summed
from ftdiag.analysis.ticks import TickRuns
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import NO_HOLDER, ThreadState

LAPS: Final = 8
"""A replay ends after so many times its length even where a thread has not come through."""
MAX_EVENTS: Final = 40
"""... and after so many events for each operation."""
SHORTEST_NS: Final = 1_000.0
"""What an operation takes at least that is there at all."""

GIL: Final = -1
"""The number of the GIL among locks."""
_SKIP, _CORE, _DELAY, _UNTIL, _TAKE = range(5)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What is replayed, for the ids of one recording.

    By stack id: `keep` is what is left of the time on a core, `worth` the part of it that was useful as
    recorded, `gone` whether nothing of it is done, waits included, `waitless` whether there is no waiting but
    for work. By
    lock number: `holds`, what is left of its holds and of waits for it (0: nobody waits for it). By wait id:
    `waits`. By state: `states`. `threads` and `cores` are other numbers of them; `balance` shares all work
    among the threads that had some.
    """

    keep: Floats
    worth: Floats
    gone: Bools
    waitless: Bools
    holds: Floats
    waits: Floats
    states: Floats
    gil: bool = False
    """Whether everything that runs on a core holds the GIL."""
    threads: int | None = None
    cores: float | None = None
    balance: bool = False

    def of(self, ids: Ints, which: Floats, default: float) -> Floats:
        """The values of ids, some of which may be beyond what is known."""
        if not len(which):
            return np.full(len(ids), default, dtype=np.float64)
        return np.where(ids < len(which), which[np.minimum(ids, len(which) - 1)], default)


@dataclass(frozen=True, slots=True)
class Block:
    """The operations of consecutive ticks, by thread; `recorded_ns` of useful work were seen in them."""

    threads: tuple[Sequence, ...]
    ticks: int
    length_ns: float
    recorded_ns: float


@dataclass(frozen=True, slots=True)
class Sequence:
    """One thread's operations as parallel lists: kind, time (ns), useful work (ns), the locks held meanwhile,
    and for waits until another thread has come so far: that thread's place in the block and the tick."""

    kind: list[int]
    spent: list[float]
    worth: list[float]
    locks: list[tuple[int, ...]]
    until: list[tuple[int, int]]


def blocks_of(
    runs: TickRuns, accounts: Accounts, lock_of_wait: Ints, tick_period_ns: Floats, size: int, what: Replayed
) -> list[Block]:
    """The blocks of `size` ticks of consecutive windows, as `what` leaves them."""
    windows = max(1, len(tick_period_ns))
    ticks_on = is_in(runs.state, ON_CPU_STATES)
    cells = accounts.cells
    key = runs.thread * windows + runs.window
    place = np.minimum(np.searchsorted(cells.key, key), max(0, len(cells.key) - 1))
    on_ticks = summed(place, np.where(ticks_on, runs.end - runs.first, 0), max(1, len(cells.key)))
    cpu_tick = (
        np.divide(
            cells.cpu_ns,
            on_ticks[: len(cells.key)],
            out=np.zeros(len(cells.key)),
            where=on_ticks[: len(cells.key)] > 0,
        )[place]
        if len(cells.key)
        else np.zeros(len(key))
    )
    off_tick = cells.off_tick_ns_at(runs.thread, runs.window)
    locked = is_in(runs.state, LOCK_STATES)
    known = np.minimum(runs.wait, len(lock_of_wait) - 1)
    lock = np.where(locked & (runs.wait < len(lock_of_wait)), lock_of_wait[known], 0)
    gone = what.of(runs.stack, what.gone.astype(np.float64), 0.0) > 0
    waits = ~ticks_on & ~is_in(runs.state, (ThreadState.IDLE,))
    gone |= waits & (what.of(runs.stack, what.waitless.astype(np.float64), 0.0) > 0)
    of_state = what.of(runs.state, what.states, 1.0)
    left_of_lock = what.of(lock, what.holds, 1.0)
    left_of_wait = what.of(runs.wait, what.waits, 1.0)
    kind = np.where(ticks_on, _CORE, _DELAY)
    kind = np.where(is_in(runs.state, (ThreadState.IDLE,)), _UNTIL, kind)
    kind = np.where(runs.state == ThreadState.RUNNABLE, _SKIP, kind)
    spent = np.where(ticks_on, cpu_tick * what.of(runs.stack, what.keep, 1.0), off_tick * left_of_wait)
    # Waits for a lock with a known holder arise anew; of the others nobody knows how they would change.
    spent = np.where(locked, off_tick * left_of_lock * of_state, spent)
    again = locked & (runs.holder > NO_HOLDER) & (lock > 0)
    if what.gil:
        again |= runs.state == ThreadState.GIL
        lock = np.where(runs.state == ThreadState.GIL, 0, lock)
    kind = np.where(again, _SKIP, kind)
    worth = np.where(ticks_on, cpu_tick * what.of(runs.stack, what.worth, 1.0), 0.0)
    kind = np.where(gone | (spent <= 0) & (kind != _UNTIL) & (worth <= 0), _SKIP, kind)
    spent = np.where(gone, 0.0, np.maximum(spent, 0.0))
    left_of_hold = what.of(lock, what.holds, 1.0)
    taken = np.where(again & (left_of_hold > 0) & ~gone, lock, 0)
    facts = _Facts(kind, spent, worth, lock, taken, left_of_hold, gone, what.gil)
    blocks = []
    for begin in range(0, runs.ticks - size + 1, size):
        block = _block(runs, facts, begin, begin + size)
        if block is not None:
            length = float(tick_period_ns[runs.tick_window[begin : begin + size]].sum())
            blocks.append(replace(block, length_ns=length))
    return blocks


@dataclass(frozen=True, slots=True)
class _Facts:
    """By run."""

    kind: Ints
    spent: Floats
    worth: Floats
    lock: Ints
    taken: Ints
    """The lock that is had at the end of a wait, 0 where none is."""
    left_of_hold: Floats
    gone: Bools
    gil: bool


def _block(runs: TickRuns, facts: _Facts, begin: int, end: int) -> Block | None:
    row = np.flatnonzero((runs.first < end) & (runs.end > begin))
    size = end - begin
    first, last = np.maximum(runs.first[row], begin) - begin, np.minimum(runs.end[row], end) - begin
    worth = summed(runs.thread[row], facts.worth[row] * (last - first), 1)
    members = np.flatnonzero(worth > 0)
    if not len(members):
        return None
    column = np.full(max(len(worth), int(runs.holder[row].max(initial=0))) + 1, -1, dtype=np.int64)
    column[members] = np.arange(len(members))
    mine = column[runs.thread[row]] >= 0
    waiter = (runs.holder[row] > NO_HOLDER) & (facts.lock[row] > 0)
    table = np.full((len(members), size), -1, dtype=np.int64)
    held: list[dict[int, dict[int, float]]] = [{} for _ in members]
    for which, begins, ends, here, waits in zip(
        row.tolist(), first.tolist(), last.tolist(), mine.tolist(), waiter.tolist(), strict=True
    ):
        if here:
            table[column[runs.thread[which]], begins:ends] = which
        if waits and not facts.gone[which]:
            holder = int(column[int(runs.holder[which]) - 1])
            if holder >= 0:
                number, left = int(facts.lock[which]), float(facts.left_of_hold[which])
                for tick in range(begins, ends):
                    held[holder].setdefault(tick, {})[number] = left
    present = table >= 0
    run = np.where(present, table, 0)
    kind = np.where(present, facts.kind[run], _UNTIL)
    spent = np.where(present, facts.spent[run], 0.0)
    locks: list[list[tuple[int, ...]]] = [[()] * size for _ in members]
    for number, ticks in enumerate(held):
        for tick, of_tick in ticks.items():
            # A lock that is gone is not held, but what was done under it is.
            kept = tuple(sorted(lock for lock, left in of_tick.items() if left > 0))
            locks[number][tick] = kept
            left = min((of_tick[lock] for lock in kept), default=1.0)
            if kind[number, tick] in (_CORE, _DELAY):
                spent[number, tick] *= left
            elif kind[number, tick] == _SKIP and kept:
                # It waits for another lock meanwhile: it has this one until it gets that.
                kind[number, tick] = _TAKE
    _takes(facts, table, kind, locks)
    if facts.gil:
        for number, tick in zip(*(places.tolist() for places in np.nonzero(kind == _CORE)), strict=True):
            locks[number][tick] = (*locks[number][tick], GIL)
    value = np.where(present, facts.worth[run], 0.0)
    threads = []
    running = (kind == _CORE) & present
    streak = np.zeros((len(members), size + 1), dtype=np.int64)
    for tick in range(size):
        streak[:, tick + 1] = np.where(running[:, tick], streak[:, tick] + 1, 0)
    for number in range(len(members)):
        kinds = kind[number].tolist()
        until = [(-1, 0)] * size
        tick = 0
        while tick < size:
            if kinds[tick] != _UNTIL:
                tick += 1
                continue
            start = tick
            while tick < size and kinds[tick] == _UNTIL:
                kinds[tick] = _SKIP
                tick += 1
            if tick < size:  # somebody woke it then: who ran longest up to there
                others = streak[:, tick].copy()
                others[number] = 0
                waker = int(np.argmax(others))
                if others[waker] > 0:
                    kinds[tick - 1] = _UNTIL
                    until[tick - 1] = waker, tick - 1
                else:
                    kinds[tick - 1] = _DELAY
                    spent[number, tick - 1] = (tick - start) * 1e7
        threads.append(Sequence(kinds, spent[number].tolist(), value[number].tolist(), locks[number], until))
    return Block(tuple(threads), size, 0.0, float(value.sum()))


def _takes(facts: _Facts, table: Ints, kind: Ints, locks: list[list[tuple[int, ...]]]) -> None:
    """At the end of each wait the lock is taken, also where nobody was seen to wait for it then."""
    members, size = table.shape
    for number in range(members):
        for tick in range(size):
            run = int(table[number, tick])
            if run < 0 or not facts.taken[run] or kind[number, tick] not in (_SKIP, _TAKE):
                continue
            if tick + 1 < size and int(table[number, tick + 1]) >= 0:
                following = int(table[number, tick + 1])
                if facts.taken[following] == facts.taken[run]:
                    continue  # it goes on
            wanted = int(facts.taken[run])
            kind[number, tick] = _TAKE
            if wanted not in locks[number][tick]:
                locks[number][tick] = (*locks[number][tick], wanted)


def with_threads(block: Block, number: int) -> Block:
    """The block with so many of its threads, the busiest; more are the same ones again, somewhat later."""
    order = sorted(range(len(block.threads)), key=lambda place: -sum(block.threads[place].worth))
    if number <= len(order):
        kept = sorted(order[:number])
        new_place = {old: new for new, old in enumerate(kept)}
        threads = tuple(_pointing(block.threads[old], new_place) for old in kept)
        return replace(block, threads=threads)
    more = list(block.threads)
    for copy in range(number - len(order)):
        source = block.threads[order[copy % len(order)]]
        turn = (copy + 1) * block.ticks // (number - len(order) + 1)
        more.append(_turned(source, turn))
    return replace(block, threads=tuple(more))


def _pointing(one: Sequence, new_place: dict[int, int]) -> Sequence:
    """Waits for threads that are left out end at once."""
    until = [(new_place.get(waker, -1), tick) for waker, tick in one.until]
    return replace(one, until=until)


def _turned(one: Sequence, by: int) -> Sequence:
    """The same from another tick on; it waits for nobody."""
    kind = [_SKIP if each == _UNTIL else each for each in one.kind]
    return Sequence(
        kind[by:] + kind[:by],
        one.spent[by:] + one.spent[:by],
        one.worth[by:] + one.worth[:by],
        one.locks[by:] + one.locks[:by],
        [(-1, 0)] * len(kind),
    )


def balanced(block: Block) -> Block:
    """All operations on cores shared among the threads, and no waiting for each other."""
    pieces = [
        (spent, worth)
        for one in block.threads
        for kind, spent, worth in zip(one.kind, one.spent, one.worth, strict=True)
        if kind == _CORE
    ]
    threads = []
    for number in range(len(block.threads)):
        mine = pieces[number :: len(block.threads)]
        blank: list[tuple[int, ...]] = [()] * len(mine)
        threads.append(
            Sequence(
                [_CORE] * len(mine),
                [spent for spent, _ in mine],
                [worth for _, worth in mine],
                blank,
                [(-1, 0)] * len(mine),
            )
        )
    return replace(block, threads=tuple(one for one in threads if one.kind))


def on_core_ns(block: Block) -> float:
    """Time on a core that all operations of a block take together."""
    return sum(
        max(spent, SHORTEST_NS)
        for one in block.threads
        for kind, spent in zip(one.kind, one.spent, strict=True)
        if kind == _CORE
    )


def replayed(block: Block, cores: int, speed: float = 1.0) -> float:
    """Runs the block until the slowest thread has been through once; useful work a second, in cores."""
    return _Simulation(block, max(1, cores), speed).run()


@dataclass(slots=True)
class _Simulation:
    """The state of one replay."""

    block: Block
    cores: int
    speed: float

    def run(self) -> float:
        threads = self.block.threads
        number = len(threads)
        sizes = [len(one.kind) for one in threads]
        place, lap = [0] * number, [0] * number
        owner: dict[int, int] = {}
        queues: dict[int, deque[int]] = {}
        watchers: list[list[tuple[int, int, int]]] = [[] for _ in range(number)]
        ready: deque[int] = deque()
        events: list[tuple[float, int, int, bool]] = []
        now, count, free, done, useful = 0.0, 0, self.cores, 0, 0.0
        limit = self.block.length_ns * LAPS
        most = MAX_EVENTS * sum(sizes)
        through = [False] * number
        to_go = number
        stack: list[int] = list(range(number))

        def finish(who: int) -> None:
            """The operation at its place is done: let go of locks that the next one does not hold."""
            at = place[who]
            had = threads[who].locks[at]
            if had:
                following_locks = threads[who].locks[(at + 1) % sizes[who]]
                for held in had:
                    if held in following_locks or owner.get(held) != who:
                        continue
                    queue = queues.get(held)
                    if queue:
                        following = queue.popleft()
                        owner[held] = following
                        stack.append(following)
                    else:
                        del owner[held]
            step(who)

        def step(who: int) -> None:
            nonlocal to_go
            place[who] += 1
            if place[who] >= sizes[who]:
                place[who] = 0
                lap[who] += 1
                if not through[who]:
                    through[who] = True
                    to_go -= 1
            if watchers[who]:
                kept = []
                for laps, tick, watcher in watchers[who]:
                    if (lap[who], place[who]) > (laps, tick):
                        step(watcher)
                        stack.append(watcher)
                    else:
                        kept.append((laps, tick, watcher))
                watchers[who] = kept

        while to_go > 0 and now < limit and count < most:
            while stack:
                who = stack.pop()
                one = threads[who]
                waits = 0
                while True:
                    at = place[who]
                    kind = one.kind[at]
                    if kind == _SKIP:
                        # What is left out is done all the same, in no time.
                        useful += one.worth[at]
                        step(who)
                        waits += 1
                        if waits > 2 * sizes[who]:  # nothing is left of it
                            break
                        continue
                    if kind == _UNTIL:
                        waker, tick = one.until[at]
                        if waker < 0 or (lap[waker], place[waker]) > (lap[who], tick):
                            step(who)
                            waits += 1
                            if waits > 2 * sizes[who]:
                                break
                            continue
                        watchers[waker].append((lap[who], tick, who))
                        break
                    if one.locks[at]:
                        taken = next(
                            (held for held in one.locks[at] if owner.setdefault(held, who) != who), 0
                        )
                        if taken:
                            queues.setdefault(taken, deque()).append(who)
                            break
                    if kind == _TAKE:
                        finish(who)
                        waits += 1
                        if waits > 2 * sizes[who]:
                            break
                        continue
                    if kind == _CORE:
                        ready.append(who)
                    else:
                        count += 1
                        heapq.heappush(events, (now + max(one.spent[at], SHORTEST_NS), count, who, False))
                    break
            while free and ready:
                who = ready.popleft()
                free -= 1
                count += 1
                lasts = max(threads[who].spent[place[who]] / self.speed, SHORTEST_NS)
                heapq.heappush(events, (now + lasts, count, who, True))
            if not events:
                # All wait for each other's progress: let the one that is furthest behind go on.
                behind = [
                    (laps, tick, watcher, waker)
                    for waker in range(number)
                    for laps, tick, watcher in watchers[waker]
                ]
                if not behind:
                    break
                laps, tick, watcher, waker = min(behind)
                watchers[waker].remove((laps, tick, watcher))
                step(watcher)
                stack.append(watcher)
                done += 1
                if done > 4 * self.block.ticks:
                    break
                continue
            now, _, who, on_core = heapq.heappop(events)
            if on_core:
                free += 1
                useful += threads[who].worth[place[who]]
            finish(who)
            stack.append(who)
        return useful / now if now > 0 else 0.0
