"""What the sampler may take of the machine, and how often it looks so that it does not take more.

In: the asked rate, the budget, the CPU time that was used. Out: the time between ticks, by now.

The sampler's work grows with the threads that run, which nobody knows beforehand. One that is over its budget
looks less often, and as often as asked again when there is room. What is left out is told: in a note, and as
a gap of each window.
"""

from __future__ import annotations

from typing import Final

DEFAULT_CORES: Final = 0.10
DEFAULT_SHARE: Final = 0.03
"""The budget is the larger of so many cores, and so much of what the program may use."""
USUAL_RATE_HZ: Final = 100.0
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


class CpuBudget:
    """Keeps the rate such that the CPU time stays within the budget. `rate_hz` is that of now.

    A `burst` begins slowly, goes up to the asked rate, and looks at the CPU time much more often.
    """

    def __init__(self, rate_hz: float, cores: float, *, burst: bool = False) -> None:
        self.cores = cores
        self._asked_hz = rate_hz
        self.rate_hz = min(rate_hz, BURST_START_HZ) if burst else rate_hz
        self._burst = burst
        self.interval_ns = BURST_INTERVAL_NS if burst else INTERVAL_NS
        """After so long the CPU time is looked at."""
        self._settling = 0 if burst else SETTLING_INTERVALS
        self._since_ns: int | None = None
        self._cpu_ns = 0

    @property
    def period_ns(self) -> int:
        """The time from tick to tick."""
        return int(1e9 / self.rate_hz)

    @property
    def slowed(self) -> bool:
        """Whether it looks less often than was asked for, for want of budget."""
        return self.rate_hz < self._asked_hz and not self._burst

    def ticks_left_out(self, length_ns: int) -> int:
        """Ticks that were asked for and not meant to be taken, in so long at the rate of now."""
        return round((self._asked_hz - self.rate_hz) * length_ns / 1e9) if self.slowed else 0

    @property
    def due_ns(self) -> int:
        """When `used` is to be told next."""
        return 0 if self._since_ns is None else self._since_ns + self.interval_ns

    def due(self, now_ns: int) -> bool:
        """Whether it is time to say how much CPU time was used."""
        return self._since_ns is None or now_ns - self._since_ns >= self.interval_ns

    def used(self, now_ns: int, cpu_ns: int) -> bool:
        """The CPU time that the sampler used from its start to now; whether that changes the rate."""
        since_ns, self._since_ns = self._since_ns, now_ns
        cpu_before_ns, self._cpu_ns = self._cpu_ns, cpu_ns
        if since_ns is None or now_ns <= since_ns:
            return False
        if self._settling:
            self._settling -= 1
            return False
        part = (cpu_ns - cpu_before_ns) / (now_ns - since_ns) / self.cores
        before_hz = self.rate_hz
        if part > 1.0 or (part < ROOM and before_hz < self._asked_hz):
            factor = MOST_GROWTH if part <= 0 else min(MOST_GROWTH, AIM / part)
            self.rate_hz = min(self._asked_hz, max(LEAST_RATE_HZ, before_hz * factor))
        return self.rate_hz != before_hz
