"""Coroutines run with asyncio.run for each call: an event loop is made and closed every time."""

from __future__ import annotations

import asyncio

from throughput import Body, Tally, parse_options, run


async def lookup(number: int) -> int:
    """What a client library does."""
    await asyncio.sleep(0)
    return number + 1


def call(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for number in range(10):
            asyncio.run(lookup(number))
        tally.done(10)


def call_with_runner(worker: int, tally: Tally) -> None:
    """The same with a loop that the thread keeps."""
    with asyncio.Runner() as runner:
        while tally.go_on():
            for number in range(10):
                runner.run(lookup(number))
            tally.done(10)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a Runner for each thread")
    body: Body = call_with_runner if options.fixed else call
    run([body] * options.threads, options, unit="calls", name="call")
