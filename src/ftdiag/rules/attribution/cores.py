"""What findings about a shortage of cores have in common: how many threads want how many cores, and why not.

In: facts. Out: `Demand`, and the `Shortage`, which a rule claims.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import ThreadState
from ftdiag.rules.base import Facts, Shortage, Threshold, finite

QUEUE: Final = Threshold(
    "waiting_for_a_core",
    0.25,
    "threads per core",
    "a quarter of a thread waiting for each core: below that it is the scheduler's usual jitter",
)
TOO_MANY: Final = Threshold(
    "wanted_by_capacity",
    1.15,
    "times",
    "threads of the program that are on a core or wait for one are a seventh more than the cores there are;"
    " as many threads as cores never want more, whoever has the cores",
)
ALL_BUSY: Final = Threshold(
    "on_cpu_share_of_capacity",
    0.9,
    "ratio",
    "the program's own threads fill nine tenths of its cores: nobody else can have had more than the rest",
)
NATIVE_SHARE: Final = Threshold(
    "native_share_of_cpu",
    0.2,
    "ratio",
    "threads that are not Python's use a fifth of the CPU time or more; a helper thread of a library uses"
    " less",
)


@dataclass(frozen=True, slots=True)
class Demand:
    """Cores in use and wanted. `ratio` is wanted by capacity; `native_cores` are of non-Python threads."""

    running: float
    queued: float
    ratio: float
    native_cores: float
    native_threads: int
    native_spin_cores: float
    python_busy: int
    quota: bool
    throttled_cores: float | None
    other_cores: float | None


def demand(facts: Facts) -> Demand:
    """How many cores the threads use and want."""
    duration = facts.metrics.duration_ns or 1
    native = [
        thread for thread in facts.threads if not thread.info.python and thread.cpu_ns > 0.05 * duration
    ]
    running = finite(facts.metrics.on_cpu_cores)
    queued = finite(facts.metrics.run_queue_cores)
    return Demand(
        running=running,
        queued=queued,
        ratio=(running + queued) / facts.capacity if facts.capacity else 0.0,
        native_cores=sum(thread.cpu_ns for thread in native) / duration,
        native_threads=len(native),
        native_spin_cores=(
            facts.spinning_on_core
            * sum(thread.states_ns.get(ThreadState.SPIN, 0.0) for thread in native)
            / duration
        ),
        python_busy=sum(
            thread.info.python and thread.cpu_ns + thread.run_queue_ns > 0.05 * duration
            for thread in facts.threads
        ),
        quota=facts.target.capacity_quota or bool(facts.metrics.throttled_cores),
        throttled_cores=facts.metrics.throttled_cores,
        other_cores=facts.metrics.other_programs_cores,
    )


def shortage_of(facts: Facts, found: Demand) -> Shortage | None:
    """Why threads have no core, or None where there is no shortage.

    Where threads of the program are too many and others have cores as well, both are said: the one can be
    changed in the program, the other stands beside it (`Finding.context`).
    """
    rule_of = facts.attribution.shortage
    quota = rule_of(Shortage.QUOTA)
    if found.throttled_cores is not None and facts.loses(finite(found.throttled_cores), quota):
        return Shortage.QUOTA
    standing = next((rule_of(each) for each in Shortage if rule_of(each) in facts.standing), "")
    if not facts.over(QUEUE, found.queued / facts.capacity, standing):
        return None
    native = found.native_cores / found.running if found.running else 0.0
    if found.python_busy >= 2 and facts.over(NATIVE_SHARE, native, rule_of(Shortage.LIBRARY)):
        return Shortage.LIBRARY
    # A quota that was seen not to hold anybody back is not it.
    if found.quota and found.throttled_cores is None:
        return Shortage.QUOTA
    too_many = facts.over(TOO_MANY, found.ratio, rule_of(Shortage.TOO_MANY))
    return Shortage.TOO_MANY if too_many else Shortage.OTHERS
