"""When machine code is sampled: all the time, or in turns where that would slow the program.

In: how often the program's threads are switched, what it may use. Out: whether to sample now, and which share
of the time that is.

Why. The kernel starts and stops a timer for each sampled thread whenever that thread gets or leaves a core. A
program that computes does not notice; a service that switches 15,000 times a second loses 4 to 6 % of its
throughput to that alone, whoever asks for the samples (bench/service_cost.py: perf record takes as much).
What samples say are proportions, which need no more than a part of the time.

Turns begin at random, one in each cycle: a program that does the same every second is not seen at the same
place each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

CYCLE_NS: Final = 1_000_000_000
"""There is one turn in each."""
SWITCH_NS: Final = 6_000
"""What a switch of a sampled thread costs the program. Measured on a virtual machine, where setting a timer
leaves the guest; elsewhere it is less."""
MOST_CAPACITY: Final = 0.005
"""Part of what the program may use that it may lose to being sampled."""
LEAST_SHARE: Final = 0.08
"""Also of a program that does nothing but switch some samples are taken."""
MOST_DENSE: Final = 3.0
"""How much more often samples are taken in a turn: the program pays for switches, hardly for samples."""
ALWAYS: Final = 0.8
"""A share above this is not worth the turns."""


class Turns:
    """Says when to sample. `share` is the part of the time."""

    def __init__(self, capacity_cores: float, chance: Callable[[], float] | None = None) -> None:
        """`chance` gives numbers in [0, 1); the kernel's, without it."""
        self.share = 1.0
        self._allowed_ns = MOST_CAPACITY * max(capacity_cores, 0.1) * 1e9
        self._chance = chance or any_number
        self._cycle_end_ns = 0
        self._on_ns = self._off_ns = 0

    def learn(self, switches: int, length_ns: int) -> None:
        """So often the program's threads were switched in so long."""
        if length_ns <= 0:
            return
        cost_ns = switches * SWITCH_NS * 1e9 / length_ns
        share = 1.0 if cost_ns <= self._allowed_ns else max(LEAST_SHARE, self._allowed_ns / cost_ns)
        self.share = 1.0 if share > ALWAYS else share

    @property
    def dense(self) -> float:
        """How many times as often as otherwise samples are to be taken in a turn."""
        return min(MOST_DENSE, 1.0 / self.share)

    def steady_until_ns(self, now_ns: int) -> int | None:
        """Until when `on` says what it says now; `None`: until something is learned."""
        if self.share >= 1.0:
            return None
        ends = (self._on_ns, self._off_ns, self._cycle_end_ns)
        return next((end for end in ends if now_ns < end), now_ns)

    def on(self, now_ns: int) -> bool:
        """Whether to sample now. To be asked in the order of time."""
        if self.share >= 1.0:
            self._cycle_end_ns = 0
            return True
        if now_ns >= self._cycle_end_ns:
            length_ns = int(self.share * CYCLE_NS)
            self._on_ns = now_ns + int(self._chance() * (CYCLE_NS - length_ns))
            self._off_ns = self._on_ns + length_ns
            self._cycle_end_ns = now_ns + CYCLE_NS
        return self._on_ns <= now_ns < self._off_ns


def any_number() -> float:
    """In [0, 1): what `random` would give, whose import takes 2 ms."""
    return int.from_bytes(os.urandom(6)) / (1 << 48)
