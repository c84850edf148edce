"""All threads add to one list of results, which is emptied now and then."""

from __future__ import annotations

import os
import threading

results: list[tuple[int, int]] = []


def search(part: int) -> None:
    """Finds pairs."""
    while True:
        for n in range(1000):
            if n % 3 != part:
                results.append((part, n))  # noqa: PERF401 - the point of it
        if len(results) > 100_000:
            results.clear()


if __name__ == "__main__":
    threads = [threading.Thread(target=search, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
