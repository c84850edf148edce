"""What is left of a range when something is changed: of its stacks, locks and waits.

In: a `Range` of a recording and a `Change`. Out: `replay.Replayed`, what a replay leaves out; the part of all
time on a core that is left, and of all waiting that goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ftdiag.analysis import replay
from ftdiag.analysis.accounting import ON_CPU_STATES, ThreadTime
from ftdiag.analysis.efficiency import LOCK_STATES, is_in
from ftdiag.analysis.grouping import Bools, Floats, Ints, summed
from ftdiag.analysis.locks import LockNumbers
from ftdiag.analysis.ticks import STATES
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
    Snapshot,
    ThreadState,
)
from ftdiag.recording.reader import Recording

ALONE: Final = 0.1
"""What is left of the time at contended memory when it is a thread's own: the same loads and instructions,
which take 5 to 20 cycles there instead of 100 to 200 (a line that another core has)."""
MOSTLY_GONE: Final = 0.5
"""What is left of a library's own code at most for nobody to wait for its locks any more."""
CONTENDED: Final = 0.1
"""The part of a line's time on a core that is lost to others from which on it is contended."""
FULLY_CONTENDED: Final = 0.25
"""The part of a line's time that is lost to others, as samples show it, where threads do nothing but contend:
0.15 to 0.7 in programs that do (the half of docs/prediction.md that parameters are set with)."""

_WASTED: Final = (ThreadState.ATOMIC, ThreadState.SPIN)


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


# --- what is left by stack ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shares:
    """Time on a core by stack and state, as parts of all of the stack's (rows are stack ids)."""

    total_ns: Floats
    part: Floats

    @classmethod
    def of(cls, of: Range) -> Shares:
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


def left_of(shares: Shares, after: replay.Replayed) -> float:
    """The part of all time on a core that is left."""
    whole = float(shares.total_ns.sum())
    return (
        float((shares.total_ns * np.where(after.gone, 0.0, after.keep)).sum()) / whole if whole > 0 else 0.0
    )


# --- changes -----------------------------------------------------------------------------------------------


def with_change(
    of: Range, shares: Shares, now: replay.Replayed, change: Change, notes: list[str]
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
                inside |= _contended_like(shares, inside) & _in_functions_of(of, inside, change.what)
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
                raise ValueError(f"nobody waits for {change.what}; there are: {_peers(of)[:300] or 'none'}")
            waits[found] *= change.factor
            return replace(now, waits=waits)
        case ChangeKind.CONTENTION:
            inside = _stacks_with(of, change.what) if change.what else np.ones(len(now.keep), dtype=np.bool_)
            wasted = shares.share(ThreadState.SPIN) + (1.0 - ALONE) * shares.share(ThreadState.ATOMIC)
            keep = now.keep - np.where(inside, lost * wasted, 0.0)
            states = now.states.copy()
            states[ThreadState.OBJECT_LOCK] = min(states[ThreadState.OBJECT_LOCK], change.factor)
            holds = _holds(of, now.holds, change.factor, lambda lock: lock.kind is LockKind.OBJECT)
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
            own |= _calling(of, own)
            # Nobody hands tasks out faster than they come: who waits for one waits for who makes it.
            keep = np.where(own, now.keep * change.factor, now.keep)
            return replace(
                now, keep=keep, waitless=now.waitless | (own if change.factor <= MOSTLY_GONE else False)
            )
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


def _peers(of: Range) -> str:
    """What is waited for that is no lock, the longest waits first."""
    time = of.time
    spent = summed(time.wait, time.time_ns, max(1, of.recording.wait_count))
    waits = (of.recording.wait(int(wait_id)) for wait_id in np.argsort(-spent) if spent[wait_id] > 0)
    names = [wait.detail or wait.syscall for wait in waits if wait is not None and wait.lock is None]
    return ", ".join(dict.fromkeys(name for name in names if name))


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
    of: Range, shares: Shares, now: replay.Replayed, change: Change, notes: list[str]
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
        keep = np.where(at_line, keep * (1.0 - on_core(of) ** 2), keep)
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


def on_core(of: Range) -> float:
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


def _in_functions_of(of: Range, inside: Bools, place: str) -> Bools:
    """Stacks that end in a function in which some of these end, in the file of a place."""
    leaves = of.recording.leaf_frames()
    filename = place.rpartition(":")[0]
    ends = {of.recording.frame(int(leaf)) for leaf in np.unique(leaves[inside]) if leaf >= 0}
    functions = {
        (frame.filename, frame.function)
        for frame in ends
        if frame.filename == filename or frame.filename.endswith(f"/{filename}")
    }
    return _by_stack(of, lambda frame: (frame.filename, frame.function) in functions, inclusive=False)


def _calling(of: Range, called: Bools) -> Bools:
    """Stacks that end in a line from which one of these is called directly."""
    leaves, parents = of.recording.leaf_frames(), of.recording.parents()
    above = np.unique(parents[: len(called)][called])
    lines = {
        of.recording.frame(int(leaves[each]))
        for each in above
        if 0 <= each < len(leaves) and leaves[each] >= 0
    }
    return _leaf_in(of, lines)


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


def with_remedy(of: Range, now: replay.Replayed, remedy: Change) -> replay.Replayed | None:
    """With the remedy at its line, as far as that is contended; `None` where it gains nothing there.

    What it gained alone, it gained where threads did nothing else than contend.
    """
    inside = _stacks_with(of, remedy.what)
    lost = _lost_at(of, inside)
    if not lost or remedy.factor >= 1.0:
        return None
    factor = 1.0 - (1.0 - remedy.factor) * min(1.0, lost / FULLY_CONTENDED)
    keep = np.where(inside, now.keep * min(1.0, factor * _waits_too(of, inside)), now.keep)
    return replace(now, keep=keep, waitless=now.waitless | inside)


def _lost_at(of: Range, inside: Bools) -> float:
    """The part of what threads do at these stacks, on a core and in waits for locks, that others cost."""
    time = of.time
    there = inside[np.minimum(time.stack, len(inside) - 1)] & (time.stack < len(inside))
    lost = there & is_in(time.state, (*_WASTED, *LOCK_STATES))
    whole = float(time.time_ns[there & is_in(time.state, (*ON_CPU_STATES, *LOCK_STATES))].sum())
    return float(time.time_ns[lost].sum()) / whole if whole > 0 else 0.0


def _contended_like(shares: Shares, there: Bools) -> Bools:
    """Stacks that lose to others at least half of what these do: samples are seen at the line beside, too."""
    wasted = shares.share(*_WASTED)
    total = float(shares.total_ns[there].sum())
    part = float((wasted * shares.total_ns)[there].sum()) / total if total > 0 else 0.0
    return np.asarray(wasted >= max(CONTENDED, 0.5 * part))


def waits_gone(of: Range, before: replay.Replayed, after: replay.Replayed) -> float:
    """The part of all waiting for locks and stops that a change takes away."""
    time = of.time
    waits = is_in(time.state, LOCK_STATES)
    if not waits.any():
        return 0.0
    known = np.minimum(time.wait[waits], len(of.lock_of_wait) - 1)
    lock = np.where(time.wait[waits] < len(of.lock_of_wait), of.lock_of_wait[known], 0)

    def left(what: replay.Replayed) -> Floats:
        return what.of(lock, what.holds, 1.0) * what.of(time.state[waits], what.states, 1.0)

    whole = float((time.time_ns[waits] * left(before)).sum())
    kept = float((time.time_ns[waits] * np.minimum(left(after), left(before))).sum())
    return 1.0 - kept / whole if whole > 0 else 0.0
