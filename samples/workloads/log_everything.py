"""A line of log for every small step: the handler's lock is what the threads share."""

from __future__ import annotations

import logging
import os

from throughput import Tally, parse_options, run

BATCH = 20
log = logging.getLogger("orders")


def handle_step(step: int) -> int:
    """Arithmetic, and a line of log."""
    value = (step * 31 + 7) & 0xFF
    log.info("step %d gave %d", step, value)
    return value


def handle_step_quietly(step: int) -> int:
    """The same, asking first whether anybody wants to read it."""
    value = (step * 31 + 7) & 0xFF
    if wanted:
        log.info("step %d gave %d", step, value)
    return value


def handle_orders(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for step in range(BATCH):
            handle_step(step)
        tally.done(BATCH)


def handle_orders_quietly(worker: int, tally: Tally) -> None:
    """The same without the log."""
    while tally.go_on():
        for step in range(BATCH):
            handle_step_quietly(step)
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="the level is asked once, and no line is made")
    stream = open(os.devnull, "w")  # noqa: SIM115 - open as long as the program runs
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.WARNING if options.fixed else logging.INFO)
    wanted = log.isEnabledFor(logging.INFO)
    body = handle_orders_quietly if options.fixed else handle_orders
    run([body] * options.threads, options, unit="steps", name="orders")
