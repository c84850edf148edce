"""Measures how much a target is slowed down while it is sampled at 100 Hz.

In: free-threaded interpreters. Out: a table with the median of the ratios sampled / not sampled.

One long-running target counts its own work. The sampler is paused (SIGSTOP) and continued in turn, in
intervals of about a second; two neighbours make a pair, in alternating order. "wall" is work by time on the
clock: when the target uses every core, it contains the sampler's own CPU time, which has to come from
somewhere. "by CPU time" is work by CPU second that the target got: how much slower its code runs.

Usage: python bench/overhead.py [PAIRS]
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from measuring import Target, interpreters, sampler, spread, table, target

INTERVAL_S = 1.2
SETTLE_S = 0.15
PAIRS = 14
GOAL = 0.99


def rates(one: Target) -> tuple[float, float]:
    """Work by second and by CPU second over one interval."""
    time.sleep(SETTLE_S)
    work, cpu, start = one.work(), one.cpu_ns(), time.perf_counter()
    time.sleep(INTERVAL_S)
    work_done, cpu_used, taken = one.work() - work, one.cpu_ns() - cpu, time.perf_counter() - start
    return work_done / taken, work_done / (cpu_used / 1e9)


def compare(python: Path, busy: int, pairs: int) -> tuple[list[float], list[float]]:
    """Ratios sampled / not sampled of each pair: by the clock and by CPU time."""
    wall, cpu = [], []
    with (
        tempfile.TemporaryDirectory() as scratch,
        target(python, busy, 0) as one,
        sampler(one.pid, Path(scratch) / "recording") as process,
    ):
        time.sleep(1)
        for pair in range(pairs):
            measured = {}
            for sampling in (pair % 2 == 0, pair % 2 == 1):
                os.kill(process.pid, signal.SIGCONT if sampling else signal.SIGSTOP)
                measured[sampling] = rates(one)
            wall.append(measured[True][0] / measured[False][0])
            cpu.append(measured[True][1] / measured[False][1])
    return wall, cpu


def main() -> None:
    """Print the table."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    rows = []
    for version, python in interpreters().items():
        for busy in (1, 2):
            wall, cpu = compare(python, busy, pairs)
            rows.append((version, busy, spread(wall), spread(cpu)))
    print(f"{pairs} pairs; ratio sampled / not sampled, 1 is no slow-down, the goal is {GOAL}\n")
    table(("python", "busy threads", "wall: median (middle half)", "by CPU time: median (middle half)"), rows)


if __name__ == "__main__":
    main()
