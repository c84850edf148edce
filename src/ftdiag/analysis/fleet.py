"""Many processes as one: what they use and lose together, which findings they share, who is unlike the
others.

In: names and snapshots of processes. Out: a `Fleet`: groups of processes that run the same command on the
same version, their findings put together, and members whose figures stand out within their group. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import CorePart, Finding, Severity, Snapshot

LEAST_GROUP: Final = 3
"""Of fewer nobody can be unlike the others."""
LEAST_SHARE: Final = 0.25
"""A figure stands out that is at least this part of the group's median away from it ..."""
LEAST_SPREADS: Final = 4.0
"""... and so many times the median distance from it."""
LEAST_OF: Final[Mapping[str, float]] = {
    "efficiency": 0.1,
    "cores in use": 0.1,
    "useful cores": 0.1,
    "threads": 3.0,
    "resident bytes": 16e6,
}
"""... and at least so much away: what is less is nothing to look at."""
_SEVERITIES: Final = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Member:
    """One process: how it is called here (a file, a process id), and what is known of it."""

    name: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Unlike:
    """A figure of a member that stands out; `median` is that of its group."""

    member: Member
    figure: str
    value: float
    median: float


@dataclass(frozen=True, slots=True)
class SharedFinding:
    """Findings of one rule about one thing; `first` is the costliest of them, the others say the same.

    `lost_cores` is what it costs all of them together; of what is not the program's own, at least.
    """

    first: Finding
    members: tuple[Member, ...]
    lost_cores: float


@dataclass(frozen=True, slots=True)
class Group:
    """Processes with the same command and version."""

    command: str
    python_version: str
    members: tuple[Member, ...]
    unlike: tuple[Unlike, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where they run."""
        return tuple(sorted({member.snapshot.settings.host for member in self.members}))


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of them. `account` adds up the parts of all members' cores.

    What somebody else had they did not lose once each: of a core that ftdiag, or a process that is no
    member, had while all of them wanted it, one was lost, and none of what they had from each other.
    """

    groups: tuple[Group, ...]
    findings: tuple[SharedFinding, ...]
    account: Mapping[CorePart, float]
    on_cpu_cores: float
    useful_cores: float | None

    @property
    def members(self) -> tuple[Member, ...]:
        """All processes, group by group."""
        return tuple(member for group in self.groups for member in group.members)

    @property
    def severity(self) -> Severity | None:
        """The gravest of the findings."""
        found = [shared.first.severity for shared in self.findings]
        return max(found, key=_SEVERITIES.index, default=None)


def fleet_of(members: Iterable[Member]) -> Fleet:
    """Put them together; groups with most members first."""
    by_key: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        target = member.snapshot.target
        by_key.setdefault((target.command, target.python_version), []).append(member)
    groups = tuple(
        Group(command, version, tuple(group), tuple(_unlike(group)))
        for (command, version), group in sorted(by_key.items(), key=lambda row: (-len(row[1]), row[0]))
    )
    everybody = [member for group in groups for member in group.members]
    account: dict[CorePart, float] = {}
    for host in sorted({member.snapshot.settings.host for member in everybody}):
        there = [member for member in everybody if member.snapshot.settings.host == host]
        for part, cores in _account_of_host(there).items():
            account[part] = account.get(part, 0.0) + cores
    useful = [member.snapshot.metrics.useful_cores for member in everybody]
    known = [value for value in useful if value is not None]
    return Fleet(
        groups,
        _shared(everybody),
        account,
        sum(member.snapshot.metrics.on_cpu_cores for member in everybody),
        sum(known) if len(known) == len(useful) and known else None,
    )


def _account_of_host(members: Sequence[Member]) -> dict[CorePart, float]:
    """The parts of all members on one machine, those that others had no larger than what these used."""
    account: dict[CorePart, float] = {}
    for member in members:
        for part, cores in member.snapshot.metrics.account.items():
            account[part] = account.get(part, 0.0) + cores
    used = sum(member.snapshot.metrics.on_cpu_cores for member in members)
    # To each the other members are other processes, too.
    strangers = [
        max(0.0, metrics.other_programs_cores - (used - metrics.on_cpu_cores))
        for metrics in (member.snapshot.metrics for member in members)
        if metrics.other_programs_cores is not None
    ]
    samplers = [member.snapshot.quality.sampler_cpu_ratio for member in members]
    known = [each for each in samplers if each is not None]
    for part, had in (
        (CorePart.OTHER_PROGRAMS, min(strangers, default=None)),
        (CorePart.FTDIAG, sum(known) if known else None),
    ):
        if part in account and had is not None:
            account[part] = min(account[part], had)
    return account


def figures_of(snapshot: Snapshot) -> dict[str, float]:
    """What members of a group are compared by; what is not measured is left out."""
    metrics, process = snapshot.metrics, snapshot.process
    found = {
        "efficiency": metrics.efficiency_ratio,
        "cores in use": metrics.on_cpu_cores,
        "useful cores": metrics.useful_cores,
        "threads": float(metrics.threads),
        "resident bytes": None if process is None else process.rss_bytes,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _unlike(group: Sequence[Member]) -> Iterable[Unlike]:
    if len(group) < LEAST_GROUP:
        return
    figures = [figures_of(member.snapshot) for member in group]
    for figure, least in LEAST_OF.items():
        values = [each[figure] for each in figures if figure in each]
        if len(values) < LEAST_GROUP:
            continue
        median = statistics.median(values)
        spread = statistics.median(abs(value - median) for value in values)
        for member, each in zip(group, figures, strict=True):
            away = abs(each.get(figure, median) - median)
            if away >= least and away > LEAST_SHARE * abs(median) and away > LEAST_SPREADS * spread:
                yield Unlike(member, figure, each[figure], median)


def _shared(members: Sequence[Member]) -> tuple[SharedFinding, ...]:
    found: dict[tuple[str, str], list[tuple[Finding, Member]]] = {}
    for member in members:
        for finding in member.snapshot.findings:
            # What it is about, without what differs from process to process: addresses, numbers of threads.
            about = {
                name: value for name, value in finding.subject.items() if name in ("file", "line", "label")
            }
            key = finding.rule_id, str(sorted(about.items()))
            found.setdefault(key, []).append((finding, member))
    shared = []
    for rows in found.values():
        first = max(rows, key=lambda row: (row[0].lost_cores, row[0].score))[0]
        having = tuple({id(member): member for _, member in rows}.values())
        costs = [finding.lost_cores for finding, _ in rows]
        # The cores that others had are the same ones for all of them.
        shared.append(SharedFinding(first, having, max(costs) if first.context else sum(costs)))
    return tuple(sorted(shared, key=lambda each: (each.first.context, -each.lost_cores, -len(each.members))))
