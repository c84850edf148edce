"""Random numbers of all threads from the one hidden generator of the module `random`."""

from __future__ import annotations

import random

from throughput import Tally, parse_options, run

BATCH = 500


def estimate_pi(worker: int, tally: Tally) -> None:
    """The body of a worker thread: `random.random` is a method of one shared object."""
    inside = 0
    while tally.go_on():
        for _ in range(BATCH):
            x, y = random.random(), random.random()
            if x * x + y * y < 1.0:
                inside += 1
        tally.done(BATCH)


def estimate_pi_alone(worker: int, tally: Tally) -> None:
    """The same with a generator of the thread's own."""
    own = random.Random(worker)
    inside = 0
    while tally.go_on():
        for _ in range(BATCH):
            x, y = own.random(), own.random()
            if x * x + y * y < 1.0:
                inside += 1
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a random.Random for each thread")
    body = estimate_pi_alone if options.fixed else estimate_pi
    run([body] * options.threads, options, unit="points", name="dice")
