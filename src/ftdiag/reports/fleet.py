"""The report of many processes: what they use together, a row a process, who is unlike the others, findings
of all.

In: a `Fleet`. Out: plain lines of text, or a dict of plain values for JSON. Names that a target chose are
escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ftdiag.analysis.fleet import Fleet, Member, Unlike
from ftdiag.model import CorePart
from ftdiag.reports.escaping import visible
from ftdiag.wording import units
from ftdiag.wording.account import part_name

SCHEMA: Final = "ftdiag-fleet/1"
SHOWN_FINDINGS: Final = 12
SHOWN_MEMBERS: Final = 200
LEAST_CORES: Final = 0.05
NOT_LOST: Final = frozenset({CorePart.USEFUL, CorePart.NO_DEMAND, CorePart.ON_CPU, CorePart.UNSEEN_THREADS})
"""Parts of the account that are not lost, or of which it is not known whether they are."""
NAME_WIDTH: Final = 28
HEADINGS: Final = " cores useful effic. threads   resident  costliest"


def render(fleet: Fleet, *, ascii_only: bool = False) -> Iterator[str]:
    """The lines."""

    def shown(text: str) -> str:
        return visible(text, ascii_only=ascii_only)

    count = len(fleet.members)
    yield use_words(fleet)
    lost = lost_words(fleet)
    if lost:
        yield f"  lost together: {lost}"
    left = SHOWN_MEMBERS
    for group in fleet.groups:
        yield ""
        hosts = units.plural(len(group.hosts), "host")
        yield f"{shown(group.command)} (CPython {shown(group.python_version)}, {hosts})"
        yield f"  {'':{NAME_WIDTH}} {HEADINGS}"
        for member in group.members[: max(0, left)]:
            yield _row(member, shown)
        left -= len(group.members)
        for unlike in group.unlike:
            yield f"  unlike the others: {shown(unlike.member.name)}: {unlike_words(unlike)}"
    if left < 0:
        yield f"  {-left} processes more are in the JSON report"
    if fleet.findings:
        yield ""
        yield "Findings of all"
    for shared in fleet.findings[:SHOWN_FINDINGS]:
        how_many = f"{len(shared.members)} of {count}"
        first = shared.first
        yield (
            f"  {first.severity.value}: {first.rule_id} in {how_many}, {units.cores(shared.lost_cores)} cores"
            f" together: {shown(first.summary)}"
        )


def use_words(fleet: Fleet) -> str:
    """How many processes, and what they use together."""
    useful = "" if fleet.useful_cores is None else f", {units.cores(fleet.useful_cores)} of them useful"
    processes = units.plural(len(fleet.members), "process", "processes")
    return f"{processes}: {units.cores(fleet.on_cpu_cores)} cores on CPU{useful}"


def lost_words(fleet: Fleet) -> str:
    """What they lose together, largest first; "" if nothing to speak of."""
    return ", ".join(
        f"{part_name(part, fleet.members[0].snapshot.metrics)} {units.cores(cores)}"
        for part, cores in sorted(fleet.account.items(), key=lambda row: -row[1])
        if cores >= LEAST_CORES and part not in NOT_LOST
    )


def _row(member: Member, shown: Any) -> str:
    snapshot = member.snapshot
    metrics = snapshot.metrics
    resident = None if snapshot.process is None else snapshot.process.rss_bytes
    finding = next((each for each in snapshot.findings if not each.context), None)
    cost = "" if finding is None else f"{finding.rule_id} {units.cores(finding.lost_cores)}"
    return (
        f"  {shown(member.name)[:NAME_WIDTH]:{NAME_WIDTH}} {units.cores(metrics.on_cpu_cores):>6}"
        f" {units.cores(metrics.useful_cores):>6} {units.percent(metrics.efficiency_ratio):>6}"
        f" {metrics.threads:>7} {units.size(resident):>10}  {cost}"
    ).rstrip()


def unlike_words(unlike: Unlike) -> str:
    """For example "efficiency 20 %, the others 80 %"."""
    value, median = (_figure_words(unlike.figure, each) for each in (unlike.value, unlike.median))
    return f"{unlike.figure} {value}, the others {median}"


def _figure_words(figure: str, value: float) -> str:
    if figure == "efficiency":
        return units.percent(value)
    if figure == "resident bytes":
        return units.size(value)
    return f"{value:.0f}" if figure == "threads" else units.cores(value)


def to_report(fleet: Fleet) -> dict[str, Any]:
    """Plain values; what is not known is null."""
    return {
        "schema": SCHEMA,
        "processes": len(fleet.members),
        "on_cpu_cores": fleet.on_cpu_cores,
        "useful_cores": fleet.useful_cores,
        "account": {part.label: cores for part, cores in fleet.account.items()},
        "groups": [
            {
                "command": group.command,
                "python_version": group.python_version,
                "hosts": list(group.hosts),
                "members": [_member(member) for member in group.members],
                "unlike": [
                    {
                        "name": each.member.name,
                        "figure": each.figure,
                        "value": each.value,
                        "median": each.median,
                    }
                    for each in group.unlike
                ],
            }
            for group in fleet.groups
        ],
        "findings": [
            {
                "rule": shared.first.rule_id,
                "severity": shared.first.severity.value,
                "summary": shared.first.summary,
                "lost_cores": shared.lost_cores,
                "members": [member.name for member in shared.members],
            }
            for shared in fleet.findings
        ],
    }


def _member(member: Member) -> dict[str, Any]:
    snapshot = member.snapshot
    metrics = snapshot.metrics
    return {
        "name": member.name,
        "pid": snapshot.target.pid,
        "host": snapshot.settings.host,
        "on_cpu_cores": metrics.on_cpu_cores,
        "useful_cores": metrics.useful_cores,
        "efficiency_ratio": metrics.efficiency_ratio,
        "threads": metrics.threads,
        "resident_bytes": None if snapshot.process is None else snapshot.process.rss_bytes,
        "findings": [
            {"rule": each.rule_id, "severity": each.severity.value, "lost_cores": each.lost_cores}
            for each in snapshot.findings
        ],
    }
