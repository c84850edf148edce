"""Looks at programs of the field, public reports and libraries, and says whether the first finding is right.

In: the cases of tools/field.py, the free-threaded interpreters at hand, libraries from the package index (in
the cache's `field`, by version; a case whose libraries have no wheel for a version is skipped, and the
reason printed). Out: a table for each version: what is right, what was found first, whether it names the
place, the thread-time that is not known, the CPU time that is classified, how far the CPU time is from the
kernel's, and with `--gain` what the first remedy gained (the program's own --fixed). Exits with 1 where fewer
than 95 % are right.

With `--truth` nothing is looked at: what a program does with its threads over what it does with one, in a
second and in a second of CPU time, and the same for its twin. That says without ftdiag whether a report
reproduces on a version and a machine. Where others use the machine, only the figures by CPU time hold.

Threads that seldom run at the same time hardly contend: on a machine that others use, `--patience` waits
until they leave it alone, and looks again where they did not meanwhile. *others* are the cores they used.

Usage: python bench/field.py [NAME ...] [--series 3.14] [--seconds 4] [--gain] [--truth] [--patience S]
       [--reports DIR] [--keep DIR]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from ftdiag.errors import FtdiagError  # noqa: E402
from ftdiag.launcher import SamplerProcess  # noqa: E402
from ftdiag.model import Finding, Severity, Snapshot, ThreadState  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.sampling.options import SamplerOptions  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from tools.field import CASES, Case, NotInstalled, RunningCase, environment_of, running_case  # noqa: E402
from tools.provision.search import find_interpreters  # noqa: E402
from tools.provision.verification import Interpreter  # noqa: E402
from tools.samples import ABOUT_THE_MACHINE  # noqa: E402
from tools.workloads import WorkloadFailure  # noqa: E402

WARM_UP_S = 1.0
GAIN_S = 3.0
TRUTH_S = 2.0
ROUNDS = 3
"""Of programs that are compared, one after the other, so that what else is done hits all; medians."""
CLOCK_S = 0.02
"""How often the program's own clock is read."""
OTHERS_CORES = 0.25
"""What others may use of the machine while a program is looked at, where there is patience."""
CALM_S = 0.3
LOOKS = 3
RIGHT_RATIO = 0.95


def main() -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="cases (all)")
    parser.add_argument("--series", action="append", help="only these versions of Python: 3.14")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gain", action="store_true", help="run the twins that the first remedy makes")
    parser.add_argument("--truth", action="store_true", help="measure the programs without looking at them")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for others, each time")
    parser.add_argument("--reports", type=Path, help="leave text reports in this directory")
    parser.add_argument("--keep", type=Path, help="leave the recordings in this directory")
    options = parser.parse_args()
    unknown = set(options.names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}")
    chosen = [case for case in CASES if not options.names or case.name in options.names]
    missed = 0
    for interpreter in find_interpreters().chosen:
        if options.series and interpreter.series not in options.series:
            continue
        print(f"\n{interpreter.version}t, {options.threads} threads, {options.seconds:g} s")
        if options.truth:
            print_truth(chosen, interpreter, options.threads)
            continue
        print("| case | right | found first | lost | names it | unknown | classified | CPU | others | gain |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        right = looked = 0
        for case in chosen:
            row, good = look(case, interpreter, options)
            print(f"| {case.name} | {row} |", flush=True)
            if good is not None:
                looked, right = looked + 1, right + good
        print(f"\nright: {right} of {looked}", flush=True)
        missed += right < RIGHT_RATIO * looked
    return 1 if missed else 0


def look(case: Case, interpreter: Interpreter, options: argparse.Namespace) -> tuple[str, bool | None]:
    """A row of the table, and whether the case is right; `None` where it could not be looked at."""
    expected = " or ".join(case.right_on(interpreter.series)) or "none"
    try:
        python = environment_of(interpreter, case.needs)
        with tempfile.TemporaryDirectory(prefix="ftdiag-field-") as scratch:
            folder = options.keep or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{interpreter.series}t-{case.name}.ftdiag"
            error, snapshot = seen(case, python, path, options)
            if options.reports:
                report(path, options.reports / f"{interpreter.series}t-{case.name}.txt")
    except NotInstalled as why:
        return f"{expected} | not looked at: {why}", None
    except (FtdiagError, WorkloadFailure) as why:
        return f"{expected} | {' '.join(str(why).split())[-200:]}", False
    first = first_of(case, snapshot)
    good = case.is_right(first, interpreter.series)
    cells = [
        expected,
        "none" if first is None else first.rule_id + ("" if good else " (!)"),
        "-" if first is None else f"{first.lost_cores:.2f}",
        "-" if first is None else "yes" if case.names_it(first) else f"NO: {first.summary}",
        percent(
            snapshot.metrics.states_ns.get(ThreadState.UNKNOWN, 0), sum(snapshot.metrics.states_ns.values())
        ),
        classified(snapshot),
        "-" if error is None else f"{100 * error:+.1f} %",
        f"{snapshot.metrics.other_programs_cores or 0.0:.1f}",
        gain(case, python, options.threads) if options.gain and case.fixed else "-",
    ]
    return " | ".join(cells), good


def seen(case: Case, python: Path, path: Path, options: argparse.Namespace) -> tuple[float | None, Snapshot]:
    """A look at a program: the error of its CPU time, and what was found.

    With patience it is the one of a few in which others used the machine least.
    """
    best: tuple[float, float | None, Snapshot] | None = None
    for number in range(LOOKS if options.patience > 0 else 1):
        look_path = path.with_suffix(f".{number}.ftdiag")
        look_path.unlink(missing_ok=True)
        wait_for_calm(options.patience)
        with running_case(case, python, threads=options.threads) as running:
            error = record(running, look_path, options.seconds)
        with Recording.open(look_path) as recording:
            snapshot = Session(recording).snapshot()
        others = snapshot.metrics.other_programs_cores or 0.0
        if best is None or others < best[0]:
            best = others, error, snapshot
            look_path.replace(path)
        look_path.unlink(missing_ok=True)
        if others <= OTHERS_CORES:
            break
    assert best is not None
    return best[1], best[2]


def wait_for_calm(patience_s: float) -> None:
    """Waits until others use little of the machine, at most so long."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        before, began = busy_s(), time.monotonic()
        time.sleep(CALM_S)
        if (busy_s() - before) / (time.monotonic() - began) < OTHERS_CORES:
            return


def busy_s() -> float:
    """CPU time that all programs of the machine have used: /proc/stat without idle and waiting for disks."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def record(running: RunningCase, path: Path, seconds: float) -> float | None:
    """Records; returns how far the program's CPU time is from its own clock's in just that time."""
    with SamplerProcess() as sampler:
        sampler.spawn()
        time.sleep(WARM_UP_S)
        clock = CpuClock(running.pid)
        sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=seconds))
        sampler.wait_until_started()
        clock.follow(seconds + 0.5)
        sampler.wait(seconds + 60.0)
        sampler.stop()
    with Recording.open(path) as recording:
        snapshot = Session(recording).snapshot()
    kernel = clock.cores(snapshot.t0_ns, snapshot.t1_ns)
    return None if kernel is None or kernel < 0.05 else snapshot.metrics.on_cpu_cores / kernel - 1


class CpuClock:
    """What a program's clock of CPU time showed at moments of the recording's clock."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._shown: list[tuple[int, int]] = []
        self.look()

    def look(self) -> None:
        """Note what it shows now."""
        with suppress(OSError):
            self._shown.append((time.monotonic_ns(), cpu_ns(self._pid)))

    def follow(self, seconds: float) -> None:
        """Note it every so often."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(CLOCK_S)

    def cores(self, begin_ns: int, end_ns: int) -> float | None:
        """The cores that were used between two moments; `None` where that was not followed."""
        if len(self._shown) < 2 or end_ns <= begin_ns or self._shown[-1][0] < end_ns:
            return None
        return (self._at(end_ns) - self._at(begin_ns)) / (end_ns - begin_ns)

    def _at(self, moment_ns: int) -> float:
        """What it showed then, between two looks."""
        after = next(number for number, (at, _) in enumerate(self._shown) if at >= moment_ns)
        if not after:
            return self._shown[0][1]
        (before_ns, before), (then_ns, then) = self._shown[after - 1 : after + 1]
        return before + (then - before) * (moment_ns - before_ns) / (then_ns - before_ns)


def cpu_ns(pid: int) -> int:
    """CPU time of a process with all threads it had, by its own clock."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def first_of(case: Case, snapshot: Snapshot) -> Finding | None:
    """The first finding of warning or above about the program itself."""
    for finding in snapshot.findings:
        if finding.rule_id not in ABOUT_THE_MACHINE and finding.severity is not Severity.INFO:
            return finding
    return None


def classified(snapshot: Snapshot) -> str:
    """The share of the CPU time of the process that native samples told apart."""
    ratio = snapshot.quality.classified_cpu_ratio
    return "-" if ratio is None else percent(ratio, 1.0)


def percent(part: float, whole: float) -> str:
    """A share in words."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "-"


def gain(case: Case, python: Path, threads: int) -> str:
    """What the twin with the first remedy did over what the program does."""
    runs = [
        (did(case, python, threads, GAIN_S), did(case, python, threads, GAIN_S, fixed=True))
        for _ in range(ROUNDS)
    ]
    return over([(after, before) for before, after in runs], by_cpu=False)


def print_truth(cases: list[Case], interpreter: Interpreter, threads: int) -> None:
    """What programs and their twins do with threads over what they do with one."""
    print("| case | right | by time | by CPU time | twin by time | twin by CPU time | twin over program |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        right = " or ".join(case.right_on(interpreter.series)) or "none"
        try:
            python = environment_of(interpreter, case.needs)
            print(f"| {case.name} | {right} | {truth(case, python, threads)} |", flush=True)
        except (NotInstalled, WorkloadFailure) as why:
            print(f"| {case.name} | {right} | {' '.join(str(why).split())[-200:]} |", flush=True)


def truth(case: Case, python: Path, threads: int) -> str:
    """The cells of one program."""
    twins = (False, True) if case.fixed else (False,)
    kinds = [(fixed, many) for fixed in twins for many in (1, threads)]
    runs = [
        {(fixed, many): did(case, python, many, TRUTH_S, fixed=fixed) for fixed, many in kinds}
        for _ in range(ROUNDS)
    ]
    cells = []
    for fixed in twins:
        pairs = [(one[fixed, threads], one[fixed, 1]) for one in runs]
        cells += [over(pairs, by_cpu=False), over(pairs, by_cpu=True)]
    if case.fixed:
        cells.append(over([(one[True, threads], one[False, threads]) for one in runs], by_cpu=False))
    return " | ".join(cells + ["-"] * (5 - len(cells)))


def did(
    case: Case, python: Path, threads: int, seconds: float, *, fixed: bool = False
) -> tuple[float | None, float]:
    """What a program did in a second, `None` where it does not say, and the cores that it used."""
    with running_case(case, python, threads=threads, fixed=fixed) as running:
        before, began = cpu_ns(running.pid), time.monotonic()
        time.sleep(seconds)
        cores = (cpu_ns(running.pid) - before) / 1e9 / (time.monotonic() - began)
        return running.rate(), cores


def over(pairs: list[tuple[tuple[float | None, float], tuple[float | None, float]]], *, by_cpu: bool) -> str:
    """The median of the first over the second."""
    ratios = [
        done / other / (cores / other_cores if by_cpu else 1.0)
        for (done, cores), (other, other_cores) in pairs
        if done is not None and other and (not by_cpu or (cores > 0.01 and other_cores > 0.01))
    ]
    return f"{statistics.median(ratios):.2f}" if ratios else "not measured"


def report(path: Path, into: Path) -> None:
    """The text report of a recording, for a person to read."""
    into.parent.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-m", "ftdiag", "report", str(path), "--format", "text"],
        capture_output=True,
        text=True,
        check=False,
    )
    into.write_text(ran.stdout + ran.stderr)


if __name__ == "__main__":
    sys.exit(main())
