"""Measures how right predictions are: what a replay said a change would bring, and what it brought.

In: samples and field cases whose program takes --fixed, under every free-threaded interpreter at hand. Out: a
table for each version: what removing the cause gained (the throughput of the fixed twin, run some times, over
that of the very run that was recorded: contended programs are fast in one run and slow in the next), what was
said before, with its 80 % interval, or why nothing was. Throughputs are by the cores that others left, as all
these programs want all of them. Exits with 1 where fewer than 80 % of the measured gains lie in their
interval, or the median error is above 20 %.

The programs are in two halves by their names: with one the parameters of the model were set, the other
verifies them. Runs of the twin differ among themselves: how far a measured gain is off by that alone is
printed, too.

Usage: python bench/whatif.py [NAME ...] [--series 3.14] [--seconds 3] [--turns 3] [--turn 1.5]
                              [--limit S] [--field] [--half set | verify] [--worth]
                              [--keep DIR | --judge DIR | --documented | --speed]

--worth leaves out programs of which nothing is told whatever is recorded (see the rules' reasons).
--keep leaves recordings and measured gains in a directory, --judge DIR predicts anew from such a directory.
--speed times predictions from ten minutes of 64 threads.
--documented predicts from samples/recordings, against the gains of docs/diagnosis.md (gains.tsv beside this).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from field import busy_s, cpu_ns  # noqa: E402
from generate_recording import generate  # noqa: E402

from ftdiag.errors import FtdiagError  # noqa: E402
from ftdiag.launcher import SamplerProcess  # noqa: E402
from ftdiag.model import Change, ChangeKind, Prediction  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.rules import RULES  # noqa: E402
from ftdiag.sampling.options import SamplerOptions  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from tools.field import (  # noqa: E402
    CASES,
    Case,
    NotInstalled,
    RunningCase,
    environment_of,
    running_case,
)
from tools.provision.search import find_interpreters  # noqa: E402
from tools.provision.verification import Interpreter  # noqa: E402
from tools.samples import ABOUT_THE_MACHINE, SAMPLES, Sample  # noqa: E402
from tools.workloads import WorkloadFailure, running_workload  # noqa: E402

MAX_SECONDS: Final = 2.0
COVERED: Final = 0.8
MEDIAN_ERROR: Final = 0.2
WARM_UP_S: Final = 0.7
BY_REMEDY: Final = frozenset({"regex-recompile"})
"""Rules that tell nothing but by what their first remedy gained alone."""
UNNAMED: Final = "spin-contention"
"""Contention of which it is not known what it is for: the same is left out."""
GAINS: Final = Path(__file__).resolve().parent / "gains.tsv"
RECORDINGS: Final = Path(__file__).resolve().parent.parent / "samples" / "recordings"


def half_of(name: str) -> str:
    """The half in which a program is, on all versions: by its name, so that nobody chose."""
    return "verify" if zlib.crc32(name.removeprefix("field-").encode()) & 1 else "set"


@dataclass(frozen=True)
class Row:
    """One program on one version."""

    name: str
    rule: str
    gains: list[float]
    said: Prediction

    @property
    def gained(self) -> float:
        """The median of the turns."""
        return statistics.median(self.gains)

    @property
    def half(self) -> str:
        """The half its program is in."""
        return half_of(self.name.split(" ")[0])

    @property
    def noise(self) -> float | None:
        """How far the median of the turns is off by chance: a standard error, as a part of it."""
        if len(self.gains) < 2:
            return None
        logs = [math.log(gain) for gain in self.gains]
        return 1.25 * statistics.stdev(logs) / math.sqrt(len(logs))

    @property
    def inside(self) -> bool | None:
        """Whether what was gained lies in the interval; `None` where nothing was told."""
        if self.said.low is None:
            return None
        return self.said.low <= self.gained <= (math.inf if self.said.high is None else self.said.high)

    @property
    def error(self) -> float | None:
        """How far the prediction is off, as a part of what was gained."""
        return None if self.said.gain is None else abs(self.said.gain - self.gained) / self.gained


def main() -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="programs (all)")
    parser.add_argument("--series", action="append", help="only these versions of Python: 3.14")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3, help="runs of the twin")
    parser.add_argument("--turn", type=float, default=1.5, help="seconds of each run of the twin")
    parser.add_argument("--limit", type=float, default=math.inf, help="begin no pair after so many seconds")
    parser.add_argument("--field", action="store_true", help="the cases of samples/field as well")
    parser.add_argument("--half", choices=("set", "verify"), help="only programs of this half")
    parser.add_argument("--worth", action="store_true", help="only programs of which something is told")
    parser.add_argument("--keep", type=Path, help="leave recordings and gains in this directory")
    parser.add_argument("--judge", type=Path, help="predict anew from such a directory")
    parser.add_argument("--documented", action="store_true", help="recordings and gains that are kept")
    parser.add_argument("--speed", action="store_true", help="time predictions from a long recording")
    options = parser.parse_args()
    if options.speed:
        return speed()
    if options.documented:
        return shown(list(documented(options.names)))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        folder = options.judge or options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.judge is None:
            measure(folder, options)
        for path in sorted(folder.glob("*.json")):
            row = judged(path)
            if row is not None and is_wanted(row.name.split(" ")[0], options):
                rows.append(row)
    return shown(rows)


def is_wanted(name: str, options: argparse.Namespace) -> bool:
    """Whether a program was asked for."""
    named = not options.names or name in options.names or name.removeprefix("field-") in options.names
    return named and options.half in (None, half_of(name))


def speed() -> int:
    """Seconds of a core for predictions from ten minutes of 64 threads; 1 where one takes too long."""
    took = {}
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        path = Path(scratch) / "long.ftdiag"
        generate(path, seconds=600, threads=64, busy=8, rate_hz=100, standing=16, cores=8.0)
        with Recording.open(path) as recording:
            session = Session(recording)
            began = time.process_time()
            session.snapshot()
            print(f"snapshot: {time.process_time() - began:.2f} s")
            for change in (
                Change(ChangeKind.LOCK, "_lock"),
                Change(ChangeKind.CORES, number=16.0),
                Change(ChangeKind.THREADS, number=128.0),
            ):
                began = time.process_time()
                session.predict([change])
                took[change.kind.value] = time.process_time() - began
                print(f"{change.kind.value}: {took[change.kind.value]:.2f} s")
    return 1 if max(took.values()) > MAX_SECONDS else 0


def documented(names: list[str]) -> Iterator[Row]:
    """The samples whose gains were measured for docs/diagnosis.md."""
    for line in GAINS.read_text().splitlines()[1:]:
        series, name, rule, gained = line.split("\t")
        if not names or name in names:
            kept = {"name": name, "series": series, "rules": [rule], "turns": [[1.0, float(gained)]]}
            row = beside(kept, RECORDINGS / f"{series}t" / f"{name}.ftdiag")
            if row is not None:
                yield row


def judged(path: Path) -> Row | None:
    """The prediction from a recording that was kept with its gains."""
    return beside(json.loads(path.read_text()), path.with_suffix(".ftdiag"))


def beside(kept: dict[str, Any], path: Path) -> Row | None:
    """The prediction from a recording, beside what was measured; `None` where that was nothing."""
    with Recording.open(path) as recording:
        session = Session(recording)
        snapshot = session.snapshot()
        right = (*kept["rules"], UNNAMED)
        finding = next((each for each in snapshot.findings if each.rule_id in right), None)
        if finding is None:
            first = ", ".join(each.rule_id for each in snapshot.findings[:2]) or "nothing"
            said = Prediction((), not_told=f"cannot tell: found {first} instead of {kept['rules'][0]}")
        else:
            said = session.predicted(finding)
    gains = [after / before for before, after in kept["turns"] if before > 0 and after > 0]
    if not gains:
        return None
    rule = kept["rules"][0] if finding is None else finding.rule_id
    return Row(f"{kept['name']} {kept['series']}", rule, gains, said)


def shown(rows: list[Row]) -> int:
    """Prints rows and what they come to; returns the exit status."""
    print("| program | cause | gained | (turns) | said | 80 % interval | inside |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        turns = " ".join(f"{gain:.2f}" for gain in row.gains)
        begin = f"| {row.name} | {row.rule} | x{row.gained:.2f} | {turns}"
        within = "yes" if row.inside else "**no**"
        if row.said.low is None:
            print(f"{begin} | {row.said.not_told} | | |")
            continue
        if row.said.gain is None:
            print(f"{begin} | at least x{row.said.low:.1f} | | {within} |")
            continue
        print(f"{begin} | x{row.said.gain:.2f} | {row.said.low:.2f} to {row.said.high:.2f} | {within} |")
    told = [row for row in rows if row.said.low is not None]
    print()
    for half in ("set", "verify"):
        summed_up(half, [row for row in rows if row.half == half])
    by_rule: dict[str, list[float]] = {}
    for row in told:
        if row.said.gain:
            by_rule.setdefault(row.rule, []).append(math.log(row.gained / row.said.gain))
    for rule, found in sorted(by_rule.items()):
        print(f"  {rule}: gained over said, median x{math.exp(statistics.median(found)):.2f} ({len(found)})")
    return 0 if summed_up("all", rows) else 1


def summed_up(what: str, rows: list[Row]) -> bool:
    """Prints what rows come to; returns whether that is what is wanted."""
    told = [row for row in rows if row.said.low is not None]
    errors = [row.error for row in told if row.error is not None]
    if not errors:
        return False
    inside, error = sum(bool(row.inside) for row in told), statistics.median(errors)
    noises = [row.noise for row in told if row.noise is not None and row.error is not None]
    noise = f"; noise of the measured gain {100 * statistics.median(noises):.0f} %" if noises else ""
    print(
        f"{what}: told {len(told)} of {len(rows)}; in the interval {inside}"
        f" ({100 * inside / len(told):.0f} %); median error {100 * error:.0f} %{noise}"
    )
    return inside >= COVERED * len(told) and error <= MEDIAN_ERROR


# --- measuring ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A program and its twin on one interpreter."""

    name: str
    rules: list[str]
    interpreter: Interpreter
    of: Sample | Case

    @contextmanager
    def running(self, *, fixed: bool) -> Iterator[RunningCase]:
        """One of the two, ready. Raises `NotInstalled` and `WorkloadFailure`."""
        if isinstance(self.of, Case):
            python = environment_of(self.interpreter, self.of.needs)
            with running_case(self.of, python, threads=2, fixed=fixed) as case:
                yield case
            return
        given = (*self.of.arguments, *(["--fixed"] * fixed))
        with running_workload(
            self.interpreter.path,
            self.of.workload,
            *given,
            options=self.of.options,
            environ=dict(self.of.environ),
        ) as workload:
            yield RunningCase(workload, None)

    def record(self, path: Path, seconds: float) -> float:
        """A recording of the program; returns what that run did, as `rate` does."""
        path.unlink(missing_ok=True)
        with SamplerProcess() as sampler, self.running(fixed=False) as running:
            there = Available(running.pid)
            sampler.spawn()
            time.sleep(WARM_UP_S)
            sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=seconds))
            sampler.wait(seconds + 60.0)
            sampler.stop()
            cores = there.cores()
            return (running.rate() or 0.0) / cores

    def rate(self, seconds: float, *, fixed: bool) -> float:
        """What one of the two does in a second and a core that other programs leave."""
        with self.running(fixed=fixed) as running:
            there = Available(running.pid)
            time.sleep(seconds)
            cores = there.cores()
            return (running.rate() or 0.0) / cores


class Available:
    """The cores that other programs left to one since this was made; twins are compared by it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began, self._others = time.monotonic(), self._of_others()

    def _of_others(self) -> float:
        return busy_s() - cpu_ns(self._pid) / 1e9

    def cores(self) -> float:
        """A tenth of a core at least."""
        took = (self._of_others() - self._others) / (time.monotonic() - self._began)
        return max(0.1, len(os.sched_getaffinity(0)) - max(0.0, took))


def pairs_of(options: argparse.Namespace) -> Iterator[Pair]:
    """What there is to measure."""
    with_twin = {sample.name.removesuffix("-fixed") for sample in SAMPLES if sample.name.endswith("-fixed")}
    for interpreter in find_interpreters().chosen:
        series = interpreter.series
        if options.series and series not in options.series:
            continue
        for case in CASES if options.field else ():
            rules = [rule for rule in case.right_on(series) if rule not in ABOUT_THE_MACHINE]
            if case.fixed and rules and is_wanted(case.name, options) and is_worth(rules, options):
                yield Pair(f"field-{case.name}", rules, interpreter, case)
        for sample in SAMPLES:
            wanted = sample.name in with_twin and sample.rule and sample.expected_on(series)
            rules = [sample.rule or ""]
            if (
                wanted
                and not sample.memory_s
                and is_wanted(sample.name, options)
                and is_worth(rules, options)
            ):
                yield Pair(sample.name, rules, interpreter, sample)


def is_worth(rules: list[str], options: argparse.Namespace) -> bool:
    """Whether something may be told of what these rules find; all of it where nothing is left out."""
    never = {rule.id for rule in RULES if isinstance(rule.without, str)} - BY_REMEDY
    return not options.worth or not set(rules) <= never


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Records programs and measures what their twins gain; skips what the folder has already."""
    until = time.monotonic() + options.limit
    for pair in pairs_of(options):
        series = pair.interpreter.series
        path = folder / f"{series}-{pair.name}.json"
        if path.exists():
            continue
        if time.monotonic() > until:
            print("# no more time: the next run goes on from here", flush=True)
            return
        try:
            before = pair.record(path.with_suffix(".ftdiag"), options.seconds)
            turns = [(before, pair.rate(options.turn, fixed=True)) for _ in range(options.turns)]
        except (NotInstalled, FtdiagError, WorkloadFailure) as error:
            print(f"# {pair.name} {series}: {' '.join(str(error).split())[:200]}", flush=True)
            continue
        path.write_text(
            json.dumps({"name": pair.name, "series": series, "rules": pair.rules, "turns": turns})
        )
        print(f"# {pair.name} {series}: {[round(b / a, 2) for a, b in turns if a]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
