"""Attaches memray to a process and detaches it, again and again: is it alive, and is nothing left behind?

In: an interpreter that has memray. Out: on stdout, times and what is left in the target. Run as
`python bench/memray_attach.py PYTHON [--times 50]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ftdiag.errors import FtdiagError
from ftdiag.sources.tools import memray, traces
from ftdiag.tracker import Tracking, TrackingRequest
from tools.workloads import WORKLOADS, running_workload

ATTACHED_S = 1.0
"""How long it stays attached before it is told to go, each time."""


def main() -> int:
    """Prints a line for each method; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("python", type=Path)
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    program = WORKLOADS / "generators.py"
    with running_workload(options.python, str(program), "--threads", "2") as running:
        time.sleep(1.0)
        outline = memray.outline(running.pid)
        plan = memray.plan(outline)
        print(
            f"CPython {plan.python_version}{'t' if plan.free_threaded else ''}, memray {plan.memray_version},"
            f" methods {', '.join(plan.methods)}: {outline.why}"
        )
        before = left(running.pid)
        lengths, failures = [], 0
        for number in range(options.times):
            events: list[Mapping[str, object]] = []
            ends = Ends(events)
            begin = time.monotonic()
            try:
                Tracking(TrackingRequest(plan, 60), events.append, ends).run()
            except FtdiagError as error:
                failures += 1
                print(f"  {number}: {error.what}")
            lengths.append(time.monotonic() - begin)
            detached = next((event for event in events if event["event"] == "detached"), {})
            if detached.get("capture_open") or detached.get("threads"):
                print(f"  {number}: left behind: {detached}")
            if not traces.is_same_process(plan.pid, plan.start_ticks):
                print(f"  {number}: the target is gone")
                return 1
        time.sleep(2.0)
        after = left(running.pid)
        print(f"{options.times} times, {failures} failures, {statistics.median(lengths):.1f} s each (median)")
        print(
            f"threads {before[0]} -> {after[0]}, open files {before[1]} -> {after[1]},"
            f" RSS {before[2]} -> {after[2]} MB"
        )
    return 0


class Ends:
    """Wants it for a while from when it is attached."""

    def __init__(self, events: list[Mapping[str, object]]) -> None:
        self._events = events
        self._since: float | None = None

    def __call__(self, wait_s: float) -> bool:
        """Whether it shall go on."""
        time.sleep(wait_s)
        if self._since is None and any(event["event"] == "attached" for event in self._events):
            self._since = time.monotonic()
        return self._since is None or time.monotonic() - self._since < ATTACHED_S


def left(pid: int) -> tuple[int, int, int]:
    """Threads, open files and resident MB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd")), resident


if __name__ == "__main__":
    sys.exit(main())
