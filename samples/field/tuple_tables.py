"""Tables of a million small tuples that grow in each thread: the collector looks at all of them each time."""

from __future__ import annotations

import gc

from throughput import Tally, parse_options, run

MOST = 1_500_000
STEP = 20_000


def load(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    rows: list[tuple[float, float]] = []
    while tally.go_on():
        if len(rows) > MOST:
            rows.clear()
        base = len(rows) * 1.5
        rows.extend([(base + step, base - step) for step in range(STEP)])
        tally.done(STEP)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a threshold of the collector that is higher by far")
    if options.fixed:
        gc.set_threshold(1_000_000)
    run([load] * options.threads, options, unit="rows", name="load")
