"""Small records of a dataclass with attributes that are floats, made and read by each thread for itself."""

from __future__ import annotations

import dataclasses

from throughput import Tally, parse_options, run


@dataclasses.dataclass
class Point:
    """A place."""

    x: float
    y: float


def follow(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    x = 0.5 + worker
    while tally.go_on():
        for _ in range(5000):
            x = Point(x, 1.0).x
        tally.done(5000)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([follow] * options.threads, options, unit="points", name="follow")
