"""Measures how right and how fast the diagnosis is.

In: samples that run under every free-threaded interpreter at hand. Out: tables: how often the top finding
is the right one and names the place, how often a healthy program has a finding of warning or above, what
removing a cause gained against what was said to be lost, and what an analysis takes. Exits with 1 beyond
the goals.

Usage: python bench/diagnosis.py [NAME ...] [--runs 3] [--seconds 5] [--no-gain] [--held-out] [--keep DIR]

--held-out runs the programs of samples/holdout, which no rule was written with. --keep leaves the recordings
in a directory; --judge DIR looks at such recordings again instead of running anything.

Other programs of the machine count: findings about the machine itself (a core that others use) are left out,
and their cores are printed beside.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from generate_recording import generate  # noqa: E402

from ftdiag.errors import FtdiagError  # noqa: E402
from ftdiag.model import Finding, Severity, Snapshot  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from tools.holdout import HELD_OUT, HOLDOUT, HeldOut  # noqa: E402
from tools.record_samples import interpreters, record  # noqa: E402
from tools.samples import SAMPLES, Sample, about_program, says_where  # noqa: E402
from tools.workloads import WORKLOADS, running_workload  # noqa: E402

RIGHT_OF_TWENTY = 19
MAX_ANALYSIS_S = 0.5
MAX_WINDOW_S = 0.050
STANDING = frozenset({"deadlock", "stuck-thread"})
"""Rules that need longer than five seconds by their nature."""


@dataclass
class Score:
    """What several runs of one sample said."""

    runs: int = 0
    right: int = 0
    placed: int = 0
    others: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    useful: list[float] = field(default_factory=list)
    instead: list[str] = field(default_factory=list)


def main() -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the diagnosis.")
    parser.add_argument("names", nargs="*", help="samples (all)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--no-gain", action="store_true", help="do not run the fixed twins for throughput")
    parser.add_argument("--held-out", action="store_true", help="the programs of samples/holdout")
    parser.add_argument("--keep", type=Path, help="leave the recordings in this directory")
    parser.add_argument("--judge", type=Path, help="look at the recordings in this directory again")
    options = parser.parse_args()
    shelf = Shelf(options.runs, options.seconds, options.keep, options.judge)
    if options.held_out:
        held_out = [each for each in HELD_OUT if not options.names or each.name in options.names]
        return independent(held_out, shelf)
    chosen = [sample for sample in SAMPLES if not options.names or sample.name in options.names]
    missed = 0 if options.judge else analysis_time()
    for version, python in interpreters().items():
        print(f"\n{version}t, {options.runs} runs of {options.seconds:g} s")
        print("| sample | expected | right | names the place | lost cores | instead | others |")
        print("|---|---|---|---|---|---|---|")
        for sample in chosen:
            if not sample.expected_on(version):
                continue
            score = scored(sample, version, python, shelf)
            print(row_of(sample, score), flush=True)
            missed += score.right * 20 < RIGHT_OF_TWENTY * score.runs
        if not options.no_gain and not options.judge:
            gains(version, python, chosen)
    return 1 if missed else 0


# --- right or wrong --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """Where recordings come from and stay: `kept` is looked at again, `keep` is where new ones are left."""

    runs: int
    seconds: float
    keep: Path | None = None
    kept: Path | None = None

    def snapshots(
        self, sample: Sample, version: str, python: Path, workloads: Path
    ) -> Iterator[Snapshot | FtdiagError]:
        """A snapshot of each run, or why there is none."""
        for run in range(self.runs):
            name = f"{version}t/{sample.name}-{run}.ftdiag"
            with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
                path = (self.kept or self.keep or Path(scratch)) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    if self.kept is None:
                        record(sample, python, workloads, path)
                    with Recording.open(path) as recording:
                        snapshot = Session(recording).snapshot()
                except FtdiagError as error:
                    yield error
                else:
                    yield snapshot


def scored(sample: Sample, version: str, python: Path, shelf: Shelf) -> Score:
    """Runs a sample several times."""
    score = Score()
    if sample.rule not in STANDING:
        sample = replace(sample, seconds=shelf.seconds)
    for snapshot in shelf.snapshots(sample, version, python, WORKLOADS):
        if isinstance(snapshot, FtdiagError):
            score.runs += 1
            score.instead.append(str(snapshot))
            continue
        judge(sample, snapshot.findings, score)
        score.others.append(snapshot.metrics.other_programs_cores or 0.0)
        if snapshot.metrics.useful_cores is not None:
            score.useful.append(snapshot.metrics.useful_cores)
    return score


def judge(sample: Sample, findings: tuple[Finding, ...], score: Score) -> None:
    """Counts one run."""
    score.runs += 1
    findings = about_program(sample, findings)
    if sample.rule is None:
        serious = [finding.rule_id for finding in findings if finding.severity is not Severity.INFO]
        score.right += not serious
        score.instead += serious
        return
    top = findings[0] if findings else None
    if top is not None and top.rule_id == sample.rule:
        score.right += 1
        score.placed += says_where(sample, top)
        score.lost.append(top.lost_cores)
    else:
        score.instead.append(top.rule_id if top is not None else "nothing")


def row_of(sample: Sample, score: Score) -> str:
    """A line of the table."""
    cells = [
        sample.name,
        sample.rule or "none",
        f"{score.right} of {score.runs}",
        f"{score.placed} of {score.right}" if sample.rule else "-",
        f"{statistics.median(score.lost):.2f}" if score.lost else "-",
        ", ".join(sorted(set(score.instead))) or "-",
        f"{statistics.median(score.others):.1f}" if score.others else "-",
    ]
    return f"| {' | '.join(cells)} |"


# --- programs that no rule was written with ---------------------------------------------------------------


def independent(chosen: list[HeldOut], shelf: Shelf) -> int:
    """Runs held-out programs, or looks at recordings of them; returns the exit status."""
    missed = 0
    for version, python in interpreters().items():
        print(f"\n{version}t, held-out programs, {shelf.runs} runs of {shelf.seconds:g} s")
        print("| program | expected | right | names the place | instead | others |")
        print("|---|---|---|---|---|---|")
        whole = Score()
        for program in chosen:
            if version in dict(program.why_not):
                continue
            score = Score()
            rule = next(iter(program.rules), None)
            sample = Sample(program.name, program.name, rule, seconds=shelf.seconds)
            for snapshot in shelf.snapshots(sample, version, python, HOLDOUT):
                if isinstance(snapshot, FtdiagError):
                    score.runs += 1
                    score.instead.append(str(snapshot))
                    continue
                judge_held_out(program, about_program(sample, snapshot.findings), score)
                score.others.append(snapshot.metrics.other_programs_cores or 0.0)
            print(held_out_row(program, score), flush=True)
            whole.runs += score.runs
            whole.right += score.right
            missed += score.right < score.runs
        print(f"\nright: {whole.right} of {whole.runs}", flush=True)
    return 1 if missed else 0


def judge_held_out(program: HeldOut, findings: tuple[Finding, ...], score: Score) -> None:
    """Counts one run of a held-out program."""
    score.runs += 1
    serious = [finding.rule_id for finding in findings if finding.severity is not Severity.INFO]
    if not program.rules:
        score.right += not serious
        score.instead += serious
        return
    top = findings[0] if findings else None
    if top is None or top.rule_id not in program.rules:
        score.instead.append(top.rule_id if top is not None else "nothing")
        return
    score.right += 1
    file, line = top.subject.get("file"), top.subject.get("line")
    said = f"{top.summary} {Path(str(file)).name}:{line}"
    score.placed += not program.places or any(place in said for place in program.places)


def held_out_row(program: HeldOut, score: Score) -> str:
    """A line of the table."""
    cells = [
        program.name,
        " or ".join(program.rules) or "none",
        f"{score.right} of {score.runs}",
        f"{score.placed} of {score.right}" if program.rules else "-",
        ", ".join(sorted(set(score.instead))) or "-",
        f"{statistics.median(score.others):.1f}" if score.others else "-",
    ]
    return f"| {' | '.join(cells)} |"


# --- what removing a cause gains -------------------------------------------------------------------------


def gains(version: str, python: Path, chosen: list[Sample]) -> None:
    """Throughput of the fixed twin against that of the sample, and the bound that ftdiag gave."""
    names = {sample.name for sample in SAMPLES}
    print(f"\n{version}t: what removing the cause gained")
    print("| sample | gained | at most, by lost cores |")
    print("|---|---|---|")
    for sample in chosen:
        if sample.rule is None or f"{sample.name}-fixed" not in names:
            continue
        ratios, bounds = [], []
        for _ in range(3):
            before = throughput(python, sample)
            after = throughput(python, replace(sample, arguments=(*sample.arguments, "--fixed")))
            ratios.append(after / before if before else float("nan"))
        score = scored(sample, version, python, Shelf(1, 3.0))
        bounds = [
            (useful + lost) / useful for useful, lost in zip(score.useful, score.lost, strict=False) if useful
        ]
        bound = f"x{bounds[0]:.1f}" if bounds else "-"
        print(f"| {sample.name} | x{statistics.median(ratios):.1f} | {bound} |", flush=True)


def throughput(python: Path, sample: Sample) -> float:
    """Work done in a second and a half."""
    with running_workload(
        python,
        sample.workload,
        *sample.arguments,
        options=sample.options,
        environ=dict(sample.environ),
    ) as running:
        time.sleep(1.5)
        running.terminate()
        said = re.search(r"^total ([\d,]+) \S+ in ([\d.]+) s", running.said(), re.MULTILINE)
    if said is None:
        return 0.0
    return int(said[1].replace(",", "")) / float(said[2])


# --- how fast --------------------------------------------------------------------------------------------


def analysis_time() -> int:
    """Measures the analysis of a made-up recording; returns how many goals are missed."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        path = Path(scratch) / "recording.ftdiag"
        generate(path, seconds=60, threads=64, busy=8, rate_hz=100)
        with Recording.open(path) as recording:
            whole = min(timed(Session(recording)) for _ in range(3))
            session = Session(recording)
            session.snapshot()
            start = int(recording.t0_ns[-1])
            window = statistics.median(
                timed(Session(recording), int(recording.t0_ns[-1 - n])) for n in range(5)
            )
            again = timed(session, start)
    live, look_back = live_windows()
    print(f"60 s of 64 threads: {whole * 1e3:.0f} ms (goal {MAX_ANALYSIS_S * 1e3:.0f} ms)")
    print(f"a live window: {window * 1e3:.0f} ms, {again * 1e3:.0f} ms beside a kept minute", end=" ")
    print(f"(goal {MAX_WINDOW_S * 1e3:.0f} ms)")
    print(
        f"followed live, 56 of 64 threads in a deadlock: {live * 1e3:.0f} ms a window; the first look, with",
        end="",
    )
    print(f" all of the look back, {look_back * 1e3:.0f} ms", flush=True)
    return (whole > MAX_ANALYSIS_S) + (min(window, again) > MAX_WINDOW_S) + (live > MAX_WINDOW_S)


def live_windows() -> tuple[float, float]:
    """Seconds for the picture of a second, as a cockpit takes it, and for the first one.

    The most there is to look back for: nearly all threads stand.
    """
    taken: list[float] = []
    first: list[float] = []
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        path = Path(scratch) / "recording.ftdiag"
        sessions: list[Session] = []

        def follow(second: int) -> None:
            if second < 60:
                return
            if not sessions:
                sessions.append(Session(Recording.open(path)))
                first.append(timed(sessions[0], last_second(sessions[0])))
                sessions[0].snapshot()
                return
            start = time.perf_counter()
            sessions[0].refresh()
            sessions[0].snapshot(last_second(sessions[0]))
            taken.append(time.perf_counter() - start)

        generate(path, seconds=70, threads=64, busy=8, rate_hz=100, standing=56, after=follow)
        sessions[0].recording.close()
    return statistics.median(taken), first[0]


def last_second(session: Session) -> int:
    """When the last window began."""
    return int(session.recording.t0_ns[-1])


def timed(session: Session, t0_ns: int | None = None) -> float:
    """Seconds for one snapshot."""
    start = time.perf_counter()
    session.snapshot(t0_ns)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
