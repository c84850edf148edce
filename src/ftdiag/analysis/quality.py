"""How far the figures of a range can be trusted, and what was not measured, with the reason.

In: digests, totals per thread, gaps. Out: `Quality`; metrics without what an instrument distorts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.analysis import accounting, efficiency
from ftdiag.analysis.accounting import ThreadTime
from ftdiag.analysis.digests import Digest, Total
from ftdiag.analysis.grouping import group_by
from ftdiag.analysis.threads import ThreadTotals
from ftdiag.datatypes import replace
from ftdiag.model import Gap, Metrics, Perturbation, Quality, ThreadState
from ftdiag.recording.reader import Recording

OF_TIME: Final = ("useful_cores", "speedup_now", "efficiency", "lost_cores", "torn_ratio", "unknown_ratio")
OF_EFFICIENCY: Final = (
    "useful_cores",
    "ideal_speedup",
    "efficiency_ratio",
    "lost_cores",
    "account",
    "load_balance_ratio",
    "serial_share_ratio",
)
"""Figures that a range with an instrument attached all the time does not have."""


def merged_gaps(gaps: Iterable[Gap], digests: Sequence[Digest]) -> tuple[Gap, ...]:
    """Gaps of the same thing for the same reason together, with what the digests had to estimate."""
    counts: dict[tuple[str, str], int] = {}
    for gap in gaps:
        counts[gap.what, gap.why] = counts.get((gap.what, gap.why), 0) + gap.count
    estimated = sum(digest.estimated for digest in digests)
    if estimated:
        counts["thread counters", "not read in the window; the thread's time is estimated from its ticks"] = (
            estimated
        )
    return tuple(Gap(what, why, count) for (what, why), count in sorted(counts.items()))


def without_efficiency(metrics: Metrics) -> Metrics:
    """The metrics of a range in which an instrument was attached all the time."""
    return replace(
        metrics,
        useful_cores=None,
        ideal_speedup=None,
        efficiency_ratio=None,
        useful_most_cores=None,
        efficiency_most_ratio=None,
        useful_parts_cores={},
        lost_cores={},
        account={},
        load_balance_ratio=None,
        serial_share_ratio=None,
    )


def attached(perturbations: tuple[Perturbation, ...]) -> str:
    """What changed how the program runs, in words."""
    return f"{' and '.join(sorted({each.what for each in perturbations}))} was attached"


def quality_of(
    recording: Recording,
    digests: Sequence[Digest],
    threads: ThreadTotals,
    time: ThreadTime,
    missing: dict[str, str],
    gaps: tuple[Gap, ...],
    unseen: Mapping[ThreadState, float] | None = None,
) -> Quality:
    """The quality of a range; `missing` is what metrics lack already, with the reasons.

    `unseen` are the cores by state of threads that no tick saw (`cores.unseen_parts`).
    """
    not_measured = dict(missing)
    states = threads.states_ns.sum(axis=0)
    alive, cpu = threads.sum_of(Total.ALIVE_NS), threads.sum_of(Total.CPU_NS)
    duration = sum(digest.length_ns for digest in digests)
    costs = [cost for digest in digests for cost in digest.costs]
    taken, missed = sum(cost.ticks for cost in costs), sum(cost.missed_ticks for cost in costs)
    samples = sum(digest.ticks for digest in digests)
    spun = max(0, threads.sum_of(Total.RUN_QUEUE_NS) - int(states[ThreadState.RUNNABLE]))
    native = int(states[[int(state) for state in accounting.NATIVE_STATES]].sum()) - spun
    parts = {state: round(duration * cores) for state, cores in (unseen or {}).items()}
    native += sum(parts.values()) - parts.get(ThreadState.ON_CPU, 0)
    cpu += sum(parts.values())
    if samples == 0:
        not_measured["torn_ratio"] = "no thread was sampled in this range"
    if taken + missed == 0:
        not_measured["missed_tick_ratio"] = "no tick was taken in this range"
    if alive == 0:
        not_measured["unknown_ratio"] = "no thread-time in this range"
    if duration == 0 or not costs:
        not_measured["sampler_cpu_ratio"] = "no cost of the sampler is recorded in this range"
    if native == 0:
        not_measured["classified_cpu_ratio"] = efficiency.why_no_native(recording.settings)
    imported = recording.settings.imported is not None
    not_measured.update(efficiency.what_source_lacks(recording.settings))
    unnamed = _unnamed_wait_ns(recording, time)
    if alive and unnamed > 0:
        not_measured["locks"] = (
            f"{100 * unnamed / alive:.0f} % of thread-time waited in futex for what could not be named"
        )
    return Quality(
        torn_ratio=sum(digest.torn_ticks for digest in digests) / samples if samples else None,
        missed_tick_ratio=missed / (taken + missed) if taken + missed and not imported else None,
        unknown_ratio=int(states[ThreadState.UNKNOWN]) / alive if alive and not imported else None,
        classified_cpu_ratio=min(1.0, native / cpu) if native and cpu else None,
        sampler_cpu_ratio=(
            # One thread of the sampler runs at a time: more than a core is the grain of clocks, or made up.
            min(1.0, sum(cost.cpu_ns for cost in costs) / duration)
            if duration and costs and not imported
            else None
        ),
        not_measured=not_measured,
        gaps=gaps,
    )


def _unnamed_wait_ns(recording: Recording, time: ThreadTime) -> float:
    """Thread-time in a futex that is neither a known lock nor a known wait."""
    rows = time.state == ThreadState.UNKNOWN
    groups = group_by(time.wait[rows])
    total = groups.total(time.time_ns[rows])
    unnamed = 0.0
    for wait_id, spent in zip(groups.key(time.wait[rows]).tolist(), total.tolist(), strict=True):
        wait = recording.wait(wait_id)
        if wait is not None and wait.syscall == "futex" and wait.lock is None:
            unnamed += spent
    return unnamed
