"""What a change would bring: the recorded time line, replayed with that change.

In: a recording, a range of it with its snapshot, and `Change`s: a lock gone or held for half as long, a line
that takes another time, more or fewer threads or cores. Out: `Prediction`: how much more work a second, with
an interval, or the reason why that cannot be told.

Blocks of ticks are taken evenly from the range and replayed (`analysis.replay`) without and with the change.
A step of the program counts the same in both. The interval has two parts: how much blocks differ (bootstrap),
and how far predictions of this kind were off where the change was really made (`MODEL_ERROR`, measured by
bench/whatif.py).

What cannot be known: work that appears when a cause goes (a retry, a longer queue elsewhere), and how much
slower memory that others write to makes instructions beside the ones that wait. Where next to nothing is left
of what threads do, what they would do is not told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import accounting, replay
from ftdiag.analysis.accounting import ON_CPU_STATES, ThreadTime
from ftdiag.analysis.efficiency import LOCK_STATES, is_in, what_source_lacks
from ftdiag.analysis.grouping import Bools, Floats, Ints, summed
from ftdiag.analysis.locks import LockNumbers
from ftdiag.analysis.ticks import STATES, tick_runs
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    STOP_EVENT,
    STOP_TURN,
    USEFUL_STATES,
    Change,
    ChangeKind,
    CorePart,
    Frame,
    LockKind,
    Prediction,
    Snapshot,
    ThreadState,
)
from ftdiag.recording.reader import Recording

BLOCK_TICKS: Final = 100
"""Ticks replayed together: long enough for threads to take turns, short enough for many blocks."""
LEAST_TICKS: Final = 25
BLOCKS_WANTED: Final = 6
"""Shorter blocks are taken where the range has fewer of a hundred ticks: an interval needs several."""
MAX_TOGETHER: Final = 5
"""Windows that one block spans at most."""
MAX_WINDOWS: Final = 30
MAX_OPERATIONS: Final = 80_000
"""Operations (threads times ticks) of all blocks; with more threads fewer blocks are taken."""
LEAST_BLOCKS: Final = 2
RESAMPLES: Final = 1000
OUTSIDE: Final = 0.1
"""The interval leaves a tenth out at each side."""
LEAST_LEFT: Final = 0.08
"""Where less than this share of what threads do on a core is left, single samples decide: then only what it
gains at least is told, as if so much of each thing were left."""
LEAST_MORE: Final = 1.5
"""A bound below this is not worth telling."""
FAITHFUL: Final = (0.5, 2.0)
"""A replay that without the change does less or more of what was recorded does not know this program."""
MODEL_ERROR: Final[dict[ChangeKind, float]] = {
    ChangeKind.LOCK: 0.40,
    ChangeKind.LINE: 0.30,
    ChangeKind.REMEDY: 0.40,
    ChangeKind.IO: 0.15,
    ChangeKind.CONTENTION: 0.37,
    ChangeKind.ALLOCATION: 0.30,
    ChangeKind.OVERHEAD: 0.40,
    ChangeKind.COLLECTOR: 0.55,
    ChangeKind.STOPS: 0.25,
    ChangeKind.GIL: 0.25,
    ChangeKind.THREADS: 0.15,
    ChangeKind.CORES: 0.15,
    ChangeKind.BALANCE: 0.30,
}
"""How far predictions were off where the change was made: the standard deviation of the logarithm."""
SLOWED_BESIDE: Final = {"3.13": 1.1, "3.14": 1.5, "3.15": 1.5}
"""How much slower than alone instructions are on lines that mostly wait for contended memory: of the samples
of docs/prediction.md. On 3.14 the counts lie among what the next instructions read."""
SLOWED_ELSEWHERE: Final = 1.3
MOSTLY_WASTED: Final = 0.4
LEFT_ERROR: Final = 0.03
"""Over the part that is left: how much less sure a prediction is for that."""
FAR_ERROR: Final = 0.1
"""Times the logarithm of the gain: how much less sure one that goes far is."""
FAR: Final = 4.0
"""A gain from which on what was never waited for may decide."""
SEED: Final = 20_250_101

_WASTED: Final = (ThreadState.ATOMIC, ThreadState.SPIN)


class CannotTell(Exception):
    """Why there is no prediction."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a prediction needs of a range: positions of its windows (without those in which an instrument
    changed the target), mean time between ticks of any of them, its snapshot, its thread-time, the numbering
    of locks, and lock number by wait id."""

    recording: Recording
    windows: tuple[int, ...]
    periods: Callable[[int, int], Floats]
    snapshot: Snapshot
    time: ThreadTime
    numbers: LockNumbers
    lock_of_wait: Ints


def predict(of: Range, changes: Sequence[Change]) -> Prediction:
    """What the changes together would bring. Raises ValueError for a name that fits nothing."""
    told = tuple(changes)
    try:
        return _predicted(of, told)
    except CannotTell as why:
        return Prediction(told, not_told=f"cannot tell: {why}")


def _predicted(of: Range, changes: tuple[Change, ...]) -> Prediction:
    metrics = of.snapshot.metrics
    if of.snapshot.imported is not None:
        raise CannotTell(what_source_lacks(of.recording.settings)["locks"])
    if metrics.duration_ns <= 0 or metrics.ticks <= 0:
        raise CannotTell("nothing was recorded in this range")
    if of.recording.settings.no_stacks is not None:
        raise CannotTell(f"the stacks are not known: {of.recording.settings.no_stacks}")
    capacity = metrics.capacity_cores
    if capacity is None:
        raise CannotTell(metrics.capacity_reason or "the number of cores is not known")
    shares = _Shares.of(of)
    notes: list[str] = []
    before = shares.as_recorded(of)
    after = sampled = before
    for change in changes:
        after = _changed(of, shares, after, change, notes)
        # What is left of a line that is done otherwise was measured, and is not a matter of samples.
        sampled = sampled if change.kind is ChangeKind.REMEDY else _changed(of, shares, sampled, change, [])
    left = _left(shares, sampled)
    too_little = left < LEAST_LEFT
    if too_little:
        after = replace(
            after,
            keep=np.where(after.gone, LEAST_LEFT, np.maximum(after.keep, LEAST_LEFT)),
            gone=np.zeros_like(after.gone),
            waitless=after.waitless | after.gone,
        )
    blocks = list(_blocks(of, before))
    again = list(_blocks(of, after))
    pairs = [(one, other) for one, other in zip(blocks, again, strict=True) if one is not None]
    if len(pairs) < LEAST_BLOCKS:
        raise CannotTell("the range is too short: at least a second of ticks in which threads work is needed")
    # Cores that the program wanted and others had are not there for it.
    foreign = sum(metrics.account.get(part, 0.0) for part in (CorePart.OTHER_PROGRAMS, CorePart.FTDIAG))
    room = min(capacity, max(metrics.on_cpu_cores, capacity - foreign, 0.1))
    cores, speed = _cores(room)
    # Cores that others had while it did not want them may not be free for it either when it wants more.
    others = (metrics.other_programs_cores or 0.0) - metrics.account.get(CorePart.OTHER_PROGRAMS, 0.0)
    contested = room / max(metrics.on_cpu_cores, room - max(0.0, others), 0.1)
    new_cores, new_speed = (cores, speed) if after.cores is None else _cores(after.cores)
    now, then, seen = [], [], []
    for one, other in pairs:
        assert other is not None
        now.append(replay.replayed(one, cores, speed))
        changed = other
        if after.balance:
            changed = replay.balanced(changed)
        if after.threads is not None:
            changed = replay.with_threads(changed, after.threads)
        then.append(replay.replayed(changed, new_cores, new_speed))
        seen.append(one.recorded_ns / one.length_ns if one.length_ns > 0 else 0.0)
    if sum(now) <= 0 or sum(seen) <= 0:
        raise CannotTell("no useful work was seen in this range")
    faithful = sum(now) / sum(seen)
    if not FAITHFUL[0] <= faithful <= FAITHFUL[1]:
        raise CannotTell(
            f"a replay without the change does {faithful:.1f} times what was recorded: what the threads wait"
            " for is not known well enough"
        )
    gain = sum(then) / sum(now)
    if gain > FAR:
        notes.append(
            "so far from what was recorded, another lock or peer may be in the way that is not seen now"
        )
    low, high = _interval(np.array(now), np.array(then), changes, left, faithful, _on_core(of), contested)
    if too_little:
        why = f"under {math.floor(100 * left) + 1} % of what threads do on a core would be left"
        if low < LEAST_MORE:
            raise CannotTell(why)
        return Prediction(
            changes,
            low=low,
            useful_cores=metrics.useful_cores,
            blocks=len(pairs),
            faithful_ratio=faithful,
            not_told=f"cannot tell how much more: {why}",
            notes=tuple(dict.fromkeys(notes)),
        )
    return Prediction(
        changes,
        gain=gain,
        low=min(low, gain),
        high=max(high, gain),
        useful_cores=metrics.useful_cores,
        blocks=len(pairs),
        faithful_ratio=faithful,
        notes=tuple(dict.fromkeys(notes)),
    )


def _cores(room: float) -> tuple[int, float]:
    """Whole cores, and how fast they are so that together they are `room`."""
    whole = max(1, math.ceil(room - 0.05))
    return whole, min(1.0, room / whole)


def _interval(
    now: Floats,
    then: Floats,
    changes: Sequence[Change],
    left: float,
    faithful: float,
    on_core: float,
    contested: float,
) -> tuple[float, float]:
    """The bounds of the gain: blocks drawn anew, times how far such predictions were off."""
    chance = np.random.default_rng(SEED)
    drawn = chance.integers(0, len(now), (RESAMPLES, len(now)))
    gains = then[drawn].sum(axis=1) / np.maximum(now[drawn].sum(axis=1), 1e-12)
    spread = math.hypot(*(MODEL_ERROR[change.kind] for change in changes))
    # What is left is known by its samples: the less of it, the wider.
    # A thread that wants a core looks like one that has it: the more of them, the less is known of each.
    spread = math.hypot(
        spread,
        0.5 * abs(math.log(max(faithful, 1e-3))),
        LEFT_ERROR / max(left, LEAST_LEFT),
        0.8 * (1.0 - on_core),
        0.5 * math.log(contested),
        FAR_ERROR * abs(math.log(max(float(then.sum() / now.sum()), 1e-3))),
    )
    noisy = gains * np.exp(chance.normal(0.0, spread, RESAMPLES))
    low, high = np.quantile(noisy, (OUTSIDE, 1.0 - OUTSIDE))
    return float(low), float(high)


# --- what is left by stack ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shares:
    """Time on a core by stack and state, as parts of all of the stack's (rows are stack ids)."""

    total_ns: Floats
    part: Floats

    @classmethod
    def of(cls, of: Range) -> _Shares:
        time, metrics = of.time, of.snapshot.metrics
        stacks = max(int(time.stack.max(initial=0)) + 1, len(of.recording.leaf_frames()))
        on = is_in(time.state, ON_CPU_STATES)
        spent = np.where(on, time.time_ns, 0.0)
        # Spinning is also booked while the core was yielded: here only time on a core counts.
        spun = metrics.account.get(CorePart.SPIN)
        whole = float(spent[time.state == ThreadState.SPIN].sum())
        if spun is not None and whole > spun * metrics.duration_ns:
            spent = np.where(
                time.state == ThreadState.SPIN, spent * spun * metrics.duration_ns / whole, spent
            )
        table = summed(time.stack * STATES + time.state, spent, stacks * STATES).reshape(stacks, STATES)
        total = table.sum(axis=1)
        part = np.divide(table, total[:, None], out=np.zeros_like(table), where=total[:, None] > 0)
        return cls(total, part)

    def share(self, *states: ThreadState) -> Floats:
        """The part of each stack's time that is in these states."""
        return np.asarray(self.part[:, [int(state) for state in states]].sum(axis=1))

    def as_recorded(self, of: Range) -> replay.Replayed:
        """Nothing changed."""
        stacks = len(self.total_ns)
        split = of.snapshot.metrics.on_cpu_is_split
        worth = self.share(*USEFUL_STATES, ThreadState.ON_CPU) if split else np.ones(stacks)
        return replay.Replayed(
            keep=np.ones(stacks),
            worth=np.where(self.total_ns > 0, worth, 1.0),
            gone=np.zeros(stacks, dtype=np.bool_),
            waitless=np.zeros(stacks, dtype=np.bool_),
            holds=np.ones(of.numbers.count),
            waits=np.ones(max(1, of.recording.wait_count)),
            states=np.ones(STATES),
            gil=bool(of.recording.target.gil_enabled),
        )


def _left(shares: _Shares, after: replay.Replayed) -> float:
    """The part of all time on a core that is left."""
    whole = float(shares.total_ns.sum())
    return (
        float((shares.total_ns * np.where(after.gone, 0.0, after.keep)).sum()) / whole if whole > 0 else 0.0
    )


# --- changes -----------------------------------------------------------------------------------------------


def _changed(
    of: Range, shares: _Shares, now: replay.Replayed, change: Change, notes: list[str]
) -> replay.Replayed:
    lost = 1.0 - change.factor
    match change.kind:
        case ChangeKind.THREADS:
            number = int(change.number or 0)
            if number < 1:
                raise ValueError("--threads needs a number of 1 or more")
            present = max(2, of.snapshot.metrics.threads_with_work)
            notes.append(
                "contention on a core is taken to grow with the number of other threads, up to now's"
            )
            less = 1.0 - min(1.0, (number - 1) / (present - 1))
            keep = now.keep - less * shares.share(*_WASTED)
            return replace(now, threads=number, keep=np.maximum(keep, 0.0))
        case ChangeKind.CORES:
            if not change.number or change.number <= 0:
                raise ValueError("--cores needs a number above 0")
            return replace(now, cores=float(change.number))
        case ChangeKind.BALANCE:
            return replace(now, balance=True)
        case ChangeKind.LOCK:
            return _without_lock(of, shares, now, change, notes)
        case ChangeKind.LINE | ChangeKind.REMEDY:
            inside = _stacks_with(of, change.what)
            if not inside.any():
                raise ValueError(f"no sample is at {change.what}")
            if change.kind is ChangeKind.REMEDY:
                notes.append(
                    "the other way to do that was measured alone, where it did"
                    f" {1.0 / change.factor:.2g} times as much"
                )
                # What it gained alone is of its waits, too: they go, and their part of the rest is work.
                factor = min(1.0, change.factor * _waits_too(of, inside))
                keep = np.where(inside, now.keep * factor, now.keep)
                return replace(now, keep=keep, waitless=now.waitless | inside)
            if change.factor <= 0:
                return replace(now, gone=now.gone | inside)
            return replace(now, keep=np.where(inside, now.keep * change.factor, now.keep))
        case ChangeKind.IO:
            waits = now.waits.copy()
            found = [
                wait_id
                for wait_id in range(len(waits))
                if (wait := of.recording.wait(wait_id)) is not None
                and wait.lock is None
                and change.what.lower() in (wait.detail or wait.syscall or "").lower()
            ]
            if not found:
                raise ValueError(f"nobody waits for {change.what}")
            waits[found] *= change.factor
            return replace(now, waits=waits)
        case ChangeKind.CONTENTION:
            inside = _stacks_with(of, change.what) if change.what else np.ones(len(now.keep), dtype=np.bool_)
            wasted = shares.share(*_WASTED)
            keep = now.keep - np.where(inside, lost * wasted, 0.0)
            # The more of a line waits for contended memory, the slower is the rest of it.
            slowed = SLOWED_BESIDE.get(_series(of), SLOWED_ELSEWHERE) - 1.0
            beside = 1.0 + slowed * lost * np.minimum(1.0, shares.share(ThreadState.ATOMIC) / MOSTLY_WASTED)
            keep = np.where(inside, keep / beside, keep)
            states = now.states.copy()
            states[ThreadState.OBJECT_LOCK] = min(states[ThreadState.OBJECT_LOCK], change.factor)
            holds = _holds(of, now.holds, change.factor, lambda lock: lock.kind is LockKind.OBJECT)
            notes.append(
                "instructions beside the contended ones are slowed down, too: that is not in the figure"
            )
            return replace(now, keep=np.maximum(keep, 0.0), states=states, holds=holds)
        case ChangeKind.ALLOCATION:
            inside = _stacks_with(of, change.what) if change.what else np.ones(len(now.keep), dtype=np.bool_)
            keep = now.keep - np.where(inside, lost * shares.share(ThreadState.ALLOC), 0.0)
            return replace(now, keep=np.maximum(keep, 0.0))
        case ChangeKind.OVERHEAD:
            files = change.what.split("|")
            own = _by_stack(of, lambda frame: any(file in frame.filename for file in files), inclusive=False)
            if not own.any():
                raise ValueError(f"no sample is in {change.what}")
            keep = np.where(own, now.keep * change.factor, now.keep)
            return replace(now, keep=keep, gone=now.gone | (own if change.factor <= 0 else False))
        case ChangeKind.COLLECTOR:
            keep = now.keep - lost * shares.share(ThreadState.GC)
            stopped = _stopped(of, now, change.factor)
            return replace(stopped, keep=np.maximum(keep, 0.0))
        case ChangeKind.STOPS:
            return _stopped(of, now, change.factor)
        case ChangeKind.GIL:
            states = now.states.copy()
            states[ThreadState.GIL] *= change.factor
            holds = _holds(of, now.holds, change.factor, lambda lock: lock.kind is LockKind.GIL)
            return replace(now, states=states, holds=holds, gil=now.gil and change.factor > 0)


def _stopped(of: Range, now: replay.Replayed, factor: float) -> replay.Replayed:
    states = now.states.copy()
    states[ThreadState.STOPPED] *= factor
    holds = _holds(of, now.holds, factor, lambda lock: lock.label in (STOP_EVENT, STOP_TURN))
    return replace(now, states=states, holds=holds)


def _holds(of: Range, holds: Floats, factor: float, which: Callable[..., bool]) -> Floats:
    changed = holds.copy()
    for number in range(1, len(holds)):
        if which(of.numbers.lock(number)):
            changed[number] *= factor
    return changed


def _without_lock(
    of: Range, shares: _Shares, now: replay.Replayed, change: Change, notes: list[str]
) -> replay.Replayed:
    numbers = locks_named(of, change.what)
    holds = now.holds.copy()
    holds[list(numbers)] *= change.factor
    lines = {
        waiter.stack[0]
        for lock in of.snapshot.locks
        if lock.number in numbers
        for waiter in lock.waiters
        if waiter.stack
    }
    functions = {(frame.filename, frame.function) for frame in lines}
    at_line, near = _leaf_in(of, lines), _near(of, functions)
    lost = 1.0 - change.factor
    keep = now.keep - np.where(near, lost * shares.share(*_WASTED), 0.0)
    if change.factor <= 0 and all(of.numbers.lock(number).kind is LockKind.USER for number in numbers):
        # A `with` line does nothing but take the lock and give it back: its work goes with it.
        # Who was woken and wants a core is at that line, too: what of the time there is work, is less then.
        keep = np.where(at_line, keep * (1.0 - _on_core(of) ** 2), keep)
    known = sum(lock.wait_ns for lock in of.snapshot.locks if lock.number in numbers)
    blamed = sum(
        holder.blame_ns
        for lock in of.snapshot.locks
        if lock.number in numbers
        for holder in lock.holders
        if holder.thread is not None
    )
    if known > 0 and blamed < 0.5 * known:
        notes.append("who holds the lock is not known for most of the waiting: shorter holds are a guess")
    return replace(now, holds=holds, keep=np.maximum(keep, 0.0))


def _waits_too(of: Range, inside: Bools) -> float:
    """Time on a core and in waits for locks over that on a core alone, of these stacks."""
    time = of.time
    there = inside[np.minimum(time.stack, len(inside) - 1)] & (time.stack < len(inside))
    working = float(time.time_ns[there & is_in(time.state, ON_CPU_STATES)].sum())
    waiting = float(time.time_ns[there & is_in(time.state, LOCK_STATES)].sum())
    return 1.0 + waiting / working if working > 0 else 1.0


def _series(of: Range) -> str:
    return ".".join(of.recording.target.python_version.split(".")[:2])


def _on_core(of: Range) -> float:
    """The part of the time in which a thread that wants a core has one."""
    metrics = of.snapshot.metrics
    wanted = metrics.on_cpu_cores + metrics.run_queue_cores
    return metrics.on_cpu_cores / wanted if wanted > 0 else 1.0


def locks_named(of: Range, name: str) -> set[int]:
    """The numbers of the locks that a name fits: "lock-3", an address, a label or a part of one.

    Raises ValueError where none does.
    """
    wanted = name.strip().lower()
    seen = {lock.number: lock.lock for lock in of.snapshot.locks if lock.number > 0}
    # As findings have it: "self._lock 0x7f..." or the address alone.
    address = wanted.rpartition(" ")[2]
    exact = {
        number
        for number, lock in seen.items()
        if wanted == f"lock-{number}" or address == f"{lock.address:#x}"
    }
    if exact:
        return exact
    fits = {number for number, lock in seen.items() if wanted == (lock.label or "").lower()}
    if not fits:
        fits = {
            number
            for number, lock in seen.items()
            if wanted and wanted in f"{lock.label or ''} {lock.type_name or ''}".lower()
        }
    if not fits:
        known = ", ".join(filter(None, dict.fromkeys(lock.label or lock.type_name for lock in seen.values())))
        raise ValueError(f"no lock that is waited for is called {name}; there are: {known[:300] or 'none'}")
    return fits


# --- stacks ------------------------------------------------------------------------------------------------


def _stacks_with(of: Range, place: str) -> Bools:
    """By stack id, whether a frame of it is at "file.py:12", in "file.py", or in a function of that name."""
    filename, _, line = place.rpartition(":")
    number = int(line) if filename and line.isdigit() else None
    filename = filename if number is not None else place

    def at(frame: Frame) -> bool:
        if number is not None and frame.line != number:
            return False
        return (
            frame.filename == filename
            or frame.filename.endswith(f"/{filename}")
            or (number is None and filename in (frame.function, frame.function.rpartition(".")[2]))
        )

    return _by_stack(of, at, inclusive=True)


def _leaf_in(of: Range, lines: set[Frame]) -> Bools:
    return _by_stack(of, lambda frame: frame in lines, inclusive=False)


def _near(of: Range, functions: set[tuple[str, str]]) -> Bools:
    """Stacks that have one of the functions among their three innermost frames."""
    found = _by_stack(of, lambda frame: (frame.filename, frame.function) in functions, inclusive=False)
    parents = of.recording.parents().astype(np.int64)
    size = len(found)
    once = found | np.where(parents < size, found[np.minimum(parents, size - 1)], False)[:size]
    return once | np.where(parents < size, once[np.minimum(parents, size - 1)], False)[:size]


def _by_stack(of: Range, at: Callable[[Frame], bool], *, inclusive: bool) -> Bools:
    """By stack id, whether its innermost frame (`inclusive`: any frame) is one that is asked for."""
    leaves = of.recording.leaf_frames()
    parents = of.recording.parents()
    seen: dict[int, bool] = {}
    found = np.zeros(len(leaves), dtype=np.bool_)
    for stack, leaf in enumerate(leaves.tolist()):
        if leaf < 0:
            continue
        if leaf not in seen:
            seen[leaf] = at(of.recording.frame(leaf))
        # A stack's parent has the smaller id: it was decided before.
        found[stack] = seen[leaf] or (inclusive and bool(found[parents[stack]]))
    return found


# --- blocks ------------------------------------------------------------------------------------------------


def _blocks(of: Range, what: replay.Replayed) -> Sequence[replay.Block | None]:
    """Blocks of ticks taken evenly from the range; the same ones whatever is changed."""
    recording = of.recording
    windows = len(of.windows)
    ticks = int(recording.tick_counts[list(of.windows)].sum()) if windows else 0
    threads = max(1, of.snapshot.metrics.threads_with_work)
    most = max(LEAST_BLOCKS, min(MAX_WINDOWS, windows, MAX_OPERATIONS // (threads * BLOCK_TICKS)))
    # Waits that last longer than a block are not seen to end: blocks of several windows where there are many.
    together = max(1, min(MAX_TOGETHER, most // BLOCKS_WANTED))
    size = max(LEAST_TICKS, min(BLOCK_TICKS * together, ticks // BLOCKS_WANTED))
    groups = max(1, most // together)
    step = max(1.0, (windows - together) / max(1, groups - 1)) if groups > 1 else 1.0
    found: list[replay.Block | None] = []
    for number in range(groups):
        place = int(number * step)
        if place >= windows:
            break
        first = of.windows[place]
        last = first + 1
        while last - first < together and place + last - first < windows:
            if of.windows[place + last - first] != last:
                break  # what lies between is left out
            last += 1
        periods = of.periods(first, last)
        runs = tick_runs(recording, first, last, periods)
        accounts = accounting.account(recording, first, last, runs, periods)
        found += replay.blocks_of(
            runs, accounts, of.lock_of_wait, periods, min(size, max(1, runs.ticks)), what
        )
    return found
