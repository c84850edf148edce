"""Healthy: threads add up lists of their own."""

from __future__ import annotations

import os
import threading


def add_up(seed: int) -> None:
    """A list that nobody else sees."""
    rows = [[(seed + row * column) % 101 for column in range(50)] for row in range(50)]
    total = 0
    while True:
        for row in rows:
            for value in row:
                total = (total + value * value) % 1_000_003


if __name__ == "__main__":
    threads = [threading.Thread(target=add_up, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
