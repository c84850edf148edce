"""Everything that is known of a range, put together: all of a `Snapshot` but what rules say of it.

In: ranges of a recording, digests of the windows that count. Out: `Snapshot` without findings.
"""

from __future__ import annotations

from collections.abc import Sequence

from ftdiag.analysis import (
    allocations,
    bottlenecks,
    collector,
    cores,
    efficiency,
    hotspots,
    locks,
    memory,
    oncpu,
    pauses,
    updates,
)
from ftdiag.analysis.digests import Digest, Total
from ftdiag.analysis.quality import (
    OF_EFFICIENCY,
    OF_TIME,
    attached,
    merged_gaps,
    quality_of,
    without_efficiency,
)
from ftdiag.analysis.ranges import Ranges
from ftdiag.analysis.threads import merged_threads, thread_metrics
from ftdiag.datatypes import replace
from ftdiag.model import Allocations, Gap, Perturbation, Snapshot
from ftdiag.recording.reader import Recording


def assembled(
    ranges: Ranges, first: int, last: int, digests: Sequence[Digest], capture: Allocations | None
) -> Snapshot:
    """The snapshot of the windows at [first, last), of which `digests` count; without findings."""
    recording = ranges.recording
    duration = sum(digest.length_ns for digest in digests)
    threads = merged_threads(digests)
    details = oncpu.merge_on_cpu([digest.on_cpu for digest in digests])
    time = ranges.merged_time(digests)
    process = [reading for digest in digests for reading in digest.process]
    use = cores.use_of(
        process,
        duration_ns=duration,
        seen_ns=threads.sum_of(Total.CPU_NS),
        last_seen_ns=int(digests[-1].series.cpu_ns[-1]) if digests else 0,
        sampler_ns=sum(cost.cpu_ns for digest in digests for cost in digest.costs),
    )
    metrics, missing = efficiency.metrics_of(
        recording.target,
        duration_ns=duration,
        alive_ns=threads.totals[:, Total.ALIVE_NS],
        cpu_ns=threads.totals[:, Total.CPU_NS],
        run_queue_ns=threads.totals[:, Total.RUN_QUEUE_NS],
        states_ns=threads.states_ns,
        voluntary_switches=threads.totals[:, Total.VOLUNTARY_SWITCHES],
        shares=efficiency.merge_shares([digest.shares for digest in digests]),
        use=use,
        unseen=oncpu.unseen_states([digest.on_cpu for digest in digests]),
        native_missing=efficiency.why_no_native(recording.settings),
    )
    metrics = replace(metrics, unseen_functions=details.unseen_functions(recording))
    if recording.settings.imported is not None:
        metrics, missing = efficiency.samples_only(metrics, recording.settings.imported)
    start = int(recording.t0_ns[first]) if first < last else recording.settings.started_ns
    placed = hotspots.placed_time(recording, time)
    listed, not_listed = thread_metrics(recording, last, threads, time, placed)
    damage = (*(gap for digest in digests for gap in digest.gaps), *recording.damaged)
    gaps = (*merged_gaps(damage, digests), *not_listed)
    perturbations = perturbations_at(recording, first, last)
    if perturbations:
        quiet = sum(end - begin for begin, end in ranges.quiet(first, last))
        why = f"{attached(perturbations)}; they are left out of every figure"
        if quiet:
            gaps = (*gaps, Gap("windows", why, last - first - quiet))
        else:
            metrics = without_efficiency(metrics)
            missing.update(dict.fromkeys(OF_EFFICIENCY, f"{attached(perturbations)} all the time"))
    held = memory.memory_metrics(
        recording,
        last,
        [digest.memory for digest in digests],
        time,
        minor_faults=threads.sum_of(Total.MINOR_FAULTS),
        major_faults=threads.sum_of(Total.MAJOR_FAULTS),
    )
    missing.update(held.not_measured)
    collected = collector.merge_collector([digest.collector for digest in digests], duration)
    if collected is None:
        missing["collections"] = collector.why_no_collector(recording.target, recording.settings)
    if first < last and not duration and recording.left_out(first, last).all():
        missing.update(dict.fromkeys(OF_TIME, "every window of this range is damaged"))
    shares = [digest.locks for digest in digests]
    graph = [digest.bottlenecks for digest in digests]
    wall = bottlenecks.wall_lines(recording, graph)
    hot = hotspots.hot_lines(recording, placed, details=details, wall=wall)
    return Snapshot(
        target=recording.target,
        settings=recording.settings,
        end=recording.end,
        t0_ns=start,
        t1_ns=int(recording.t1_ns[last - 1]) if first < last else start,
        metrics=metrics,
        threads=allocations.joined_threads(listed, capture),
        hot=allocations.joined(hot.lines, capture, wall),
        locks=locks.with_objects(
            locks.merge_locks(recording, ranges.numbers, shares, duration), details.lock_objects
        ),
        findings=(),
        not_applicable=(),
        quality=replace(
            quality_of(recording, digests, threads, time, missing, gaps, metrics.unseen_parts_cores),
            native_lost=details.lost,
            native_sampled_ratio=details.sampled_ratio,
            unnamed_cpu_ratio=details.unnamed_ratio,
            native_error_ratio=details.error_ratio,
        ),
        process=process[-1] if process else None,
        pauses=pauses.merge_pauses(recording, [digest.pauses for digest in digests]),
        collector=collected,
        memory=held,
        allocations=capture,
        perturbations=perturbations,
        bottlenecks=bottlenecks.merge_bottlenecks(
            recording, ranges.numbers, graph, time, locks.waiting_stacks(shares), metrics
        ),
        updates=updates.merge_updates(recording, [digest.updates for digest in digests]),
    )


def perturbations_at(recording: Recording, first: int, last: int) -> tuple[Perturbation, ...]:
    """Those that touch the windows at [first, last)."""
    if first >= last:
        return ()
    begin, end = int(recording.t0_ns[first]), int(recording.t1_ns[last - 1])
    return tuple(each for each in recording.perturbations if each.begin_ns < end and each.end_ns > begin)
