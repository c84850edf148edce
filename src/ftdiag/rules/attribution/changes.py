"""What is different when a cause is gone: what a replay leaves out to say what fixing it would bring.

In: a finding and its snapshot. Out: `Change`s, or in words why a replay cannot know. Mostly only the cause is
taken away, not the remedy put in its place: what that costs itself is not in the figure. Where the remedy is
other code, its line takes what is left of it where cause and remedy were measured alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.model import Change, ChangeKind, Finding, Snapshot
from ftdiag.rules.base import Without

MAX_FUNCTIONS: Final = 3
"""Functions in which a lock is waited for, the ones with the longest waits."""
WAITED_FOR: Final = frozenset({ChangeKind.LOCK, ChangeKind.CONTENTION})
"""Causes whose remedy mostly takes more away than the waiting: the lock's or the object's own use."""
OTHER_CODE: Final = "what the other code would take instead is not in the recording"


def everywhere(kind: ChangeKind) -> Without:
    """All of one kind of loss left out."""
    return lambda finding, snapshot: (Change(kind),)


def place_of(finding: Finding) -> str:
    """The line of the finding, "" where it names none."""
    file, line = finding.subject.get("file"), finding.subject.get("line")
    return f"{file}:{line}" if file is not None and line is not None else ""


def without_line(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """The line that the finding names left out."""
    place = place_of(finding)
    return (Change(ChangeKind.LINE, place),) if place else "the finding names no line"


def as_remedied(finding: Finding) -> tuple[Change, ...] | str:
    """The line that the finding names done in the way of its first remedy."""
    place, gain = place_of(finding), finding.remedy[0].gain
    if not place or gain is None:
        return OTHER_CODE
    return (Change(ChangeKind.REMEDY, place, factor=1.0 / gain),)


def remedy_of(finding: Finding, changes: Sequence[Change]) -> Change | None:
    """The first measured remedy of what threads wait for, at the finding's line; `None` for other causes."""
    place = place_of(finding)
    gain = next((remedy.gain for remedy in finding.remedy if remedy.gain is not None), None)
    if not place or gain is None or not {change.kind for change in changes} <= WAITED_FOR:
        return None
    return Change(ChangeKind.REMEDY, place, factor=1.0 / gain)


def without_lock(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """Nobody waits for the lock that the finding is about."""
    name = str(finding.subject.get("lock", ""))
    if name:
        return (Change(ChangeKind.LOCK, name),)
    place = finding.subject.get("file"), finding.subject.get("line")
    for lock in snapshot.locks:
        for waiter in lock.waiters:
            if lock.number and any((frame.filename, frame.line) == place for frame in waiter.stack):
                return (Change(ChangeKind.LOCK, f"lock-{lock.number}"),)
    return "no lock is known that is waited for there"


def without_lock_and_its_memory(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """A lock that is mostly spun for: what it guards for a moment is contended memory, which goes with it."""
    found = without_lock(finding, snapshot)
    if isinstance(found, str):
        return found
    address = str(finding.subject.get("lock", "")).rpartition(" ")[2]
    ranked = snapshot.bottlenecks.ranked if snapshot.bottlenecks is not None else ()
    for one in ranked:
        if one.lock is None or f"{one.lock.address:#x}" != address or 2 * one.wasted_cores < one.lost_cores:
            continue
        functions = {
            waiter.stack[0].function
            for lock in snapshot.locks
            if lock.number == one.number
            for waiter in lock.waiters[:MAX_FUNCTIONS]
            if waiter.stack
        }
        return (*found, *(Change(ChangeKind.CONTENTION, function) for function in sorted(functions)))
    return found
