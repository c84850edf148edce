"""Workers that ask one threading.Event before each item whether they shall stop."""

from __future__ import annotations

import threading

from throughput import Tally, parse_options, run

STOPPING = threading.Event()


def work(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        number = total = 0
        while number < 5000 and not STOPPING.is_set():
            total += number & 3
            number += 1
        tally.done(number)


def work_in_blocks(worker: int, tally: Tally) -> None:
    """The same, asked once for a block of items."""
    while tally.go_on() and not STOPPING.is_set():
        number = total = 0
        while number < 5000:
            total += number & 3
            number += 1
        tally.done(number)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="ask once for a block of items")
    run([work_in_blocks if options.fixed else work] * options.threads, options, unit="items", name="work")
