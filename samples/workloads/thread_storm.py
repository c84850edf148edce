"""A thousand threads a second, each made for one small job and joined."""

from __future__ import annotations

import threading
import time

from throughput import Tally, parse_options, run

THREADS_PER_SECOND = 1000
BATCH = 10


def answer_request(request: int) -> None:
    """What one short-lived thread does."""
    total = 0
    for step in range(200):
        total += (request * step) & 0xFF


class Acceptor:
    """Makes a thread for each request, as the simplest servers do."""

    def __init__(self, rate_hz: float) -> None:
        self._pause_s = BATCH / rate_hz

    def accept_requests(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread: BATCH threads, joined, then a pause that keeps the rate."""
        due = time.monotonic()
        while tally.go_on():
            batch = [threading.Thread(target=answer_request, args=(number,)) for number in range(BATCH)]
            for thread in batch:
                thread.start()
            for thread in batch:
                thread.join()
            tally.done(BATCH)
            due += self._pause_s
            now = time.monotonic()
            if due > now:
                time.sleep(due - now)
            else:
                # Too slow for the rate: no burst later to make up for it.
                due = now


if __name__ == "__main__":
    options = parse_options(__doc__, threads=2)
    acceptor = Acceptor(THREADS_PER_SECOND / options.threads)
    run([acceptor.accept_requests] * options.threads, options, unit="threads", name="acceptor")
