"""Updates of shared names that threads were seen in the middle of, and the races that follow from them.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

from ftdiag.datatypes import dataclass
from ftdiag.model.locks import SharedPlace
from ftdiag.model.target import Stack, ThreadInfo


@dataclass(frozen=True, slots=True)
class Updater:
    """A thread that was seen in the middle of updating a place, at a stack (leaf first), in so many ticks."""

    thread: ThreadInfo
    stack: Stack
    count: int


@dataclass(frozen=True, slots=True)
class SharedUpdate:
    """A place that several threads update, over a range.

    Ticks of threads in the middle of it: `unguarded` without a lock, `guarded` under one of `guards` (what
    the program calls them, where that is known), `unknown` where a lock may have been held that is not known.
    `together` are ticks at which two threads were in the middle of it without a lock in common, at the stacks
    of `pair`. `mixed` are seconds in which one thread updated it under a lock and another without that lock.
    `updaters` are all threads and stacks, those seen most first.
    """

    place: SharedPlace
    unguarded: int
    guarded: int
    unknown: int
    together: int
    mixed: int
    check: bool
    guards: tuple[str, ...]
    pair: tuple[Updater, Updater] | None
    updaters: tuple[Updater, ...]

    @property
    def overlap_ratio(self) -> float | None:
        """Share of the ticks in the middle of it at which another thread was, too: so much may be lost.

        `None` where nobody was seen.
        """
        seen = self.unguarded + self.guarded + self.unknown
        return min(1.0, 2 * self.together / seen) if seen else None
