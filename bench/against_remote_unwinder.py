"""Compares the sampler with CPython's own C reader: CPU time on the same target, and what the two read.

In: free-threaded interpreters of 3.14 and 3.15, which have `_remote_debugging.RemoteUnwinder` (what
`profiling.sampling` of 3.15 reads with). Out: for each a table of CPU time by sample of the whole process,
lines included, medians of several rounds in turn, and where our time goes; on 3.15 the stacks that both read
of threads that stand still at places they know (`tools.side_by_side`).

The C reader walks all threads at every sample. It gives stacks only; ours are also states, waits, holders,
counters and a recording on disk. Native samples of what the cores did, which no stack reader has, are off in
the comparison; what they cost stands in a column of its own.

Usage: python bench/against_remote_unwinder.py [--rounds N] [--stops N] [--series 3.X]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import interpreters, sampled, table, target

from ftdiag.model import RecordingSettings
from ftdiag.recording.writer import RecordingWriter
from ftdiag.sampling.clock import Clock
from ftdiag.sampling.observers.interpreter import InterpreterObserver
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.steady import Steady
from ftdiag.sampling.target import TargetProcess
from ftdiag.sources.kernel.scheduling import go_first
from tools.side_by_side import compare

LOADS = ((8, 56, 1.0), (8, 0, 3.0))
SECONDS = 4.0
ROUNDS = 5
STOPS = 1000

C_READER = """
import json, sys, time
from _remote_debugging import RemoteUnwinder
pid, seconds = int(sys.argv[1]), float(sys.argv[2])
unwinder = RemoteUnwinder(pid, all_threads=True)
samples = failed = 0
end = due = time.monotonic()
end += seconds
cpu = time.process_time()
while due < end:
    time.sleep(max(0, due - time.monotonic()))
    due += 0.01
    samples += 1
    try:
        unwinder.get_stack_trace()
    except Exception:
        failed += 1
print(json.dumps({"cpu_us": (time.process_time() - cpu) / samples * 1e6, "failed": failed / samples}))
"""


def c_reader(python: Path, pid: int) -> dict[str, float]:
    """CPU time by sample, and the part of the samples that it gave up."""
    command = [str(python), "-c", C_READER, str(pid), str(SECONDS)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, float] = json.loads(run.stdout)
    return said


calls: Counter[str] = Counter()


def timed(parts: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its CPU time added to a part."""
    clock = time.thread_time_ns

    def call(*arguments: Any, **keywords: Any) -> Any:
        start = clock()
        try:
            return function(*arguments, **keywords)
        finally:
            parts[name] += clock() - start
            calls[name] += 1

    return call


def apart(parts: Counter[str], go_steadily: Callable[[Steady], None]) -> Callable[[Steady], None]:
    """`go_steadily`, whose ticks are counted, and of which nothing is part of what other ticks cost."""

    def call(steady: Steady) -> None:
        before = dict(parts)
        go_steadily(steady)
        parts.clear()
        parts.update(before)
        calls["steady ticks"] += len(steady.times)

    return call


def breakdown(pid: int) -> dict[str, float]:
    """Microseconds of CPU time by tick in the parts of a sampler that runs in this process."""
    parts: Counter[str] = Counter()
    calls.clear()
    with tempfile.TemporaryDirectory() as scratch:
        process = TargetProcess(pid)
        options = SamplerOptions(pid, scratch, duration_s=SECONDS)
        observer: Any = InterpreterObserver(options, process, 1000)
        clock: Any = Clock(options, process, observer, 1000)
        settings = RecordingSettings(100.0, time.monotonic_ns(), time.time_ns(), "bench", "bench")
        writer = RecordingWriter(Path(scratch) / "recording", process.target, settings)
        clock.attach(writer)
        for owner, name, part in (
            (clock, "_tick", "_tick"),
            (clock, "_end_window", "_flush"),
            (clock._threads, "who_ran", "who_ran"),
            (observer, "_look", "_look"),
            (observer._holders, "tell", "holders"),
            (observer._interpreter, "look", "walk"),
            (observer._interpreter, "walk", "walk"),
            (clock, "_go_steadily", "steady"),
        ):
            setattr(owner, name, timed(parts, part, getattr(owner, name)))
        if observer._on_core is not None:
            observer._on_core.gather = timed(parts, "native", observer._on_core.gather)
        observer.go_steadily = apart(parts, observer.go_steadily)
        go_first()
        start = time.thread_time_ns()
        end = clock.run()
        parts["all"] = time.thread_time_ns() - start
        writer.finish(end)
        writer.close()
    ticks = calls["_tick"] + calls["steady ticks"]
    part = {name: value / ticks / 1000 for name, value in parts.items()}
    return {
        "clock, sleep, poll": part["all"] - part["_tick"] - part["_flush"] - part.get("steady", 0.0),
        "ticks that go by themselves, with their sleep": part.get("steady", 0.0),
        "native samples": part.get("native", 0.0),
        "list of threads": part["_tick"]
        - part["who_ran"]
        - part["_look"]
        - part["holders"]
        - part.get("native", 0.0),
        "schedstat of every thread": part["who_ran"],
        "who holds which lock": part["holders"],
        "syscall line, state, wait": part["_look"] - part["walk"],
        "reading and following the frames, naming new ones": part["walk"],
        "window: counters, compression, SQLite": part["_flush"],
        "all": part["all"],
    }


def main() -> None:
    """Print the tables; exit with 1 beyond the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the CPU time; 0: only what is read")
    parser.add_argument("--stops", type=int, default=STOPS, help="at which both read all threads")
    parser.add_argument("--series", default="", help="only this one, as 3.15")
    chosen = parser.parse_args()
    failed = False
    for version, python in sorted(interpreters().items()):
        if version == "3.13t" or not version.startswith(chosen.series):
            continue
        print(f"\n{version}\n")
        if chosen.rounds:
            failed |= costs_more(python, chosen.rounds)
        if chosen.stops and version != "3.14t":
            failed |= reads_otherwise(python, chosen.stops)
    sys.exit(failed)


def reads_otherwise(python: Path, stops: int) -> bool:
    """Print how many stacks the two read alike; whether there was one that they did not."""
    found = compare(python, stops)
    table(
        (
            "stops",
            "stacks",
            "frames a stack",
            "ours right",
            "C reader right",
            "both alike",
            "C reader gave up",
        ),
        [
            (
                stops,
                found.stacks,
                f"{found.frames / max(1, found.stacks):.0f}",
                found.ours,
                found.theirs,
                found.both,
                found.gave_up,
            )
        ],
    )
    for example in found.examples:
        print(example)
    return found.ours < found.stacks or found.both < found.stacks


def costs_more(python: Path, rounds: int) -> bool:
    """Print the CPU time of both by sample; whether ours is beyond its goal."""
    rows, parts = [], []
    failed = False
    for busy, idle, goal in LOADS:
        with target(python, busy, idle) as one:
            ours, full, theirs, lost = [], [], [], []
            for _ in range(rounds):
                their = c_reader(python, one.pid)
                theirs.append(their["cpu_us"])
                lost.append(their["failed"])
                for costs, options in ((ours, {"native_rate_hz": 0}), (full, {})):
                    cost = sampled(one.pid, SECONDS, **options)
                    costs.append(cost.cpu_s / max(1, cost.ticks) * 1e6)
            parts.append(breakdown(one.pid))
        ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
        failed |= ratio > goal
        rows.append(
            (
                f"{busy} busy + {idle} idle",
                f"{statistics.median(ours):.0f}",
                f"{statistics.median(theirs):.0f}",
                f"{ratio:.2f}",
                goal,
                f"{100 * statistics.median(lost):.0f} %",
                f"{statistics.median(full):.0f}",
            )
        )
    table(
        (
            "threads",
            "ours, us",
            "C reader, us",
            "ratio",
            "goal",
            "C reader gave up",
            "ours with native samples, us",
        ),
        rows,
    )
    table(
        ("where our time goes, us a sample", *(f"{busy} + {idle}" for busy, idle, _ in LOADS)),
        [(name, *(f"{part[name]:.0f}" for part in parts)) for name in parts[0]],
    )
    return failed


if __name__ == "__main__":
    main()
