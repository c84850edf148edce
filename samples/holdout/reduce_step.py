"""A pool computes parts quickly, and the main thread spends most of the time merging them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


def part(number: int) -> list[int]:
    """The parallel half."""
    return [n * number % 101 for n in range(60_000)]


def merge(parts: list[list[int]]) -> int:
    """The serial half."""
    total = 0
    for numbers in parts:
        for n in numbers:
            total += n * 3 % 17
    return total


if __name__ == "__main__":
    with ThreadPoolExecutor(max_workers=2) as pool:
        pool.submit(int).result()
        print(f"ready {os.getpid()}", flush=True)
        while True:
            merge(list(pool.map(part, range(4))))
