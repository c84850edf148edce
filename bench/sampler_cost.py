"""Measures what looking costs: CPU of the whole of `ftdiag record`, late and missed ticks.

In: free-threaded interpreters (FTDIAG_PYTHONS or provisioning). Out: a table for each. On 3.15, whose
`profiling.sampling attach -a --binary` takes stacks alone, also how much of its CPU ours is: whole processes,
the same target and rate, in turn. With a C compiler also how many times the kernel's part of a tick that is
(kernel_part.c): machines differ in that by more than goals in cores allow for. Exits with 1 beyond the goals.

What is read once (imports, symbols of the kernel and of libraries: 0.3 s of CPU time, a third of it after the
first ticks) is in a column of its own: spread over the few seconds of a measurement it would be half of what
they cost. One version with two rounds takes two and a half minutes.

Usage: python bench/sampler_cost.py [SECONDS [ROUNDS]]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measuring import Cost, cost_of, interpreters, process_cpu_ns, table, target

KERNEL_PART = Path(__file__).resolve().parent / "kernel_part.c"
SECONDS = 4.0
ROUNDS = 3
SETTLE_S = 2.0
START_S = 6.0
"""So long after its start nothing of ours is read for the first time any more."""
MAX_MISSED_RATIO = 0.02


@dataclass(frozen=True)
class Load:
    """A target, how often it is looked at, and what that may cost."""

    busy: int
    idle: int
    rate_hz: int
    max_cores: float
    max_ratio: float | None = None
    """Of the CPU of CPython's profiler."""


LOADS = (
    Load(8, 0, 100, 0.025, 1.0),
    Load(8, 56, 100, 0.055, 0.5),
    Load(4, 252, 100, 0.15),
    Load(32, 968, 100, 0.25),
    Load(8, 56, 1000, 0.25),
)


BUDGETS_CORES = {100: "0.1", 1000: "0.25"}
"""By rate: without one, the rate goes down while no core is free, and the profiler's does not."""


def cores_of(process: subprocess.Popen[bytes], settle_s: float, seconds: float) -> tuple[float, float]:
    """What a process and its children use after so long, in cores; the CPU time until then, in seconds."""
    time.sleep(settle_s)
    before, start = process_cpu_ns(process.pid), time.perf_counter_ns()
    time.sleep(seconds)
    used = (process_cpu_ns(process.pid) - before) / (time.perf_counter_ns() - start)
    return used, before / 1e9


def ours(pid: int, rate_hz: int, seconds: float) -> tuple[float, float, Cost]:
    """Cores that `ftdiag record` uses, what its start took, and what it says itself."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        path = Path(scratch) / "recording"
        command = [sys.executable, "-P", "-m", "ftdiag", "record", str(pid), "-o", str(path)]
        process = subprocess.Popen(
            [*command, "--rate", str(rate_hz), "--budget", BUDGETS_CORES[rate_hz]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            cores, start_s = cores_of(process, START_S, seconds)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        return cores, start_s, cost_of(path, START_S)


def profiler(python: Path, pid: int, rate_hz: int, seconds: float) -> float:
    """Cores that CPython's own profiler uses."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        command = [str(python), "-m", "profiling.sampling", "attach", "-a", "--binary", "-r", str(rate_hz)]
        command += ["-d", "600", "-o", str(Path(scratch) / "profile"), str(pid)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return cores_of(process, SETTLE_S, seconds)[0]
        finally:
            process.kill()
            process.wait()


def kernel_part(built: Path, pid: int, rate_hz: int, seconds: float) -> float:
    """Cores that the kernel's part of ticks takes."""
    command = [str(built), str(pid), str(round(seconds * rate_hz)), str(rate_hz)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(said.split()[0])


@contextlib.contextmanager
def built_kernel_part() -> Iterator[Path | None]:
    """The program that takes the kernel's part of a tick; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        built = Path(scratch) / "kernel_part"
        subprocess.run([compiler, "-O2", "-o", str(built), str(KERNEL_PART)], check=True)
        yield built


def main() -> int:
    """Print the table; 1 beyond the goals."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    rows = []
    failed = False
    pairs = [(version, python, load) for version, python in interpreters().items() for load in LOADS]
    with built_kernel_part() as kernel:
        for version, python, load in pairs:
            cores, starts, theirs, kernels = [], [], [], []
            with target(python, load.busy, load.idle) as one:
                for _ in range(rounds):
                    used, start_s, cost = ours(one.pid, load.rate_hz, seconds)
                    cores.append(used)
                    starts.append(start_s)
                    if kernel is not None:
                        kernels.append(kernel_part(kernel, one.pid, load.rate_hz, seconds))
                    if load.max_ratio is not None and version == "3.15t":
                        theirs.append(profiler(python, one.pid, load.rate_hz, seconds))
            median = statistics.median(cores)
            ratio = median / statistics.median(theirs) if theirs else None
            failed |= median > load.max_cores or cost.missed_ratio > MAX_MISSED_RATIO
            failed |= ratio is not None and ratio > (load.max_ratio or ratio)
            times = median / statistics.median(kernels) if kernels else None
            rows.append(
                (
                    version,
                    f"{load.busy} busy + {load.idle} idle, {load.rate_hz} Hz",
                    median,
                    load.max_cores,
                    "" if times is None else f"{statistics.median(kernels):.3f}; {times:.1f} times",
                    "" if ratio is None else f"{ratio:.2f} (goal {load.max_ratio})",
                    f"{cost.ticks / cost.seconds:.0f}",
                    f"{100 * cost.late / max(1, cost.ticks):.1f} %",
                    f"{100 * cost.missed_ratio:.1f} %",
                    f"{statistics.median(starts):.2f} s",
                )
            )
    print(f"{os.cpu_count()} cores; medians of {rounds} rounds of {seconds:g} s\n")
    head = (
        "python",
        "threads",
        "cores",
        "goal",
        "the kernel's part",
        "of CPython's profiler",
        "ticks a second",
        "late",
        "missed",
        f"CPU of the first {START_S:g} s",
    )
    table(head, rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
