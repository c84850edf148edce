"""Small arrays of NumPy that are made anew for each step."""

from __future__ import annotations

import numpy as np

from throughput import Tally, parse_options, run


def slice_up(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    source = np.arange(4000.0)
    while tally.go_on():
        for number in range(500):
            fresh = np.empty(400)
            fresh[:] = source[number : number + 400]
        tally.done(500)


def slice_up_into_one(worker: int, tally: Tally) -> None:
    """The same into a buffer that is kept."""
    source = np.arange(4000.0)
    buffer = np.empty(400)
    while tally.go_on():
        for number in range(500):
            buffer[:] = source[number : number + 400]
        tally.done(500)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a buffer that is kept")
    body = slice_up_into_one if options.fixed else slice_up
    run([body] * options.threads, options, unit="arrays", name="slice")
