"""The account of cores in words: useful ones, the efficiency, where the others went.

In: metrics, whose account closes to the capacity. Out: plain text. Every view says it with these.
"""

from __future__ import annotations

from typing import Final

from ftdiag.model import CorePart, Metrics, OtherProcess, ThreadState
from ftdiag.wording import Shown, units
from ftdiag.wording.states import PART_NAMES, STATE_NAMES

SAID_CORES: Final = 0.005
"""Parts of the account below this are left out of sentences."""
SAID_SHARE: Final = 0.1
"""Others that used less than this share of what all of them did are left out."""
SAID_WHOLE: Final = 0.9
"""From this share of spinning on a core on it is not said how much of it was."""
UNCLEAR_SHARE: Final = 0.05
"""Where more of the time on a core than this could not be told apart, useful cores are given as a range."""


def useful_words(metrics: Metrics) -> str | None:
    """The useful cores: "1.67", or "0.90 to 1.35" where time on a core was not told apart."""
    if metrics.useful_cores is None:
        return None
    if _is_clear(metrics) or metrics.useful_most_cores is None:
        return units.cores(metrics.useful_cores)
    return f"{units.cores(metrics.useful_cores)} to {units.cores(metrics.useful_most_cores)}"


def efficiency_words(metrics: Metrics) -> str | None:
    """The efficiency: "98 %", or "45 to 68 %"."""
    if metrics.efficiency_ratio is None:
        return None
    if _is_clear(metrics) or metrics.efficiency_most_ratio is None:
        return units.percent(metrics.efficiency_ratio)
    least, most = units.percent(metrics.efficiency_ratio), units.percent(metrics.efficiency_most_ratio)
    return most if least == most else f"{least.removesuffix(' %')} to {most}"


def _is_clear(metrics: Metrics) -> bool:
    """Whether so little of the time on a core was not told apart that one figure says it."""
    unclear = (metrics.useful_most_cores or 0.0) - (metrics.useful_cores or 0.0)
    return unclear <= UNCLEAR_SHARE * metrics.on_cpu_cores


def account_words(metrics: Metrics) -> str:
    """Where the cores of the capacity went, in the order of `CorePart`; "" where that is not known.

    For example "useful 1.67, contended atomics 0.20, no demand 0.13".
    """
    return ", ".join(
        f"{part_name(part, metrics)} {units.cores(cores)}"
        for part, cores in metrics.account.items()
        if cores >= SAID_CORES
    )


def state_note(state: ThreadState, metrics: Metrics) -> str:
    """What there is to add to the thread-time of a state: how much of spinning was on a core, which is all
    that the account has of it; "" where there is nothing."""
    spent = metrics.states_ns.get(state, 0.0)
    on_core = metrics.account.get(CorePart.SPIN)
    if state is not ThreadState.SPIN or on_core is None:
        return ""
    on_core_ns = (on_core - metrics.unseen_parts_cores.get(ThreadState.SPIN, 0.0)) * metrics.duration_ns
    if spent <= 0 or on_core_ns >= SAID_WHOLE * spent:
        return ""
    return f" ({units.seconds(on_core_ns)} of it on a core, else having yielded it)"


def unseen_words(metrics: Metrics) -> str:
    """What threads that no tick saw did on a core: "1.12 cores: work 0.90, allocation 0.10"; "" where that is
    not told apart."""
    parts = metrics.unseen_parts_cores
    if not parts or set(parts) == {ThreadState.ON_CPU}:
        return ""
    said = ", ".join(
        f"{STATE_NAMES[state] if state is not ThreadState.ON_CPU else 'not told apart'} {units.cores(cores)}"
        for state, cores in sorted(parts.items(), key=lambda entry: -entry[1])
        if cores >= SAID_CORES
    )
    return f"{units.cores(sum(parts.values()))} cores: {said}" if said else ""


def other_processes_words(metrics: Metrics, most: int, shown: Shown = str) -> str:
    """The busiest other processes with the cores that they used: "python3 (4711) 0.8, cc1 (4712) 0.2"."""
    if metrics.duration_ns <= 0:
        return ""
    return ", ".join(
        f"{shown(each.name)} ({each.pid}) {units.cores(each.cpu_ns / metrics.duration_ns)}"
        for each in busiest_others(metrics, most)
    )


def busiest_others(metrics: Metrics, most: int) -> tuple[OtherProcess, ...]:
    """The other processes worth a word, the busiest first: those that used a tenth of what all others did."""
    whole_ns = (metrics.other_programs_cores or 0.0) * metrics.duration_ns
    first = metrics.other_processes[0].cpu_ns if metrics.other_processes else 0
    least = max(SAID_SHARE * max(first, whole_ns), SAID_CORES * metrics.duration_ns)
    return tuple([each for each in metrics.other_processes[:most] if each.cpu_ns >= least])


def part_name(part: CorePart, metrics: Metrics) -> str:
    """What a part of the account is called: where nothing is told apart, time on a core is just that."""
    return "on a core" if part is CorePart.ON_CPU and not metrics.on_cpu_is_split else PART_NAMES[part]
