"""Names of figures that may be missing, and of those that say how far the others can be trusted.

In: names of the quality's figures, and of a range how many ticks it has. Out: plain words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MISSED: Final = "missed ticks"
TORN: Final = "torn stacks"
UNKNOWN: Final = "unknown thread-time"
CLASSIFIED: Final = "time on a core split by machine code"
OWN_COST: Final = "ftdiag's own cost"

FIGURE_NAMES: Final[Mapping[str, str]] = {
    "useful_cores": "useful cores",
    "efficiency_ratio": "efficiency",
    "classified_cpu_ratio": CLASSIFIED,
    "capacity_cores": "cores that could be used",
    "torn_ratio": TORN,
    "missed_tick_ratio": MISSED,
    "unknown_ratio": UNKNOWN,
    "sampler_cpu_ratio": OWN_COST,
    "load_balance_ratio": "balance of load",
    "work_per_wakeup_ns": "work per wake-up",
    "ideal_speedup": "ideal speedup",
    "locks": "locks",
}


def figure_name(name: str) -> str:
    """What a figure is called that was not measured."""
    return FIGURE_NAMES.get(name, name.replace("_", " ").replace(".", ": "))


AS_ASKED: Final = 0.97
"""From this part of the asked rate on it is not worth a word that it was not reached."""


def tick_rate_words(ticks: int, length_ns: int, asked_hz: float) -> str:
    """How often ticks were in so long: 100 per second, or 55 of the 100 per second that were asked for."""
    taken_hz = ticks * 1e9 / length_ns if length_ns > 0 else asked_hz
    if 0 < taken_hz < AS_ASKED * asked_hz:
        return f"{taken_hz:.3g} of {asked_hz:g} per second"
    return f"{asked_hz:g} per second"
