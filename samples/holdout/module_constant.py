"""Every check reads a few constants of the module: a tuple of pairs and a set."""

from __future__ import annotations

import os
import threading

LIMITS = tuple((float(n), float(n * n)) for n in range(1, 5))
ALLOWED = frozenset(f"code-{n}" for n in range(20))


def level(value: float) -> int:
    """How many limits are exceeded."""
    exceeded = 0
    for low, high in LIMITS:
        if low < value < high and ALLOWED:
            exceeded += 1
    return exceeded


def check() -> None:
    """For ever."""
    total = 0
    while True:
        for step in range(500):
            total += level(step * 0.02)


if __name__ == "__main__":
    threads = [threading.Thread(target=check) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
