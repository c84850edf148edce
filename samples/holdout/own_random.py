"""Healthy: a simulation with a generator of random numbers for each thread."""

from __future__ import annotations

import os
import random
import threading


def walk(seed: int) -> None:
    """A random walk."""
    own = random.Random(seed)
    place = 0.0
    while True:
        for _ in range(1000):
            place += own.random() - 0.5


if __name__ == "__main__":
    threads = [threading.Thread(target=walk, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
