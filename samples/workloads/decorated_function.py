"""A decorated function called by all threads: the wrapper and what it wraps are objects they share."""

from __future__ import annotations

import functools
from collections.abc import Callable

from throughput import Tally, parse_options, run

BATCH = 300


def checked(function: Callable[[int], int]) -> Callable[[int], int]:
    """A decorator like many: looks at the argument, then calls."""

    @functools.wraps(function)
    def wrapper(number: int) -> int:
        return function(number) if number >= 0 else 0

    return wrapper


def rank(number: int) -> int:
    """Not decorated."""
    return number & 0x3F


ranked = checked(rank)


def rank_pages(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for number in range(BATCH):
            ranked(number)
        tally.done(BATCH)


def rank_pages_with_own_wrapper(worker: int, tally: Tally) -> None:
    """The same with a wrapper for each thread."""
    own = checked(rank)
    while tally.go_on():
        for number in range(BATCH):
            own(number)
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="each thread decorates for itself")
    body = rank_pages_with_own_wrapper if options.fixed else rank_pages
    run([body] * options.threads, options, unit="pages", name="ranker")
