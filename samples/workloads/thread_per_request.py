"""A thread for each request, which computes for a moment and ends: threads cost more than requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from throughput import Body, Tally, parse_options, run

BATCH = 4


def answer_request(request: int) -> None:
    """A request of a few dozen microseconds."""
    total = 0
    for step in range(400):
        total += (request * step) & 0xFF


def accept_requests(worker: int, tally: Tally) -> None:
    """The body of a worker thread: a thread for each request."""
    while tally.go_on():
        batch = [threading.Thread(target=answer_request, args=(number,)) for number in range(BATCH)]
        for thread in batch:
            thread.start()
        for thread in batch:
            thread.join()
        tally.done(BATCH)


def hand_out_requests(worker: int, tally: Tally) -> None:
    """The same with a thread that stays, which is handed many requests at a time."""
    with ThreadPoolExecutor(1) as pool:
        while tally.go_on():
            pool.submit(answer_requests, 500).result()
            tally.done(500)


def answer_requests(count: int) -> None:
    """Requests, one after the other."""
    for request in range(count):
        answer_request(request)


if __name__ == "__main__":
    options = parse_options(__doc__, threads=2, fixed="a pool that stays, and many requests at a time")
    body: Body = hand_out_requests if options.fixed else accept_requests
    run([body] * options.threads, options, unit="requests", name="acceptor")
