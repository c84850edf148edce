"""Measures how often the first bottleneck is the right one, and how long the graph of a long recording takes.

In: simulated programs (tools/simulation.py) of which it is known what taking each cause away gains. Out: a
table by kind of program; the largest error of the redistribution; the time for the graph of ten minutes of
64 threads. Exits with 1 beyond the goals.

Usage: python bench/bottlenecks.py [--number 200] [--seed 1] [--no-speed]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from generate_recording import generate  # noqa: E402

from ftdiag.model import Bottleneck, BottleneckKind, Bottlenecks  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from tools.simulation import Scenario, gains, scenarios, simulate, write  # noqa: E402

LENGTH_US: Final = 3_200_000.0
RIGHT_RATIO: Final = 0.95
AS_GOOD: Final = 0.97
"""Two causes whose removal gains the same within 3 % are both right."""
MAX_ERROR: Final = 1e-9
MAX_GRAPH_S: Final = 1.0
CHAIN_KINDS: Final = (BottleneckKind.LOCK, BottleneckKind.KNOT, BottleneckKind.STOP, BottleneckKind.GIL)


def named(one: Bottleneck | None) -> str:
    """What a bottleneck is, as the simulation calls it."""
    if one is None:
        return "nothing"
    if one.kind is BottleneckKind.LOCK:
        return f"lock {one.lock.label if one.lock else '?'}"
    if one.kind is BottleneckKind.IO:
        return f"io {one.detail}"
    if one.kind is BottleneckKind.SERIAL:
        line = one.places[0].stack[0].function if one.places and one.places[0].stack else "?"
        return f"serial {line}"
    return one.kind.value


def judged(scenario: Scenario, found: Bottlenecks) -> tuple[bool, str, str]:
    """Whether the first bottleneck is right; what it is, and what would be."""
    first = named(found.ranked[0] if found.ranked else None)
    if scenario.answer is not None:
        return first == scenario.answer, first, scenario.answer
    gained = gains(scenario, LENGTH_US)
    best = max(gained, key=lambda what: gained[what])
    return gained.get(first, 0.0) >= AS_GOOD * gained[best], first, best


def error_of(found: Bottlenecks, waited_ns: float) -> float:
    """How far the redistributed waiting is from what the locks' own account says, relative to it."""
    whole = sum(one.wait_ns for one in found.ranked if one.kind in CHAIN_KINDS)
    return abs(whole - waited_ns) / waited_ns if waited_ns > 0 and not found.left_out else 0.0


def look(scenario: Scenario, folder: Path) -> tuple[Bottlenecks, float]:
    """Simulates, records and looks: what was found, and all waiting for locks."""
    path = folder / f"{scenario.seed}.ftdiag"
    write(simulate(scenario, LENGTH_US), path)
    with Recording.open(path) as recording:
        snapshot = Session(recording).snapshot()
    path.unlink()
    assert snapshot.bottlenecks is not None
    return snapshot.bottlenecks, sum(lock.wait_ns for lock in snapshot.locks)


def speed(folder: Path) -> float:
    """Seconds of a core for the graph alone of ten minutes of 64 threads, everything else being there."""
    path = folder / "long.ftdiag"
    generate(path, seconds=600, threads=64, busy=8, rate_hz=100, standing=16)
    from ftdiag.analysis import accounting, bottlenecks
    from ftdiag.analysis.ranges import Ranges
    from ftdiag.analysis.ticks import tick_runs

    spent = 0.0
    with Recording.open(path) as recording:
        ranges = Ranges(recording)
        of_wait = ranges.locks_known()
        for first in range(0, len(recording), 32):
            last = min(first + 32, len(recording))
            periods = ranges.periods(first, last)
            runs = tick_runs(recording, first, last, periods)
            accounts = accounting.account(recording, first, last, runs, periods)
            began = time.process_time()
            bottlenecks.bottleneck_shares(runs, accounts, of_wait, periods, 4.0)
            spent += time.process_time() - began
    return spent


def main() -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-speed", action="store_true")
    options = parser.parse_args()
    right: Counter[str] = Counter()
    looked: Counter[str] = Counter()
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        for scenario in scenarios(options.number, options.seed):
            found, waited_ns = look(scenario, Path(scratch))
            good, first, best = judged(scenario, found)
            looked[scenario.kind] += 1
            right[scenario.kind] += good
            worst = max(worst, error_of(found, waited_ns))
            if not good:
                print(
                    f"# {scenario.kind} {scenario.seed}: {len(scenario.rounds)} threads on {scenario.cores}:"
                    f" {first} instead of {best}",
                    flush=True,
                )
        took = 0.0 if options.no_speed else speed(Path(scratch))
    print("| programs | right first bottleneck |\n|---|---|")
    for kind in looked:
        print(f"| {kind} | {right[kind]} of {looked[kind]} |")
    whole = sum(right.values())
    print(f"| all | {whole} of {options.number} |")
    print(f"\nlargest relative error of the redistribution: {worst:.1e}")
    if not options.no_speed:
        print(f"graph of ten minutes of 64 threads: {took:.2f} s")
    return 1 if whole < RIGHT_RATIO * options.number or worst > MAX_ERROR or took > MAX_GRAPH_S else 0


if __name__ == "__main__":
    sys.exit(main())
