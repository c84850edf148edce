"""gc.collect() after every request: each collection stops all threads."""

from __future__ import annotations

import gc

from throughput import Tally, parse_options, run

STEPS = 20_000


def respond(request: int) -> int:
    """Arithmetic of this thread alone."""
    value = request
    for step in range(STEPS):
        value = (value * 31 + step) & 0xFF
    return value


def serve_requests(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        respond(worker)
        gc.collect()
        tally.done()


def serve_requests_without_collecting(worker: int, tally: Tally) -> None:
    """The same, leaving the collector alone."""
    while tally.go_on():
        respond(worker)
        tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="no gc.collect()")
    body = serve_requests_without_collecting if options.fixed else serve_requests
    run([body] * options.threads, options, unit="requests", name="server")
