"""Measures how fast a recording opens and how large it is.

In: recording files (see generate_recording.py). Out: a table with, for each file, the time to open it,
to aggregate the whole of it as the first view does, the peak memory of this in a fresh process, and the
bytes for each thread-sample. Exits with 1 if a file is beyond the goals.

Usage: python bench/recording_open.py FILE...
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

MAX_SECONDS = 3.0
MAX_RSS_BYTES = 400_000_000
MAX_BYTES_PER_SAMPLE = 4.0


def measure(path: Path) -> dict[str, float]:
    """Open, aggregate, and say what it took; for a process of its own."""
    start = time.perf_counter()
    import numpy as np

    from ftdiag.recording.reader import Recording

    imported = time.perf_counter()
    with Recording.open(path) as recording:
        opened = time.perf_counter()
        windows = recording.all_samples(0, len(recording))
        loaded = time.perf_counter()
        # Group by thread, state and stack, as the first view does.
        key = np.concatenate(
            [(each.thread.astype(np.int64) << 32 | each.stack) << 8 | each.state for each in windows]
        )
        groups, inverse = np.unique(key, return_inverse=True)
        ticks = np.bincount(inverse, np.concatenate([each.ticks for each in windows]))
        grouped = time.perf_counter()
        counters = recording.counters(0, len(recording))
        cpu_ns = np.bincount(counters.thread, counters.cpu_ns)
        counted = time.perf_counter()
        return {
            "import": imported - start,
            "open": opened - imported,
            "runs": loaded - opened,
            "group": grouped - loaded,
            "counters": counted - grouped,
            "total": counted - start,
            "rss": float(peak_rss_bytes()),
            "samples": float(ticks.sum()),
            "bytes": float(path.stat().st_size),
            "rows": float(len(key)),
            "groups": float(len(groups)),
            "threads": float(len(cpu_ns)),
        }


def peak_rss_bytes() -> int:
    """Peak resident memory of this process since its exec (ru_maxrss would count the parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the peak memory")


def main() -> int:
    """Measure every file in a fresh process and print the table."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return 0
    print(
        f"{'file':<20} {'import':>7} {'open':>7} {'runs':>8} {'group':>7} {'counters':>8} {'total':>7}"
        f" {'peak RSS':>9} {'size':>9} {'B/sample':>8}"
    )
    within = True
    for name in sys.argv[1:]:
        child = subprocess.run(
            [sys.executable, __file__, "--one", name], check=True, stdout=subprocess.PIPE, text=True
        )
        figures = json.loads(child.stdout)
        per_sample = figures["bytes"] / figures["samples"]
        print(
            f"{Path(name).name:<20} {figures['import']:>6.2f}s {figures['open']:>6.2f}s"
            f" {figures['runs']:>7.2f}s {figures['group']:>6.2f}s {figures['counters']:>7.2f}s"
            f" {figures['total']:>6.2f}s {figures['rss'] / 1e6:>6.0f} MB {figures['bytes'] / 1e6:>6.1f} MB"
            f" {per_sample:>8.3f}"
        )
        within &= figures["total"] <= MAX_SECONDS and figures["rss"] <= MAX_RSS_BYTES
        within &= per_sample <= MAX_BYTES_PER_SAMPLE
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
