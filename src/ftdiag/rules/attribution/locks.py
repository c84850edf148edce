"""Where a lock is held and where it is waited for, and by whom.

In: a charge of locks. Out: `Holding`, lines of the program.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Confidence, Frame, LockHolder, ThreadInfo
from ftdiag.rules.attribution.frames import program_frame
from ftdiag.rules.base import LockCharge, finite

NATIVE_MUTEX: Final = "pthread mutex"
"""The type name of a mutex of a C library; the other locks of native code are malloc's."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Where a lock is held while others wait: the place with most blame, by whom, and how much of all."""

    frame: Frame
    threads: tuple[ThreadInfo, ...]
    share: float
    confidence: Confidence


def holding(charge: LockCharge) -> Holding | None:
    """The place that keeps others waiting most; None where no holder is known."""
    blame: dict[Frame, float] = {}
    holders: dict[Frame, list[LockHolder]] = {}
    for lock in charge.locks:
        for holder in lock.holders:
            frame = program_frame(holder.stack)
            if holder.thread is not None and frame is not None:
                blame[frame] = blame.get(frame, 0.0) + finite(holder.blame_ns)
                holders.setdefault(frame, []).append(holder)
    if not blame:
        return None
    frame = max(blame, key=lambda each: blame[each])
    wait = sum(finite(lock.wait_ns) for lock in charge.locks)
    return Holding(
        frame,
        tuple(holder.thread for holder in holders[frame] if holder.thread is not None),
        min(1.0, blame[frame] / wait) if wait > 0 else 0.0,
        min(holder.confidence for holder in holders[frame]),
    )


def held_elsewhere(charge: LockCharge, line: Frame) -> float:
    """The share of the waits in which the holder was in another function than that of a line."""
    blame = sum(
        finite(holder.blame_ns)
        for lock in charge.locks
        for holder in lock.holders
        if holder.thread is not None
        and (frame := program_frame(holder.stack)) is not None
        and frame.function != line.function
    )
    wait = sum(finite(lock.wait_ns) for lock in charge.locks)
    return min(1.0, blame / wait) if wait > 0 else 0.0


def where(charge: LockCharge) -> Frame | None:
    """The line of the program at which most of the wait is."""
    for lock in charge.locks:
        for waiter in lock.waiters:
            return program_frame(waiter.stack)
    return None
