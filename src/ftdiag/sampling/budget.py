"""What the sampler may take of the machine, and how often it looks so that it does not take more.

In: the asked rate, the budget, the CPU time that was used, whether cores are scarce. Out: the time between
ticks, by now.

The sampler's work grows with the threads that run, which nobody knows beforehand. One that is over its budget
looks less often, and as often as asked again when there is room. What is left out is told: as a gap of each
window, and in a note.

Where nobody asked for a budget there are two. While cores are free, looking takes nothing from anybody. While
they are scarce (`scarce`), the program loses what looking takes: then it is held to a third or half of that.
"""

from __future__ import annotations

from typing import Final

DEFAULT_CORES: Final = 0.10
DEFAULT_SHARE: Final = 0.03
"""The budget is the larger of so many cores, and so much of what the program may use."""
USUAL_RATE_HZ: Final = 100.0
SCARCE_CORES: Final = 0.03
SCARCE_SHARE: Final = 0.015
"""The same while cores are scarce."""
SCARCE_FREE_CORES: Final = 0.5
"""Fewer free cores than this are none: a program's threads do not all want to run at every moment."""
SCARCE_WAIT_SHARE: Final = 0.05
"""So many of its threads, by the cores that it may use, wait for a core at a time: at some moments all are
taken, also where some are free at most of them."""
SCARCE_RATE_HZ: Final = 25.0
"""It does not look less often than this just because cores are scarce: a report needs ticks."""
OFTEN_CORES: Final = 0.25
"""Who asks for looks more often than usual asks for at least so much."""
BURST_START_HZ: Final = 500.0
INTERVAL_NS: Final = 900_000_000
"""After so long the CPU time is looked at: a little less than a window, so that it is with each."""
BURST_INTERVAL_NS: Final = 40_000_000
SETTLING_INTERVALS: Final = 2
"""In these the sampler still reads for the first time what it then knows: they are not counted."""
AIM: Final = 0.9
"""Part of the budget that a new rate shall take."""
ROOM: Final = 0.7
"""Below this part of the budget the rate may grow."""
MOST_GROWTH: Final = 2.0
LEAST_RATE_HZ: Final = 1.0


def default_budget_cores(capacity_cores: float, rate_hz: float) -> float:
    """The budget where none was asked for."""
    least = DEFAULT_CORES if rate_hz <= USUAL_RATE_HZ else OFTEN_CORES
    return max(least, DEFAULT_SHARE * capacity_cores)


def scarce_budget_cores(capacity_cores: float) -> float:
    """The budget while cores are scarce, where none was asked for."""
    return max(SCARCE_CORES, SCARCE_SHARE * capacity_cores)


def scarce(free_cores: float | None, waiting_threads: float, capacity_cores: float) -> bool:
    """Whether what we use of cores is likely to be taken from the program.

    `free_cores` are those that nobody used for a while (`None`: not known), `waiting_threads` are the
    program's that waited for a core meanwhile, on average.
    """
    few = free_cores is not None and free_cores < SCARCE_FREE_CORES
    return few or waiting_threads >= SCARCE_WAIT_SHARE * capacity_cores


class CpuBudget:
    """Keeps the rate such that the CPU time stays within the budget. `rate_hz` is that of now.

    A `burst` begins slowly, goes up to the asked rate, and looks at the CPU time much more often.
    """

    def __init__(
        self, rate_hz: float, cores: float, *, scarce_cores: float | None = None, burst: bool = False
    ) -> None:
        """`scarce_cores` is the budget while cores are scarce; the same one, without it."""
        self._most_cores = cores
        self._scarce_cores = cores if scarce_cores is None else min(cores, scarce_cores)
        self._scarce = False
        self._asked_hz = rate_hz
        self.rate_hz = min(rate_hz, BURST_START_HZ) if burst else rate_hz
        self._burst = burst
        self.interval_ns = BURST_INTERVAL_NS if burst else INTERVAL_NS
        """After so long the CPU time is looked at."""
        self._settling = 0 if burst else SETTLING_INTERVALS
        self._since_ns: int | None = None
        self._cpu_ns = 0
        self._counted_ns: int | None = None
        self._left_out = 0.0

    @property
    def cores(self) -> float:
        """What may be used now."""
        return self._scarce_cores if self._scarce else self._most_cores

    @property
    def yields(self) -> bool:
        """Whether it has less now because cores are scarce."""
        return self._scarce and self._scarce_cores < self._most_cores

    @property
    def period_ns(self) -> int:
        """The time from tick to tick."""
        return int(1e9 / self.rate_hz)

    @property
    def slowed(self) -> bool:
        """Whether it looks less often than was asked for, for want of budget."""
        return self.rate_hz < self._asked_hz and not self._burst

    def ticks_left_out(self, now_ns: int) -> int:
        """Ticks that were asked for and not meant to be taken, since this was last asked."""
        self._count(now_ns)
        left_out = int(self._left_out)
        self._left_out -= left_out
        return left_out

    @property
    def due_ns(self) -> int:
        """When `used` is to be told next."""
        return 0 if self._since_ns is None else self._since_ns + self.interval_ns

    def due(self, now_ns: int) -> bool:
        """Whether it is time to say how much CPU time was used."""
        return self._since_ns is None or now_ns - self._since_ns >= self.interval_ns

    def used(self, now_ns: int, cpu_ns: int, *, scarce: bool = False) -> bool:
        """The CPU time that the sampler used from its start to now; whether that changes the rate.

        `scarce` is whether cores are.
        """
        since_ns, self._since_ns = self._since_ns, now_ns
        cpu_before_ns, self._cpu_ns = self._cpu_ns, cpu_ns
        if since_ns is None or now_ns <= since_ns:
            return False
        self._scarce = scarce
        if self._settling:
            self._settling -= 1
            return False
        used_cores = (cpu_ns - cpu_before_ns) / (now_ns - since_ns)
        before_hz = self.rate_hz
        rate_hz = self._fitting_hz(used_cores / self.cores)
        if self.yields and rate_hz < SCARCE_RATE_HZ:
            rate_hz = max(rate_hz, min(SCARCE_RATE_HZ, self._fitting_hz(used_cores / self._most_cores)))
        if rate_hz != before_hz:
            self._count(now_ns)
            self.rate_hz = rate_hz
        return rate_hz != before_hz

    def _fitting_hz(self, part: float) -> float:
        """The rate that fits, where this part of a budget was used at the rate of now."""
        if part <= 1.0 and (part >= ROOM or self.rate_hz >= self._asked_hz):
            return self.rate_hz
        factor = MOST_GROWTH if part <= 0 else min(MOST_GROWTH, AIM / part)
        return min(self._asked_hz, max(LEAST_RATE_HZ, self.rate_hz * factor))

    def _count(self, now_ns: int) -> None:
        """Add what is left out at the rate of now since it was last counted."""
        since_ns, self._counted_ns = self._counted_ns, now_ns
        if self.slowed and since_ns is not None and now_ns > since_ns:
            self._left_out += (self._asked_hz - self.rate_hz) * (now_ns - since_ns) / 1e9
