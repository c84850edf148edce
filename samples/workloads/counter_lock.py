"""Requests counted under one lock: a counter is small, its lock is not."""

from __future__ import annotations

import threading

from throughput import Tally, parse_options, run

BATCH = 200


class RequestCounter:
    """Counts for everybody, one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0

    def add(self, number: int) -> None:
        """Adds to the count."""
        with self._lock:
            self._requests += number


class Server:
    """Its threads share the counter and nothing else."""

    def __init__(self, counter: RequestCounter) -> None:
        self._counter = counter

    def count_each_request(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread: one acquire for each request."""
        counter = self._counter
        while tally.go_on():
            for _ in range(BATCH):
                counter.add(1)
            tally.done(BATCH)

    def count_own_requests(self, worker: int, tally: Tally) -> None:
        """The same with a count of the thread's own, merged when the thread ends."""
        own = 0
        while tally.go_on():
            for _ in range(BATCH):
                own += 1
            tally.done(BATCH)
        self._counter.add(own)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="each thread counts for itself and merges at its end")
    server = Server(RequestCounter())
    body = server.count_own_requests if options.fixed else server.count_each_request
    run([body] * options.threads, options, unit="requests", name="request")
