"""Names of figures that may be missing, and of those that say how far the others can be trusted.

In: names of the quality's figures. Out: plain words.
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
