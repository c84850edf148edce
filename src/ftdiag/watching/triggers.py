"""What makes the recorder keep something: conditions on figures, findings of a rule.

In: words such as `efficiency < 0.5 for 30s`, `rss > 2GB`, `hot-lock`, `hot-lock for 1m`; then snapshots, one
after the other. Out: when one has come true. Pure: time is that of the snapshots.

A condition that flaps fires once: after it fired it has to be untrue, and its quiet time over, before it
fires again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import UsageError
from ftdiag.model import Snapshot, ThreadState
from ftdiag.rules import RULES

LONGEST_S: Final = 86_400.0
MAX_WORDS: Final = 200
_DURATIONS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_UNITS: Final = {
    "": 1.0,
    "%": 0.01,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 1024.0,
    "mib": 1024.0**2,
    "gib": 1024.0**3,
}
_CONDITION: Final = re.compile(
    r"\s*(?P<figure>[a-z_]+)\s*(?P<sign><=|>=|<|>)\s*(?P<value>[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?P<unit>[a-z%]*)"
    r"(?:\s+for\s+(?P<time>[0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(?P<time_unit>[a-z]*))?\s*",
    re.IGNORECASE,
)
_RULE: Final = re.compile(
    r"\s*(?P<rule>[a-z][a-z0-9-]*)(?:\s+for\s+(?P<time>[0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(?P<time_unit>[a-z]*))?\s*",
    re.IGNORECASE,
)
_WAITS: Final = (
    ThreadState.LOCK,
    ThreadState.OBJECT_LOCK,
    ThreadState.RUNTIME_LOCK,
    ThreadState.NATIVE_LOCK,
    ThreadState.GIL,
)


def _lost(snapshot: Snapshot) -> float | None:
    lost = snapshot.metrics.lost_cores
    return sum(lost.values()) if lost else None


def _lock_share(snapshot: Snapshot) -> float | None:
    alive = sum(thread.alive_ns for thread in snapshot.threads)
    states = snapshot.metrics.states_ns
    return sum(states.get(state, 0.0) for state in _WAITS) / alive if alive else None


def _rss(snapshot: Snapshot) -> float | None:
    return None if snapshot.process is None else snapshot.process.rss_bytes


FIGURES: Final[Mapping[str, tuple[Callable[[Snapshot], float | None], str]]] = {
    "efficiency": (lambda each: each.metrics.efficiency_ratio, "useful part of the cores, 0 to 1"),
    "useful": (lambda each: each.metrics.useful_cores, "cores that did useful work"),
    "on_cpu": (lambda each: each.metrics.on_cpu_cores, "cores in use"),
    "lost": (_lost, "cores lost to waiting and overhead"),
    "locks": (_lock_share, "part of thread-time that waited for locks, 0 to 1"),
    "threads": (lambda each: float(len(each.threads)), "threads"),
    "rss": (_rss, "resident memory, in bytes, or as 512MB, 2GiB"),
}
"""What a condition may be about: how to read it, and what it is."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What was asked for: `words` as it was written, whether it holds now, for how long it has to."""

    words: str
    holds: Callable[[Snapshot], bool | None]
    for_s: float

    @property
    def name(self) -> str:
        """Fit for a file's name and a label."""
        return re.sub(r"[^a-z0-9]+", "-", self.words.lower()).strip("-")[:40] or "condition"


def parse(words: str) -> Condition:
    """The condition that words say. Raises UsageError with what is possible."""
    if len(words) <= MAX_WORDS:
        found = _CONDITION.fullmatch(words)
        if found is not None and found["figure"].lower() in FIGURES:
            return _comparison(words, found)
        found = _RULE.fullmatch(words)
        if found is not None and found["rule"].lower() in {rule.id for rule in RULES}:
            return _finding(words, found)
    raise UsageError(
        f"{words[:MAX_WORDS]!r} is no condition that --when takes",
        f"'FIGURE < NUMBER for 30s' with one of {', '.join(FIGURES)};\n"
        "or the name of a rule, as `ftdiag explain` lists them: --when 'hot-lock for 10s'",
    )


def _comparison(words: str, found: re.Match[str]) -> Condition:
    unit = found["unit"].lower()
    if unit not in _UNITS:
        raise UsageError(
            f"{unit!r} in {words!r} is no unit", f"It is one of {', '.join(filter(None, _UNITS))}."
        )
    limit = float(found["value"]) * _UNITS[unit]
    read, _ = FIGURES[found["figure"].lower()]
    sign = found["sign"]

    def holds(snapshot: Snapshot) -> bool | None:
        value = read(snapshot)
        if value is None:
            return None
        below, equal = value < limit, value == limit
        return {"<": below, "<=": below or equal, ">": not below and not equal, ">=": not below}[sign]

    return Condition(words.strip(), holds, _length_s(words, found))


def _finding(words: str, found: re.Match[str]) -> Condition:
    rule = found["rule"].lower()

    def holds(snapshot: Snapshot) -> bool | None:
        return any(finding.rule_id == rule for finding in snapshot.findings)

    return Condition(words.strip(), holds, _length_s(words, found))


def _length_s(words: str, found: re.Match[str]) -> float:
    if found["time"] is None:
        return 0.0
    unit = (found["time_unit"] or "").lower()
    if unit not in _DURATIONS:
        raise UsageError(f"{unit!r} in {words!r} is no unit of time", "It is s, m or h.")
    length = float(found["time"]) * _DURATIONS[unit]
    if length > LONGEST_S:
        raise UsageError(f"{words!r} would have to hold for more than a day", "At most 24h are possible.")
    return length


class Trigger:
    """One condition on one process, over time."""

    def __init__(self, condition: Condition, quiet_s: float) -> None:
        self.condition = condition
        self._quiet_s = quiet_s
        self._since_s: float | None = None
        self._armed = True
        self._quiet_until_s = float("-inf")

    def feed(self, snapshot: Snapshot) -> bool:
        """Whether it fires with this snapshot, the next one; what is not measured changes nothing."""
        now_s = snapshot.t1_ns / 1e9
        holds = self.condition.holds(snapshot)
        if holds is None:
            return False
        if not holds:
            self._since_s = None
            self._armed = True
            return False
        if self._since_s is None:
            self._since_s = snapshot.t0_ns / 1e9 if self.condition.for_s else now_s
        if not self._armed or now_s < self._quiet_until_s or now_s - self._since_s < self.condition.for_s:
            return False
        self._armed = False
        self._quiet_until_s = now_s + self._quiet_s
        return True
