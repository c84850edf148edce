"""Six producers give single numbers to two consumers through one queue."""

from __future__ import annotations

import os
import queue
import threading


def produce(numbers: queue.Queue[int]) -> None:
    """Puts and puts."""
    n = 0
    while True:
        n += 1
        numbers.put(n)


def consume(numbers: queue.Queue[int]) -> None:
    """Takes and adds up."""
    total = 0
    while True:
        total += numbers.get()
        numbers.task_done()


if __name__ == "__main__":
    channel: queue.Queue[int] = queue.Queue(maxsize=1000)
    threads = [threading.Thread(target=produce, args=(channel,), name=f"producer-{n}") for n in range(6)]
    threads += [threading.Thread(target=consume, args=(channel,), name=f"consumer-{n}") for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
