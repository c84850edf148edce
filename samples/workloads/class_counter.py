"""Statistics kept in attributes of classes: each class has one writer, and all writers one lock."""

from __future__ import annotations

from throughput import Body, Tally, parse_options, run

BATCH = 500


class Handler:
    """Counts its requests on the class."""

    requests = 0

    @classmethod
    def handle_requests(cls, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            for request in range(BATCH):
                cls.requests = request & 0xFF
            tally.done(BATCH)


class Statistics:
    """The same kept in an object."""

    def __init__(self) -> None:
        self.requests = 0


def handle_requests_with_statistics(worker: int, tally: Tally) -> None:
    """The same with an object for each thread."""
    statistics = Statistics()
    while tally.go_on():
        for request in range(BATCH):
            statistics.requests = request & 0xFF
        tally.done(BATCH)


def handler_of(worker: int) -> Body:
    """A class for each worker: none is shared, which does not help."""
    handler: type[Handler] = type(f"Handler{worker}", (Handler,), {"requests": 0})
    return handler.handle_requests


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="statistics in an object for each thread")
    bodies: list[Body] = [handler_of(worker) for worker in range(options.threads)]
    if options.fixed:
        bodies = [handle_requests_with_statistics] * options.threads
    run(bodies, options, unit="requests", name="handler")
