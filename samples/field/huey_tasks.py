"""Tasks of huey, kept in SQLite: with redis and hiredis installed, importing huey switches the GIL on."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time

from huey import SqliteHuey
from huey.consumer import Consumer

from throughput import Tally, parse_options, run

logging.getLogger("huey").setLevel(logging.ERROR)
huey = SqliteHuey(filename=os.path.join(tempfile.mkdtemp(), "huey.db"), results=False)
tallies = threading.local()


@huey.task()
def work(number: int) -> int:
    """A task of half a millisecond."""
    total = 0
    for step in range(5000):
        total += step * number % 7
    return total


def feed(worker: int, tally: Tally) -> None:
    """Keeps some tasks waiting; those that are gone were done."""
    while tally.go_on():
        waiting = huey.pending_count()
        if waiting < 200:
            for number in range(100):
                work(number)
            tally.done(100)
        else:
            time.sleep(0.005)


if __name__ == "__main__":
    options = parse_options(__doc__)
    consumer = Consumer(
        huey, workers=options.threads, worker_type="thread", initial_delay=0.01, backoff=1.0, max_delay=0.01
    )
    consumer.start()
    run([feed], options, unit="tasks", name="feed")
