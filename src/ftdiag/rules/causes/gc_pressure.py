"""gc-pressure: the cyclic collector takes cores, or stops all threads while it runs."""

from __future__ import annotations

from typing import Final

from ftdiag.analysis.pauses import GARBAGE_COLLECTION
from ftdiag.model import BottleneckKind, ChangeKind, ThreadState
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.stops import stop_claims
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    Need,
    NotApplicable,
    Rule,
    StopCause,
    Threshold,
    evidence,
    finite,
    subject_of,
)
from ftdiag.rules.prose.locks import collections_measured, pauses_seen
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place_in
from ftdiag.wording.units import of_cores, share

CPU_SHARE: Final = Threshold(
    "collector_share_of_cpu",
    0.05,
    "ratio",
    "healthy programs spend 1-2 % in the collector; from 5 % on a change of its settings shows in throughput",
)


def _collecting(facts: Facts) -> float:
    """Cores that the collector takes: by its own clock where CPython publishes that, else by native samples.

    Its clock also runs while its thread waits for a core: on a full machine that is taken to be as much as
    for all threads that want one.
    """
    own, metrics = facts.collector, facts.metrics
    if own is None or metrics.duration_ns <= 0 or own.covered_ratio <= 0:
        return facts.cores_in(ThreadState.GC)
    wanted = metrics.on_cpu_cores + finite(metrics.run_queue_cores)
    served = metrics.on_cpu_cores / wanted if wanted > 0 else 1.0
    collecting = own.total_ns / (own.covered_ratio * metrics.duration_ns) * served
    return min(collecting, metrics.on_cpu_cores)


def _how_known(facts: Facts) -> str:
    """Whether the figures are exact, in a sentence."""
    own = facts.collector
    if own is None:
        return "Sampled: native samples were inside the collector, and pauses were seen at ticks."
    each = max(1, own.count)
    return (
        "Measured: number and time of collections are the collector's own. A collection looked at"
        f" {own.looked_at // each:,} objects and freed {own.freed // each:,} on average."
    )


def _judge(facts: Facts) -> Judgement:
    if not facts.native and facts.collector is None:
        return NotApplicable(Need.NATIVE.missing(facts) or "needs native samples")
    collecting = _collecting(facts)
    on_cpu = facts.metrics.on_cpu_cores
    part = collecting / on_cpu if on_cpu > 0 else 0.0
    charged = facts.charges.stop_shares.get(RULE.id, 0.0)
    stopped = charged * finite(facts.metrics.lost_cores.get(ThreadState.STOPPED, 0.0))
    stopped += sum(charge.lost_cores for charge in facts.lock_charges(RULE.id))
    lost = collecting + stopped
    if not facts.over(CPU_SHARE, part, RULE.id) and not (charged > 0 and facts.loses(stopped, RULE.id)):
        return Clear()
    lines = sorted(facts.hot, key=lambda line: -line.states_ns.get(ThreadState.GC, 0.0))
    frame = lines[0].frame if lines and lines[0].states_ns.get(ThreadState.GC, 0.0) > 0 else None
    at = f", most at {place_in(frame)}" if frame is not None else ""
    pauses = tuple(each for each in facts.pauses if each.reason == GARBAGE_COLLECTION)
    if facts.collector is not None:
        seen = f" (measured: {collections_measured(facts, facts.collector)})"
    else:
        seen = f" (sampled: {pauses_seen(facts, pauses)})" if pauses else ""
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="known",
        subject=subject_of(frame),
        summary=(
            f"The cyclic collector takes {of_cores(collecting, facts.capacity)} ({share(part, 1.0)}"
            f" of the CPU time){at}, and its pauses of all threads another {stopped:.1f}{seen}."
        ),
        explanation=(
            f"{_how_known(facts)} In free-threaded builds it has one"
            " generation: each collection looks at all objects, and stops all threads for a part of"
            " it. Two threads that make cycles beside a big heap do"
            f" {facts.scaling('cycles', 'made')} of what one does."
        ),
        could_also_be=("memory that grows: more objects make each collection longer",),
        remedy=(
            *facts.remedy(
                *("collect", "left-alone"),
                "where the program calls gc.collect() itself: do so seldom",
                "gc.collect()      # once after start-up, not for each request",
            ),
            *facts.remedy(
                *("cycles", "frozen-heap"),
                "take what is there after start-up out of collections",
                "gc.collect()\ngc.freeze()      # after loading, before the threads start",
            ),
            *facts.remedy(*("cycles", "threshold-50000"), "collect less often", "gc.set_threshold(50_000)"),
            *facts.remedy(
                *("cycles", "none"),
                "make fewer cycles: weak references to parents, no exceptions kept with their tracebacks",
                "self.parent = weakref.ref(parent)",
            ),
        ),
        verify=f"{report_again(facts.pid)}: 'garbage collection' and 'stopped' fall",
        evidence=(
            evidence("collector_share_of_cpu", part, "ratio", CPU_SHARE),
            evidence("collector", collecting, "cores"),
            evidence("stopped_loss", stopped, "cores"),
            *(
                (
                    evidence("collections", float(facts.collector.count), "collections"),
                    evidence("collections_time", facts.collector.total_ns / 1e9, "s"),
                )
                if facts.collector is not None
                else ()
            ),
        ),
    )


RULE: Final = Rule(
    id="gc-pressure",
    title="The cyclic collector takes its share",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(CPU_SHARE, WORTH_SAYING),
    judge=_judge,
    without=everywhere(ChangeKind.COLLECTOR),
    claims=Claims(locks=stop_claims(StopCause.COLLECTOR), stops=StopCause.COLLECTOR),
    advice=Advice.LINE,
    cases=("collect", "cycles"),
    about=frozenset({BottleneckKind.STOP}),
)
