"""Deep recursion whose stacks change all the time: hard to read consistently from outside."""

from __future__ import annotations

from throughput import Tally, parse_options, run

DEPTH = 300


def descend(depth: int) -> int:
    """Calls down to the bottom, alternating with `turn`, and back up."""
    if depth == 0:
        return 0
    return turn(depth - 1) + 1


def turn(depth: int) -> int:
    """The other half of the recursion."""
    if depth == 0:
        return 0
    return descend(depth - 1) + 1


def fibonacci(number: int) -> int:
    """Recursion that goes up and down every few instructions."""
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


def recurse(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        tally.done(descend(DEPTH))
        fibonacci(12)
        tally.done(465)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([recurse] * options.threads, options, unit="calls", name="recursion")
