"""Healthy: batches of work through a queue, each worth ten milliseconds or more."""

from __future__ import annotations

import os
import queue
import threading


def feed(batches: queue.Queue[range]) -> None:
    """Keeps the queue full."""
    while True:
        batches.put(range(200_000))


def work(batches: queue.Queue[range]) -> None:
    """A batch at a time."""
    total = 0
    while True:
        for n in batches.get():
            total = (total + n) % 1_000_003


if __name__ == "__main__":
    channel: queue.Queue[range] = queue.Queue(maxsize=8)
    threads = [threading.Thread(target=work, args=(channel,), name=f"worker-{n}") for n in range(2)]
    threads.append(threading.Thread(target=feed, args=(channel,), name="feeder"))
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
