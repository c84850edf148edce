"""What of one look is compared with others: the account of cores, findings, locks, hot lines.

In: a `Snapshot`, of a run of a sweep or of a part of a recording. Out: a `Digest`: small, with names that
are the same in the next run (no ids of threads, no numbers of locks), for files, curves and comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.model import ON_CPU_PARTS, CorePart, Finding, LockMetrics, Snapshot
from ftdiag.wording.locks import lock_words
from ftdiag.wording.places import frame_words

MOST_LOCKS: Final = 12
MOST_LINES: Final = 20
MOST_FINDINGS: Final = 20
MOST_NAME: Final = 300
_MOVING: Final = frozenset({"thread", "line", "tid", "pid", "address", "lock_id", "number"})
"""What of a finding's subject is another in the next run, or after an edit above it."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A finding. `key` is that of the same cause in another run."""

    key: str
    rule: str
    summary: str
    severity: str
    lost_cores: float


@dataclass(frozen=True, slots=True)
class Digest:
    """One look. Cores are means over it; `locks` has threads that wait on average, `lines` those that are
    there.

    `None` is not measured. `account` is empty where the capacity is not known.
    """

    version: str
    free_threaded: bool
    gil_enabled: bool | None
    capacity_cores: float | None
    capacity_reason: str | None
    duration_s: float
    threads: int
    on_cpu_cores: float
    useful_cores: float | None
    efficiency_ratio: float | None
    account: Mapping[str, float] = field(default_factory=dict)
    locks: Mapping[str, float] = field(default_factory=dict)
    lines: Mapping[str, float] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()


def digest_of(snapshot: Snapshot) -> Digest:
    """The digest of a look."""
    metrics = snapshot.metrics
    length = max(1, metrics.duration_ns)
    locks: dict[str, float] = {}
    for lock in snapshot.locks[: 2 * MOST_LOCKS]:
        if lock.number > 0:
            name = _lock_name(lock)
            locks[name] = locks.get(name, 0.0) + lock.mean_queue
    lines: dict[str, float] = {}
    for line in snapshot.hot[: 2 * MOST_LINES]:
        name = frame_words(line.frame)[:MOST_NAME]
        lines[name] = lines.get(name, 0.0) + line.total_ns / length
    return Digest(
        version=snapshot.target.python_version,
        free_threaded=snapshot.target.free_threaded,
        gil_enabled=snapshot.target.gil_enabled,
        capacity_cores=metrics.capacity_cores,
        capacity_reason=metrics.capacity_reason,
        duration_s=metrics.duration_ns / 1e9,
        threads=metrics.threads,
        on_cpu_cores=metrics.on_cpu_cores,
        useful_cores=metrics.useful_cores,
        efficiency_ratio=metrics.efficiency_ratio,
        account={part.value: cores for part, cores in metrics.account.items()},
        locks=dict(_largest(locks, MOST_LOCKS)),
        lines=dict(_largest(lines, MOST_LINES)),
        causes=tuple(
            Cause(
                _key(finding),
                finding.rule_id,
                finding.summary[:MOST_NAME],
                finding.severity.value,
                finding.lost_cores,
            )
            for finding in snapshot.findings[:MOST_FINDINGS]
            if not finding.context
        ),
    )


def together(digests: Sequence[Digest]) -> Digest:
    """Processes that ran side by side on the same cores, as one."""
    first = digests[0]
    if len(digests) == 1:
        return first
    account = summed(digest.account for digest in digests)
    if account and first.capacity_cores is not None:
        account = _shared(account, first.capacity_cores)
    useful = [digest.useful_cores for digest in digests]
    causes: dict[str, Cause] = {}
    for cause in (each for digest in digests for each in digest.causes):
        before = causes.get(cause.key)
        lost = cause.lost_cores + (before.lost_cores if before is not None else 0.0)
        causes[cause.key] = Cause(cause.key, cause.rule, cause.summary, cause.severity, lost)
    known = [each for each in useful if each is not None]
    total = sum(known) if len(known) == len(useful) else None
    return Digest(
        version=first.version,
        free_threaded=first.free_threaded,
        gil_enabled=first.gil_enabled,
        capacity_cores=first.capacity_cores,
        capacity_reason=first.capacity_reason,
        duration_s=max(digest.duration_s for digest in digests),
        threads=sum(digest.threads for digest in digests),
        on_cpu_cores=sum(digest.on_cpu_cores for digest in digests),
        useful_cores=total,
        efficiency_ratio=None
        if total is None or not first.capacity_cores
        else min(1.0, total / first.capacity_cores),
        account=account,
        locks=dict(_largest(summed(digest.locks for digest in digests), MOST_LOCKS)),
        lines=dict(_largest(summed(digest.lines for digest in digests), MOST_LINES)),
        causes=tuple(sorted(causes.values(), key=lambda each: -each.lost_cores)),
    )


def _shared(account: Mapping[str, float], capacity: float) -> dict[str, float]:
    """The account of the same cores, of which each process counted as its own what it waited for."""
    in_use = {part.value for part in ON_CPU_PARTS}
    used = sum(value for name, value in account.items() if name in in_use)
    waited = {
        name: value
        for name, value in account.items()
        if name not in in_use and name != CorePart.NO_DEMAND.value
    }
    left = max(0.0, capacity - used)
    share = min(1.0, left / total) if (total := sum(waited.values())) > 0 else 1.0
    kept = {name: value * share if name in waited else value for name, value in account.items()}
    kept[CorePart.NO_DEMAND.value] = max(0.0, left - total * share)
    return kept


def asked_account(digest: Digest, workers: int) -> dict[str, float]:
    """The account of the cores that so many threads can use, without those that none could ask for."""
    account = dict(digest.account)
    capacity = digest.capacity_cores
    if capacity is not None and account:
        unasked = max(0.0, capacity - workers)
        idle = account.get(CorePart.NO_DEMAND.value, 0.0)
        account[CorePart.NO_DEMAND.value] = max(0.0, idle - unasked)
    return account


def summed(tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of tables, name by name."""
    total: dict[str, float] = {}
    for table in tables:
        for name, value in table.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _largest(table: Mapping[str, float], most: int) -> list[tuple[str, float]]:
    return sorted(table.items(), key=lambda each: -each[1])[:most]


def _lock_name(lock: LockMetrics) -> str:
    name = lock_words(lock.lock)
    if lock.lock.label:
        return name[:MOST_NAME]
    where = next((frame_words(waiter.stack[0]) for waiter in lock.waiters if waiter.stack), "")
    return (f"{name} waited for at {where}" if where else f"an unnamed {name}")[:MOST_NAME]


def _key(finding: Finding) -> str:
    subject = {
        name: value
        for name, value in finding.subject.items()
        if name not in _MOVING and isinstance(value, str) and not value.startswith("lock-")
    }
    words = "; ".join(f"{name} {subject[name]}" for name in sorted(subject))
    return (f"{finding.rule_id}: {words}" if words else finding.rule_id)[:MOST_NAME]
