"""A counter without a lock, increased by all threads: updates get lost, and it is slow besides."""

from __future__ import annotations

import sys

from throughput import Tally, parse_options, run

BATCH = 500


class Visits:
    """Counts visits, as it seems."""

    def __init__(self) -> None:
        self.count = 0
        self._true_counts: list[int] = []

    def count_visits(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread: read, add, write, and somebody else in between."""
        while tally.go_on():
            for _ in range(BATCH):
                self.count += 1
            tally.done(BATCH)
        self._true_counts.append(tally.count)

    def count_own_visits(self, worker: int, tally: Tally) -> None:
        """The same with a count of the thread's own, given at its end."""
        own = 0
        while tally.go_on():
            for _ in range(BATCH):
                own += 1
            tally.done(BATCH)
        self._true_counts.append(own)

    def report(self) -> None:
        """What was lost."""
        true = sum(self._true_counts)
        if self.count:
            print(f"counted {self.count:,} of {true:,} visits", file=sys.stderr)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="each thread counts for itself")
    visits = Visits()
    body = visits.count_own_visits if options.fixed else visits.count_visits
    try:
        run([body] * options.threads, options, unit="visits", name="visitor")
    finally:
        visits.report()
