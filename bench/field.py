"""Looks at programs of the field, public reports and libraries, and says whether the first finding is right.

In: the cases of tools/field.py, the free-threaded interpreters at hand, libraries from the package index (in
the cache's `field`, by version; a case whose libraries have no wheel for a version is skipped, and the
reason printed). Out: a table for each version: what is right, what was found first, whether it names the
place, the thread-time that is not known, the CPU time that is classified, how far the CPU time is from the
kernel's, and with `--gain` what the first remedy gained (the program's own --fixed). Exits with 1 where fewer
than 95 % are right.

Usage: python bench/field.py [NAME ...] [--series 3.14] [--seconds 4] [--gain] [--reports DIR] [--keep DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from ftdiag.errors import FtdiagError  # noqa: E402
from ftdiag.launcher import SamplerProcess  # noqa: E402
from ftdiag.model import Finding, Severity, Snapshot, StateGroup, ThreadState  # noqa: E402
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
RIGHT_RATIO = 0.95


def main() -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="cases (all)")
    parser.add_argument("--series", action="append", help="only these versions of Python: 3.14")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gain", action="store_true", help="run the twins that the first remedy makes")
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
        print("| case | right | found first | lost | names it | unknown | classified | CPU error | gain |")
        print("|---|---|---|---|---|---|---|---|---|")
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
            path.unlink(missing_ok=True)
            with running_case(case, python, threads=options.threads) as running:
                error = record(running, path, options.seconds)
            with Recording.open(path) as recording:
                snapshot = Session(recording).snapshot()
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
        gain(case, python, options.threads) if options.gain and case.fixed else "-",
    ]
    return " | ".join(cells), good


def record(running: RunningCase, path: Path, seconds: float) -> float | None:
    """Records; returns how far the program's CPU time is from the kernel's own sum over its threads."""
    with SamplerProcess() as sampler:
        sampler.spawn()
        time.sleep(WARM_UP_S)
        sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=seconds))
        sampler.wait_until_started()
        before, began = cpu_ns(running.pid), time.monotonic()
        time.sleep(max(0.0, seconds - 0.2))
        used, took = cpu_ns(running.pid) - before, time.monotonic() - began
        sampler.wait(seconds + 60.0)
        sampler.stop()
    with Recording.open(path) as recording:
        metrics = Session(recording).snapshot().metrics
    kernel = used / 1e9 / took
    return metrics.on_cpu_cores / kernel - 1 if kernel > 0.05 else None


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
    """The share of the time on a core that native samples told apart."""
    states = snapshot.metrics.states_ns
    whole = sum(spent for state, spent in states.items() if state.group is StateGroup.ON_CPU)
    return percent(whole - states.get(ThreadState.ON_CPU, 0), whole)


def percent(part: float, whole: float) -> str:
    """A share in words."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "-"


def gain(case: Case, python: Path, threads: int) -> str:
    """What the twin with the first remedy did over what the program does."""
    rates = []
    for fixed in (False, True):
        with running_case(case, python, threads=threads, fixed=fixed) as running:
            time.sleep(GAIN_S)
            rates.append(running.rate())
    before, after = rates
    return f"{after / before:.2f}" if before and after is not None else "not measured"


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
