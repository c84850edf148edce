"""Threads that compute and share nothing: the healthy case, throughput grows with cores."""

from __future__ import annotations

from throughput import Tally, parse_options, run


def advance(seed: int, steps: int) -> int:
    """A linear congruential generator: arithmetic on small integers of this thread only."""
    value = seed
    for _ in range(steps):
        value = (value * 1103515245 + 12345) & 0x3FFFFFFF
    return value


def simulate(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    state = worker + 1
    while tally.go_on():
        state = advance(state, 2000)
        tally.done(2000)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([simulate] * options.threads, options, unit="steps", name="simulation")
