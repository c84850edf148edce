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
from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis import accounting, replay
from ftdiag.analysis.changed import Range, Shares, left_of, on_core, waits_gone, with_change, with_remedy
from ftdiag.analysis.efficiency import what_source_lacks
from ftdiag.analysis.grouping import Floats
from ftdiag.analysis.ticks import tick_runs
from ftdiag.datatypes import replace
from ftdiag.model import Change, ChangeKind, CorePart, Prediction

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
APART: Final = 2.0
"""How much more than the mean of all blocks one may do."""
LEFT_ERROR: Final = 0.03
"""Over the part that is left: how much less sure a prediction is for that."""
FAR_ERROR: Final = 0.1
"""Times the logarithm of the gain: how much less sure one that goes far is."""
FAR: Final = 4.0
"""A gain from which on what was never waited for may decide."""
SEED: Final = 20_250_101


class CannotTell(Exception):
    """Why there is no prediction."""


def predict(of: Range, changes: Sequence[Change], remedy: Change | None = None) -> Prediction:
    """What the changes together would bring. Raises ValueError for a name that fits nothing.

    `remedy` says the same in another way: by what it was measured to gain alone. The recording and that
    measurement err independently, so the figure lies between them, nearer to the surer one.
    """
    told = tuple(changes)
    try:
        return _predicted(of, told, remedy)
    except CannotTell as why:
        return Prediction(told, not_told=f"cannot tell: {why}")


def _predicted(of: Range, changes: tuple[Change, ...], remedy: Change | None) -> Prediction:
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
    shares = Shares.of(of)
    notes: list[str] = []
    before = shares.as_recorded(of)
    after = sampled = before
    for change in changes:
        after = with_change(of, shares, after, change, notes)
        # What is left of a line that is done otherwise was measured, and is not a matter of samples.
        sampled = (
            sampled if change.kind is ChangeKind.REMEDY else with_change(of, shares, sampled, change, [])
        )
    left = left_of(shares, sampled)
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
    # Where next to nothing is left, what the remedy takes itself is all that there is: not in the recording.
    remedied = None if remedy is None or too_little else with_remedy(of, before, remedy)
    if len(pairs) < LEAST_BLOCKS:
        raise CannotTell("the range is too short: at least a second of ticks in which threads work is needed")
    # Cores that the program wanted and others had are not there for it.
    foreign = sum(metrics.account.get(part, 0.0) for part in (CorePart.OTHER_PROGRAMS, CorePart.FTDIAG))
    room = min(capacity, max(metrics.on_cpu_cores, capacity - foreign, 0.1))
    cores, speed = _cores(room)
    # Cores that others had while it did not want them may not be free for it either when it wants more.
    others = (metrics.other_programs_cores or 0.0) - metrics.account.get(CorePart.OTHER_PROGRAMS, 0.0)
    contested = room / max(metrics.on_cpu_cores, room - max(0.0, others), 0.1)
    # If it wants them they are shared: it may have any part between what they leave and all.
    new_cores, new_speed = _cores(room / math.sqrt(contested) if after.cores is None else after.cores)
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
    if after.threads is None:
        then = _possible(then, [other for _, other in pairs if other is not None], new_cores * new_speed)
    if sum(now) <= 0 or sum(seen) <= 0:
        raise CannotTell("no useful work was seen in this range")
    faithful = sum(now) / sum(seen)
    if not FAITHFUL[0] <= faithful <= FAITHFUL[1]:
        raise CannotTell(
            f"a replay without the change does {faithful:.1f} times what was recorded: what the threads wait"
            " for is not known well enough"
        )
    # What a replay does too fast or too slowly is the waiting; as much of that as goes is not done again.
    then = [each * faithful ** waits_gone(of, before, after) for each in then]
    if remedied is not None:
        weight = _weight(changes)
        others_of = [block for block in _blocks(of, remedied) if block is not None]
        alone = [replay.replayed(other, new_cores, new_speed) for other in others_of]
        alone = _possible(alone, others_of, new_cores * new_speed)
        # Where it comes to less than no waiting alone, its line is only a part of where threads wait.
        if sum(alone) > sum(then):
            then = [each ** (1.0 - weight) * other**weight for each, other in zip(then, alone, strict=True)]
            assert remedy is not None
            notes.append(
                "the figure lies between what the recording shows and what the first remedy gained alone:"
                f" {1.0 / remedy.factor:.2g} times as much"
            )
    gain = sum(then) / sum(now)
    if gain > FAR:
        notes.append(
            "so far from what was recorded, another lock or peer may be in the way that is not seen now"
        )
    low, high = _interval(np.array(now), np.array(then), changes, left, faithful, on_core(of), contested)
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


def _possible(done: Sequence[float], blocks: Sequence[replay.Block], cores: float) -> list[float]:
    """At most what all cores do of what is left, in the mix of threads that was recorded: in a short block a
    thread may have next to nothing left, and would be through any number of times."""
    spent = sum(replay.on_core_ns(block) for block in blocks)
    worth = sum(block.recorded_ns for block in blocks)
    if spent <= 0:
        return list(done)
    most = cores * worth / spent
    bounded = [min(each, APART * most) for each in done]
    return [each * min(1.0, most * len(bounded) / max(sum(bounded), 1e-9)) for each in bounded]


def _weight(changes: Sequence[Change]) -> float:
    """The weight of a measured remedy beside a replay without the cause: both as sure as they were found."""
    replayed = math.hypot(*(MODEL_ERROR[change.kind] for change in changes)) ** 2
    return replayed / (replayed + MODEL_ERROR[ChangeKind.REMEDY] ** 2)


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
