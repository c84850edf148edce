"""Class methods and static methods called on objects that are each thread's own."""

from __future__ import annotations

from throughput import Tally, parse_options, run


class Money:
    """An amount."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def unit(cls) -> int:
        """Cents in a unit."""
        return 100

    @staticmethod
    def clamp(value: int) -> int:
        """No debt."""
        return max(value, 0)


def count(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        money = Money(worker)
        for step in range(3000):
            money.clamp(step - money.unit())
        tally.done(3000)


def unit() -> int:
    """The same as functions of the module."""
    return 100


def clamp(value: int) -> int:
    """No debt."""
    return max(value, 0)


def count_with_functions(worker: int, tally: Tally) -> None:
    """The same with functions of the module."""
    while tally.go_on():
        for step in range(3000):
            clamp(step - unit())
        tally.done(3000)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="functions of the module")
    run(
        [count_with_functions if options.fixed else count] * options.threads,
        options,
        unit="sums",
        name="count",
    )
