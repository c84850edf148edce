"""What the flight recorder costs, and how soon a trigger has full rate.

In: a free-threaded interpreter. Out: a table; status 1 beyond the goals: 0.03 core for 32 threads while
nothing happens, full rate 1 s after a trigger, 0.2 core for 20 workers with 8 threads each.

Usage: python bench/watch.py [PYTHON] [--seconds 30]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from ftdiag.recording.reader import Recording

PROGRAM = """
import os, sys, threading, time
workers, threads = map(int, sys.argv[1:])
def work():
    while True:
        sum(range(2000)); time.sleep(0.05)
for _ in range(workers):
    if workers == 1 or os.fork() == 0:
        for _ in range(threads): threading.Thread(target=work, daemon=True).start()
        if workers > 1: time.sleep(1000)
print("ready", flush=True)
time.sleep(1000)
"""
GOALS = {"32 threads, idle recorder": 0.03, "20 workers x 8 threads, attach --children": 0.2}
FULL_RATE_S = 1.0
SETTLE_S = 40.0


def cpu_s(process: psutil.Process, *, whole: bool) -> float:
    """CPU time of all below a process, `whole` with itself."""
    total = 0.0
    for each in [*([process] if whole else []), *process.children(recursive=True)]:
        with suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def measured(command: list[str], seconds: float) -> tuple[float, float, subprocess.Popen[bytes]]:
    """Cores that a command uses once it has begun, and those of its samplers alone; it goes on."""
    child = subprocess.Popen([sys.executable, "-m", "ftdiag", *command], stderr=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)  # fmt: skip
    process = psutil.Process(child.pid)
    time.sleep(SETTLE_S)
    begin = time.monotonic()
    before = cpu_s(process, whole=True), cpu_s(process, whole=False)
    time.sleep(seconds)
    passed = time.monotonic() - begin
    after = cpu_s(process, whole=True), cpu_s(process, whole=False)
    return (after[0] - before[0]) / passed, (after[1] - before[1]) / passed, child


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", nargs="?", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as folder:
        for name, workers, threads in (("32 threads, idle recorder", 1, 32),
                                       ("20 workers x 8 threads, attach --children", 20, 8)):  # fmt: skip
            target = subprocess.Popen([asked.python, "-c", PROGRAM, str(workers), str(threads)],
                                      stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
            assert target.stdout is not None
            target.stdout.readline()
            kept = Path(folder) / str(workers)
            command = ["watch", str(target.pid), "--directory", os.fspath(kept)]
            if workers > 1:
                command = ["attach", str(target.pid), "--children", "--duration", "600", "--format", "text"]
            cores, samplers, child = measured(command, asked.seconds)
            print(f"{name:44} {cores:.3f} core, samplers {samplers:.3f} (goal {GOALS[name]:g})")
            if workers > 1:
                cores = samplers
            status |= cores > GOALS[name]
            if workers == 1:
                sent = time.time_ns()
                child.send_signal(signal.SIGUSR1)
                time.sleep(4.0)
                with Recording.open(next(kept.glob("kept-*-after.ftdiag"))) as recording:
                    first = recording.samples(0).tick_ns[0] - recording.settings.started_ns
                    late = (recording.settings.started_unix_ns + int(first) - sent) / 1e9
                print(f"{'first tick at full rate after SIGUSR1':44} {late:.2f} s (goal {FULL_RATE_S:g})")
                status |= late > FULL_RATE_S
            child.send_signal(signal.SIGINT)
            child.wait(60)
            os.killpg(target.pid, signal.SIGKILL)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
