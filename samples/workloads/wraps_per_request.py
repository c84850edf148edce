"""A callback wrapped anew for every request: later 3.14 stop all threads for its name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from throughput import Tally, parse_options, run

STEPS = 100


def respond(request: int) -> int:
    """Arithmetic of this thread alone."""
    value = request
    for step in range(STEPS):
        value = (value * 31 + step) & 0xFF
    return value


def guarded(function: Callable[[int], int]) -> Callable[[int], int]:
    """A decorator; its place is the module level."""

    @functools.wraps(function)
    def guard(request: int) -> int:
        return function(request)

    return guard


def serve_requests(worker: int, tally: Tally) -> None:
    """The body of a worker thread: decorates for each request."""
    while tally.go_on():
        for request in range(20):
            guarded(respond)(request)
        tally.done(20)


guarded_respond = guarded(respond)


def serve_requests_decorated_once(worker: int, tally: Tally) -> None:
    """The same, decorated when the module was imported."""
    while tally.go_on():
        for request in range(20):
            guarded_respond(request)
        tally.done(20)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="decorated once")
    body = serve_requests_decorated_once if options.fixed else serve_requests
    run([body] * options.threads, options, unit="requests", name="server")
