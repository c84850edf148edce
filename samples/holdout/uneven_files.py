"""Parts of very different size, one for each thread; the next round starts when all have ended."""

from __future__ import annotations

import os
import threading


def lines(number: int) -> int:
    """So much work."""
    total = 0
    for n in range(number):
        total += n * n % 11
    return total


def reader(size: int, together: threading.Barrier) -> None:
    """Its own part, round after round."""
    while True:
        lines(size)
        together.wait()


if __name__ == "__main__":
    sizes = (1_200_000, 150_000, 100_000)
    barrier = threading.Barrier(len(sizes))
    threads = [
        threading.Thread(target=reader, args=(size, barrier), name=f"reader-{n}")
        for n, size in enumerate(sizes)
    ]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
