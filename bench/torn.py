"""Measures how many stacks of a fast, deep recursion cannot be read consistently.

In: free-threaded interpreters. Out: a table with the torn ratio of thread-samples, and how many of the
stacks that were believed are impossible: the recursion is of two functions that call each other in turn.

Usage: python bench/torn.py [SECONDS]
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path

from measuring import cost_of, interpreters, sampler, table

from ftdiag.recording.reader import Recording
from tools.workloads import running_workload

SECONDS = 15.0
MAX_TORN_RATIO = 0.01


def impossible(path: Path) -> tuple[int, int]:
    """(ticks in stacks that cannot be, ticks in all stacks) of the workers."""
    wrong = total = 0
    with Recording.open(path) as recording:
        windows = recording.all_samples(0, len(recording))
        rows = (zip(each.thread, each.stack, each.ticks, strict=True) for each in windows)
        for thread, stack, ticks in itertools.chain.from_iterable(rows):
            frames = recording.stack(int(stack))[::-1]
            if not frames or recording.thread(int(thread)).main:
                continue
            total += int(ticks)
            names = [frame.function for frame in frames if frame.function in ("descend", "turn")]
            in_turn = names == [("descend", "turn")[place % 2] for place in range(len(names))]
            if not in_turn or frames[0].function != "Thread._bootstrap":
                wrong += int(ticks)
    return wrong, total


def main() -> None:
    """Print the table; exit with 1 beyond the goal."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    rows = []
    failed = False
    for version, python in interpreters().items():
        for threads in (1, 2, 4):
            with (
                tempfile.TemporaryDirectory() as scratch,
                running_workload(python, "recursion", "--threads", str(threads)) as running,
            ):
                path = Path(scratch) / "recording"
                with sampler(running.pid, path):
                    time.sleep(seconds)
                cost = cost_of(path)
                wrong, total = impossible(path)
            ratio = cost.torn / max(1, cost.walked)
            failed |= ratio > MAX_TORN_RATIO
            rows.append((version, threads, cost.walked, f"{100 * ratio:.2f} %", f"{wrong} of {total}"))
    table(("python", "threads", "stacks read", "torn", "impossible"), rows)
    sys.exit(failed)


if __name__ == "__main__":
    main()
