"""Healthy: counts of each thread's own, merged under a lock a hundred times a second at most."""

from __future__ import annotations

import os
import threading


class Totals:
    """All counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.total = 0

    def add(self, number: int) -> None:
        """Seldom."""
        with self.lock:
            self.total += number


def count(totals: Totals) -> None:
    """A lot of counting for each merge."""
    while True:
        mine = 0
        for n in range(150_000):
            if n % 3:
                mine += 1
        totals.add(mine)


if __name__ == "__main__":
    everything = Totals()
    threads = [threading.Thread(target=count, args=(everything,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
