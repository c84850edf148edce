"""Tiny items through one queue.Queue: its lock is taken twice for each of them."""

from __future__ import annotations

import queue

from throughput import Tally, parse_options, run

BATCH = 50


def score(item: int) -> int:
    """The work on an item: less than its way through the queue."""
    return (item * 31 + 7) & 0xFF


class Pipeline:
    """Threads that put and get on one queue."""

    def __init__(self) -> None:
        self._items: queue.Queue[int] = queue.Queue()

    def pass_items(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        items = self._items
        while tally.go_on():
            for number in range(BATCH):
                items.put(number & 0xFF)
                score(items.get())
            tally.done(BATCH)


def pass_own_items(worker: int, tally: Tally) -> None:
    """The same with a queue for each worker."""
    Pipeline().pass_items(worker, tally)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a queue for each worker")
    body = pass_own_items if options.fixed else Pipeline().pass_items
    run([body] * options.threads, options, unit="items", name="stage")
