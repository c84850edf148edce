"""Settings that are only read, by all threads at once: each read counts a reference on the same object."""

from __future__ import annotations

import copy

from throughput import Tally, parse_options, run

BATCH = 500


class Settings:
    """Made once at start-up, never changed."""

    def __init__(self) -> None:
        self.discounts = [0, 5, 10, 15]
        self.countries = {"de": 19, "fr": 20}


SETTINGS = Settings()


def price_orders(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    total = 0
    while tally.go_on():
        for number in range(BATCH):
            total = (total + SETTINGS.discounts[number & 3]) & 0xFF
        tally.done(BATCH)


def price_orders_with_copy(worker: int, tally: Tally) -> None:
    """The same with a copy of the settings for each thread."""
    settings = copy.deepcopy(SETTINGS)
    total = 0
    while tally.go_on():
        for number in range(BATCH):
            total = (total + settings.discounts[number & 3]) & 0xFF
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a deep copy of the settings for each thread")
    body = price_orders_with_copy if options.fixed else price_orders
    run([body] * options.threads, options, unit="orders", name="pricing")
