"""Rows that one thread makes and another one takes out of their batch and drops, one by one."""

from __future__ import annotations

import queue
from contextlib import suppress

from throughput import Tally, parse_options, run

ROWS = 5000
PATIENCE_S = 0.2


class Import:
    """A thread that reads rows, and one that adds them up."""

    def __init__(self) -> None:
        self._batches: queue.Queue[list[float]] = queue.Queue(8)

    def read_rows(self, worker: int, tally: Tally) -> None:
        """The body of the thread that makes them."""
        while tally.go_on():
            rows = [number * 0.5 for number in range(ROWS)]
            with suppress(queue.Full):
                self._batches.put(rows, timeout=PATIENCE_S)
            del rows

    def add_rows(self, worker: int, tally: Tally) -> None:
        """The body of the thread that uses them up."""
        total = 0.0
        while tally.go_on():
            with suppress(queue.Empty):
                rows = self._batches.get(timeout=PATIENCE_S)
                while rows:
                    row = rows.pop()
                    total += (row - 1.0) * (row + 1.0)
                tally.done(ROWS)

    def add_batches(self, worker: int, tally: Tally) -> None:
        """The same, which drops a batch as a whole."""
        total = 0.0
        while tally.go_on():
            with suppress(queue.Empty):
                rows = self._batches.get(timeout=PATIENCE_S)
                for row in rows:
                    total += (row - 1.0) * (row + 1.0)
                tally.done(ROWS)
                del rows


if __name__ == "__main__":
    options = parse_options(__doc__, threads=2, fixed="batches are dropped as a whole")
    of_rows = Import()
    use_up = of_rows.add_batches if options.fixed else of_rows.add_rows
    run([of_rows.read_rows, use_up], options, unit="rows", name="import")
