"""Measures `ftdiag list` on a machine with many Python processes, some of them hostile.

In: how many processes (300) and how many of them hostile (20); an interpreter from FTDIAG_PYTHONS or
provisioning. Out: a table with the times of some lists, without and with the hostile ones, and whether every
process was a row. Exits with 1 if one was not, or the median takes longer than the goal.

Usage: python bench/isolation.py [PROCESSES [HOSTILE]]
"""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measuring import interpreters

GOAL_S = 3.0
LISTS = 5
PROGRAM = Path(__file__).resolve().parent.parent / "tests" / "programs" / "hostile.py"
KINDS = (
    ("names", 0),
    ("cookies", 250),
    ("sections", 0),
    ("maps", 30_000),
    ("threads", 65_536),
    ("hanging", 0),
    ("offsets", 7),
    ("hanging", 0),
)


def started(running: ExitStack, python: Path, kind: str, number: int) -> tuple[int, Path]:
    """Start one process of a kind; its pid, and its directory."""
    directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="ftdiag-isolation-")))
    process = subprocess.Popen(
        [str(python), str(PROGRAM), kind, str(directory), str(number)], stdout=subprocess.PIPE, text=True
    )
    running.callback(process.wait)
    running.callback(process.send_signal, signal.SIGKILL)
    assert process.stdout is not None
    running.callback(process.stdout.close)
    said = process.stdout.readline().split()
    if not said:
        sys.exit(f"{kind} did not start")
    return int(said[1]), directory


def listed() -> tuple[float, dict[int, dict[str, Any]]]:
    """Seconds of one list, and its rows by pid."""
    begun = time.perf_counter()
    said = subprocess.run(
        [sys.executable, "-m", "ftdiag", "list", "--format", "json"], capture_output=True, check=True
    )
    taken_s = time.perf_counter() - begun
    return taken_s, {row["pid"]: row for row in json.loads(said.stdout)["processes"]}


def measured(pids: list[int]) -> tuple[list[float], int, int]:
    """Seconds of some lists; how many of these processes were rows, and can be attached to, at the least."""
    times, rows, attachable = [], len(pids), len(pids)
    for _ in range(LISTS):
        taken_s, found = listed()
        times.append(taken_s)
        rows = min(rows, sum(pid in found for pid in pids))
        attachable = min(attachable, sum(found[pid]["attachable"] for pid in pids if pid in found))
    return times, rows, attachable


def main() -> int:
    """Print the table; the exit status."""
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    hostile = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    python = next(iter(interpreters().values()))
    status = 0
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("processes  hostile  rows  attachable  median s  longest s  CPU s a list")
    with ExitStack() as running:
        pid, directory = started(running, python, "fleet", processes - hostile - 1)
        pids = [pid, *map(int, (directory / "fleet").read_text().split())]
        for count in (0, hostile):
            for place in range(count):
                kind, number = KINDS[place % len(KINDS)]
                pids.append(started(running, python, kind, number)[0])
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            times, rows, attachable = measured(pids)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = (after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime) / LISTS
            middle = statistics.median(times)
            print(
                f"{len(pids):9} {count:8} {rows:5} {attachable:11}"
                f" {middle:9.2f} {max(times):10.2f} {cpu_s:12.2f}"
            )
            if rows < len(pids) or middle > GOAL_S:
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
