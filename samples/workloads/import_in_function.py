"""An import statement inside the function that is called most."""

from __future__ import annotations

import math

from throughput import Tally, parse_options, run

BATCH = 300


def distance(x: int, y: int) -> int:
    """Imports at each call: found at once in sys.modules, but on the way there is shared."""
    from math import isqrt

    return isqrt(x * x + y * y)


def distance_without_import(x: int, y: int) -> int:
    """The same with the import at the top of the module."""
    return math.isqrt(x * x + y * y)


def measure_routes(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for step in range(BATCH):
            distance(step & 7, 3)
        tally.done(BATCH)


def measure_routes_without_import(worker: int, tally: Tally) -> None:
    """The same with the import at the top."""
    while tally.go_on():
        for step in range(BATCH):
            distance_without_import(step & 7, 3)
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="the import at the top of the module")
    body = measure_routes_without_import if options.fixed else measure_routes
    run([body] * options.threads, options, unit="distances", name="router")
