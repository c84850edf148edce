"""The JSON report, a contract: every key is always there, what is not measured is null with its reason.

In: a `Snapshot`. Out: `to_report`: a dict of plain values that `json.dumps(..., allow_nan=False)` takes.
Keys may be added, never renamed or given another meaning within a schema number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ftdiag.model import (
    Allocations,
    CollectorMetrics,
    Finding,
    HotLine,
    LineAllocations,
    LockKind,
    LockMetrics,
    LockRef,
    Pauses,
    SharedObject,
    Snapshot,
    Stack,
    Target,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.reports.bottlenecks import bottleneck_values
from ftdiag.reports.chain import chain
from ftdiag.reports.memory import memory_values
from ftdiag.reports.predictions import prediction_values
from ftdiag.reports.updates import update_values

SCHEMA: Final = "ftdiag-report/1"
MEMRAY_LINES: Final = 200
"""Lines of a capture of memray in the report; those with the most allocations are kept."""
STACK_FRAMES: Final = 64
"""Frames of a stack in the report; the innermost ones are kept."""
NO_CAPTURE: Final = "needs a capture of memray: ftdiag attach PID --memory"

Json = dict[str, Any]


def to_report(snapshot: Snapshot) -> Json:
    """The report of a snapshot."""
    quality = snapshot.quality
    not_measured = {
        **({} if snapshot.allocations else dict.fromkeys(("hot.allocations", "memory.memray"), NO_CAPTURE)),
        **dict(quality.not_measured),
    }
    steps = chain(snapshot.metrics)
    if not steps:
        not_measured.setdefault("chain", "needs the capacity in cores")
    elif any(value is None for _, value in steps):
        not_measured.setdefault("chain", "factors that are null need native samples of the threads on a core")
    if snapshot.metrics.unseen_threads_cores is None:
        not_measured.setdefault("unseen_threads_cores", "the process's own CPU clock was not recorded")
    if snapshot.metrics.throttled_cores is None:
        no_quota = "no CPU quota of a control group was found, or its count of throttled time was not read"
        not_measured.setdefault("throttled_cores", no_quota)
    if snapshot.metrics.other_programs_cores is None:
        not_measured.setdefault("other_programs_cores", "the machine's busy time was not read throughout")
    numbers = {_identity(lock.lock): lock.number for lock in snapshot.locks if lock.number > 0}
    target = snapshot.target
    return {
        "schema": SCHEMA,
        "target": {
            "pid": target.pid,
            "command": _text(target.command),
            "executable": _text(target.executable),
            "python_version": _text(target.python_version),
            "free_threaded": target.free_threaded,
            "gil_enabled": target.gil_enabled,
            "gil_culprits": [_text(name) for name in target.gil_culprits],
            "tracing": None
            if target.tracing is None
            else [
                {"kind": hook.kind, "name": _text(hook.name), "file": _text(hook.filename) or None}
                for hook in target.tracing
            ],
            "gil_importers": [[_text(name) for name in chain] for chain in target.gil_importers],
        },
        "window": {
            "start": _start(snapshot),
            "duration_s": _seconds(snapshot.metrics.duration_ns),
            "ticks": snapshot.metrics.ticks,
            "rate_hz": _number(snapshot.settings.rate_hz),
            "end": None
            if snapshot.end is None
            else {"reason": snapshot.end.reason.value, "detail": _text(snapshot.end.detail)},
        },
        "metrics": _metrics(snapshot, steps, not_measured),
        "threads": [_thread(thread, snapshot.imported is None, numbers) for thread in snapshot.threads],
        "locks": [_lock(lock, target) for lock in snapshot.locks],
        "hot": [_hot(line, snapshot.allocations, target) for line in snapshot.hot],
        "memory": {
            **memory_values(snapshot, _text),
            "memray": None if snapshot.allocations is None else _memray(snapshot.allocations),
        },
        "workload": _workload(snapshot),
        "bottlenecks": bottleneck_values(snapshot, _text),
        "updates": update_values(snapshot, _text),
        "pauses": [_pauses(pauses) for pauses in snapshot.pauses],
        "collections": None if snapshot.collector is None else _collections(snapshot.collector),
        "findings": [
            _finding(finding) for finding in sorted(snapshot.findings, key=lambda each: -each.lost_cores)
        ],
        "not_applicable": [
            {"rule": rule, "reason": _text(reason)} for rule, reason in snapshot.not_applicable
        ],
        "quality": {
            "torn_ratio": _number(quality.torn_ratio),
            "missed_tick_ratio": _number(quality.missed_tick_ratio),
            "unknown_ratio": _number(quality.unknown_ratio),
            "classified_cpu_ratio": _number(quality.classified_cpu_ratio),
            "sampler_cpu_ratio": _number(quality.sampler_cpu_ratio),
            "native_lost": quality.native_lost,
            "native_sampled_ratio": _number(quality.native_sampled_ratio),
            "native_error_ratio": _number(quality.native_error_ratio),
            "not_measured": {name: _text(reason) for name, reason in not_measured.items()},
            "gaps": [
                {"what": _text(gap.what), "why": _text(gap.why), "count": gap.count} for gap in quality.gaps
            ],
        },
    }


def _metrics(
    snapshot: Snapshot, steps: tuple[tuple[str, float | None], ...], not_measured: dict[str, str]
) -> Json:
    metrics = snapshot.metrics
    wakeup_ns = metrics.work_per_wakeup_ns
    measured_losses = "lost_cores" not in not_measured
    counted = snapshot.imported is None
    return {
        "capacity_cores": _number(metrics.capacity_cores),
        "capacity_reason": None if metrics.capacity_reason is None else _text(metrics.capacity_reason),
        "threads": metrics.threads,
        "threads_with_work": metrics.threads_with_work if counted else None,
        "on_cpu_cores": _number(metrics.on_cpu_cores) if counted else None,
        "run_queue_cores": _number(metrics.run_queue_cores) if counted else None,
        "unseen_threads_cores": _number(metrics.unseen_threads_cores),
        "unseen_parts_cores": {
            state.label: _number(cores) for state, cores in metrics.unseen_parts_cores.items()
        },
        "unseen_functions": [
            {"symbol": _text(name), "share": _number(share)} for name, share in metrics.unseen_functions
        ],
        "throttled_cores": _number(metrics.throttled_cores),
        "other_programs_cores": _number(metrics.other_programs_cores),
        "other_processes": [
            {
                "pid": each.pid,
                "name": _text(each.name),
                "cores": _number(each.cpu_ns / metrics.duration_ns if metrics.duration_ns > 0 else 0.0),
            }
            for each in metrics.other_processes
        ]
        or None,
        "useful_cores": _number(metrics.useful_cores),
        "useful_most_cores": _number(metrics.useful_most_cores),
        "useful_parts_cores": None
        if metrics.useful_cores is None
        else {state.label: _number(cores) for state, cores in metrics.useful_parts_cores.items()},
        "speedup_now": _number(metrics.useful_cores),
        "ideal_speedup": _number(metrics.ideal_speedup),
        "efficiency": _number(metrics.efficiency_ratio),
        "efficiency_most": _number(metrics.efficiency_most_ratio),
        "account": {part.label: _number(cores) for part, cores in metrics.account.items()}
        if metrics.account
        else None,
        "lost_cores": {state.label: _number(lost) for state, lost in metrics.lost_cores.items()}
        if measured_losses
        else None,
        "states": _states(metrics.states_ns),
        "chain": [{"factor": name, "value": _number(value)} for name, value in steps] if steps else None,
        "load_balance": _number(metrics.load_balance_ratio),
        "serial_share": _number(metrics.serial_share_ratio),
        "concurrency": [_number(share) for share in metrics.concurrency] if metrics.concurrency else None,
        "work_per_wakeup_us": None if wakeup_ns is None else _number(wakeup_ns / 1e3),
    }


def _workload(snapshot: Snapshot) -> Json | None:
    workload = snapshot.workload
    if workload is None:
        return None
    return {
        "kind": workload.kind,
        "shares": {kind: _number(share) for kind, share in workload.shares.items()},
        "advice": _text(workload.advice),
    }


def _thread(thread: ThreadMetrics, counted: bool, numbers: Mapping[LockIdentity, int]) -> Json:
    """One thread; without what the kernel counts where that was not `counted`. `numbers` are of locks."""
    alive = thread.alive_ns
    return {
        "index": thread.info.index,
        "tid": thread.info.tid,
        "name": _text(thread.info.name),
        "role": thread.role,
        "python": thread.info.python,
        "lifetime_s": _seconds(alive),
        "states": _states(thread.states_ns),
        "context_switches": {
            "voluntary": thread.voluntary_switches,
            "involuntary": thread.involuntary_switches,
        }
        if counted
        else None,
        "migrations": thread.migrations,
        "faults": {"minor": thread.minor_faults, "major": thread.major_faults} if counted else None,
        "allocations": None
        if thread.allocations is None
        else {"count": thread.allocations.count, "bytes": thread.allocations.size_bytes},
        "hot": [
            {
                "function": _text(line.frame.function),
                "file": _text(line.frame.filename),
                "line": line.frame.line,
                "share": _number(line.total_ns / alive) if alive > 0 else None,
            }
            for line in thread.hot
        ],
        "waits": [
            {
                "syscall": None if wait.syscall is None else _text(wait.syscall),
                "detail": None if wait.detail is None else _text(wait.detail),
                "lock": None if wait.lock is None else _lock_waited_for(wait.lock, numbers),
                "wait_s": _seconds(spent),
            }
            for wait, spent in thread.waits
        ],
        "tasks": [{"function": _text(name), "total_s": _seconds(spent)} for name, spent in thread.tasks],
    }


LockIdentity = tuple[int, LockKind, str | None]
"""What a lock is known by: its name may have been found later than its waits."""


def _identity(lock: LockRef) -> LockIdentity:
    return lock.address, lock.kind, lock.type_name


def _lock_waited_for(lock: LockRef, numbers: Mapping[LockIdentity, int]) -> Json:
    """Which lock it is; `id` is that of the list of locks, where it has a place of its own."""
    number = numbers.get(_identity(lock))
    return {
        "id": None if number is None else f"lock-{number}",
        "kind": lock.kind.value,
        "type_name": None if lock.type_name is None else _text(lock.type_name),
        "label": None if lock.label is None else _text(lock.label),
        "address": f"{lock.address:#x}",
    }


def _lock(lock: LockMetrics, target: Target) -> Json:
    real = lock.number > 0
    where = next((waiter.stack[0].filename for waiter in lock.waiters if waiter.stack), None)
    return {
        "id": f"lock-{lock.number}" if real else "lock-other",
        "kind": lock.lock.kind.value if real else None,
        "type_name": None if lock.lock.type_name is None else _text(lock.lock.type_name),
        "label": None if lock.lock.label is None else _text(lock.lock.label),
        "address": f"{lock.lock.address:#x}" if real else None,
        "whose": None if where is None else _text(target.whose(where)),
        "object": None if lock.of_object is None else _object(lock.of_object),
        "wait_s": _seconds(lock.wait_ns),
        "critical_wait_s": _seconds(lock.critical_wait_ns),
        "mean_queue": _number(lock.mean_queue),
        "waiters_max": lock.waiters_max,
        "longest_wait_ms": _number(lock.longest_wait_ns / 1e6),
        "waiters": [
            {"tid": waiter.thread.tid, "wait_s": _seconds(waiter.wait_ns), "stack": _stack(waiter.stack)}
            for waiter in lock.waiters
        ],
        "holders": [
            {
                "tid": None if holder.thread is None else holder.thread.tid,
                "blame_s": _seconds(holder.blame_ns),
                "confidence": holder.confidence.label,
                "stack": _stack(holder.stack),
            }
            for holder in lock.holders
        ],
    }


def _hot(line: HotLine, capture: Allocations | None, target: Target) -> Json:
    return {
        "function": _text(line.frame.function),
        "file": _text(line.frame.filename),
        "line": line.frame.line,
        "whose": _text(target.whose(line.frame.filename)),
        "total_s": _seconds(line.total_ns),
        "wall_s": None if line.wall_ns is None else _seconds(line.wall_ns),
        "states": _states(line.states_ns),
        "threads": line.threads,
        "allocations": None
        if line.allocations is None or capture is None
        else _line_allocations(line.allocations, capture),
        "stacks": [{"total_s": _seconds(spent), "stack": _stack(stack)} for stack, spent in line.stacks],
        "shared": list(map(_object, line.shared)),
        "own_locks": list(map(_text, line.own_locks)),
        "spun_for": list(map(_text, line.spun_for)),
        "native": [{"symbol": _text(symbol), "share": _number(share)} for symbol, share in line.native],
    }


def _object(one: SharedObject) -> Json:
    facts = one.facts
    return {
        "name": _text(one.name),
        "type_name": _text(one.type_name),
        "confidence": one.confidence.label,
        "path": None if facts is None or facts.path is None else _text(facts.path),
        "made_by": None if facts is None or facts.made_by is None else _text(facts.made_by),
        "counting": None if facts is None else facts.counting.value,
        "address": None if facts is None else f"{facts.address:#x}",
    }


def _line_allocations(line: LineAllocations, capture: Allocations) -> Json:
    return {
        "count": line.count,
        "bytes": line.size_bytes,
        "temporary": line.temporary,
        "per_s": _number(capture.per_second(line.count)),
        "bytes_per_s": _number(capture.per_second(line.size_bytes)),
        "temporary_per_s": _number(capture.per_second(line.temporary)),
        "peak_bytes": line.peak_bytes,
        "left_count": line.left_count,
        "left_bytes": line.left_bytes,
        "threads": line.threads,
    }


def _memray(capture: Allocations) -> Json:
    return {
        "start": _moment(capture.begin_unix_ns),
        "duration_s": _seconds(capture.duration_ns),
        "pid": capture.pid,
        "python_allocators": capture.python_allocators,
        "aggregated": capture.aggregated,
        "cut_short": capture.cut_short,
        "count": capture.count,
        "bytes": capture.size_bytes,
        "temporary": capture.temporary,
        "per_s": _number(capture.per_second(capture.count)),
        "bytes_per_s": _number(capture.per_second(capture.size_bytes)),
        "temporary_per_s": _number(capture.per_second(capture.temporary)),
        "peak_bytes": capture.peak_bytes,
        "left_count": capture.left_count,
        "left_bytes": capture.left_bytes,
        "threads": [
            {
                "number": thread.number,
                "tid": thread.tid,
                "name": None if thread.name is None else _text(thread.name),
                "count": thread.count,
                "bytes": thread.size_bytes,
                "temporary": thread.temporary,
                "peak_bytes": thread.peak_bytes,
                "left_bytes": thread.left_bytes,
            }
            for thread in capture.threads
        ],
        "lines": [
            {
                "function": _text(line.frame.function),
                "file": _text(line.frame.filename),
                "line": line.frame.line,
                **_line_allocations(line, capture),
                "stack": _stack(line.stack),
            }
            for line in capture.lines[:MEMRAY_LINES]
        ],
        "lines_left_out": capture.lines_left_out + max(0, len(capture.lines) - MEMRAY_LINES),
        "not_measured": {name: _text(reason) for name, reason in capture.not_measured.items()},
    }


def _pauses(pauses: Pauses) -> Json:
    requester = pauses.requester
    return {
        "tid": None if requester is None else requester.tid,
        "name": None if requester is None else _text(requester.name),
        "confidence": pauses.confidence.label,
        "reason": pauses.reason,
        "count_at_least": pauses.count,
        "total_s": _seconds(pauses.total_ns),
        "longest_ms": _number(pauses.longest_ns / 1e6),
        "threads_max": pauses.threads_max,
        "stack": _stack(pauses.stack),
    }


def _collections(collector: CollectorMetrics) -> Json:
    return {
        "count": collector.count,
        "total_s": _seconds(collector.total_ns),
        "timed": collector.timed,
        "longest_ms": _number(None if collector.longest_ns is None else collector.longest_ns / 1e6),
        "covered_ratio": _number(collector.covered_ratio),
        "generations": [
            {
                "generation": each.generation,
                "count": each.count,
                "total_s": _seconds(each.total_ns),
                "looked_at": each.looked_at,
                "freed": each.freed,
            }
            for each in collector.generations
        ],
    }


def _finding(finding: Finding) -> Json:
    return {
        "rule": finding.rule_id,
        "severity": finding.severity.value,
        "score": _number(finding.score),
        "confidence": finding.confidence,
        "context": finding.context,
        "whose": None if finding.whose is None else _text(finding.whose),
        "lost_cores": _number(finding.lost_cores),
        "prediction": prediction_values(finding.prediction, _text),
        "subject": {
            name: _text(value) if isinstance(value, str) else value for name, value in finding.subject.items()
        },
        "summary": _text(finding.summary),
        "explanation": _text(finding.explanation),
        "could_also_be": [_text(other) for other in finding.could_also_be],
        "remedy": [
            {"text": _text(remedy.text), "code": None if remedy.code is None else _text(remedy.code)}
            for remedy in finding.remedy
        ],
        "verify": _text(finding.verify),
        "evidence": [
            {
                "metric": evidence.metric,
                "value": _number(evidence.value),
                "unit": evidence.unit,
                "threshold": _number(evidence.threshold),
            }
            for evidence in finding.evidence
        ],
    }


def _stack(stack: Stack) -> list[Json]:
    return [
        {"function": _text(frame.function), "file": _text(frame.filename), "line": frame.line}
        for frame in stack[:STACK_FRAMES]
    ]


def _states(states: Mapping[ThreadState, float]) -> Json:
    return {state.label: _seconds(states[state]) for state in ThreadState if states.get(state, 0) > 0}


def _seconds(value_ns: float) -> float | None:
    return _number(value_ns / 1e9)


def _number(value: float | None) -> float | None:
    """The number, or None for what JSON cannot say (NaN, infinity)."""
    return None if value is None or not math.isfinite(value) else value


def _text(text: str) -> str:
    """Lone surrogates (undecodable bytes of names) as visible escapes: many JSON readers refuse them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _start(snapshot: Snapshot) -> str | None:
    """Wall-clock time of the range's beginning, ISO 8601 in UTC."""
    settings = snapshot.settings
    return _moment(settings.started_unix_ns + (snapshot.t0_ns - settings.started_ns))


def _moment(unix_ns: int) -> str | None:
    """ISO 8601 in UTC."""
    try:
        moment = datetime.fromtimestamp(unix_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
