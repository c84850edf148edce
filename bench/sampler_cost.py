"""Measures what the sampler itself costs: CPU, late and missed ticks, at 100 Hz.

In: free-threaded interpreters. Out: a table.

Usage: python bench/sampler_cost.py [SECONDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from measuring import cost_of, interpreters, process_cpu_s, sampler, table, target

LOADS = ((8, 56), (4, 252), (8, 0))
SECONDS = 8.0
MAX_CORES = 0.15
MAX_MISSED_RATIO = 0.02


def main() -> None:
    """Print the table; exit with 1 beyond the goals."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    rows = []
    failed = False
    for version, python in interpreters().items():
        for busy, idle in LOADS:
            with tempfile.TemporaryDirectory() as scratch, target(python, busy, idle) as one:
                path = Path(scratch) / "recording"
                with sampler(one.pid, path) as process:
                    time.sleep(1)
                    before, start = process_cpu_s(process.pid), time.perf_counter()
                    time.sleep(seconds)
                    cores = (process_cpu_s(process.pid) - before) / (time.perf_counter() - start)
                cost = cost_of(path)
            failed |= cost.cores > MAX_CORES or cost.missed_ratio > MAX_MISSED_RATIO
            rows.append(
                (
                    version,
                    f"{busy} busy + {idle} idle",
                    cost.cores,
                    cores,
                    f"{100 * cost.late / max(1, cost.ticks):.1f} %",
                    f"{100 * cost.missed_ratio:.1f} %",
                    f"{cost.walked / max(1, cost.ticks):.1f}",
                )
            )
    table(("python", "threads", "cores, own count", "cores, /proc", "late", "missed", "walks a tick"), rows)
    sys.exit(failed)


if __name__ == "__main__":
    main()
