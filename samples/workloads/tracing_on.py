"""A forgotten line counter, the standard library's `trace`: it is called at every line of all threads."""

from __future__ import annotations

import threading
import trace

from throughput import Tally, parse_options, run


def step(value: int) -> int:
    """A small function."""
    return (value * 31 + 7) & 0xFF


def simulate(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    value = worker
    while tally.go_on():
        for _ in range(200):
            value = step(value)
        tally.done(200)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="no tracing")
    if not options.fixed:
        threading.settrace(trace.Trace(count=1, trace=0).globaltrace)
    run([simulate] * options.threads, options, unit="steps", name="simulation")
