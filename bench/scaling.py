"""What `ftdiag scale` and `ftdiag diff` promise, by simulation; and what recording costs, by measurement.

In: nothing, or `--overhead PYTHON` with a free-threaded interpreter. Out: tables on standard output.

    python bench/scaling.py                       the law, its bands, comparisons, to 128 cores
    python bench/scaling.py --identical PYTHON    pairs of real sweeps of the same program, compared
    python bench/scaling.py --overhead PYTHON     runs with and without recording, in turn
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ftdiag.analysis.scaling import predicted
from ftdiag.scaling.comparing import Comparison, Side, Verdict, compare
from ftdiag.scaling.curve import scaling_of
from ftdiag.scaling.law import Law, law_of
from ftdiag.scaling.results import Sweep, sweep_of
from sweeps import a_digest, a_sweep

NUMBERS = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])
LAWS = ((100.0, 0.05, 0.001), (100.0, 0.1, 0.0005), (100.0, 0.2, 0.01), (100.0, 0.02, 0.0))
SIMULATIONS = 200
NOISE = 0.05
WORKLOADS = Path(__file__).parents[1] / "samples" / "workloads"


def least_error(truth: Sequence[float], rounds: int) -> list[float]:
    """The least standard error that an unbiased estimate can have (Cramer-Rao), as a ratio of each value."""
    single, sigma, kappa = truth
    bottom = 1 + sigma * (NUMBERS - 1) + kappa * NUMBERS * (NUMBERS - 1)
    slopes = np.column_stack(
        [np.full(len(NUMBERS), 1 / single), -(NUMBERS - 1) / bottom, -NUMBERS * (NUMBERS - 1) / bottom]
    )
    spread = np.linalg.inv(slopes.T @ slopes * rounds / NOISE**2)
    return [
        math.sqrt(spread[place, place]) / value if value else math.nan for place, value in enumerate(truth)
    ]


def recovery() -> None:
    """Laws that are known, found again."""
    print(f"{SIMULATIONS} simulations each, 8 numbers of threads from 1 to 128, {NOISE:.0%} noise\n")
    print(
        "| sigma | kappa | rounds | median error of lambda, sigma, kappa | least possible error (1 s.d.) |",
        end="",
    )
    print(" parameters in their bands | N* in its band | curve in its band at all N |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for truth in LAWS:
        for rounds in (1, 3, 5):
            threads = np.repeat(NUMBERS, rounds)
            random = np.random.default_rng(20_26)
            exact = predicted(np.array(truth), NUMBERS)
            best = math.sqrt((1 - truth[1]) / truth[2]) if truth[2] else None
            errors: list[np.ndarray] = []
            held = np.zeros(3)
            held_best = held_curve = 0
            for _ in range(SIMULATIONS):
                noisy = np.repeat(exact, rounds) * np.exp(random.normal(0, NOISE, len(threads)))
                law = law_of(threads, noisy)
                assert isinstance(law, Law)
                errors.append(np.abs(law.parameters - truth))
                for place, band in enumerate((law.single, law.contention, law.crosstalk)):
                    held[place] += band.low <= truth[place] + 1e-12 and truth[place] <= band.high
                if best is not None and law.best is not None:
                    held_best += law.best.low <= best <= law.best.high
                bands = [law.at(number) for number in NUMBERS]
                held_curve += all(
                    band.low <= value <= band.high for band, value in zip(bands, exact, strict=True)
                )
            middle = np.median(np.array(errors), axis=0)
            shown = ", ".join(
                f"{100 * error / value:.1f} %" if value else f"{error:.1e}"
                for error, value in zip(middle, truth, strict=True)
            )
            least = ", ".join(
                "-" if math.isnan(error) else f"{100 * error:.1f} %" for error in least_error(truth, rounds)
            )
            within = ", ".join(f"{100 * share / SIMULATIONS:.0f} %" for share in held)
            peak = "-" if best is None else f"{100 * held_best / SIMULATIONS:.0f} %"
            print(
                f"| {truth[1]:g} | {truth[2]:g} | {rounds} | {shown} | {least} | {within} | {peak}"
                f" | {100 * held_curve / SIMULATIONS:.0f} % |",
                flush=True,
            )


def compared(before: Sweep, after: Sweep) -> Comparison:
    """Two sweeps."""
    return compare(Side("a", "sweep", None, sweep=before), Side("b", "sweep", None, sweep=after))


def comparisons() -> None:
    """Pairs of which the difference is known."""
    pairs = 400
    print(f"\n{pairs} pairs each, 10 runs a side\n")
    print("| points | noise | change | better | worse | alike | cannot tell |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for points in ((1, 2, 4, 8), (4,)):
        for noise in (0.02, 0.05):
            for gain in (1.0, 0.9, 1.1):
                counts = dict.fromkeys(Verdict, 0)
                for pair in range(pairs):
                    before, after = (
                        a_sweep(
                            lambda setting, factor=factor: factor * 100.0 * setting.workers**0.9,
                            points,
                            repeats=10,
                            noise=noise,
                            seed=7919 * pair + side,
                        )
                        for side, factor in enumerate((1.0, gain))
                    )
                    counts[compared(before, after).verdict] += 1
                shares = " | ".join(f"{100 * counts[each] / pairs:.1f} %" for each in Verdict)
                print(f"| {len(points)} | {noise:.0%} | {gain - 1:+.0%} | {shares} |", flush=True)
    wandering(pairs)


def wandering(pairs: int) -> None:
    """Recordings of the same program, whose parts are like the ones before them."""
    random = np.random.default_rng(3)

    def side(name: str, mean: float) -> Side:
        value, parts = 0.0, []
        for _ in range(12):
            value = 0.6 * value + random.normal(0, 0.03)
            parts.append(a_digest({"useful": 1.0}, efficiency=mean + value))
        return Side(name, "recording", parts[0], tuple(parts))

    print(f"\n{pairs} pairs of recordings in 12 parts; neighbouring parts correlate (0.6), 4 % scatter\n")
    print("| change of efficiency | better | worse | alike | cannot tell |")
    print("|--:|--:|--:|--:|--:|")
    for change in (0.0, -0.15):
        counts = dict.fromkeys(Verdict, 0)
        for _ in range(pairs):
            counts[compare(side("a", 0.75), side("b", 0.75 + change)).verdict] += 1
        shares = " | ".join(f"{100 * counts[each] / pairs:.1f} %" for each in Verdict)
        print(f"| {change:+.2f} | {shares} |", flush=True)


def large_machine() -> None:
    """A whole sweep to 128 cores on paper, read as a person would."""
    truth = np.array([1000.0, 0.03, 0.0004])
    sweep = a_sweep(
        lambda setting: float(predicted(truth, np.array([float(setting.workers)]))[0]),
        [int(number) for number in NUMBERS],
        repeats=3,
        noise=NOISE,
        cores=128.0,
    )
    from ftdiag.reports.document import text_lines
    from ftdiag.reports.sweep import sections

    print("\nA sweep on 128 cores, simulated: lambda 1000, sigma 0.03, kappa 0.0004, N* 49.2\n")
    for line in text_lines(sections(scaling_of(sweep))[1:], 110):
        print(f"    {line}")


# --- real runs -----------------------------------------------------------------------------------------


def swept(python: str, path: Path, *options: object, seconds: float, threads: str) -> Sweep:
    """A real sweep of independent threads."""
    command = [sys.executable, "-P", "-m", "ftdiag", "scale", "--threads", threads, "--warm-up", "0"]
    command += [
        "--pattern",
        r"^total .*: ([0-9,]+) ",
        "--format",
        "json",
        "-o",
        str(path),
        *map(str, options),
    ]
    command += ["--", python, str(WORKLOADS / "independent_cpu.py"), "--threads", "{threads}"]
    subprocess.run([*command, "--seconds", str(seconds)], check=True, stdout=subprocess.DEVNULL)
    return sweep_of(path.read_text(), str(path))


def identical(python: str, pairs: int) -> None:
    """Real sweeps of the same program, of which none is better."""
    with tempfile.TemporaryDirectory() as folder:
        sweeps = [
            swept(
                python, Path(folder) / f"{number}", "--no-record", "--repeat", 4, seconds=0.5, threads="1,2"
            )
            for number in range(2 * pairs)
        ]
    counts = dict.fromkeys(Verdict, 0)
    for before, after in zip(sweeps[::2], sweeps[1::2], strict=True):
        counts[compared(before, after).verdict] += 1
    print(f"{pairs} pairs of real sweeps of the same program, 4 runs of 2 points each:", end=" ")
    print(", ".join(f"{verdict.value} {count}" for verdict, count in counts.items()))


def overhead(python: str, rounds: int, seconds: float) -> None:
    """Runs with and without recording, in turn: throughput, work for a second of CPU time, the sampler's."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    work: dict[bool, list[float]] = {True: [], False: []}
    sampler: list[float] = []
    cores = 2
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for recorded in (True, False) if number % 2 else (False, True):
                path = Path(folder) / f"{number}-{recorded}"
                options = [] if recorded else ["--no-record"]
                sweep = swept(python, path, "--repeat", 1, *options, seconds=seconds, threads=str(cores))
                run = sweep.runs[0]
                assert run.throughput is not None
                assert run.wall_s is not None
                rates[recorded].append(run.throughput)
                if run.cpu_s:
                    work[recorded].append(run.throughput * seconds / run.cpu_s)
                if recorded:
                    name = f"{path}.runs/{run.recordings[0]}"
                    ran = subprocess.run(
                        [sys.executable, "-P", "-m", "ftdiag", "report", name, "--format", "json"],
                        check=True,
                        capture_output=True,
                    )
                    report = json.loads(ran.stdout)
                    sampler.append(
                        report["quality"]["sampler_cpu_ratio"] * report["window"]["duration_s"] / run.wall_s
                    )
            tell(rates, work, sampler, cores)


def tell(
    rates: dict[bool, list[float]], work: dict[bool, list[float]], sampler: Sequence[float], cores: int
) -> None:
    """What is known by now."""
    for name, values in (("throughput", rates), ("work for a second of its CPU time", work)):
        ratios = [
            with_it / without - 1 for with_it, without in zip(values[True], values[False], strict=False)
        ]
        print(
            f"{name}: {100 * statistics.median(ratios):+.2f} % when recorded (median of {len(ratios)} pairs,"
            f" {100 * min(ratios):+.1f} to {100 * max(ratios):+.1f} %)"
        )
    mean = 100 * statistics.median(sampler)
    print(
        f"CPU time of the sampler: {mean:.2f} % of a core, {mean / cores:.2f} % of the {cores} cores",
        flush=True,
    )


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--overhead", metavar="PYTHON")
    parser.add_argument("--identical", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    if asked.overhead:
        overhead(asked.overhead, asked.rounds, asked.seconds)
    elif asked.identical:
        identical(asked.identical, asked.rounds)
    else:
        recovery()
        comparisons()
        large_machine()


if __name__ == "__main__":
    main()
