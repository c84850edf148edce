"""Threads that compute together and then wait while one of them merges: that bounds the speed-up."""

from __future__ import annotations

import threading

from throughput import Body, Tally, parse_options, run

STEPS = 60_000
ENDED = threading.BrokenBarrierError


def compute(steps: int) -> int:
    """Arithmetic of this thread alone."""
    value = 1
    for step in range(steps):
        value = (value * 31 + step) & 0xFF
    return value


def merge_results(steps: int) -> int:
    """What one thread does, now this, now that, while the others wait."""
    value = 1
    for step in range(steps):
        value = (value * 17 + step) & 0xFF
    return value


class Simulation:
    """Rounds of a parallel and a serial part."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._computed = threading.Barrier(threads)
        self._merged = threading.Barrier(threads)

    def run_rounds(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        try:
            while tally.go_on():
                compute(STEPS)
                if self._computed.wait() == self._threads - 1:
                    merge_results(2 * STEPS)
                self._merged.wait()
                tally.done()
        except ENDED:
            pass

    def run_rounds_with_parts(self, worker: int, tally: Tally) -> None:
        """The same with the merge divided among all."""
        try:
            while tally.go_on():
                compute(STEPS)
                merge_results(2 * STEPS // self._threads)
                self._merged.wait()
                tally.done()
        except ENDED:
            pass

    def end(self) -> None:
        """Unblocks whoever waits for others that ended."""
        self._computed.abort()
        self._merged.abort()


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="every thread merges its part")
    simulation = Simulation(options.threads)
    body: Body = simulation.run_rounds_with_parts if options.fixed else simulation.run_rounds
    run([body] * options.threads, options, unit="rounds", name="solver", wake=simulation.end)
