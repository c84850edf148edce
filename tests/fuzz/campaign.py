"""The campaign: many mutants of every kind of input, in a process for each core, in bounded time.

In: a seed, how many mutants, how many seconds. Out: `Result`: how many of each family there were, how many a
second, and the faults, by kind, with the number of a mutant for each: family, seed and number make it again.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from fuzz import harness
from fuzz.captures import MemrayCaptures, MemrayMessages
from fuzz.elf import ElfFiles
from fuzz.harness import BATCH, LIMIT_BYTES, Family
from fuzz.imports import Imports
from fuzz.objects import ObjectGraphs
from fuzz.offsets import DebugOffsets
from fuzz.perfmaps import PerfMaps
from fuzz.recordings import Recordings
from fuzz.sweeps import Sweeps

FAMILIES: Final[tuple[Callable[[], Family], ...]] = (
    Recordings,
    Imports,
    ObjectGraphs,
    DebugOffsets,
    ElfFiles,
    PerfMaps,
    Sweeps,
    MemrayMessages,
    # Last: a few slow ones, which all come in the first turn.
    MemrayCaptures,
)
MAX_FAULTS: Final = 200
"""Kinds of faults of one family that a process keeps."""


@dataclass(slots=True)
class Tally:
    """What came of the mutants of a family. `faults` has (a mutant's number, how often) by kind."""

    mutants: int = 0
    refused: int = 0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    slowest: int = 0
    """The number of the mutant that took so long."""
    peak_bytes: int = 0
    faults: dict[str, tuple[int, int]] = field(default_factory=dict)

    def fault(self, kind: str, number: int, count: int = 1) -> None:
        """Count a fault."""
        first, before = self.faults.get(kind, (number, 0))
        if before or len(self.faults) < MAX_FAULTS:
            self.faults[kind] = min(first, number), before + count

    def add(self, other: Tally) -> None:
        """Take in what another process counted."""
        self.mutants += other.mutants
        self.refused += other.refused
        self.cpu_s += other.cpu_s
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        for kind, (number, count) in other.faults.items():
            self.fault(kind, number, count)


@dataclass(frozen=True, slots=True)
class Result:
    """A campaign that is over."""

    seed: int
    seconds: float
    tallies: dict[str, Tally]

    @property
    def mutants(self) -> int:
        """How many there were."""
        return sum(tally.mutants for tally in self.tallies.values())

    @property
    def faults(self) -> list[str]:
        """Every kind of fault, with how to make it again."""
        return [
            f"{name}: {kind} ({count} times; python -m fuzz --replay {name!r}:{number} --seed {self.seed})"
            for name, tally in self.tallies.items()
            for kind, (number, count) in sorted(tally.faults.items())
        ]

    def lines(self) -> list[str]:
        """A table of what was done, then the faults."""
        rows = [
            f"{name:15} {tally.mutants:8,} {tally.refused:8,} {tally.mutants / max(tally.cpu_s, 1e-9):9,.0f}"
            f" {tally.slowest_s:8.2f} {tally.slowest:8} {tally.peak_bytes >> 20:6} {len(tally.faults):6}"
            for name, tally in self.tallies.items()
        ]
        head = "family           mutants  refused   a CPU-s  worst s   number    MiB faults"
        total = f"{self.mutants:,} mutants in {self.seconds:.0f} s, seed {self.seed}"
        return [head, *rows, total, *self.faults]


def campaign(
    seed: int,
    mutants: int,
    seconds: float,
    *,
    families: Iterable[Callable[[], Family]] = FAMILIES,
    processes: int | None = None,
) -> Result:
    """Run it; ends when all mutants were judged, or so many seconds after everything was prepared."""
    begin_s = time.monotonic()
    chosen = [make() for make in families]
    count = processes or len(os.sched_getaffinity(0))
    tallies = {family.name: Tally() for family in chosen}
    with tempfile.TemporaryDirectory(prefix="ftdiag-fuzz-") as folder:
        places = [Path(folder) / str(number) for number in range(count)]
        children = [
            _started(place, chosen, seed, range(number, mutants, count), seconds)
            for number, place in enumerate(places)
        ]
        for child, place in zip(children, places, strict=True):
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            for name, tally in _told(place).items():
                tallies[name].add(tally)
            if code:
                name, number = _at(place)
                tallies[name].fault(f"the process ended with {code}", number)
    return Result(seed, time.monotonic() - begin_s, tallies)


def family_of(name: str) -> Family:
    """The family of that name."""
    return next(family for family in (make() for make in FAMILIES) if family.name == name)


def judged_alone(name: str, data: bytes) -> str:
    """What is wrong with the mutant that bytes stand for, "" if nothing is; in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-fuzz-") as folder:
        child = os.fork()
        if not child:
            status = 70
            try:
                harness.bound_address_space()
                family = family_of(name)
                family.prepare(Path(folder))
                harness.reset_peak()
                fault = harness.judged(partial(family.attempt, harness.chance_by(data))).fault
                if not fault and harness.peak_bytes() > LIMIT_BYTES:
                    fault = f"took more than {LIMIT_BYTES >> 20} MiB"
                (Path(folder) / "fault").write_text(fault)
                status = 0
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return f"the process ended with {code}" if code else (Path(folder) / "fault").read_text()


def numbers_of(family: Family, share: range, families: Sequence[Family]) -> range:
    """The numbers of a process's mutants that are of this family: each has its share of them all."""
    total = sum(each.share for each in families)
    return share[: -(-len(share) * family.share // total)]


# --- one process -----------------------------------------------------------------------------------------


def _started(place: Path, families: Sequence[Family], seed: int, share: range, seconds: float) -> int:
    place.mkdir()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        harness.bound_address_space()
        _run(place, families, seed, share, seconds)
        status = 0
    finally:
        # Not back into what started it: that would go on with the same tests.
        os._exit(status)


def _run(place: Path, families: Sequence[Family], seed: int, share: range, seconds: float) -> None:
    """Judge the mutants, a batch of each family in turn, so that all get on however slow one is."""
    tallies = {family.name: Tally() for family in families}
    waiting = []
    for family in families:
        folder = place / family.name.replace(" ", "-")
        folder.mkdir()
        family.prepare(folder)
        numbers = numbers_of(family, share, families)
        # As many turns for each: the family of few slow mutants takes few of them at a time.
        waiting.append((family, [numbers[begin : begin + BATCH] for begin in range(0, len(numbers), BATCH)]))
    end_s = time.monotonic() + seconds
    turns = max((len(batches) for _, batches in waiting), default=0)
    for turn in range(turns):
        for family, batches in waiting:
            begin, end = (-(-len(batches) * each // turns) for each in (turn, turn + 1))
            for batch in batches[begin:end]:
                if time.monotonic() > end_s:
                    _tell(place, tallies)
                    return
                _judge(place, family, seed, batch, tallies[family.name], end_s)
        _tell(place, tallies)
    _tell(place, tallies)


def _judge(place: Path, family: Family, seed: int, batch: range, tally: Tally, end_s: float) -> None:
    harness.reset_peak()
    for number in batch:
        if time.monotonic() > end_s:
            break
        (place / "at").write_text(json.dumps([family.name, number]))
        _count(family, seed, number, tally)
    peak = harness.peak_bytes()
    tally.peak_bytes = max(tally.peak_bytes, peak)
    if peak > LIMIT_BYTES:
        for number in batch:
            harness.reset_peak()
            harness.judged(partial(family.attempt, harness.chance_of(seed, family.name, number)))
            if harness.peak_bytes() > LIMIT_BYTES:
                tally.fault(f"took more than {LIMIT_BYTES >> 20} MiB", number)


def _count(family: Family, seed: int, number: int, tally: Tally) -> None:
    outcome = harness.judged(partial(family.attempt, harness.chance_of(seed, family.name, number)))
    tally.mutants += 1
    tally.refused += outcome.refused
    tally.cpu_s += outcome.cpu_s
    if outcome.cpu_s > tally.slowest_s:
        tally.slowest_s, tally.slowest = outcome.cpu_s, number
    if outcome.fault:
        tally.fault(outcome.fault, number)


def _tell(place: Path, tallies: dict[str, Tally]) -> None:
    values = {name: asdict(tally) for name, tally in tallies.items()}
    (place / "told").write_text(json.dumps(values))


def _told(place: Path) -> dict[str, Tally]:
    try:
        values = json.loads((place / "told").read_text())
    except FileNotFoundError:
        return {}
    return {
        name: Tally(**{**told, "faults": {kind: tuple(seen) for kind, seen in told["faults"].items()}})
        for name, told in values.items()
    }


def _at(place: Path) -> tuple[str, int]:
    """The mutant that a process was at when it ended."""
    try:
        name, number = json.loads((place / "at").read_text())
    except FileNotFoundError:
        return FAMILIES[0]().name, 0
    return name, number
