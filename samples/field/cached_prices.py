"""Prices behind functools.lru_cache, for keys that never come again: every call is a miss, under its lock."""

from __future__ import annotations

import functools

from throughput import Body, Tally, parse_options, run


def computed_price(article: int, day: int) -> int:
    """A price, with work that takes a tenth of a millisecond."""
    total = 0
    for step in range(3000):
        total += (article * step + day) % 7
    return total


@functools.lru_cache(maxsize=512)
def price(article: int, day: int) -> int:
    """The price, remembered."""
    return computed_price(article, day)


def quote(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    day = 0
    while tally.go_on():
        day += 1
        for article in range(10):
            price(article + 1000 * worker, day)
        tally.done(10)


def quote_from_own_cache(worker: int, tally: Tally) -> None:
    """The same with a cache for each thread."""
    own_price = functools.lru_cache(maxsize=512)(computed_price)
    day = 0
    while tally.go_on():
        day += 1
        for article in range(10):
            own_price(article + 1000 * worker, day)
        tally.done(10)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a cache for each thread")
    body: Body = quote_from_own_cache if options.fixed else quote
    run([body] * options.threads, options, unit="prices", name="quote")
