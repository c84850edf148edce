"""Numbers of all threads from one itertools.count: each next() changes the one iterator."""

from __future__ import annotations

import itertools

from throughput import Tally, parse_options, run

BATCH = 500
BLOCK = 256


class TicketOffice:
    """Numbers its orders across all threads."""

    def __init__(self) -> None:
        self._tickets = itertools.count()
        self._blocks = itertools.count()

    def take_orders(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        tickets = self._tickets
        last = 0
        while tally.go_on():
            for _ in range(BATCH):
                last ^= next(tickets) & 0xFF
            tally.done(BATCH)

    def take_orders_in_blocks(self, worker: int, tally: Tally) -> None:
        """The same: a thread takes the numbers of a whole block at once."""
        last = 0
        while tally.go_on():
            first = next(self._blocks) * BLOCK
            for ticket in range(first, first + BLOCK):
                last ^= ticket & 0xFF
            tally.done(BLOCK)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a block of numbers for a thread at a time")
    office = TicketOffice()
    body = office.take_orders_in_blocks if options.fixed else office.take_orders
    run([body] * options.threads, options, unit="orders", name="clerk")
