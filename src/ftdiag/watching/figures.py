"""What of the watched processes is published: names, units, labels, for Prometheus and OpenTelemetry alike.

In: pids with their snapshots and incidents. Out: `Figure`s, bounded in number and in the length of labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Snapshot

MAX_LABEL: Final = 120
MAX_FINDINGS: Final = 20
"""Findings of one process that are published."""
MAX_INCIDENTS: Final = 50
"""Triggers of one process."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One metric: its name with the unit, what it says, whether it only grows."""

    name: str
    words: str
    unit: str
    labels: tuple[str, ...] = ()
    counts: bool = False


EFFICIENCY: Final = Kind("ftdiag_efficiency_ratio", "Useful part of the cores of the last seconds.", "1")
CAPACITY: Final = Kind("ftdiag_capacity_cores", "Cores that the process may use.", "{core}")
USEFUL: Final = Kind("ftdiag_useful_cores", "Cores that did useful work.", "{core}")
ON_CPU: Final = Kind("ftdiag_on_cpu_cores", "Cores in use.", "{core}")
STATES: Final = Kind("ftdiag_thread_cores", "Threads in each state, on average.", "{thread}", ("state",))
LOST: Final = Kind("ftdiag_lost_cores", "Cores lost to a state.", "{core}", ("state",))
THREADS: Final = Kind("ftdiag_threads", "Threads seen.", "{thread}")
RSS: Final = Kind("ftdiag_resident_bytes", "Resident memory.", "By")
FINDINGS: Final = Kind("ftdiag_finding_lost_cores", "Cores a finding costs.", "{core}", ("rule", "severity"))
SAMPLER: Final = Kind("ftdiag_sampler_cores", "CPU time of the sampler.", "{core}")
INCIDENTS: Final = Kind(
    "ftdiag_incidents", "Times that a trigger kept recordings.", "{incident}", ("trigger",), True
)
KINDS: Final = (
    EFFICIENCY, CAPACITY, USEFUL, ON_CPU, STATES, LOST, THREADS, RSS, FINDINGS, SAMPLER, INCIDENTS
)  # fmt: skip
PROCESS: Final = ("pid", "command")
"""Labels of every figure."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value; `labels` in the order of PROCESS and the kind's own."""

    kind: Kind
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One process as it was last looked at."""

    pid: int
    snapshot: Snapshot | None
    incidents: Mapping[str, int]


def figures(readings: Iterable[Reading]) -> Iterator[Figure]:
    """All figures; what is not measured is left out."""
    for reading in readings:
        command = "" if reading.snapshot is None else reading.snapshot.target.command
        process = str(reading.pid), _label(command)
        for trigger, count in list(reading.incidents.items())[:MAX_INCIDENTS]:
            yield Figure(INCIDENTS, (*process, _label(trigger)), float(count))
        if reading.snapshot is not None:
            yield from _of(reading.snapshot, process)


def _of(snapshot: Snapshot, process: tuple[str, str]) -> Iterator[Figure]:
    metrics = snapshot.metrics
    resident = None if snapshot.process is None else snapshot.process.rss_bytes
    for kind, value in (
        (EFFICIENCY, metrics.efficiency_ratio),
        (CAPACITY, metrics.capacity_cores),
        (USEFUL, metrics.useful_cores),
        (ON_CPU, metrics.on_cpu_cores),
        (THREADS, float(len(snapshot.threads))),
        (RSS, None if resident is None else float(resident)),
        (SAMPLER, snapshot.quality.sampler_cpu_ratio),
    ):
        if value is not None:
            yield Figure(kind, process, float(value))
    length = metrics.duration_ns
    for state, time_ns in metrics.states_ns.items():
        if length and time_ns:
            yield Figure(STATES, (*process, state.label), time_ns / length)
    for state, cores in metrics.lost_cores.items():
        yield Figure(LOST, (*process, state.label), cores)
    told: set[tuple[str, str]] = set()
    for finding in snapshot.findings[:MAX_FINDINGS]:
        key = finding.rule_id, finding.severity.value
        if key not in told:  # several of one rule: the costliest comes first
            told.add(key)
            yield Figure(FINDINGS, (*process, *key), finding.lost_cores)


def _label(text: str) -> str:
    """Bounded, without what a text format could take for something else."""
    plain = "".join(character if character.isprintable() else "?" for character in text[:MAX_LABEL])
    return plain.encode("utf-8", "replace").decode("utf-8")
