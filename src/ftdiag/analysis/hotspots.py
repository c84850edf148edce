"""Where thread-time is spent in the program's text: hot lines and functions with their stacks.

In: accounted thread-time (`ThreadTime`, summed over windows). Out: the model's `HotLine`, hottest first.

A line's time is the accounted time of the samples in which it was the innermost Python frame, so all lines
and `HotTable.unattributed_ns` (no Python frame, torn stack) add up to what the samples caught.

Order: the program's lines are ranked by their *active* time (all but idle, sleep and I/O), then by total
time. Else a pool of sleeping threads would always be the hottest line of a program. A thread's own lines
are ranked by total time: they say where that thread is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.efficiency import APART_STATES, is_in
from ftdiag.analysis.grouping import Floats, Ints, group_by, largest_of_each, numbered, summed
from ftdiag.analysis.oncpu import OnCpuDetails
from ftdiag.analysis.ticks import STATES
from ftdiag.datatypes import dataclass
from ftdiag.model import OWN_LOCK, SPUN_FOR, Frame, HotLine, ThreadState, Wait
from ftdiag.recording.reader import Recording

HOT_LINES: Final = 100
"""Lines kept for the whole program."""
HOT_LINES_OF_THREAD: Final = 8
"""Lines kept for one thread."""
STACKS_OF_LINE: Final = 5
"""Stacks kept for one line of the whole program."""
STACKS_OF_THREAD_LINE: Final = 1
"""Stacks kept for one line of one thread."""
WAITS_OF_THREAD: Final = 8
"""Waits kept for one thread."""
ACTIVE_STATES: Final = tuple(state for state in ThreadState if state not in APART_STATES)
"""States by which lines and threads are ranked. Unknown waits are among them: they may be locks."""

STATE_OF: Final = {int(state): state for state in ThreadState}
"""States by their number in columns."""


@dataclass(frozen=True, slots=True)
class HotTable:
    """Hot lines or functions, and the thread-time that no Python frame accounts for."""

    lines: tuple[HotLine, ...]
    unattributed_ns: float


@dataclass(frozen=True, slots=True)
class _Attributed:
    """Rows with a leaf frame: `owner` is 0 (whole program) or the thread; `item` a frame or function."""

    owner: Ints
    item: Ints
    time: ThreadTime


@dataclass(frozen=True, slots=True)
class Placed:
    """Thread-time by its innermost frame: the rows that have one, and the time of those that have none."""

    rows: _Attributed
    unattributed_ns: float


def hot_lines(
    recording: Recording,
    placed: Placed,
    limit: int = HOT_LINES,
    details: OnCpuDetails | None = None,
    wall: Mapping[Frame, float] | None = None,
) -> HotTable:
    """The hottest lines of the whole program, with what `details` say of their time on a core.

    `wall` has the wall time of lines in ns; without any none is known.
    """
    lines = _hottest(recording, placed.rows, None, limit, STACKS_OF_LINE, details=details, wall=wall or None)
    return HotTable(lines.get(0, ()), placed.unattributed_ns)


def hot_functions(recording: Recording, time: ThreadTime, limit: int = HOT_LINES) -> HotTable:
    """The hottest functions of the whole program: the lines of a function in one, `frame.line` None."""
    placed = placed_time(recording, time)
    rows = placed.rows
    functions: dict[tuple[str, str], int] = {}
    frames: list[Frame] = []
    leaves, inverse = numbered(rows.item)
    number = np.zeros(len(leaves), dtype=np.int64)
    for position, leaf in enumerate(leaves.tolist()):
        frame = recording.frame(leaf)
        name = (frame.filename, frame.function)
        if name not in functions:
            functions[name] = len(frames)
            frames.append(Frame(frame.filename, frame.function, None))
        number[position] = functions[name]
    rows = _Attributed(rows.owner, number[inverse], rows.time)
    lines = _hottest(recording, rows, frames, limit, STACKS_OF_LINE)
    return HotTable(lines.get(0, ()), placed.unattributed_ns)


def hot_lines_by_thread(
    recording: Recording, placed: Placed, limit: int = HOT_LINES_OF_THREAD
) -> dict[int, tuple[HotLine, ...]]:
    """The hottest lines of every thread, by thread index."""
    rows = placed.rows
    return _hottest(
        recording,
        _Attributed(rows.time.thread, rows.item, rows.time),
        None,
        limit,
        STACKS_OF_THREAD_LINE,
        tuple(ThreadState),
    )


def waits_by_thread(
    recording: Recording, time: ThreadTime, limit: int = WAITS_OF_THREAD
) -> dict[int, tuple[tuple[Wait, float], ...]]:
    """The longest waits of every thread, by thread index."""
    rows = time.wait > 0
    thread, wait = time.thread[rows], time.wait[rows]
    groups = group_by(thread, wait)
    thread, wait, spent = groups.key(thread), groups.key(wait), groups.total(time.time_ns[rows])
    best = largest_of_each(thread, spent, limit)
    known: dict[int, Wait | None] = {}
    waits: dict[int, tuple[tuple[Wait, float], ...]] = {}
    owners, ids, lasted = thread[best].tolist(), wait[best].tolist(), spent[best].tolist()
    for owner, wait_id, time_ns in zip(owners, ids, lasted, strict=True):
        if wait_id not in known:
            known[wait_id] = recording.wait(wait_id)
        what = known[wait_id]
        if what is not None and time_ns > 0:
            waits[owner] = (*waits.get(owner, ()), (what, time_ns))
    return waits


def placed_time(recording: Recording, time: ThreadTime) -> Placed:
    """The innermost frame of every row of thread-time."""
    leaves = recording.leaf_frames()
    inside = time.stack < len(leaves)
    leaf = np.full(len(time), -1, dtype=np.int64)
    leaf[inside] = leaves[time.stack[inside]]
    rows = (leaf >= 0) & (time.time_ns > 0)
    kept = ThreadTime(
        time.window[rows],
        time.thread[rows],
        time.state[rows],
        time.stack[rows],
        time.wait[rows],
        time.time_ns[rows],
    )
    unattributed = float(time.time_ns[leaf < 0].sum())
    return Placed(_Attributed(np.zeros(len(kept), dtype=np.int64), leaf[rows], kept), unattributed)


def _hottest(
    recording: Recording,
    rows: _Attributed,
    frames: list[Frame] | None,
    limit: int,
    stacks: int,
    states: tuple[ThreadState, ...] = ACTIVE_STATES,
    details: OnCpuDetails | None = None,
    wall: Mapping[Frame, float] | None = None,
) -> dict[int, tuple[HotLine, ...]]:
    """The `limit` hottest items of every owner, by their time in `states`."""
    if not len(rows.item):
        return {}
    time = rows.time
    every = len(states) == len(ThreadState)
    active = time.time_ns if every else np.where(is_in(time.state, states), time.time_ns, 0.0)
    by_item = group_by(rows.owner, rows.item)
    owner, item = by_item.key(rows.owner), by_item.key(rows.item)
    total = by_item.total(time.time_ns)
    active_total = total if every else by_item.total(active)
    # Active time decides; the total only breaks ties among lines without any (it cannot exceed the scale).
    rank = active_total + total / (1.0 + float(total.sum()))
    group_of_row = np.empty(len(rows.item), dtype=np.int64)
    sizes = np.diff(np.append(by_item.starts, len(rows.item)))
    group_of_row[by_item.order] = np.repeat(np.arange(len(by_item)), sizes)
    chosen = largest_of_each(owner, rank, limit)
    wanted = np.zeros(len(by_item), dtype=np.bool_)
    wanted[chosen] = True
    row = wanted[group_of_row]
    slot = np.cumsum(wanted) - 1
    slot_of_row = slot[group_of_row[row]]
    slots = int(wanted.sum())
    split = summed(slot_of_row * STATES + time.state[row], time.time_ns[row], slots * STATES).reshape(
        slots, STATES
    )
    if rows.owner is time.thread:
        threads = [1] * slots
    else:
        pairs = group_by(slot_of_row, time.thread[row])
        threads = np.bincount(pairs.key(slot_of_row), minlength=slots).tolist()
    top = _stacks(slot_of_row, time.stack[row], time.time_ns[row], stacks)
    splits = states_by_row(split)
    lines: dict[int, list[HotLine]] = {}
    slots_chosen = slot[chosen].tolist()
    for who, what, place in zip(owner[chosen].tolist(), item[chosen].tolist(), slots_chosen, strict=True):
        lines.setdefault(who, []).append(
            _line(recording, frames, what, splits[place], threads[place], top.get(place, ()), details, wall)
        )
    return {who: tuple(found) for who, found in lines.items()}


def states_by_row(times: Ints | Floats) -> list[dict[ThreadState, Any]]:
    """The states with any time of every row, where column i is the time in state i."""
    split: list[dict[ThreadState, Any]] = [{} for _ in range(len(times))]
    rows, codes = np.nonzero(times)
    for row, code, time in zip(rows.tolist(), codes.tolist(), times[rows, codes].tolist(), strict=True):
        split[row][STATE_OF[code]] = time
    return split


def _line(
    recording: Recording,
    frames: list[Frame] | None,
    item: int,
    states_ns: dict[ThreadState, float],
    threads: int,
    stacks: tuple[tuple[int, float], ...],
    details: OnCpuDetails | None,
    wall: Mapping[Frame, float] | None,
) -> HotLine:
    frame = recording.frame(item) if frames is None else frames[item]
    total = sum(states_ns.values())
    at = tuple([(recording.stack(stack), spent) for stack, spent in stacks])
    if details is None:
        return HotLine(frame, total, states_ns, threads, at)
    objects = details.shared.get(item, ())
    return HotLine(
        frame,
        total,
        states_ns,
        threads,
        at,
        shared=tuple([one for one in objects if one.name not in (OWN_LOCK, SPUN_FOR)]),
        own_locks=tuple([one.type_name for one in objects if one.name == OWN_LOCK]),
        spun_for=tuple([one.type_name for one in objects if one.name == SPUN_FOR]),
        spun_paths=tuple(
            [None if one.facts is None else one.facts.path for one in objects if one.name == SPUN_FOR]
        ),
        native=details.native_of(recording, item),
        wall_ns=None if wall is None else wall.get(frame, 0.0),
    )


def _stacks(slot: Ints, stack: Ints, spent: Floats, limit: int) -> dict[int, tuple[tuple[int, float], ...]]:
    groups = group_by(slot, stack)
    slot, stack, total = groups.key(slot), groups.key(stack), groups.total(spent)
    best = largest_of_each(slot, total, limit)
    top: dict[int, tuple[tuple[int, float], ...]] = {}
    rows = zip(slot[best].tolist(), stack[best].tolist(), total[best].tolist(), strict=True)
    for owner, stack_id, time_ns in rows:
        top[owner] = (*top.get(owner, ()), (stack_id, time_ns))
    return top
