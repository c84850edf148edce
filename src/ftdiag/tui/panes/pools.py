"""Threads of one pool as one row: which belong together, what they are called, and what they did together.

In: threads of a snapshot and their lanes. Out: pools, each with a thread that stands for its members: its
times are theirs added up, its lane has each state as often as all of them were in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import HotLine, ThreadMetrics, ThreadState, Wait
from ftdiag.wording.threads import pool_key, pool_name

LEAST_MEMBERS: Final = 8
"""Fewer threads of one name stay rows of their own: they have room on a small screen."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Threads whose names differ by their numbers only, and a thread that stands for them all."""

    key: tuple[str, str]
    members: tuple[ThreadMetrics, ...]
    together: ThreadMetrics


def pools_of(threads: Iterable[ThreadMetrics], apart: frozenset[int]) -> list[ThreadMetrics | Pool]:
    """The threads, those of a pool put together where the first of them was.

    `apart` are indexes of threads that stay rows of their own.
    """
    alike: dict[tuple[str, str], list[ThreadMetrics]] = {}
    order: list[ThreadMetrics | tuple[str, str]] = []
    for thread in threads:
        key = pool_key(thread.info.name)
        if key is None or thread.info.main or thread.info.index in apart:
            order.append(thread)
            continue
        if key not in alike:
            order.append(key)
        alike.setdefault(key, []).append(thread)
    found: list[ThreadMetrics | Pool] = []
    for each in order:
        if not isinstance(each, tuple):
            found.append(each)
        elif len(members := alike[each]) < LEAST_MEMBERS:
            found += members
        else:
            found.append(Pool(each, tuple(members), _together(members)))
    return found


def _together(members: Sequence[ThreadMetrics]) -> ThreadMetrics:
    """One thread with the times of all; what differs by thread is that of most of the time."""
    states: dict[ThreadState, float] = {}
    # Most members have the very same waits and frames: these are told apart before they are compared.
    same_waits: dict[int, tuple[Wait, float]] = {}
    same_lines: dict[int, tuple[HotLine, float]] = {}
    for thread in members:
        for state, spent in thread.states_ns.items():
            states[state] = states.get(state, 0.0) + spent
        for wait, spent in thread.waits:
            same_waits[id(wait)] = wait, same_waits.get(id(wait), (wait, 0.0))[1] + spent
        for line in thread.hot[:1]:
            key = id(line.frame)
            same_lines[key] = line, same_lines.get(key, (line, 0.0))[1] + line.total_ns
    waits: dict[Wait, float] = {}
    for wait, spent in same_waits.values():
        waits[wait] = waits.get(wait, 0.0) + spent
    lines: dict[object, tuple[float, HotLine]] = {}
    for line, spent in same_lines.values():
        lines[line.frame] = lines.get(line.frame, (0.0, line))[0] + spent, line
    longest = sorted(waits.items(), key=lambda item: -item[1])
    hottest = sorted(lines.values(), key=lambda item: -item[0])
    first = members[0]
    roles = {thread.role for thread in members}
    return replace(
        first,
        info=replace(first.info, name=pool_name([thread.info.name for thread in members])),
        role=first.role if len(roles) == 1 else "mixed",
        alive_ns=sum(thread.alive_ns for thread in members),
        cpu_ns=sum(thread.cpu_ns for thread in members),
        run_queue_ns=sum(thread.run_queue_ns for thread in members),
        states_ns=states,
        waits=tuple(longest),
        hot=tuple(line for _, line in hottest),
    )


def lane_of(lanes: Sequence[bytes]) -> bytes:
    """One lane for several: each state in as many cells as it has in all of them, near where it was.

    In each slice the state with the most time that no cell has shown yet; 0 where no thread was there.
    """
    lanes = [lane for lane in lanes if lane]
    if not lanes:
        return b""
    owed: dict[int, float] = {}
    made = bytearray()
    width = min(map(len, lanes))
    joined = b"".join(lane[:width] for lane in lanes)
    for place in range(width):
        cells = joined[place::width]
        there = len(cells) - cells.count(0)
        if not there:
            made.append(0)
            continue
        for code in set(cells) - {0}:
            owed[code] = owed.get(code, 0.0) + cells.count(code) / there
        most = max(owed, key=lambda code: owed[code])
        owed[most] -= 1.0
        made.append(most)
    return bytes(made)
