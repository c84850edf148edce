"""Threads that each load the same table for themselves: the process is mostly copies of it."""

from __future__ import annotations

import time

from throughput import Tally, parse_options, run

ENTRIES = 20_000
LOOKUPS = 200
PAUSE_S = 0.05


def load_table() -> dict[int, str]:
    """The table of tax codes, some 8 MB."""
    return {number: f"{number:08} {'tax code ' * 35}" for number in range(ENTRIES)}


def answer(table: dict[int, str], request: int) -> int:
    """A small request: a few lookups."""
    return sum(len(table[(request * 31 + step) % ENTRIES]) for step in range(LOOKUPS))


def serve_from_own_table(worker: int, tally: Tally) -> None:
    """The body of a worker thread: loads the table, then answers now and then."""
    table = load_table()
    while tally.go_on():
        answer(table, tally.count)
        tally.done()
        time.sleep(PAUSE_S)


class Server:
    """The same with one table for all threads."""

    def __init__(self) -> None:
        self._table = load_table()

    def serve(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            answer(self._table, tally.count)
            tally.done()
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    options = parse_options(__doc__, threads=32, fixed="one table for all threads")
    body = Server().serve if options.fixed else serve_from_own_table
    run([body] * options.threads, options, unit="requests", name="server")
