"""Orders that change their class as they move on: assigning to __class__ stops all threads on 3.13."""

from __future__ import annotations

from throughput import Tally, parse_options, run

STEPS = 100


class Order:
    """What all states of an order have in common."""

    state = 0


class OpenOrder(Order):
    """An order that waits."""


class ClosedOrder(Order):
    """An order that is done."""


def price(order: int) -> int:
    """Arithmetic of this thread alone."""
    value = order
    for step in range(STEPS):
        value = (value * 31 + step) & 0xFF
    return value


def move_orders(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    order: Order = OpenOrder()
    while tally.go_on():
        for number in range(20):
            price(number)
            order.__class__ = ClosedOrder
            order.__class__ = OpenOrder
        tally.done(20)


def move_orders_by_state(worker: int, tally: Tally) -> None:
    """The same with an attribute for the state."""
    order = OpenOrder()
    while tally.go_on():
        for number in range(20):
            price(number)
            order.state = 1
            order.state = 0
        tally.done(20)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="an attribute instead of a class for each state")
    body = move_orders_by_state if options.fixed else move_orders
    run([body] * options.threads, options, unit="orders", name="mover")
