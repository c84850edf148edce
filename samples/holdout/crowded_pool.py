"""A pool sized for I/O, with 24 threads that compute."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


def job(number: int) -> int:
    """Half a second of arithmetic or more."""
    total = 0
    for n in range(2_000_000):
        total += n * number % 7
    return total


if __name__ == "__main__":
    with ThreadPoolExecutor(max_workers=24) as pool:
        print(f"ready {os.getpid()}", flush=True)
        for _ in pool.map(job, range(100_000)):
            pass
