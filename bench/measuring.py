"""What the benches of the sampler share: targets, samplers, medians, tables.

In: interpreters from FTDIAG_PYTHONS or provisioning. Out: numbers as text. All ratios are taken within one
run, because the machines that benches run on are shared and their clocks drift.
"""

from __future__ import annotations

import compileall
import contextlib
import ctypes
import json
import mmap
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from ftdiag.recording.reader import Recording  # noqa: E402
from tools.provision.search import find_interpreters  # noqa: E402
from tools.workloads import running_workload  # noqa: E402

TARGET = Path(__file__).resolve().parent / "targets" / "busy_and_idle.py"
SOURCES = Path(__file__).resolve().parent.parent / "src" / "ftdiag"


def interpreters(minor: int | None = None) -> dict[str, Path]:
    """Version -> interpreter, one of each; only 3.`minor` if asked.

    Compiles what is measured, as pip does: where PYTHONDONTWRITEBYTECODE is set each start would do so.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(str(SOURCES), quiet=1)
    found = {}
    for interpreter in find_interpreters().chosen:
        version = ".".join(interpreter.version.split(".")[:2])
        if minor is None or version == f"3.{minor}":
            found.setdefault(f"{version}t", Path(interpreter.path))
    if not found:
        sys.exit("no fitting free-threaded interpreter: python3 -m tools.provision ensure")
    return found


@dataclass(frozen=True)
class Target:
    """A running target whose busy threads count their work in shared memory."""

    pid: int
    counts: mmap.mmap
    busy: int

    def work(self) -> int:
        """Rounds done so far by all busy threads."""
        return sum(memoryview(self.counts)[: 8 * self.busy].cast("q"))

    def cpu_ns(self) -> int:
        """CPU time of all its threads so far."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{self.pid}/task/{task}/schedstat").read_text().split()[0])
        return total


@contextlib.contextmanager
def target(python: Path, busy: int, idle: int) -> Iterator[Target]:
    """Busy threads that compute in a few nested calls, and idle ones that wait for a job."""
    with tempfile.NamedTemporaryFile(prefix="ftdiag-bench-") as shared:
        shared.truncate(4096)
        with (
            running_workload(python, str(TARGET), shared.name, str(busy), str(idle)) as running,
            mmap.mmap(shared.fileno(), 4096) as counts,
        ):
            time.sleep(0.5)
            yield Target(running.pid, counts, busy)


@contextlib.contextmanager
def sampler(pid: int, path: Path, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A sampler's process at work; ended in order when the context is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ftdiag.sampling.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"pid": pid, "path": str(path), **options}) + "\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        if said["event"] != "started":
            sys.exit(said["what"])
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


@dataclass(frozen=True)
class Cost:
    """What a sampler did over a recording, its first window (start-up) left out."""

    seconds: float
    cpu_s: float
    ticks: int
    late: int
    missed: int
    walked: int
    torn: int

    @property
    def cores(self) -> float:
        """Part of one core that it used."""
        return self.cpu_s / self.seconds

    @property
    def missed_ratio(self) -> float:
        """Ticks that were not taken, of all that should have been."""
        return self.missed / max(1, self.ticks + self.missed)


def cost_of(path: Path, after_s: float = 0.0) -> Cost:
    """Sum over all windows but the first, and those of the first seconds."""
    with Recording.open(path) as recording:
        begun = recording.t0_ns[0] + int(after_s * 1e9)
        first = min(max(1, int(recording.t0_ns.searchsorted(begun))), len(recording) - 1)
        costs = recording.costs(first, len(recording)).sampler
        seconds = float(recording.t1_ns[-1] - recording.t0_ns[first]) / 1e9
        return Cost(
            seconds,
            sum(cost.cpu_ns for cost in costs) / 1e9,
            sum(cost.ticks for cost in costs),
            sum(cost.late_ticks for cost in costs),
            sum(cost.missed_ticks for cost in costs),
            sum(cost.walked_stacks for cost in costs),
            sum(cost.torn_stacks for cost in costs),
        )


def sampled(pid: int, seconds: float, **options: object) -> Cost:
    """Sample for so long; what it cost."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        path = Path(scratch) / "recording"
        with sampler(pid, path, **options):
            time.sleep(seconds)
        return cost_of(path)


_PR_CAPBSET_DROP = 24
_LAST_CAPABILITY = 63
_libc = ctypes.CDLL(None, use_errno=True)


def without_capabilities() -> None:
    """For a child before exec: what it runs has the rights of its user's files, and no others."""
    for number in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def process_cpu_ns(pid: int) -> int:
    """CPU time of the living threads of a process and of its children."""
    total = 0
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += process_cpu_ns(int(child))
    return total


def process_cpu_s(pid: int) -> float:
    """User and system time of a process as /proc/PID/stat has it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(values: Sequence[float]) -> str:
    """Median and the middle half of the values."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.4f} ({low:.4f} to {high:.4f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print(
            "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row) + " |"
        )
    print(flush=True)
