"""Measures what a service loses while it is looked at, beside what perf costs it, and beside nothing.

In: a free-threaded interpreter (FTDIAG_PYTHONS or provisioning; 3.14 if there is one), `wrk`, and libraries,
which are installed into the user's cache. Out: the throughput of each service beside each way of looking, as
a ratio to the seconds right before and after, and the CPU of what looked.

Load and service share the machine, and want all of it: what looks on takes its CPU from them. Ways are tried
in turn, each between two intervals with nothing; medians of the rounds count. For "record, unprivileged"
service and sampler have no capabilities: no early turns, no events of the kernel, as for any user. A way
takes some nine seconds a round.

Usage: python bench/service_cost.py [--rounds N] [--settle S] [--ways NAME,...] [SERVICE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import interpreters, process_cpu_ns, table, without_capabilities
from targets.service import KINDS, SLOTS

PROGRAM = Path(__file__).resolve().parent / "targets" / "service.py"
PACKAGES = ("waitress", "flask", "gunicorn", "django", "sqlalchemy", "huey")
THREADS = 4
PORT = 8302
INTERVAL_S = 2.0
SETTLE_S = 2.5
"""After something began to look, before it is measured: its start is another way's matter."""
START_S = 3.0
ROUNDS = 6
GOALS = {"record": 0.97, "record, first 3 s": 0.93, "record, unprivileged": 0.95}
MAX_CORES = 0.03

WAYS: dict[str, tuple[str, ...] | None] = {
    "nothing": None,
    "record": ("record",),
    "record, first 3 s": ("record",),
    "record, without machine code": ("record", "--native-rate", "0"),
    "record, once a second": ("record", "--rate", "1"),
    "record, unprivileged": ("record",),
    "perf record, per thread": ("perf",),
}
UNPRIVILEGED = "record, unprivileged"


def libraries(python: Path) -> Path:
    """The folder with the services' libraries for this interpreter; installed if they are not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "ftdiag" / "bench" / python.parent.parent.name
    if not all((folder / name).is_dir() for name in PACKAGES):
        version = subprocess.run(
            [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        choice = ["--python-version", version, "--only-binary=:all:", "--implementation", "cp"]
        choice += ["--abi", f"cp{version.replace('.', '')}t", "--abi", "none"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), *choice, *PACKAGES],
            check=True,
        )
    return folder


class Service:
    """A service under load."""

    def __init__(self, pid: int, counts: Path) -> None:
        self.pid = pid
        self._counts = counts

    def done(self) -> int:
        """Operations so far."""
        return sum(struct.unpack(f"<{SLOTS}q", self._counts.read_bytes()))

    def rate(self, seconds: float) -> float:
        """Operations a second in the next seconds."""
        before, start = self.done(), time.perf_counter()
        time.sleep(seconds)
        return (self.done() - before) / (time.perf_counter() - start)


def rights(*, unprivileged: bool) -> dict[str, Any]:
    """What takes a child its capabilities, if it is to have none."""
    return {"preexec_fn": without_capabilities} if unprivileged else {}


@contextlib.contextmanager
def service(python: Path, kind: str, *, unprivileged: bool) -> Iterator[Service]:
    """A service that runs, under load where it serves requests."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(libraries(python))
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftdiag-service-")))
        counts = scratch / "counts"
        counts.write_bytes(bytes(8 * SLOTS))
        process = subprocess.Popen(
            [str(python), str(PROGRAM), kind, str(THREADS), str(counts), str(PORT)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=scratch,
            env=environment,
            start_new_session=True,
            **rights(unprivileged=unprivileged),
        )
        stack.callback(process.wait)
        stack.callback(os.killpg, process.pid, signal.SIGKILL)
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        said = process.stdout.readline().split()
        if not said:
            sys.exit(f"the service {kind} did not start")
        one = Service(int(said[1]), counts)
        if kind in ("waitress", "gunicorn"):
            if shutil.which("wrk") is None:
                sys.exit("wrk makes the load: apt install wrk")
            time.sleep(0.5)
            load = subprocess.Popen(
                ["wrk", "-t1", f"-c{2 * THREADS}", "-d3600s", f"http://127.0.0.1:{PORT}/"],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(load.wait)
            stack.callback(load.kill)
        time.sleep(3)
        yield one


def beside(way: str, pid: int, scratch: Path, *, unprivileged: bool) -> subprocess.Popen[bytes] | None:
    """Start what looks."""
    words = WAYS.get(way, ("record",))
    if words is None:
        return None
    if words[0] == "perf":
        command = ["perf", "record", "-q", "-e", "cpu-clock", "-F199", "-p", str(pid)]
        command += ["-o", str(scratch / "perf")]
    else:
        command = [sys.executable, "-P", "-m", "ftdiag", "record", str(pid), "-o", str(scratch / "recording")]
        command += words[1:]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **quiet, **rights(unprivileged=unprivileged))


def one_round(one: Service, way: str, settle_s: float, *, unprivileged: bool) -> tuple[float, float]:
    """Throughput beside a way of looking, by that before and after; CPU of what looked, in cores."""
    before = one.rate(INTERVAL_S)
    with tempfile.TemporaryDirectory(prefix="ftdiag-service-") as scratch:
        looking = beside(way, one.pid, Path(scratch), unprivileged=unprivileged)
        if way.endswith("first 3 s"):
            seconds = START_S
        else:
            seconds = INTERVAL_S
            time.sleep(settle_s)
        cpu_ns, start = 0 if looking is None else process_cpu_ns(looking.pid), time.perf_counter_ns()
        during = one.rate(seconds)
        cpu_ns = 0 if looking is None else process_cpu_ns(looking.pid) - cpu_ns
        used = cpu_ns / (time.perf_counter_ns() - start)
        if looking is not None:
            looking.send_signal(signal.SIGINT)
            looking.wait(30)
    time.sleep(0.3)
    after = one.rate(INTERVAL_S)
    return 2 * during / (before + after), used


def compare(
    python: Path, kind: str, ways: list[str], rounds: int, settle_s: float, *, unprivileged: bool
) -> list[tuple[Any, ...]]:
    """Rows of the table of a service."""
    ratios: dict[str, list[float]] = {way: [] for way in ways}
    cores: dict[str, list[float]] = {way: [] for way in ways}
    with service(python, kind, unprivileged=unprivileged) as one:
        throughput = one.rate(INTERVAL_S)
        for _ in range(rounds):
            for way in ways:
                ratio, used = one_round(one, way, settle_s, unprivileged=unprivileged)
                ratios[way].append(ratio)
                cores[way].append(used)
    rows = []
    for way in ways:
        low, median, high = statistics.quantiles(ratios[way], n=4) if rounds > 1 else 3 * ratios[way]
        rows.append(
            (
                f"{kind}, {throughput:.0f}/s",
                way,
                f"{median:.3f} ({low:.3f} to {high:.3f})",
                f"{statistics.median(cores[way]):.3f}",
                GOALS.get(way, ""),
            )
        )
    return rows


def main() -> int:
    """Print the tables; 1 beyond a goal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("services", nargs="*", default=list(KINDS), metavar="SERVICE")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds before it is measured")
    parser.add_argument("--ways", default=",".join(WAYS).replace(", ", ";"))
    asked = parser.parse_args()
    found = interpreters()
    python = found.get("3.14t") or next(iter(found.values()))
    ways = [way.replace(";", ", ") for way in asked.ways.split(",")]
    rows = []
    for kind in asked.services:
        for unprivileged in (False, True):
            chosen = [way for way in ways if (way == UNPRIVILEGED) is unprivileged]
            if chosen:
                rows += compare(python, kind, chosen, asked.rounds, asked.settle, unprivileged=unprivileged)
    table(("service", "beside", "throughput", "its CPU, cores", "goal"), rows)
    failed = False
    for _, way, ratio, used, _ in rows:
        failed |= float(ratio.split()[0]) < GOALS.get(way, 0.0)
        failed |= way == "record" and float(used) > MAX_CORES
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
