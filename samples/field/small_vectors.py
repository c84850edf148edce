"""Arithmetic with small vectors of NumPy that are each thread's own, one ufunc call after the other."""

from __future__ import annotations

import numpy as np

from throughput import Tally, parse_options, run


def compute(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    first, second = np.arange(10.0) + worker, np.ones(10)
    while tally.go_on():
        for _ in range(500):
            np.multiply(np.add(first, second), second)
        tally.done(500)


def compute_large(worker: int, tally: Tally) -> None:
    """The same in one call for many vectors."""
    first, second = np.arange(5000.0) + worker, np.ones(5000)
    while tally.go_on():
        np.multiply(np.add(first, second), second)
        tally.done(500)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="one call for many vectors")
    body = compute_large if options.fixed else compute
    run([body] * options.threads, options, unit="vectors", name="compute")
